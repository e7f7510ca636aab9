//! Command-line arguments, one after the other.

use crate::BoxError;
use std::vec::IntoIter;

/// Iterates over the arguments; an error ends with the usage.
#[derive(Debug)]
pub struct Arguments {
    rest: IntoIter<String>,
    current: String,
    usage: &'static str,
}

impl Arguments {
    /// Takes the arguments without the name of the program.
    pub fn new(arguments: Vec<String>, usage: &'static str) -> Self {
        Self {
            rest: arguments.into_iter(),
            current: String::new(),
            usage,
        }
    }

    /// The next option.
    pub fn option(&mut self) -> Option<String> {
        self.current = self.rest.next()?;
        Some(self.current.clone())
    }

    /// The value of the current option.
    pub fn value(&mut self) -> Result<String, BoxError> {
        let missing = || format!("{} needs a value\n\n{}", self.current, self.usage);
        Ok(self.rest.next().ok_or_else(missing)?)
    }

    /// The error for a current option that is unknown.
    pub fn unexpected(&self) -> BoxError {
        format!("unknown option {}\n\n{}", self.current, self.usage).into()
    }
}
