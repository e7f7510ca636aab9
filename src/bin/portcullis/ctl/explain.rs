//! `portcullis ctl explain`: what would become of a client of the running program.

use super::table::plain;
use clap::Args;
use serde_json::Value;
use std::net::IpAddr;

#[derive(Args, Debug)]
pub(super) struct Question {
    /// The listener that the client connects to.
    #[arg(long, value_name = "NAME")]
    listener: String,
    /// The client's address.
    #[arg(long, value_name = "ADDRESS")]
    from: IpAddr,
    /// The host name that it requests over TLS.
    #[arg(long, value_name = "HOST")]
    name: Option<String>,
    /// A protocol that it offers over TLS (ALPN), such as h2; may be repeated.
    #[arg(long, value_name = "PROTOCOL")]
    alpn: Vec<String>,
    /// What it speaks, as in `listener.route.protocol`.
    #[arg(long, value_name = "PROTOCOL")]
    protocol: Option<String>,
    /// A name in the valid certificate that it shows, such as dns:batch.mesh; may be repeated.
    #[arg(long, value_name = "NAME")]
    cert: Vec<String>,
    /// The proxy through which it connects, which sends a PROXY header.
    #[arg(long, value_name = "ADDRESS")]
    proxy: Option<IpAddr>,
    /// It connects without a proxy to a listener that reads PROXY headers.
    #[arg(long, conflicts_with = "proxy")]
    direct: bool,
}

impl Question {
    /// The parameters of a request.
    pub(super) fn parameters(&self) -> Vec<(&'static str, String)> {
        let list = |words: &[String]| (!words.is_empty()).then(|| words.join(","));
        let all = [
            ("listener", Some(self.listener.clone())),
            ("from", Some(self.from.to_string())),
            ("name", self.name.clone()),
            ("alpn", list(&self.alpn)),
            ("protocol", self.protocol.clone()),
            ("cert", list(&self.cert)),
            ("proxy", self.proxy.map(|proxy| proxy.to_string())),
            ("direct", self.direct.then(|| "true".into())),
        ];
        let given = all.into_iter();
        given
            .filter_map(|(key, value)| Some((key, value?)))
            .collect()
    }
}

/// As `portcullis explain` prints it.
pub(super) fn show(answer: &Value) -> String {
    let word = |value: &Value| plain(value.as_str().unwrap_or_default());
    let guards = answer["guards"].as_array();
    let guards: Vec<_> = guards
        .into_iter()
        .flatten()
        .map(|step| ["guard", "verdict", "reason"].map(|key| word(&step[key])))
        .collect();
    let width = guards.iter().map(|[guard, ..]| guard.len()).max();
    let width = width.unwrap_or(0);
    let lines = guards
        .iter()
        .map(|[guard, verdict, reason]| format!("{guard:width$}  {verdict:7}  {reason}\n"));
    lines.collect::<String>() + &word(&answer["decision"]) + "\n"
}
