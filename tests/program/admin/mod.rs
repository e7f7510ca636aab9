//! The admin interface of a running program, over TCP and the Unix socket.

mod access;
mod backends;
mod certificates;
mod client;
mod connections;
mod ctl;
mod drain;
mod forced;
mod hostile;
mod measures;
mod questions;
mod reload;
mod slow_body;
mod status;
mod trust;

use crate::{
    gate::{Authority, Folder, Gate},
    support::child::address_in,
};
use client::{Answer, Api};
use serde_json::Value;
use std::{net::SocketAddr, time::Duration};
use tokio::time::sleep;

/// A program with an admin interface on TCP.
struct Administered {
    gate: Gate,
    admin: SocketAddr,
    folder: Folder,
}

const TOKEN: &str = "correct-horse-battery-staple";

impl Administered {
    /// Runs the listeners and backends of `text`, which have this many sockets on TCP.
    async fn run(text: &str, sockets: usize) -> Self {
        Self::run_with("", text, sockets).await
    }

    /// The same with more keys in `[admin]`.
    async fn run_with(keys: &str, text: &str, sockets: usize) -> Self {
        Self::run_in(Folder::new(), keys, text, sockets).await
    }

    /// The same in a folder that has what the configuration refers to.
    async fn run_in(folder: Folder, keys: &str, text: &str, sockets: usize) -> Self {
        folder.write("token", format!("{TOKEN}\n"));
        let text = format!(
            "version = 1\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken-file = \"token\"\n{keys}\n{text}"
        );
        let file = folder.write("gate.toml", text);
        let mut gate = Gate::run(&file, sockets).await;
        let line = gate.child.says("admin interface on ").await;
        let admin = address_in(&line).expect("an address");
        Self {
            gate,
            admin,
            folder,
        }
    }

    fn api(&self) -> Api {
        Api::tcp(self.admin)
    }

    async fn get(&self, path: &str) -> Answer {
        self.api().get(path).await
    }

    /// Waits until the answer is so, because the end of a connection takes a moment.
    async fn eventually(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..1_000 {
            let value = self.get(path).await.json();
            if is_so(&value) {
                return value;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{path}: {}", self.get(path).await.body);
    }

    async fn post(&self, path: &str) -> Answer {
        self.api().with_token(TOKEN).post(path).await
    }
}

/// A listener `a` before a backend `b` of one server.
fn forward_to(server: SocketAddr) -> String {
    configuration("", &format!("servers = \"{server}\""))
}

/// Writes certificates for `a.test` and `b.test`, and returns their part of a configuration.
fn two_certificates(authority: &Authority, folder: &Folder) -> String {
    let one = |name| {
        let (chain, key) = authority.sign(&[&format!("{name}.test")]);
        folder.write(&format!("{name}.pem"), chain);
        folder.write(&format!("{name}.key"), key);
        format!(
            "[[certificate]]\nname = \"{name}\"\nchain = \"{name}.pem\"\nkey = \"{name}.key\"\n"
        )
    };
    ["a", "b"].map(one).concat()
}

/// A listener `a` before a backend `b`, with more keys.
fn configuration(listener: &str, backend: &str) -> String {
    format!(
        "[[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n{listener}\n\
         [[backend]]\nname = \"b\"\n{backend}\n"
    )
}
