//! HTTP/1.1: hello world.

use super::data;
use crate::plan::{Bench, Plan};

pub(super) fn plans(bench: &Bench) -> [Plan; 2] {
    let plain = "hyper-util portcullis-http portcullis-http-stack hyper-util-axum \
         portcullis-http-axum portcullis-http-axum-stack axum axum-server nginx-http \
         haproxy-http hyper-util";
    let tls = "hyper-util-https portcullis-https portcullis-https-axum axum-server-https \
         tls-listener-https nginx-https haproxy-https hyper-util-https";
    [
        plan(bench, "http", "HTTP hello world").servers(plain),
        plan(bench, "https", "HTTP hello world over TLS").servers(tls),
    ]
}

fn plan(bench: &Bench, id: &'static str, title: &str) -> Plan {
    let about = "GET and 13 bytes as answer, closed loop, 64 connections that stay.";
    data::kept(bench, id, title, about, 64)
}
