//! Hands the sockets to a new process, with what operators have changed at run time.
//!
//! Each change is an object in JSON. Fields that the new process does not know are ignored, and so are the names of
//! listeners and servers that its configuration lacks. A value replaces the one that was `configured`, and only that
//! one, because a file that has changed since is newer than what operators have changed.

use super::{Running, RunningListener};
use crate::{
    admin::{Admin, show_limit},
    log,
    system::{
        Events, Notifier,
        upgrade::{self, Finished, Succession},
    },
};
use portcullis::{
    server::{Drain, Handle},
    upstream::ServerRequest,
};
use serde_json::{Value, json};

impl Running {
    /// Starts the program again, which then asks this process for its sockets.
    pub(super) fn restart(&self) {
        if self.is_ending() {
            tracing::warn!("no new process is started, because the program shuts down");
            return;
        }
        if self.config.process.upgrade_socket.is_none() {
            tracing::error!("an upgrade needs `process.upgrade-socket` in the configuration");
            return;
        }
        let view = self.view.clone();
        match self.restart.start(move || view.is_ending()) {
            Ok(process) => tracing::info!(process, "a new process was started for an upgrade"),
            Err(error) => tracing::error!(%error, "no new process can be started"),
        }
    }

    /// Hands the sockets to a new process, then drains. If that fails, this process goes on.
    pub(super) async fn upgrade(&mut self, mut request: upgrade::Request, events: &mut Events) {
        let process = request.process.unwrap_or_default();
        tracing::info!(process, "a new process asks for the sockets");
        let activated = self.sockets.activated_by_name();
        let servers = [Some(&self.server), self.admin.as_ref().map(Admin::server)];
        // From here on they are rejected, so that none is lost.
        self.view.set_handed_over(true);
        let changes = self.changes();
        let handed_over = request.hand_over(servers, activated, &changes);
        if let Err(error) = handed_over.await {
            self.view.set_handed_over(false);
            tracing::error!(process, %error, "the upgrade failed; this process goes on");
            request.refuse(&error).await;
            return;
        }
        // Before the acknowledgement, after which the new process listens on the same path and reports to systemd.
        events.set_offer(None);
        events.set_watch(None);
        std::mem::take(&mut self.notifier).replaced_by(process);
        if let Err(error) = request.finish().await {
            tracing::warn!(process, %error, "the new process did not wait for this one");
        }
        tracing::info!(process, "the new process has taken over; this one drains");
        // Load balancers see the new process, and what that does not listen on is to be closed.
        let drain = Drain::new().with_deadline(self.config.drain.deadline);
        self.server.set_drain(drain);
        self.view.stop();
    }

    /// Takes the place of the process before, if there is one. `Some` says why that one goes on instead.
    pub(crate) async fn succeed(
        &mut self,
        mut succession: Succession,
        events: &mut Events,
    ) -> Result<Option<String>, String> {
        let taken = self.sockets.take_taken();
        let view = self.view.clone();
        match succession.finish(&taken, || view.is_ending()).await {
            Finished::Alone => self.sockets.own_files(),
            Finished::Unknown => self.sockets.keep(),
            Finished::Stopped => {
                self.give_back(&taken);
                return Ok(None);
            }
            Finished::Refused(why) => {
                self.give_back(&taken);
                return Ok(Some(why));
            }
        }
        events.set_offer(succession.offer()?);
        Ok(None)
    }

    /// Leaves the sockets with these labels to the process before, and drains.
    fn give_back(&mut self, taken: &[String]) {
        let servers = [Some(&self.server), self.admin.as_ref().map(Admin::server)];
        for listener in servers.into_iter().flatten().flat_map(Handle::listeners) {
            if taken.iter().any(|label| label == listener.name()) {
                listener.hand_over();
            }
        }
        self.sockets.keep();
        // That process reports to systemd.
        self.notifier = Notifier::default();
        let drain = Drain::new().with_deadline(self.config.drain.deadline);
        self.server.set_drain(drain);
        self.view.stop();
    }

