//! `portcullis explain`: which rule decides about a client, guard by guard, without a connection.
//!
//! The questions go to the same layers, tables and pools that the stack of the listener is made of
//! ([`Rules`]), in the order of the stack.

mod asking;
mod client;
mod command;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    client::{Client, Shown, Via},
    command::{ExplainArgs, explain},
};

use crate::{build::Rules, config::Listener, reason::key_of};
use asking::Asking;

/// What would become of a client, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Explanation {
    pub(crate) guards: Vec<Step>,
    pub(crate) route: Option<String>,
    pub(crate) backend: Option<String>,
    /// The one, or those of which one is chosen.
    pub(crate) servers: Vec<String>,
    pub(crate) decision: String,
}

/// The step that chooses a server.
const BACKEND: &str = "backend";

/// What one guard says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// As in logs and metrics.
    pub(crate) guard: &'static str,
    pub(crate) decides: Decides,
    pub(crate) reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decides {
    Admit,
    Reject,
    /// It would be rejected, and is only counted.
    Observe,
}

impl Decides {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Reject => "reject",
            Self::Observe => "observe",
        }
    }
}

impl Explanation {
    /// The client of a listener that is paused waits in the accept queue.
    pub(crate) fn wait_for_resume(&mut self) {
        let waits = Step {
            guard: "listener",
            decides: Decides::Admit,
            reason: "it is paused, so the client waits in the accept queue".into(),
        };
        self.guards.insert(0, waits);
        self.decision = format!(
            "waits until the listener is resumed, then {}",
            self.decision
        );
    }

    /// The guard that rejects the client.
    pub(crate) fn rejected_by(&self) -> Option<&Step> {
        let mut steps = self.guards.iter();
        steps.find(|step| step.decides == Decides::Reject)
    }
}

/// # Errors
///
/// Why the client cannot connect to the listener in this way.
pub(crate) fn check_via(listener: &Listener, client: &Client) -> Result<(), String> {
    if listener.proxy_protocol.is_none() && matches!(client.via, Via::Proxy(_)) {
        let name = &listener.name.value;
        return Err(format!(
            "listener \"{name}\" reads no PROXY headers, so the proxy is its client; leave the proxy out"
        ));
    }
    Ok(())
}

/// Asks the rules of a listener about a client.
pub(crate) fn decide(listener: &Listener, rules: &Rules, client: &Client) -> Explanation {
    let mut asking = Asking {
        listener,
        rules,
        client,
        explanation: Explanation::default(),
    };
    // A guard that rejects ends it.
    let _rejected = asking.guards();
    let mut explanation = asking.explanation;
    explanation.decision = decision(&explanation);
    explanation
}

fn decision(explanation: &Explanation) -> String {
    match (explanation.rejected_by(), &explanation.backend) {
        (Some(step), _) => {
            let key = key_of(step.guard).map(|key| format!(" (`{key}`)"));
            let key = key.unwrap_or_default();
            format!("rejected by {}: {}{key}", step.guard, step.reason)
        }
        (None, Some(backend)) => match &*explanation.servers {
            [] => match explanation.guards.last() {
                Some(step) if step.guard == BACKEND => {
                    format!("waits for backend \"{backend}\": {}", step.reason)
                }
                _ => format!("forwarded to backend \"{backend}\""),
            },
            [server] => format!("forwarded to {server} of backend \"{backend}\""),
            servers => format!(
                "forwarded to one of {} of backend \"{backend}\"",
                servers.join(", ")
            ),
        },
        (None, None) => "nothing takes it".into(),
    }
}
