//! Hands the sockets to a new process, with what operators have changed at run time.
//!
//! Each change is an object in JSON. Fields that the new process does not know are ignored, and so are the names of
//! listeners and servers that its configuration lacks.

use super::Running;
use crate::{
    admin::{Admin, show_limit},
    log,
    system::{Events, upgrade},
    view::Socket,
};
use portcullis::{server::State, upstream::ServerRequest};
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
        match self.restart.start() {
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
        let changes = self.changes();
        let handed_over = request.hand_over(servers, activated, &changes);
        if let Err(error) = handed_over.await {
            tracing::error!(process, %error, "the upgrade failed; this process goes on");
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
        self.view.stop();
    }

    /// What operators have changed: the level of the log, and what listeners and servers do.
    fn changes(&self) -> Vec<String> {
        let level = log::level();
        let mut changes = Vec::new();
        if level != self.config.log.level.0 {
            changes.push(json!({ "log_level": level.as_str() }));
        }
        for listener in &self.config.listeners {
            let name = &listener.name.value;
            let Some(running) = self.listeners.get(name) else {
                continue;
            };
            let is_paused = |it: &Socket| it.handle.state() == State::Paused;
            if running.sockets.iter().any(is_paused) {
                changes.push(json!({ "listener": name, "paused": true }));
            }
            let limit = running.state.limit().limit();
            if limit != listener.guards.limits.connections.unwrap_or(usize::MAX) {
                changes.push(json!({ "listener": name, "limit": limit }));
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
            match self.repeat_one(&value) {
                Some(()) => tracing::info!("taken over from the process before: {change}"),
                None => {
                    tracing::warn!("unknown here, so not taken over: {}", change.escape_debug())
                }
            }
        }
    }

    fn repeat_one(&self, change: &Value) -> Option<()> {
        let text = |key: &str| change[key].as_str();
        if let Some(level) = text("log_level") {
            log::set_level(level.parse().ok()?);
        } else if let Some(name) = text("listener") {
            let listener = self.listeners.get(name)?;
            if change["paused"] == true {
                for socket in &listener.sockets {
                    socket.handle.pause();
                }
            }
            if let Some(limit) = change["limit"].as_u64().filter(|limit| *limit > 0) {
                let limit = usize::try_from(limit).ok()?;
                listener.state.limit().set_limit(limit);
                show_limit(name, limit);
            }
        } else {
            let (pool, server) = (self.pools.get(text("backend")?)?, text("server")?);
            let known = REQUESTS
                .into_iter()
                .find(|it| Some(it.1) == text("request"));
            return pool.request(&server.into(), known?.0).then_some(());
        }
        Some(())
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
