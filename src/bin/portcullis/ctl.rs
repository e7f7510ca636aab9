//! `portcullis ctl`: a client of the admin interface.

mod client;
mod show;

use crate::{
    args::{self, CtlCommand},
    exit, run,
};
use client::Client;
use http::Method;
use std::process::ExitCode;

pub(crate) fn ctl(args: &args::Ctl) -> ExitCode {
    let client = match Client::new(args) {
        Ok(client) => client,
        Err(error) => return failed(&error, exit::USAGE),
    };
    let (method, path) = request(&args.command);
    let answer = run::runtime().block_on(client.request(&method, &path, String::new()));
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return failed(&error, exit::FAILED),
    };
    if !answer.status.is_success() {
        show::refusal(&answer, args.json);
        return ExitCode::from(exit::FAILED);
    }
    if args.json {
        print!("{}", answer.text);
        if !answer.text.ends_with('\n') {
            println!();
        }
    } else {
        show::answer(&args.command, &answer);
    }
    ExitCode::from(exit::OK)
}

fn request(command: &CtlCommand) -> (Method, String) {
    let (method, path) = match command {
        CtlCommand::Status => (Method::GET, "/api/status".into()),
        CtlCommand::Ready => (Method::GET, "/readyz".into()),
        CtlCommand::Reload => (Method::POST, "/api/reload".into()),
        CtlCommand::Drain => (Method::POST, "/api/drain".into()),
    };
    (method, path)
}

fn failed(error: &str, code: u8) -> ExitCode {
    eprintln!("portcullis: {error}");
    ExitCode::from(code)
}
