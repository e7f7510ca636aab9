//! The command, and what it prints.

use super::{Client, Explanation, Via, check_via, decide, decision};
use crate::{
    build::Parts,
    config::{Config, Server, ServerAddress},
    exit, output, run,
};
use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
};

#[derive(clap::Args, Debug)]
pub(crate) struct ExplainArgs {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "portcullis.toml")]
    pub(crate) config: PathBuf,
    /// The listener that the client connects to.
    #[arg(long, value_name = "NAME")]
    pub(crate) listener: String,
    /// The client's address.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) from: IpAddr,
    /// The host name that it requests over TLS.
    #[arg(long, value_name = "HOST")]
    pub(crate) name: Option<String>,
    /// A protocol that it offers over TLS (ALPN), such as h2; may be repeated.
    #[arg(long, value_name = "PROTOCOL")]
    pub(crate) alpn: Vec<String>,
    /// What it speaks, as in `listener.route.protocol`.
    #[arg(long, value_name = "PROTOCOL")]
    pub(crate) protocol: Option<String>,
    /// The certificate that it shows, in PEM, with those that have signed it.
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// The proxy through which it connects, which sends a PROXY header.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) proxy: Option<IpAddr>,
    /// It connects without a proxy to a listener that reads PROXY headers.
    #[arg(long, conflicts_with = "proxy")]
    pub(crate) direct: bool,
}

/// Explains by a file what would become of a client.
pub(crate) fn explain(args: &ExplainArgs) -> ExitCode {
    let client = match client(args) {
        Ok(client) => client,
        Err(reason) => return wrong(&reason),
    };
    let (config, mut parts, problems) = run::load(&args.config);
    if problems.errors() > 0 {
        return run::print_problems(&args.config, problems);
    }
    parts.list_servers(&config);
    match answer(&config, &parts, &args.listener, &client) {
        Ok(explanation) => output::end_with(&text(&explanation), exit::OK),
        Err(reason) => wrong(&reason),
    }
}

fn wrong(reason: &str) -> ExitCode {
    output::say(format_args!("portcullis: {reason}"));
    ExitCode::from(exit::USAGE)
}

fn client(args: &ExplainArgs) -> Result<Client, String> {
    let mut client = Client::from(args.from);
    client.via = Via::of(args.proxy, args.direct);
    let client = client.speaking(
        args.name.as_deref(),
        args.alpn.clone(),
        args.protocol.as_deref(),
    )?;
    match &args.cert {
        None => Ok(client),
        Some(path) => {
            let pem = fs::read(path)
                .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
            let shown = client.showing_pem(&pem);
            shown.map_err(|reason| format!("{}: {reason}", path.display()))
        }
    }
}

fn answer(
    config: &Config,
    parts: &Parts,
    name: &str,
    client: &Client,
) -> Result<Explanation, String> {
    let listener = config.listeners.iter().find(|it| it.name.value == name);
    let gate = parts.gates.get(name);
    let (Some(listener), Some(gate)) = (listener, gate) else {
        let known = config.listeners.iter().map(|it| &*it.name.value);
        let known: Vec<_> = known.collect();
        let name = name.escape_debug();
        return Err(format!(
            "there is no listener \"{name}\"; the file has {}",
            known.join(", ")
        ));
    };
    check_via(listener, client)?;
    let mut explanation = decide(listener, &gate.rules, client);
    name_servers(&mut explanation, config);
    Ok(explanation)
}

/// A file alone resolves no host names, so servers of a backend with names are those that it lists.
fn name_servers(explanation: &mut Explanation, config: &Config) {
    let mut backends = config.backends.iter();
    let Some(backend) = backends.find(|it| explanation.backend.as_ref() == Some(&it.name.value))
    else {
        return;
    };
    let is_name = |server: &Server| match &server.address.value {
        ServerAddress::Tcp(address) => address.parse::<SocketAddr>().is_err(),
        ServerAddress::Unix(_) => false,
    };
    if !backend.servers.iter().any(is_name) {
        return;
    }
    let servers = backend.servers.iter().filter(|server| !server.backup);
    let servers = servers.map(|server| server.address.value.to_string());
    explanation.servers = servers.collect();
    explanation.decision = decision(explanation);
}

fn text(explanation: &Explanation) -> String {
    let width = explanation.guards.iter().map(|step| step.guard.len()).max();
    let width = width.unwrap_or(0);
    let mut text = String::new();
    for step in &explanation.guards {
        let decides = step.decides.as_str();
        let line = format!("{:width$}  {decides:7}  {}\n", step.guard, step.reason);
        text += &line;
    }
    text + &explanation.decision + "\n"
}
