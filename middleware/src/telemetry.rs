//! Names of the spans, events and fields that portcullis emits with `tracing`.
//!
//! These names are part of the API. [`FIELDS`] and [`EVENTS`] contain them for programs that filter or parse
//! logs, and a test compares both tables with the source code of the two packages. Message texts are for
//! humans and may change; filter by target, level and fields.
//!
//! Everything that a peer chose is escaped, and error texts are truncated after 1024 characters.
//!
//! # Span
//!
//! [`TraceLayer`](crate::observe::TraceLayer) creates one span per connection, with the name [`SPAN`] and the
//! target [`TARGET`]. The two events of the layer have the same target. Field names follow OpenTelemetry's
//! semantic conventions where these define one.
//!
//! | field of the span | value |
//! |---|---|
//! | `connection.id` | number of the connection within the process |
//! | `server.name` | name of the server or of its listener |
//! | `network.transport` | `tcp`, `unix`, or `pipe` for in-memory streams |
//! | `network.type` | `ipv4` or `ipv6` |
//! | `network.peer.address` | remote IP address or path of the socket |
//! | `network.peer.port` | remote port of the socket |
//! | `network.local.address` | local IP address or path of the socket |
//! | `network.local.port` | local port of the socket |
//! | `client.address` | address of the client behind a proxy |
//! | `client.port` | port of the client behind a proxy |
//! | `tls.protocol.version` | negotiated TLS version, such as `1.3` |
//! | `tls.cipher` | registered name of the cipher suite |
//! | `tls.next_protocol` | negotiated application protocol (ALPN) |
//! | `server.address` | host name requested by the TLS client (SNI) |
//!
//! # Fields of events
//!
//! | field of events | value |
//! |---|---|
//! | `connection.id` | number of the connection within the process |
//! | `peer` | address of the client, from a PROXY header if one was accepted |
//! | `listener` | name of the listener |
//! | `error` | the error and its causes, on one line |
//! | `outcome` | how the connection ended, by [`Outcome::as_str`](crate::outcome::Outcome::as_str) |
//! | `duration` | seconds since the connection was accepted |
//! | `bytes_in` | bytes read from the socket; ciphertext under TLS |
//! | `bytes_out` | bytes written to the socket; ciphertext under TLS |
//! | `suppressed` | number of events of this kind that a rate limit omitted before this one |
//! | `returned` | whether the error handler received the connection |
//! | `certificate` | position of the certificate in its file, from 1 |
//! | `file` | path of a file |
//! | `used_by` | what uses the certificates, such as a listener |
//! | `limit` | the idle timeout of the server |
//! | `worker` | number of the worker thread, from 0 |
//! | `by` | name of the layer that rejects or would reject the connection |
//! | `observed` | what guards that only observe would have done, with their names |
//! | `alarm` | what an alarm counts: `active`, `opened`, `refused` or `failed` |
//! | `count` | the count that raised or cleared an alarm |
//! | `threshold` | the count from which an alarm is raised |
//! | `pool` | name of a pool of servers |
//! | `server` | name of a server within its pool |
//!
//! # Events
//!
//! | target | level | fields | when |
//! |---|---|---|---|
//! | `portcullis::connection` | configurable | `peer`, `suppressed` | a connection was opened |
//! | `portcullis::connection` | configurable | `peer`, `outcome`, `duration`, `bytes_in`, `bytes_out`, `observed`, `error` | a connection was closed |
//! | `portcullis_middleware::guard::observer` | INFO | `connection.id`, `peer`, `by`, `error`, `suppressed` | a guard that only observes let a connection pass that it would have rejected or closed |
//! | `portcullis_middleware::handler::on_error::lend` | DEBUG | `connection.id`, `error`, `returned` | a service failed and the error handler is called |
//! | `portcullis_middleware::limit::table_full` | WARN | `peer`, `by`, `suppressed` | a table of keys is full |
//! | `portcullis_middleware::observe::alarm::policy` | WARN | `listener`, `alarm`, `count`, `threshold` | an alarm was raised |
//! | `portcullis_middleware::observe::alarm::policy` | INFO | `listener`, `alarm`, `count`, `threshold` | an alarm was cleared |
//! | `portcullis_middleware::proxy_protocol::warnings` | WARN | `peer`, `suppressed` | an untrusted source was rejected, or a second PROXY header was ignored |
//! | `portcullis_middleware::proxy_protocol::warnings` | WARN | `peer`, `error`, `suppressed` | a trusted source sent no valid PROXY header |
//! | `portcullis_middleware::tls::configs` | WARN | | a TLS configuration enabled early data, which is unsupported |
//! | `portcullis_middleware::tls::profile` | WARN | | secrets of TLS sessions are written to a file for debugging |
//! | `portcullis_middleware::tls::profile::crl` | WARN | `file` | a revocation list is out of date |
//! | `portcullis_middleware::tls::store::changes` | WARN | `error` | the operating system does not report changes of certificates |
//! | `portcullis_middleware::tls::store::snapshot` | WARN | `file` | a certificate in use expires soon or has expired, or its OCSP response is out of date |
//! | `portcullis_middleware::tls::store::source` | WARN | `file` | an OCSP response is unusable and is not sent |
//! | `portcullis_middleware::tls::store::watch` | ERROR | `certificate`, `used_by`, `error` | a changed certificate is unusable, and the previous one stays in use; with its name |
//! | `portcullis_middleware::tls::store::watch` | ERROR | `used_by`, `error` | the same without a name, or of another changed file |
//! | `portcullis_middleware::tls::store::watch` | INFO | `used_by`, `file` | changed files were reloaded; with their paths |
//! | `portcullis_middleware::tls::x509::doubts` | WARN | `certificate` | a loaded certificate is expired or otherwise doubtful |
//! | `portcullis_middleware::timeout::connection_timeout::handed_off` | DEBUG | `connection.id`, `peer`, `error` | a handed-off connection exceeded a limit and is closed |
//! | `portcullis::server::acceptor` | ERROR | `listener`, `error` | a listener failed permanently |
//! | `portcullis::server::acceptors` | ERROR | `listener`, `error` | a listener panicked |
//! | `portcullis::server::heartbeat` | WARN | `worker`, `connection.id`, `peer` | a handler blocks its worker thread |
//! | `portcullis::server::listener_drain` | ERROR | `error` | an acceptor ended unexpectedly |
//! | `portcullis::server::recorder` | ERROR | `connection.id` | formatting an error panicked |
//! | `portcullis::server::recorder` | ERROR | `connection.id`, `peer`, `error`, `suppressed` | a service panicked |
//! | `portcullis::server::recorder` | DEBUG | `connection.id`, `peer`, `outcome`, `error`, `duration`, `bytes_in`, `bytes_out`, `suppressed` | a service failed |
//! | `portcullis::server::recorder` | WARN | | a stack did not take the context of a connection |
//! | `portcullis::server::recorder` | WARN | `listener`, `error`, `suppressed` | accepting is paused after an error |
//! | `portcullis::server::triggers` | ERROR | `error` | a shutdown trigger panicked |
//! | `portcullis::server::triggers` | INFO | `limit` | the server shuts down because it is idle |
//! | `portcullis::server::triggers` | INFO | | the server shuts down because of a signal |
//! | `portcullis::tonic::incoming` | ERROR | `peer`, `suppressed` | a connection without TLS reached `tonic_tls` |
//! | `portcullis::upstream::events` | INFO | `pool`, `server` | a server of a pool has passed its health checks |
//! | `portcullis::upstream::events` | WARN | `error`, `pool`, `server` | a server of a pool has failed its health checks |
//! | `portcullis::upstream::events` | INFO | `pool`, `server` | a server of a pool that gets no new connections has lost its last one |
//! | `portcullis::upstream::events` | WARN | `error`, `pool` | a pool was not notified of changes of its servers |
//! | `portcullis::upstream::events` | WARN | `error`, `pool`, `server` | the host name of a server of a pool cannot be resolved |
//! | `portcullis::upstream::events` | WARN | `pool`, `server` | a server of a pool is not used for a time, because connects have failed, or its certificate expires soon |
//!
//! # Example
//!
//! ```
//! use portcullis_middleware::telemetry::EVENTS;
//!
//! let closed = EVENTS.iter().find(|event| event.when == "a connection was closed");
//! assert!(closed.is_some_and(|event| event.fields.contains(&"outcome")));
//! ```

