//! Answers as text for people.

use super::client::Answer;
use crate::args::CtlCommand;
use serde_json::Value;

/// An answer that is an error, on the error output.
pub(super) fn refusal(answer: &Answer, json: bool) {
    let value: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    match value["error"].as_str() {
        Some(error) if !json => eprintln!("portcullis: {}", error.escape_debug()),
        _ => eprint!("{}", answer.text),
    }
    let problems = value["problems"].as_array().into_iter().flatten();
    for problem in problems.filter_map(Value::as_str).filter(|_| !json) {
        eprintln!("{problem}");
    }
}

pub(super) fn answer(command: &CtlCommand, answer: &Answer) {
    let value: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    match command {
        CtlCommand::Ready => print!("{}", answer.text),
        CtlCommand::Status => println!("{value:#}"),
        CtlCommand::Reload | CtlCommand::Drain => {
            println!("{}", value["result"].as_str().unwrap_or_default());
        }
    }
}
