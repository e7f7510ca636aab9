//! The measurements, one file for each kind.

mod accept;
mod counters;
mod data;
mod drain;
mod growth;
mod handshake;
mod http;
mod idle;
mod latency;
mod operations;
mod timeouts;
mod tls_settings;

use crate::{
    options::Options,
    plan::{Bench, Plan},
    server,
};
use harness::BoxError;

/// All selected measurements.
pub(crate) fn plans(bench: &Bench, options: &Options) -> Result<Vec<Plan>, BoxError> {
    let mut plans = Vec::new();
    plans.extend(data::plain(bench));
    plans.extend(data::forward(bench));
    plans.push(timeouts::plan(bench));
    plans.push(operations::plan(bench));
    plans.extend(handshake::plans(bench));
    plans.push(tls_settings::plan(bench));
    plans.extend(data::tls(bench));
    plans.extend(idle::plans(bench)?);
    plans.extend(http::plans(bench));
    plans.extend(latency::plans(bench));
    plans.extend(growth::plans(bench)?);
    plans.extend(drain::plans(bench)?);
    plans.push(accept::plan(bench));
    // Last: what tools do to the machine is not between the measurements of time.
    plans.extend(counters::plans(bench)?);
    for name in &options.only {
        if !plans.iter().any(|plan| plan.id == name) {
            let known: Vec<_> = plans.iter().map(|plan| plan.id).collect();
            return Err(format!("no measurement {name}, only: {}", known.join(", ")).into());
        }
    }
    for name in &options.servers {
        if server::find(name).is_none() {
            let known: Vec<_> = server::all().map(|entry| entry.name).collect();
            return Err(format!("no server {name}, only: {}", known.join(", ")).into());
        }
    }
    plans.retain(|plan| options.only.is_empty() || options.only.iter().any(|id| id == plan.id));
    for plan in &mut plans {
        plan.only(options);
    }
    Ok(plans)
}
