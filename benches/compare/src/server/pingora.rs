//! pingora-core: a service of its server, with its own runtime.

use super::runtime::{bind, workers};
use crate::{
    echo::echo,
    entry::{Entry, Job, Kind, Setup},
};
use async_trait::async_trait;
use harness::{BoxError, server::announce};
use pingora_core::{
    apps::ServerApp,
    listeners::{L4BufferSettings, ListenerConfig},
    protocols::Stream,
    server::{Server, ShutdownWatch, configuration::ServerConf},
    services::listening::Service,
};
use std::{
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

pub(super) const ENTRIES: &[Entry] = &[
    Entry::new("pingora", Kind::Peer, Job::Echo, |setup| {
        serve(setup, L4BufferSettings::default())
    }),
    // Its own buffers, of 64 KiB each way, are not needed here.
    Entry::new("pingora-unbuffered", Kind::Peer, Job::Echo, |setup| {
        serve(setup, L4BufferSettings::unbuffered())
    }),
];

fn serve(setup: Setup, buffers: L4BufferSettings) -> Result<(), BoxError> {
    // It binds on its own, so the port has to be known before.
    let address = bind(setup.port, false)?.local_addr()?;
    let conf = ServerConf {
        threads: workers(),
        pid_file: file(&setup, "pid"),
        upgrade_sock: file(&setup, "sock"),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = Service::new("echo".to_owned(), Echo);
    service.add_listener(ListenerConfig::tcp(address.to_string()).l4_buffer(buffers));
    server.add_service(service);
    thread::spawn(move || announce_when_ready(address));
    server.run_forever()
}

fn file(setup: &Setup, what: &str) -> String {
    let file = format!("pingora-{}.{what}", std::process::id());
    setup.folder.join(file).display().to_string()
}

fn announce_when_ready(address: SocketAddr) -> Result<(), BoxError> {
    while TcpStream::connect(address).is_err() {
        #[expect(clippy::disallowed_methods, reason = "a thread of its own")]
        thread::sleep(Duration::from_millis(5));
    }
    Ok(announce(address)?)
}

/// pingora sets TCP_NODELAY on its own.
#[derive(Debug)]
struct Echo;

#[async_trait]
impl ServerApp for Echo {
    async fn process_new(self: &Arc<Self>, stream: Stream, _: &ShutdownWatch) -> Option<Stream> {
        // How a connection ends is its client's affair.
        let _ = echo(stream).await;
        None
    }
}
