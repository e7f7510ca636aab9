//! Pages of the documentation that belong to no single module.

#[doc = include_str!("older_systems.md")]
pub mod older_systems {}
