//! Decides which clients are admitted.
//!
//! | layer | when to use it |
//! |---|---|
//! | [`AclLayer`] | to admit or reject clients by their address, or by a function of the connection's information |
//!
//! How many connections a client may have, and how often it may connect, is decided in [`limit`](crate::limit).

pub mod acl;

pub use self::acl::{Access, Acl, AclHandle, AclLayer, Denied, Subject, Verdict};
