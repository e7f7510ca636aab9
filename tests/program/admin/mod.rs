//! The admin interface of a running program, over TCP and the Unix socket.

mod access;
mod client;
mod ctl;
mod status;

use crate::gate::{Folder, Gate};
use client::{Answer, Api};
use std::net::SocketAddr;

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
        let folder = Folder::new();
        folder.write("token", format!("{TOKEN}\n"));
        let text = format!(
            "version = 1\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken-file = \"token\"\n{keys}\n{text}"
        );
        let file = folder.write("gate.toml", text);
        let mut gate = Gate::run(&file, sockets).await;
        let line = gate.child.says("admin interface on ").await;
        let admin = crate::support::child::address_in(&line).expect("an address");
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

    async fn post(&self, path: &str) -> Answer {
        self.api().with_token(TOKEN).post(path).await
    }
}

/// A listener `a` before one server.
fn forward_to(server: SocketAddr) -> String {
    format!(
        "[[listener]]\nname = \"a\"\nlisten = \"127.0.0.1:0\"\nbackend = \"b\"\n\
         [[backend]]\nname = \"b\"\nservers = \"{server}\"\n"
    )
}
