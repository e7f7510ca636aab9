//! Holds the man pages, the completions and the schema in `share/` true to the program.
//!
//! `PORTCULLIS_WRITE=1 cargo test -p portcullis-cli share` writes them.

use crate::{args::Args, schema::schema};
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use std::{collections::BTreeMap, env, fs, path::Path};

#[test]
fn man_pages_completions_and_schema_are_those_of_the_program() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/share"));
    for (name, text) in files() {
        let path = folder.join(name);
        if env::var_os("PORTCULLIS_WRITE").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == text,
            "{} is outdated; PORTCULLIS_WRITE=1 cargo test -p portcullis-cli share",
            path.display()
        );
    }
}

#[test]
fn no_page_is_left_of_a_command_that_is_gone() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/share/man"));
    let known = files();
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(known.contains_key(&format!("man/{name}")), "{name}");
    }
}

/// When the command line has changed last, for the foot of the man pages.
const DATE: &str = "2026-11-29";

/// The text of each file, by its name.
fn files() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let shells = [
        (Shell::Bash, "completions/portcullis.bash"),
        (Shell::Zsh, "completions/_portcullis"),
        (Shell::Fish, "completions/portcullis.fish"),
    ];
    for (shell, name) in shells {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Args::command(), "portcullis", &mut text);
        files.insert(name.to_owned(), String::from_utf8(text).unwrap());
    }
    files.insert("portcullis.schema.json".into(), schema());
    let mut command = without_help(Args::command());
    command.build();
    add_pages(&mut files, &command, "portcullis");
    files
}

/// Adds the page of a command, and those of its subcommands.
fn add_pages(files: &mut BTreeMap<String, String>, command: &Command, name: &str) {
    let page = Man::new(command.clone().display_name(name.to_owned()))
        .title(name.to_uppercase())
        .date(DATE)
        .source(concat!("portcullis ", env!("CARGO_PKG_VERSION")))
        .manual("portcullis");
    let mut text = Vec::new();
    page.render(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    // mandoc warns of line breaks beside an empty line, and of spaces at the end of a line.
    let text = text.replace(".br\n\n.br\n", ".sp\n");
    let lines = text.lines().map(|line| format!("{}\n", line.trim_end()));
    files.insert(format!("man/{name}.1"), lines.collect());
    for subcommand in command.get_subcommands() {
        add_pages(
            files,
            subcommand,
            &format!("{name}-{}", subcommand.get_name()),
        );
    }
}

/// The subcommand `help` is the option `--help` of each page.
fn without_help(command: Command) -> Command {
    command
        .disable_help_subcommand(true)
        .mut_subcommands(without_help)
}
