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
        Ok(Self { path, takeover })
    }

    /// Reports why this process does not start after all, so that the log of the old one says it, too.
    pub(crate) async fn fail(self, why: &str) {
        if let Some(takeover) = self.takeover {
            // Without an answer, the old process goes on as well.
            let _ = takeover.refuse(why).await;
        }
    }

    /// Reports that the sockets with the labels `taken` are served, and waits for processes to come.
    pub(crate) async fn finish(self, taken: Vec<String>) -> Result<Option<Offer>, String> {
        let Some(path) = self.path else {
            return Ok(None);
        };
        let has_taken_over = self.takeover.is_some();
        if let Some(takeover) = self.takeover {
            let process = takeover.process.unwrap_or_default();
            match takeover.finish(taken).await {
                Ok(()) => tracing::info!(process, "the sockets of the old process were taken over"),
                // Both serve the same sockets, so no client is lost.
                Err(error) => tracing::error!(process, %error, "the old process may go on serving"),
            }
        }
        match Offer::bind(&path.value) {
            Ok(offer) => {
                tracing::info!("ready for an upgrade at {}", path.value.display());
                Ok(Some(offer))
            }
            Err(error) => {
                let error = format!("{}: {}", path.place, chain(&error));
                if !has_taken_over {
                    return Err(error);
                }
                tracing::error!("{error}; there is no further upgrade");
                Ok(None)
            }
        }
    }
}

/// Why two processes are no predecessor and successor.
const NONE_IN_COMMON: &str = "the new process has no listener of the old one";
