//! The new process, from the first question to the last acknowledgement.

use super::{
    Offer, UpgradeError,
    new::{Takeover, take_over},
};
use crate::{
    config::{Config, Placed, chain},
    system::Sockets,
};
use std::path::PathBuf;

/// A process that starts, and may take the place of another one.
pub(crate) struct Succession {
    path: Option<Placed<PathBuf>>,
    takeover: Option<Takeover>,
    has_taken_over: bool,
}

/// What has become of the process before.
pub(crate) enum Finished {
    /// It has stopped accepting or has ended, or this is the first process.
    Alone,
    /// It goes on, because this process was stopped.
    Stopped,
    /// It goes on, for this reason.
    Refused(String),
    /// It does not answer.
    Unknown,
}

impl Succession {
    /// Asks the process that runs, if there is one, for its sockets.
    pub(crate) async fn begin(config: &Config, sockets: &mut Sockets) -> Result<Self, String> {
        let path = config.process.upgrade_socket.clone();
        let mut takeover = None;
        if let Some(path) = &path {
            let mut begun = take_over(&path.value).await;
            if begun.as_ref().is_err_and(UpgradeError::is_disconnect) {
                // It may have ended, or has been replaced by another one.
                begun = take_over(&path.value).await;
            }
            let begun =
                begun.map_err(|error| format!("{}: the upgrade failed: {error}", path.place))?;
            if let Some((begun, handed_over)) = begun {
                if !handed_over.serves(config) {
                    // Without an answer, the old process goes on as well.
                    let _ = begun.refuse(NONE_IN_COMMON).await;
                    return Err(format!(
                        "{}: the upgrade failed: {NONE_IN_COMMON}; stop the old process, or use another path",
                        path.place
                    ));
                }
                sockets.add_handed_over(handed_over);
                takeover = Some(begun);
            }
        }
        let has_taken_over = takeover.is_some();
        Ok(Self {
            path,
            takeover,
            has_taken_over,
        })
    }

    /// Reports why this process does not start after all, so that the log of the old one says it, too.
    pub(crate) async fn fail(self, why: &str) {
        if let Some(takeover) = self.takeover {
            // Without an answer, the old process goes on as well.
            let _ = takeover.refuse(why).await;
        }
    }

    /// Reports that the sockets with the labels `taken` are served, unless this process `is_ending`.
    pub(crate) async fn finish(
        &mut self,
        taken: &[String],
        is_ending: impl Fn() -> bool,
    ) -> Finished {
        let (Some(takeover), Some(path)) = (self.takeover.take(), &self.path) else {
            return Finished::Alone;
        };
        let process = takeover.process.unwrap_or_default();
        match takeover.finish(taken, is_ending).await {
            Ok(()) => {
                tracing::info!(process, "the sockets of the old process were taken over");
                Finished::Alone
            }
            Err(UpgradeError::Stopped) => {
                tracing::warn!(
                    process,
                    "stopped before the upgrade was complete; the old process goes on"
                );
                Finished::Stopped
            }
            Err(error @ UpgradeError::Refused(_)) => {
                tracing::error!(process, %error, "the upgrade failed; the old process goes on and this one drains");
                Finished::Refused(format!("{}: the upgrade failed: {error}", path.place))
            }
            Err(error) if error.is_disconnect() => {
                tracing::error!(process, %error, "the old process has ended before it handed over");
                Finished::Alone
            }
            // Both serve the same sockets, so no client is lost.
            Err(error) => {
                tracing::error!(process, %error, "the old process may go on serving");
                Finished::Unknown
            }
        }
    }

    /// Waits for processes to come. After an upgrade, this process serves also if it cannot.
    pub(crate) fn offer(self) -> Result<Option<Offer>, String> {
        let Some(path) = self.path else {
            return Ok(None);
        };
        match Offer::bind(&path.value) {
            Ok(offer) => {
                tracing::info!("ready for an upgrade at {}", path.value.display());
                Ok(Some(offer))
            }
            Err(error) => {
                let error = format!("{}: {}", path.place, chain(&error));
                if !self.has_taken_over {
                    return Err(error);
                }
                tracing::error!("{error}; there is no further upgrade");
                Ok(None)
            }
        }
    }
}

/// Why a process is refused as the successor of another one.
const NONE_IN_COMMON: &str = "the new process has no listener of the old one";