use tracing::Level;

/// Name of the span of a connection.
pub const SPAN: &str = "connection";

/// Target of the span of a connection, and of the events for its opening and closing.
pub const TARGET: &str = "portcullis::connection";

/// A field of a span or an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Field {
    /// Its key.
    pub name: &'static str,
    /// Its value, in words.
    pub value: &'static str,
}

/// An event, identified by its target, level and fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The target, usually the path of the emitting module.
    pub target: &'static str,
    /// The level; `None` for the level of [`TraceLayer`](crate::observe::TraceLayer::with_level).
    pub level: Option<Level>,
    /// Keys of its fields, each described in [`FIELDS`]. Fields without a value are omitted.
    pub fields: &'static [&'static str],
    /// When it is emitted, in words.
    pub when: &'static str,
}

const fn field(name: &'static str, value: &'static str) -> Field {
    Field { name, value }
}

const fn event(
    target: &'static str,
    level: Option<Level>,
    fields: &'static [&'static str],
    when: &'static str,
) -> Event {
    Event {
        target,
        level,
        fields,
        when,
    }
}

/// Fields of the span of a connection.
pub const SPAN_FIELDS: &[Field] = &[
    field(
        "connection.id",
        "number of the connection within the process",
    ),
    field("server.name", "name of the server or of its listener"),
    field(
        "network.transport",
        "`tcp`, `unix`, or `pipe` for in-memory streams",
    ),
    field("network.type", "`ipv4` or `ipv6`"),
    field(
        "network.peer.address",
        "remote IP address or path of the socket",
    ),
    field("network.peer.port", "remote port of the socket"),
    field(
        "network.local.address",
        "local IP address or path of the socket",
    ),
    field("network.local.port", "local port of the socket"),
    field("client.address", "address of the client behind a proxy"),
    field("client.port", "port of the client behind a proxy"),
    field(
        "tls.protocol.version",
        "negotiated TLS version, such as `1.3`",
    ),
    field("tls.cipher", "registered name of the cipher suite"),
    field(
        "tls.next_protocol",
        "negotiated application protocol (ALPN)",
    ),
    field(
        "server.address",
        "host name requested by the TLS client (SNI)",
    ),
];

