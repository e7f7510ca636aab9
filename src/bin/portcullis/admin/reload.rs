//! Changes of the program as a whole.

use super::{
    reply::{self, Refusal, Reply},
    router::Call,
};
use crate::running::Request;
use http::StatusCode;
use serde_json::json;
use tokio::sync::oneshot;

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

/// Shuts down gracefully, as SIGTERM does.
pub(super) fn drain(call: &Call<'_>) -> Result<Reply, Refusal> {
    call.query(&[])?;
    call.interface.view.stop();
    Ok(reply::with_status(
        StatusCode::ACCEPTED,
        &json!({ "result": "draining" }),
    ))
}
