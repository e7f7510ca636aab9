//! `portcullis ctl`: a client of the admin interface.

mod args;
mod client;
mod explain;
mod request;
mod show;
mod table;

pub(crate) use self::{
    args::Ctl,
    client::{Client, Interface},
};

use crate::{exit, run};
use std::process::ExitCode;

pub(crate) fn ctl(args: &Ctl) -> ExitCode {
    let client = match Client::new(args.interface()) {
        Ok(client) => client,
        Err(error) => return failed(&error, exit::USAGE),
    };
    let (method, path) = request::of(&args.command);
    let answer = run::runtime().block_on(client.request(&method, &path, String::new()));
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return failed(&error, exit::FAILED),
    };
    let is_done = answer.status.is_success();
    if args.json {
        println!("{}", answer.text.trim_end());
    } else if is_done {
        print!("{}", show::answer(&args.command, &answer));
    } else {
        eprint!("{}", show::refusal(&answer));
    }
    ExitCode::from(if is_done { exit::OK } else { exit::FAILED })
}

fn failed(error: &str, code: u8) -> ExitCode {
    eprintln!("portcullis: {error}");
    ExitCode::from(code)
}
