//! Tests with scripted servers in paused time, and over loopback.

mod balance;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod check_tls;
mod connect;
#[cfg(feature = "dns")]
mod dns;
mod failing;
mod forwarding;
mod greeting;
mod health;
#[cfg(any(feature = "dns", feature = "aws-lc-rs", feature = "ring"))]
mod log;
mod loopback;
#[cfg(feature = "metrics")]
mod metrics;
mod names;
#[cfg(all(feature = "metrics", any(feature = "aws-lc-rs", feature = "ring")))]
mod presented;
mod queue;
mod reconfigure;
mod seeds;
mod servers;
mod simulation;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod tls;

use self::servers::{Answer, Servers, client, client_at};
use super::*;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const BALANCES: [Balance; 4] = [
    Balance::LeastConnections,
    Balance::RoundRobin,
    Balance::Hash,
    Balance::First,
];
