//! Pages of the documentation that cover several modules.

pub mod gate;

#[doc = include_str!("older_systems.md")]
pub mod older_systems {}
