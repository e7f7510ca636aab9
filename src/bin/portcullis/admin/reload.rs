//! Changes of the program as a whole.

use super::{
    query::Query,
    reply::{self, Refusal, Reply},
    router::Call,
};
use crate::{log, running::Request};
use http::StatusCode;
use serde_json::json;
use std::str::FromStr;
use tokio::sync::oneshot;
use tracing::Level;

/// Reads the configuration file again, as SIGHUP does.
pub(super) async fn reload(call: &Call<'_>) -> Result<Reply, Refusal> {
    call.query(&[])?;
    let gone = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the program shuts down");
    let (reply, result) = oneshot::channel();
    let request = Request::Reload { reply };
    let sent = call.interface.requests.send(request).await;
    sent.map_err(|_| gone())?;
    match result.await.map_err(|_| gone())? {
        Ok(()) => Ok(reply::ok(&json!({ "result": "reloaded" }))),
        Err(problems) => Err(Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "the configuration was not reloaded; the old one stays in use",
        )
        .with("problems", problems)),
    }
}

/// Shuts down gracefully, as SIGTERM does. The reply comes once probes see it.
pub(super) async fn drain(call: &Call<'_>) -> Result<Reply, Refusal> {
    call.query(&[])?;
    let view = &call.interface.view;
    view.stop();
    view.server.draining().await;
    Ok(reply::with_status(
        StatusCode::ACCEPTED,
        &json!({ "result": "draining" }),
    ))
}

/// Changes the level of messages, until that of the configuration changes or the program ends. An upgrade keeps it.
pub(super) fn log_level(call: &Call<'_>) -> Result<Reply, Refusal> {
    let query = call.query(&["level"])?;
    let level = query.word("level", ["error", "warn", "info", "debug", "trace"])?;
    let level = level.ok_or_else(|| Query::missing("level"))?;
    let level = Level::from_str(level);
    log::set_level(level.expect("tracing knows these words"));
    Ok(reply::ok(
        &json!({ "log_level": log::level().as_str().to_lowercase() }),
    ))
}
