//! The parts that both benchmark programs share, such as servers under a tool, and the client that counts by
//! difference, and the numbers that come out.
//!
//! A module uses only modules above it:
//!
//! ```text
//! bulk  options  text  version  stats  exchange  server  proc
//!                                 │        │        └──┬───┘
//!                               tool   sequence      child
//!                                          └─────┬─────┘
//!                                              count
//! ```

#![allow(
    clippy::exhaustive_enums,
    reason = "used by the benchmark programs only"
)]

pub mod bulk;
pub mod child;
pub mod count;
pub mod exchange;
pub mod options;
pub mod proc;
pub mod sequence;
pub mod server;
pub mod stats;
pub mod text;
pub mod tool;
pub mod version;

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