    /// What operators have changed: the level of the log, and what listeners and servers do.
    fn changes(&self) -> Vec<String> {
        let level = log::level();
        let mut changes = Vec::new();
        if level != self.config.log.level.0 {
            let configured = self.config.log.level.0.as_str();
            changes.push(json!({ "log_level": level.as_str(), "configured": configured }));
        }
        for listener in &self.config.listeners {
            let name = &listener.name.value;
            let Some(running) = self.listeners.get(name) else {
                continue;
            };
            if running.is_paused() {
                changes.push(json!({ "listener": name, "paused": true }));
            }
            let limit = running.state.limit().limit();
            let configured = listener.guards.limits.connections.unwrap_or(usize::MAX);
            if limit != configured {
                let change = json!({ "listener": name, "limit": limit, "configured": configured });
                changes.push(change);
            }
        }
        for (backend, pool) in &self.pools {
            let requests = pool.requests().into_iter();
            changes.extend(requests.filter_map(|(server, request)| {
                let request = word(request)?;
                Some(json!({ "backend": backend, "server": server.as_str(), "request": request }))
            }));
        }
        changes.iter().map(Value::to_string).collect()
    }

    /// Does here what operators have changed in the process before.
    pub(super) fn repeat(&self, changes: &[String]) {
        for change in changes {
            let value: Value = serde_json::from_str(change).unwrap_or_default();
            let change = match &value {
                Value::Null => change.escape_debug().to_string(),
                // JSON has no control characters.
                value => value.to_string(),
            };
            match self.repeat_one(&value) {
                Some(true) => tracing::info!("taken over from the process before: {change}"),
                Some(false) => {
                    tracing::warn!("the configuration has changed, so not taken over: {change}");
                }
                None => tracing::warn!("unknown here, so not taken over: {change}"),
            }
        }
    }

    /// False if the configuration has another value now than the one that was changed. `None` if it is unknown.
    fn repeat_one(&self, change: &Value) -> Option<bool> {
        let text = |key: &str| change[key].as_str();
        if let Some(level) = text("log_level") {
            let level = level.parse().ok()?;
            let is_current = is_current(change, &self.config.log.level.0.as_str().into());
            if is_current {
                log::set_level(level);
            }
            return Some(is_current);
        }
        if let Some(name) = text("listener") {
            let repeated = self
                .successors(name)
                .map(|(name, listener)| self.repeat_for(name, listener, change));
            // Of several, one that has taken it over is enough.
            return repeated.flatten().reduce(|one, other| one || other);
        }
        let (pool, server) = (self.pools.get(text("backend")?)?, text("server")?);
        let known = REQUESTS
            .into_iter()
            .find(|it| Some(it.1) == text("request"));
        pool.request(&server.into(), known?.0).then_some(true)
    }
}

impl Running {
    /// What this listener of the process before is here: the one with its name, and those with a new name that have
    /// one of its sockets. A reload has the same [rule](Running::kept).
    fn successors<'a>(
        &'a self,
        name: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a RunningListener)> {
        let was_there = |name: &str| self.sockets.holders().contains(name);
        let listeners = self.listeners.iter().map(|(new, it)| (&**new, it));
        listeners.filter(move |(new, _)| {
            *new == name || self.sockets.predecessor(new, was_there) == Some(name)
        })
    }

    /// Changes one listener, as [`repeat_one`](Self::repeat_one) does.
    fn repeat_for(&self, name: &str, listener: &RunningListener, change: &Value) -> Option<bool> {
        if change["paused"] == true {
            for socket in &listener.sockets {
                socket.handle.pause();
            }
            return Some(true);
        }
        let limit = change["limit"].as_u64().filter(|limit| *limit > 0)?;
        let limit = usize::try_from(limit).ok()?;
        let mut configured = self.config.listeners.iter();
        let configured = configured.find(|it| it.name.value == name)?;
        let configured = configured.guards.limits.connections.unwrap_or(usize::MAX);
        let is_current = is_current(change, &configured.into());
        if is_current {
            listener.state.limit().set_limit(limit);
            show_limit(name, limit);
        }
        Some(is_current)
    }
}

/// Whether the configuration still has the value that was changed.
fn is_current(change: &Value, value: &Value) -> bool {
    match &change["configured"] {
        Value::Null => true,
        configured => configured == value,
    }
}

fn word(request: ServerRequest) -> Option<&'static str> {
    let known = REQUESTS.into_iter().find(|it| it.0 == request);
    known.map(|it| it.1)
}

/// In the words of the admin interface.
const REQUESTS: [(ServerRequest, &str); 3] = [
    (ServerRequest::Auto, "auto"),
    (ServerRequest::Drain, "drain"),
    (ServerRequest::Down, "down"),
];
