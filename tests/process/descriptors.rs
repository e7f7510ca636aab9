//! A server that is out of descriptors: it does not spin, goes on serving whom it has, and takes
//! the next client as soon as a descriptor is free.
//!
//! The limit is that of a process, so the server is one of its own: this binary again, as a child.

use crate::support::{
    child::{self, Child},
    echoed, scenario,
};
use portcullis::{
    Connection, Server, ServiceBuilderExt,
    io::BoxIo,
    listener::TcpListener,
    listener::accept_error::{AcceptErrorKind, AcceptErrorPolicy},
};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tower::ServiceBuilder;

#[test]
fn a_server_out_of_descriptors_stays_calm_and_takes_the_next_client_at_once() {
    scenario(async {
        // Where the pause alone would take far too long, the end of a connection ends it.
        for pause in [AcceptErrorPolicy::new().pause(), Duration::from_secs(5)] {
            exhaust(pause).await;
        }
    });
}

#[test]
fn a_server_out_of_descriptors_that_has_no_clients_ends_at_once() {
    scenario(async {
        let limit = format!("ulimit -n {DESCRIPTORS}");
        let mut server = Child::in_role(CHILD, HOARD, &limit).unwrap();
        server.address().await;
        let status = server.ended_within(Duration::from_secs(20)).await;
        assert!(status.success(), "{status}");
    });
}

async fn exhaust(pause: Duration) {
    let limit = format!("ulimit -n {DESCRIPTORS}");
    let mut server = Child::in_role(CHILD, &pause.as_millis().to_string(), &limit).unwrap();
    let address = server.address().await;
    let mut clients = Clients::new(address);
    clients.add();
    let (mut established, _) = clients.next().await;

    let mut inside = Vec::new();
    loop {
        clients.add();
        tokio::select! {
            (client, _) = clients.next() => inside.push(client),
            line = server.log_line() => {
                assert!(line.contains("out of resources"), "{line}");
                break;
            }
        }
        assert!(inside.len() < DESCRIPTORS, "the limit does not hold");
    }
    for _ in 0..WAITING {
        clients.add();
    }

    let (begun, cpu) = (Instant::now(), cpu_time(server.id()));
    while begun.elapsed() < Duration::from_secs(1) {
        assert!(echoed(&mut established, b"still served").await.unwrap());
        sleep(Duration::from_millis(100)).await;
    }
    let (took, burnt) = (begun.elapsed(), cpu_time(server.id()) - cpu);
    let log = server.log();
    eprintln!(
        "{burnt:?} of CPU and {} lines of log in {took:?}",
        log.len()
    );
    assert!(burnt < took / 20, "{burnt:?} of CPU in {took:?}");
    let bound = LINES_PER_SECOND * (took.as_secs() + 1);
    assert!(log.len() as u64 <= bound, "{log:#?}");
    // One that was accepted last may have been under way.
    if let Ok((client, _)) = clients.served.try_recv() {
        inside.push(client);
    }
    assert!(
        clients.served.try_recv().is_err(),
        "the limit does not hold"
    );

    let mut delays = Vec::new();
    for _ in 0..WAITING {
        let freed = Instant::now();
        drop(inside.remove(0));
        let (client, served) = clients.next().await;
        delays.push(served - freed);
        inside.push(client);
    }
    delays.sort();
    eprintln!("pause of {pause:?}: the next client is served after {delays:?}");
    // The middle one: single ones tell what else this machine does.
    let delay = delays[WAITING / 2];
    assert!(delay < Duration::from_millis(60), "{delays:?}");
    assert!(echoed(&mut established, b"still served").await.unwrap());

    server.signal("TERM").await;
    drop((inside, clients, established));
    let status = server.ended_within(Duration::from_secs(20)).await;
    assert!(status.success(), "{status}");
}

/// Clients that ask for an echo and wait, however long it takes.
struct Clients {
    address: SocketAddr,
    tasks: JoinSet<()>,
    serve: mpsc::UnboundedSender<(TcpStream, Instant)>,
    served: mpsc::UnboundedReceiver<(TcpStream, Instant)>,
}

impl Clients {
    fn new(address: SocketAddr) -> Self {
        let (serve, served) = mpsc::unbounded_channel();
        Self {
            address,
            tasks: JoinSet::new(),
            serve,
            served,
        }
    }

    fn add(&mut self) {
        let (address, served) = (self.address, self.serve.clone());
        self.tasks.spawn(async move {
            let mut client = TcpStream::connect(address).await.unwrap();
            assert!(echoed(&mut client, b"hello").await.unwrap());
            let _ = served.send((client, Instant::now()));
        });
    }

    /// Waits until another one is served; it comes with the time when it was.
    async fn next(&mut self) -> (TcpStream, Instant) {
        let served = timeout(Duration::from_secs(30), self.served.recv()).await;
        served.expect("nobody is served").unwrap()
    }
}

/// What `process` has burnt so far (`proc_pid_stat(5)`: fields 14 and 15).
fn cpu_time(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The second field, a name in parentheses, may contain anything.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = |field: usize| {
        fields
            .split(' ')
            .nth(field - 3)
            .unwrap()
            .parse::<u32>()
            .unwrap()
    };
    // A hundred ticks a second, whatever the kernel itself uses.
    Duration::from_millis(10) * (ticks(14) + ticks(15))
}

#[test]
#[ignore = "the server that the other test starts, in a process of its own"]
fn child() {
    let Some(pause) = child::role() else {
        return;
    };
    if pause == HOARD {
        return hoard();
    }
    let pause = Duration::from_millis(pause.parse().unwrap());
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    Runtime::new().unwrap().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        println!("listening on {}", listener.local_addr().unwrap());
        let stack = ServiceBuilder::new()
            .peer_addr()
            .connection_limit(1000)
            .io_timeout()
            .box_io()
            .service_fn(echo);
        let policy = AcceptErrorPolicy::new().with_pause(pause);
        let server = Server::new().listen(listener, stack).accept_errors(policy);
        let handle = server.handle();
        server.stop_on_signals().run().await.unwrap();
        let errors = handle.status().accept_errors;
        assert!(
            matches!(errors[..], [(AcceptErrorKind::Resource, _)]),
            "{errors:?}"
        );
    });
}

/// Takes all descriptors there are, then stops a server that does nothing.
fn hoard() {
    Runtime::new().unwrap().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        println!("listening on {}", listener.local_addr().unwrap());
        let stack = ServiceBuilder::new().peer_addr().box_io().service_fn(echo);
        let handle = Server::new().listen(listener, stack).spawn().unwrap();
        let mut files = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            files.push(file);
        }
        handle.stop();
        let report = handle.wait().await;
        drop(files);
        let took = report.took();
        assert!(took < Duration::from_secs(2), "{took:?}");
    });
}

async fn echo(mut connection: Connection<BoxIo>) -> io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        match connection.read(&mut buffer).await? {
            0 => return connection.close().await,
            read => connection.write_all(&buffer[..read]).await?,
        }
    }
}

/// The name of the test [`child`] in this binary.
const CHILD: &str = "descriptors::child";

/// The role of a child that is out of descriptors by itself.
const HOARD: &str = "hoard";

/// What the child may open.
const DESCRIPTORS: usize = 64;

/// Clients in the queue of the child.
const WAITING: usize = 10;

/// What the log of accept errors is limited to.
const LINES_PER_SECOND: u64 = 1;
