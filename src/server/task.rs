//! The task of one connection: the boundary where panics stop and outcomes are recorded, once.

use super::{registry::TaskGuard, shared::Shared};
use crate::stack::Stack;
use pin_project::{pin_project, pinned_drop};
use portcullis_middleware::{
    BoxError, ConnectionInfo,
    connection::{ConnectionContext, Phase, Transport},
    error::Panicked,
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
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
    /// What a stack that takes no connection context left behind.
    untaken: Option<ConnectionContext>,
    /// Last: the entry in the table goes when all the rest is gone.
    _guard: TaskGuard,
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
    pub(super) context: ConnectionContext,
    /// Whether another runtime than the one that accepted the stream serves it.
    pub(super) moved: bool,
}

impl<S: Stack<Io>, Io: Transport> ConnectionTask<S, Io> {
    pub(super) fn new(begin: Begin<S, Io>, shared: Arc<Shared>, guard: TaskGuard) -> Self {
        Self {
            info: begin.context.info.clone(),
            stage: Stage::Begin(begin),
            shared,
            recorded: false,
            untaken: None,
            _guard: guard,
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
                context,
                moved,
            } = begin;
            if moved {
                io = io.rehome()?;
            }
            let mut stage = this.stage.as_mut();
            // Set inside: what `enter` returns is moved once more.
            let ((), untaken) = context.enter(|| stage.set(Stage::Serve(stack.call(io))));
            if untaken.is_some() {
                *this.untaken = untaken;
                this.shared.warn_of_untaken_context();
            }
        }
        match this.stage.project() {
            StageProj::Serve(future) => {
                let result = ready!(future.poll(cx));
                Poll::Ready(result.map(drop).map_err(Into::into))
            }
            StageProj::Begin(_) | StageProj::Ended => Poll::Ready(Ok(())),
        }
    }
}

impl<S: Stack<Io>, Io: Transport> Future for ConnectionTask<S, Io> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let polled = catch_unwind(AssertUnwindSafe(|| self.as_mut().poll_stage(cx)));
        let result = match polled {
            Ok(polled) => ready!(polled),
            Err(panic) => Err(Panicked::new(&*panic).into()),
        };
        // What the service still holds goes before the outcome is judged: whether the socket is
        // closed by then is part of it. A destructor that panics is the service's panic too.
        let mut this = self.project();
        let dropped = catch_unwind(AssertUnwindSafe(|| this.stage.set(Stage::Ended)));
        let result = match dropped {
            Ok(()) => result,
            Err(panic) => Err(Panicked::new(&*panic).into()),
        };
        close_untaken(this.untaken);
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
            let dropped = catch_unwind(AssertUnwindSafe(|| this.stage.set(Stage::Ended)));
            close_untaken(this.untaken);
            match dropped {
                Ok(()) => this.shared.record_unfinished(this.info),
                Err(panic) => {
                    let error = Panicked::new(&*panic).into();
                    this.shared.record(this.info, Some(&error));
                }
            }
        }
    }
}

/// Notes the end of a connection that its stack served as a bare stream: nobody else does.
fn close_untaken(untaken: &mut Option<ConnectionContext>) {
    if let Some(context) = untaken.take() {
        context.info.set_phase(Phase::Closed);
    }
}
