//! Programs of the system (nginx, HAProxy, hitch, stunnel). `peers.sh` installs them.
//!
//! They do not echo, so they pass the bytes on to an echo server on bare tokio, whose CPU and memory
//! are not counted. All have two workers (stunnel has a thread for each connection instead), the
//! certificate, protocol and cipher of the others, no log of connections, and defaults otherwise.

use super::runtime::BACKLOG;
use crate::entry::{Entry, Job, Kind, Setup, Start, WORKERS};
use harness::{BoxError, exchange::HELLO, proc::open_files};
use nix::unistd::geteuid;
use std::{
    fs,
    path::PathBuf,
    process::{Command, id},
};

pub(super) const ENTRIES: &[Entry] = &[
    entry("nginx", true, Job::Echo, "nginx", |setup| {
        nginx(setup, &stream(setup, "")?)
    }),
    entry("nginx-tls", true, Job::TlsEcho, "nginx", |setup| {
        nginx(setup, &stream(setup, " ssl")?)
    }),
    entry("nginx-http", false, Job::Http, "nginx", |setup| {
        nginx(setup, &web(setup, ""))
    }),
    entry("nginx-https", false, Job::Https, "nginx", |setup| {
        nginx(setup, &web(setup, " ssl"))
    }),
    entry("haproxy", true, Job::Echo, "haproxy", |setup| {
        haproxy(setup, "tcp", false)
    }),
    entry("haproxy-splice", true, Job::Echo, "haproxy", haproxy_splice),
    entry("haproxy-tls", true, Job::TlsEcho, "haproxy", |setup| {
        haproxy(setup, "tcp", true)
    }),
    entry("haproxy-http", false, Job::Http, "haproxy", |setup| {
        haproxy(setup, "http", false)
    }),
    entry("haproxy-https", false, Job::Https, "haproxy", |setup| {
        haproxy(setup, "http", true)
    }),
    entry("hitch", true, Job::TlsEcho, "hitch", hitch),
    entry("stunnel", true, Job::TlsEcho, "stunnel4", stunnel),
];

const fn entry(
    name: &'static str,
    forwards: bool,
    job: Job,
    program: &'static str,
    configure: fn(&Setup) -> Result<Command, BoxError>,
) -> Entry {
    Entry {
        name,
        kind: Kind::Peer,
        job,
        forwards,
        start: Start::External { program, configure },
    }
}

fn nginx(setup: &Setup, service: &str) -> Result<Command, BoxError> {
    let folder = setup.folder.display();
    let files = open_files()?;
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let load = match fs::exists(module)? {
        true => format!("load_module {module};"),
        false => String::new(), // compiled in
    };
    let config = write(
        setup,
        "nginx.conf",
        &format!(
            "{load}
daemon off;
worker_processes {WORKERS};
worker_rlimit_nofile {files};
pid {folder}/nginx-{port}.pid;
error_log {folder}/nginx-{port}.log error;
events {{ worker_connections {files}; }}
{service}",
            port = setup.port
        ),
    )?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&setup.folder).arg("-c").arg(config);
    Ok(command)
}

/// nginx that passes a stream on.
fn stream(setup: &Setup, ssl: &str) -> Result<String, BoxError> {
    let backend = backend(setup)?;
    Ok(format!(
        "stream {{
    {tls}
    server {{
        listen 127.0.0.1:{port}{ssl} backlog={BACKLOG};
        proxy_pass {backend};
    }}
}}
",
        tls = nginx_tls(setup, ssl),
        port = setup.port
    ))
}

/// nginx that answers on its own.
fn web(setup: &Setup, ssl: &str) -> String {
    let folder = setup.folder.display();
    format!(
        "http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    {tls}
    server {{
        listen 127.0.0.1:{port}{ssl} backlog={BACKLOG};
        default_type 'text/plain; charset=utf-8';
        location / {{ return 200 '{HELLO}'; }}
    }}
}}
",
        tls = nginx_tls(setup, ssl),
        port = setup.port
    )
}

fn nginx_tls(setup: &Setup, ssl: &str) -> String {
    if ssl.is_empty() {
        return String::new();
    }
    let folder = setup.folder.display();
    format!(
        "ssl_certificate {folder}/cert.pem;
    ssl_certificate_key {folder}/key.pem;
    ssl_protocols TLSv1.3;
    ssl_conf_command Ciphersuites TLS_AES_256_GCM_SHA384;
    ssl_ecdh_curve X25519;"
    )
}

