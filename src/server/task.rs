//! The task of one connection: the boundary where panics stop and outcomes are recorded, once.

use super::{registry::TaskGuard, shared::Shared};
use crate::server::Stack;
use pin_project::{pin_project, pinned_drop};
use portcullis_middleware::{
    BoxError, ConnectionInfo,
    connection::{ConnectionContext, Transport},
    error::Panicked,
    internal::Slot,
};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// Calls a stack that is ready with one connection, and sees it to its end.
///
/// Written by hand so that the stack, needed only to begin, takes no room beside the future that
/// it makes.
#[pin_project(PinnedDrop)]
pub(super) struct ConnectionTask<S: Stack<Io>, Io> {
    #[pin]
    stage: Stage<S, Io, S::Future>,
    info: ConnectionInfo,
    shared: Arc<Shared>,
    recorded: bool,
    /// The context, where `call` did not take it; in a box, because it does so as a rule.
    untaken: Option<Box<Option<ConnectionContext>>>,
    /// Last: the entry in the table goes when all the rest is gone.
    guard: TaskGuard,
}

#[pin_project(project = StageProj, project_replace = StageTaken)]
enum Stage<S, Io, F> {
    Begin(Begin<S, Io>),
    Serve(#[pin] F),
    Ended,
}

/// What it takes to begin.
pub(super) struct Begin<S, Io> {
    pub(super) stack: S,
    pub(super) io: Io,
    /// The entry in the table of connections.
    pub(super) slot: Slot,
    /// Whether another runtime than the one that accepted the stream serves it.
    pub(super) moved: bool,
}

impl<S: Stack<Io>, Io: Transport> ConnectionTask<S, Io> {
    pub(super) fn new(
        begin: Begin<S, Io>,
        info: ConnectionInfo,
        shared: Arc<Shared>,
        guard: TaskGuard,
    ) -> Self {
        Self {
            info,
            stage: Stage::Begin(begin),
            shared,
            recorded: false,
            untaken: None,
            guard,
        }
    }

    fn poll_stage(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let mut this = self.as_mut().project();
        if matches!(*this.stage, Stage::Begin(_))
            && let StageTaken::Begin(begin) = this.stage.as_mut().project_replace(Stage::Ended)
        {
            let Begin {
                mut stack,
                mut io,
                slot,
                moved,
            } = begin;
            if moved {
                io = io.rehome()?;
            }
            let mut stage = this.stage.as_mut();
            let mut context = ConnectionContext::new(&io, this.info.clone());
            context.hold_slot(slot);
            let mut context = Some(context);
            // Set inside: what `enter` returns is moved once more.
            ConnectionContext::enter(&mut context, || {
                stage.set(Stage::Serve(stack.call(io)));
            });
            if context.is_some() {
                *this.untaken = Some(Box::new(context));
            }
        }
        match this.stage.project() {
            StageProj::Serve(future) => {
                let result = match this.untaken {
                    None => ready!(future.poll(cx)),
                    Some(context) => {
                        let polled = ConnectionContext::enter(context, || future.poll(cx));
                        if context.is_none() {
                            *this.untaken = None;
                        }
                        ready!(polled)
                    }
                };
                Poll::Ready(result.map(drop).map_err(Into::into))
            }
            StageProj::Begin(_) | StageProj::Ended => Poll::Ready(Ok(())),
        }
    }
}

impl<S: Stack<Io>, Io: Transport> Future for ConnectionTask<S, Io> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.guard.set_polled(true);
        let polled = Panicked::catch(|| self.as_mut().poll_stage(cx));
        self.guard.set_polled(false);
        let result = match polled {
            Ok(polled) => ready!(polled),
            Err(panicked) => Err(panicked.into()),
        };
        // What the service still holds goes before the outcome is judged: whether the socket is
        // closed by then is part of it. A destructor that panics is the service's panic too.
        let mut this = self.project();
        let dropped = Panicked::catch(|| this.stage.set(Stage::Ended));
        let result = match dropped {
            Ok(()) => result,
            Err(panicked) => Err(panicked.into()),
        };
        // One that failed may have been turned away at the edge, as is right.
        if close_untaken(this.untaken) && result.is_ok() {
            this.shared.warn_of_untaken_context();
        }
        *this.recorded = true;
        this.shared.record(this.info, result.as_ref().err());
        Poll::Ready(())
    }
}

#[pinned_drop]
impl<S: Stack<Io>, Io> PinnedDrop for ConnectionTask<S, Io> {
    fn drop(self: Pin<&mut Self>) {
        let mut this = self.project();
        if !*this.recorded {
            // Dropped unfinished: aborted, or its runtime ended.
            let dropped = Panicked::catch(|| this.stage.set(Stage::Ended));
            close_untaken(this.untaken);
            match dropped {
                Ok(()) => this.shared.record_unfinished(this.info),
                Err(panicked) => this.shared.record(this.info, Some(&panicked.into())),
            }
        }
    }
}

/// Notes the end of a connection whose context was not taken: no socket does. False if it was.
fn close_untaken(untaken: &mut Option<Box<Option<ConnectionContext>>>) -> bool {
    let context = untaken.take().and_then(|context| *context);
    context.map(ConnectionContext::close).is_some()
}

#[cfg(test)]
mod tests;
