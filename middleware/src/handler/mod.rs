//! Layers around the handler: middleware from a function, error handling and panics.

pub mod catch_panic;
pub mod from_fn;
pub mod on_error;

pub use self::{
    catch_panic::{CatchPanic, CatchPanicFuture, CatchPanicLayer},
    from_fn::{FromFn, FromFnLayer, Next, from_fn},
    on_error::{Lent, OnError, OnErrorFuture, OnErrorLayer, Retry},
};
