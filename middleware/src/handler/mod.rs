//! Layers around the handler.
//!
//! | layer | when to use it |
//! |---|---|
//! | [`from_fn`](fn@from_fn) | to write middleware as an async function |
//! | [`OnErrorLayer`] | to answer clients whose handler failed or panicked |
//! | [`CatchPanicLayer`] | under a custom accept loop; the server of the package `portcullis` catches panics already |

pub mod catch_panic;
pub mod from_fn;
pub mod on_error;

pub use self::{
    catch_panic::{CatchPanic, CatchPanicFuture, CatchPanicLayer},
    from_fn::{FromFn, FromFnLayer, Next, from_fn},
    on_error::{Lent, OnError, OnErrorFuture, OnErrorLayer, Retry},
};
