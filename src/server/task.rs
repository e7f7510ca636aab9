//! The task of one connection, which catches panics and records the outcome once.

use super::{listener_state::ListenerState, registry::TaskGuard};
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

/// Calls a stack that is ready with one connection, and polls the call until it ends.
///
/// Written by hand so that the stack, which is only needed for the call, shares its memory with the future that
/// it returns.
#[pin_project(PinnedDrop)]
pub(super) struct ConnectionTask<S: Stack<Io>, Io> {
    #[pin]
    stage: TaskStage<S, Io, S::Future>,
    info: ConnectionInfo,
    listener: Arc<ListenerState>,
    /// The context, if `call` did not take it. In a box, because `call` usually does.
    untaken: Option<Box<Option<ConnectionContext>>>,
    /// Last, so that the table entry is removed after everything else is dropped.
    guard: TaskGuard,
}

#[pin_project(project = StageProj, project_replace = StageTaken)]
enum TaskStage<S, Io, F> {
    Begin(Begin<S, Io>),
    Serve(#[pin] F),
    Ended,
}

/// What the call needs.
pub(super) struct Begin<S, Io> {
    pub(super) stack: S,
    pub(super) io: Io,
    /// The entry in the table of connections.
    pub(super) slot: Slot,
    /// Whether the stream was accepted on another runtime.
    pub(super) moved: bool,
}

impl<S: Stack<Io>, Io: Transport> ConnectionTask<S, Io> {
    pub(super) fn new(
        begin: Begin<S, Io>,
        info: ConnectionInfo,
        listener: Arc<ListenerState>,
        guard: TaskGuard,
    ) -> Self {
        Self {
            info,
            stage: TaskStage::Begin(begin),
            listener,
            untaken: None,
            guard,
        }
    }

    fn poll_stage(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let mut this = self.as_mut().project();
        if matches!(*this.stage, TaskStage::Begin(_))
            && let StageTaken::Begin(begin) = this.stage.as_mut().project_replace(TaskStage::Ended)
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
            // Set inside the closure, which saves a move of the future.
            ConnectionContext::enter(&mut context, || {
                stage.set(TaskStage::Serve(stack.call(io)));
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
        // Drop the service's state before the outcome is determined, because the outcome depends on whether the
        // socket is closed. A destructor that panics counts as a panic of the service.
        let mut this = self.project();
        let dropped = Panicked::catch(|| this.stage.set(TaskStage::Ended));
        let result = match dropped {
            Ok(()) => result,
            Err(panicked) => Err(panicked.into()),
        };
        // A layer at the edge may fail a connection without taking its context.
        if close_untaken(this.untaken) && result.is_ok() {
            this.listener.recorder.warn_of_untaken_context();
        }
        this.guard.is_recorded = true;
        this.listener
            .recorder
            .record(this.info, result.as_ref().err());
        Poll::Ready(())
    }
}

#[pinned_drop]
impl<S: Stack<Io>, Io> PinnedDrop for ConnectionTask<S, Io> {
    fn drop(self: Pin<&mut Self>) {
        let mut this = self.project();
        if !this.guard.is_recorded {
            // Dropped unfinished, because the task was aborted or its runtime shut down.
            let dropped = Panicked::catch(|| this.stage.set(TaskStage::Ended));
            close_untaken(this.untaken);
            match dropped {
                Ok(()) => this.listener.recorder.record_unfinished(this.info),
                Err(panicked) => this
                    .listener
                    .recorder
                    .record(this.info, Some(&panicked.into())),
            }
        }
    }
}

/// Marks a connection whose context was not taken as closed. False if it was taken.
fn close_untaken(untaken: &mut Option<Box<Option<ConnectionContext>>>) -> bool {
    let context = untaken.take().and_then(|context| *context);
    context.map(ConnectionContext::close).is_some()
}

#[cfg(test)]
mod tests;
