//! `portcullis ctl`: a client of the admin interface.

mod args;
mod client;
mod drain;
mod explain;
mod request;
mod show;
mod table;

pub(crate) use self::{
    args::Ctl,
    client::{Client, Interface, PATIENCE},
};

use self::args::Command;
use crate::{exit, output, run};
use std::process::ExitCode;

pub(crate) fn ctl(args: &Ctl) -> ExitCode {
    let client = match Client::new(args.interface()) {
        Ok(client) => client,
        Err(error) => return failed(&error, exit::USAGE),
    };
    let (method, path) = request::of(&args.command);
    let runtime = run::runtime();
    let answer = runtime.block_on(client.request(&method, &path, String::new()));
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return failed(&error, exit::FAILED),
    };
    let is_done = answer.status.is_success();
    if is_done && matches!(args.command, Command::Drain { wait: true }) {
        return runtime.block_on(drain::wait(&client, args.json));
    }
    let code = if is_done { exit::OK } else { exit::FAILED };
    if args.json {
        return output::end_with(&format!("{}\n", answer.text.trim_end()), code);
    }
    if is_done {
        return output::end_with(&show::answer(&args.command, &answer), code);
    }
    output::say(show::refusal(&answer).trim_end());
    ExitCode::from(code)
}

fn failed(error: &str, code: u8) -> ExitCode {
    output::say(format_args!("portcullis: {error}"));
    ExitCode::from(code)
}