/// Fields of events.
pub const FIELDS: &[Field] = &[
    field(
        "connection.id",
        "number of the connection within the process",
    ),
    field(
        "peer",
        "address of the client, from a PROXY header if one was accepted",
    ),
    field("listener", "name of the listener"),
    field("error", "the error and its causes, on one line"),
    field(
        "outcome",
        "how the connection ended, by [`Outcome::as_str`](crate::outcome::Outcome::as_str)",
    ),
    field("duration", "seconds since the connection was accepted"),
    field(
        "bytes_in",
        "bytes read from the socket; ciphertext under TLS",
    ),
    field(
        "bytes_out",
        "bytes written to the socket; ciphertext under TLS",
    ),
    field(
        "suppressed",
        "number of events of this kind that a rate limit omitted before this one",
    ),
    field(
        "returned",
        "whether the error handler received the connection",
    ),
    field(
        "certificate",
        "position of the certificate in its file, from 1",
    ),
    field("file", "path of a file"),
    field("used_by", "what uses the certificates, such as a listener"),
    field("limit", "the idle timeout of the server"),
    field("worker", "number of the worker thread, from 0"),
    field(
        "by",
        "name of the layer that rejects or would reject the connection",
    ),
    field(
        "observed",
        "what guards that only observe would have done, with their names",
    ),
    field(
        "alarm",
        "what an alarm counts: `active`, `opened`, `refused` or `failed`",
    ),
    field("count", "the count that raised or cleared an alarm"),
    field("threshold", "the count from which an alarm is raised"),
    field("pool", "name of a pool of servers"),
    field("server", "name of a server within its pool"),
];

const ERROR: Option<Level> = Some(Level::ERROR);
const WARN: Option<Level> = Some(Level::WARN);
const INFO: Option<Level> = Some(Level::INFO);
const DEBUG: Option<Level> = Some(Level::DEBUG);

const ALARM: &str = "portcullis_middleware::observe::alarm::policy";
const LEND: &str = "portcullis_middleware::handler::on_error::lend";
const PROXY: &str = "portcullis_middleware::proxy_protocol::warnings";
const RECORDER: &str = "portcullis::server::recorder";
const TRIGGERS: &str = "portcullis::server::triggers";
const UPSTREAM: &str = "portcullis::upstream::events";

