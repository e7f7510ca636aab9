//! Pages of the documentation that cover several modules.

#[doc = include_str!("older_systems.md")]
pub mod older_systems {}