fn haproxy(setup: &Setup, mode: &str, tls: bool) -> Result<Command, BoxError> {
    let folder = setup.folder.display();
    let tls = match tls {
        true => format!(
            " ssl crt {folder}/both.pem ssl-min-ver TLSv1.3 ciphersuites TLS_AES_256_GCM_SHA384 curves X25519"
        ),
        false => String::new(),
    };
    let service = match mode {
        "tcp" => format!("server backend {}", backend(setup)?),
        _ => format!(
            "http-request return status 200 content-type 'text/plain; charset=utf-8' string '{HELLO}'"
        ),
    };
    haproxy_with(setup, mode, &tls, &service, 2)
}

/// HAProxy that splices all data. Each connection may take two pipes.
fn haproxy_splice(setup: &Setup) -> Result<Command, BoxError> {
    let backend = backend(setup)?;
    let service = format!(
        "option splice-request
    option splice-response
    server backend {backend}"
    );
    haproxy_with(setup, "tcp", "", &service, 6)
}

/// It does not start if it may need more file descriptors, so many for each connection, than it may have.
fn haproxy_with(
    setup: &Setup,
    mode: &str,
    tls: &str,
    service: &str,
    descriptors: usize,
) -> Result<Command, BoxError> {
    let most = open_files()?.saturating_sub(300) / descriptors;
    let config = write(
        setup,
        "haproxy.cfg",
        &format!(
            "global
    nbthread {WORKERS}
    maxconn {most}
defaults
    mode {mode}
    timeout connect 10s
    timeout client 600s
    timeout server 600s
    backlog {BACKLOG}
listen compare
    bind 127.0.0.1:{port}{tls}
    {service}
",
            port = setup.port
        ),
    )?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(config);
    Ok(command)
}

fn hitch(setup: &Setup) -> Result<Command, BoxError> {
    let backend = backend(setup)?;
    let config = write(
        setup,
        "hitch.conf",
        &format!(
            "frontend = {{
    host = \"127.0.0.1\"
    port = \"{port}\"
}}
backend = \"[127.0.0.1]:{backend_port}\"
pem-file = \"{folder}/both.pem\"
workers = {WORKERS}
backlog = {BACKLOG}
tls-protos = TLSv1.3
ciphersuites = \"TLS_AES_256_GCM_SHA384\"
ecdh-curve = \"X25519\"
daemon = off
log-level = 0
{user}",
            port = setup.port,
            backend_port = backend.port(),
            user = hitch_user()?,
            folder = setup.folder.display(),
        ),
    )?;
    let mut command = Command::new("hitch");
    command.arg(format!("--config={}", config.display()));
    Ok(command)
}

/// It refuses to work as root; Debian's package makes a user for it.
fn hitch_user() -> Result<&'static str, BoxError> {
    let known = fs::read_to_string("/etc/passwd")?;
    let known = known.lines().any(|line| line.starts_with("_hitch:"));
    Ok(match known && geteuid().is_root() {
        true => "user = \"_hitch\"\n",
        false => "",
    })
}

fn stunnel(setup: &Setup) -> Result<Command, BoxError> {
    let backend = backend(setup)?;
    let config = write(
        setup,
        "stunnel.conf",
        &format!(
            "foreground = quiet
pid =
debug = 0
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[compare]
accept = 127.0.0.1:{port}
connect = {backend}
cert = {folder}/cert.pem
key = {folder}/key.pem
sslVersion = TLSv1.3
ciphersuites = TLS_AES_256_GCM_SHA384
curves = X25519
TIMEOUTidle = 600
",
            port = setup.port,
            folder = setup.folder.display(),
        ),
    )?;
    let mut command = Command::new("stunnel4");
    command.arg(config);
    Ok(command)
}

fn backend(setup: &Setup) -> Result<std::net::SocketAddr, BoxError> {
    setup.backend.ok_or_else(|| "no backend".into())
}

fn write(setup: &Setup, name: &str, config: &str) -> Result<PathBuf, BoxError> {
    let file = setup.folder.join(format!("{}-{}-{name}", id(), setup.port));
    fs::write(&file, config)?;
    Ok(file)
}
