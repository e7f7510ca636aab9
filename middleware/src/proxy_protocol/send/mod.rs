//! Sends headers to other servers, on the client side.

mod encode;
mod layer;
#[cfg(test)]
mod tests;

pub use self::{
    encode::ProxyHeaderEncoder,
    layer::{SendProxyHeader, SendProxyHeaderFuture, SendProxyHeaderLayer},
};