/// Events of both packages.
pub const EVENTS: &[Event] = &[
    event(
        TARGET,
        None,
        &["peer", "suppressed"],
        "a connection was opened",
    ),
    event(
        TARGET,
        None,
        &[
            "peer",
            "outcome",
            "duration",
            "bytes_in",
            "bytes_out",
            "observed",
            "error",
        ],
        "a connection was closed",
    ),
    event(
        "portcullis_middleware::guard::observer",
        INFO,
        &["connection.id", "peer", "by", "error", "suppressed"],
        "a guard that only observes let a connection pass that it would have rejected or closed",
    ),
    event(
        LEND,
        DEBUG,
        &["connection.id", "error", "returned"],
        "a service failed and the error handler is called",
    ),
    event(
        "portcullis_middleware::limit::table_full",
        WARN,
        &["peer", "by", "suppressed"],
        "a table of keys is full",
    ),
    event(
        ALARM,
        WARN,
        &["listener", "alarm", "count", "threshold"],
        "an alarm was raised",
    ),
    event(
        ALARM,
        INFO,
        &["listener", "alarm", "count", "threshold"],
        "an alarm was cleared",
    ),
    event(
        PROXY,
        WARN,
        &["peer", "suppressed"],
        "an untrusted source was rejected, or a second PROXY header was ignored",
    ),
    event(
        PROXY,
        WARN,
        &["peer", "error", "suppressed"],
        "a trusted source sent no valid PROXY header",
    ),
    event(
        "portcullis_middleware::tls::configs",
        WARN,
        &[],
        "a TLS configuration enabled early data, which is unsupported",
    ),
    event(
        "portcullis_middleware::tls::profile",
        WARN,
        &[],
        "secrets of TLS sessions are written to a file for debugging",
    ),
    event(
        "portcullis_middleware::tls::profile::crl",
        WARN,
        &["file"],
        "a revocation list is out of date",
    ),
    event(
        "portcullis_middleware::tls::store::changes",
        WARN,
        &["error"],
        "the operating system does not report changes of certificates",
    ),
    event(
        "portcullis_middleware::tls::store::snapshot",
        WARN,
        &["file"],
        "a certificate in use expires soon or has expired, or its OCSP response is out of date",
    ),
    event(
        "portcullis_middleware::tls::store::source",
        WARN,
        &["file"],
        "an OCSP response is unusable and is not sent",
    ),
    event(
        "portcullis_middleware::tls::store::watch",
        ERROR,
        &["certificate", "used_by", "error"],
        "a changed certificate is unusable, and the previous one stays in use; with its name",
    ),
    event(
        "portcullis_middleware::tls::store::watch",
        ERROR,
        &["used_by", "error"],
        "the same without a name, or of another changed file",
    ),
    event(
        "portcullis_middleware::tls::store::watch",
        INFO,
        &["used_by", "file"],
        "changed files were reloaded; with their paths",
    ),
    event(
        "portcullis_middleware::tls::x509::doubts",
        WARN,
        &["certificate"],
        "a loaded certificate is expired or otherwise doubtful",
    ),
    event(
        "portcullis_middleware::timeout::connection_timeout::handed_off",
        DEBUG,
        &["connection.id", "peer", "error"],
        "a handed-off connection exceeded a limit and is closed",
    ),
    event(
        "portcullis::server::acceptor",
        ERROR,
        &["listener", "error"],
        "a listener failed permanently",
    ),
    event(
        "portcullis::server::acceptors",
        ERROR,
        &["listener", "error"],
        "a listener panicked",
    ),
    event(
        "portcullis::server::heartbeat",
        WARN,
        &["worker", "connection.id", "peer"],
        "a handler blocks its worker thread",
    ),
    event(
        "portcullis::server::listener_drain",
        ERROR,
        &["error"],
        "an acceptor ended unexpectedly",
    ),
    event(
        RECORDER,
        ERROR,
        &["connection.id"],
        "formatting an error panicked",
    ),
    event(
        RECORDER,
        ERROR,
        &["connection.id", "peer", "error", "suppressed"],
        "a service panicked",
    ),
    event(
        RECORDER,
        DEBUG,
        &[
            "connection.id",
            "peer",
            "outcome",
            "error",
            "duration",
            "bytes_in",
            "bytes_out",
            "suppressed",
        ],
        "a service failed",
    ),
    event(
        RECORDER,
        WARN,
        &[],
        "a stack did not take the context of a connection",
    ),
    event(
        RECORDER,
        WARN,
        &["listener", "error", "suppressed"],
        "accepting is paused after an error",
    ),
    event(TRIGGERS, ERROR, &["error"], "a shutdown trigger panicked"),
    event(
        TRIGGERS,
        INFO,
        &["limit"],
        "the server shuts down because it is idle",
    ),
    event(
        TRIGGERS,
        INFO,
        &[],
        "the server shuts down because of a signal",
    ),
    event(
        "portcullis::tonic::incoming",
        ERROR,
        &["peer", "suppressed"],
        "a connection without TLS reached `tonic_tls`",
    ),
    event(
        UPSTREAM,
        INFO,
        &["pool", "server"],
        "a server of a pool has passed its health checks",
    ),
    event(
        UPSTREAM,
        WARN,
        &["error", "pool", "server"],
        "a server of a pool has failed its health checks",
    ),
    event(
        UPSTREAM,
        INFO,
        &["pool", "server"],
        "a server of a pool that gets no new connections has lost its last one",
    ),
    event(
        UPSTREAM,
        WARN,
        &["error", "pool"],
        "a pool was not notified of changes of its servers",
    ),
    event(
        UPSTREAM,
        WARN,
        &["error", "pool", "server"],
        "the host name of a server of a pool cannot be resolved",
    ),
    event(
        UPSTREAM,
        WARN,
        &["pool", "server"],
        "a server of a pool is not used for a time, because connects have failed, or its certificate expires soon",
    ),
];

#[cfg(test)]
mod tests;
