//! Two servers for a first try: `portcullis echo` and `portcullis daytime`.

use crate::{config, exit, log, output, run};
use portcullis::{
    BoxError, Connection, Server, ServiceBuilderExt, listener::TcpListener,
    middleware::observe::TraceLayer, server::Stack,
};
use std::{io, process::ExitCode, time::SystemTime};
#[cfg(unix)]
use tokio::signal::unix::{SignalKind, signal};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tower::ServiceBuilder;

pub(crate) fn echo(address: &str) -> ExitCode {
    let stack = ServiceBuilder::new()
        .peer_addr()
        .layer(logged("echo"))
        .connection_limit(1_000)
        .io_timeout()
        .service_fn(send_back);
    serve(address, "echo", stack)
}

pub(crate) fn daytime(address: &str) -> ExitCode {
    let stack = ServiceBuilder::new()
        .peer_addr()
        .layer(logged("daytime"))
        .connection_limit(1_000)
        .io_timeout()
        .service_fn(|mut connection: Connection<_>| async move {
            let now = httpdate::fmt_http_date(SystemTime::now());
            connection
                .write_all(format!("{now}\r\n").as_bytes())
                .await?;
            connection.close().await
        });
    serve(address, "daytime", stack)
}

/// A line for each connection, at its end.
fn logged(name: &'static str) -> TraceLayer {
    TraceLayer::new().on_close(move |closed| log::log_access(name, closed))
}

pub(crate) async fn send_back(
    mut connection: Connection<impl AsyncRead + AsyncWrite + Unpin>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match connection.read(&mut buffer).await? {
            0 => return connection.close().await,
            read => connection.write_all(&buffer[..read]).await?,
        }
    }
}

fn serve(address: &str, name: &str, stack: impl Stack<TcpStream>) -> ExitCode {
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    if !address
        .rsplit_once(':')
        .is_some_and(|(_, port)| is_port(port))
    {
        let error = config::no_listen_address(address);
        output::say(format_args!("portcullis: {error}"));
        return ExitCode::from(exit::USAGE);
    }
    let to_stdout = config::Log::default();
    let _flush = log::init(&to_stdout);
    let _never_fails = log::open(&to_stdout).map(log::Opened::commit);
    let serve = async {
        // As in the other commands, it does not end the program, which has no file to read again.
        #[cfg(unix)]
        let _ignored = signal(SignalKind::hangup())?;
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let (ip, port) = (address.ip(), address.port());
        let server = Server::new().listen(listener, stack).stop_on_signals();
        // It catches signals from here on.
        let server = server.spawn()?;
        let printed = output::print(&format!("{name} on {address}; try: nc {ip} {port}\n"));
        if let Err(failed) = printed {
            return Ok(Err(failed));
        }
        let report = server.wait().await;
        match report.broken_listeners() {
            [broken, ..] => {
                let error = format!("{}: {}", broken.name(), broken.error());
                Err(BoxError::from(error))
            }
            [] => Ok(Ok(report)),
        }
    };
    match run::runtime().block_on(serve) {
        Ok(Ok(report)) => run::exit_code(&report),
        Ok(Err(failed)) => failed,
        Err(error) => {
            output::say(format_args!("portcullis: {}", config::chain(&*error)));
            ExitCode::from(exit::FAILED)
        }
    }
}
