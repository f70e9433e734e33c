//! What the help texts promise: every command has an example, the example is understood, and the page says the same.
#![allow(clippy::unwrap_used)]

use clap::{Command, CommandFactory, Parser};

use super::Args;
use crate::exit;

const PAGE: &str = include_str!("../../docs/cli.md");

/// Every command that has no commands below it, with the words that lead to it.
fn leaves(command: &Command, words: &str) -> Vec<(String, Command)> {
    let words = format!("{words}{} ", command.get_name());
    let below: Vec<_> = command.get_subcommands().flat_map(|command| leaves(command, &words)).collect();
    if below.is_empty() { vec![(words, command.clone())] } else { below }
}

fn all_leaves() -> Vec<(String, Command)> {
    let found = leaves(&Args::command(), "");
    assert!(found.len() >= 20, "{} commands", found.len());
    found
}

/// The lines of a help text that show a call.
fn examples(command: &Command) -> Vec<String> {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    text.lines().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
}

/// The words of a line up to a pipe or a file, without their quotes.
fn words(line: &str) -> Vec<&str> {
    let words = line.split_whitespace().take_while(|word| !matches!(*word, "|" | ">"));
    words.map(|word| word.trim_matches('\'')).collect()
}

#[test]
fn the_command_line_is_consistent() {
    Args::command().debug_assert();
}

#[test]
fn every_command_has_an_example_that_it_understands() {
    for (path, command) in all_leaves() {
        let examples = examples(&command);
        assert!(!examples.is_empty(), "`{path}--help` shows no example");
        for line in examples {
            assert!(format!("{line} ").starts_with(&path), "{line:?} is no example of {path}");
            Args::try_parse_from(words(&line)).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
    for line in examples(&Args::command()) {
        Args::try_parse_from(words(&line)).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn the_page_shows_every_command_as_its_help_does() {
    let mut shown: Vec<&str> = PAGE.lines().filter(|line| line.starts_with("ebbtide ")).collect();
    for (path, command) in all_leaves() {
        for line in examples(&command) {
            let before = shown.len();
            shown.retain(|other| *other != line);
            assert!(shown.len() < before, "docs/cli.md lacks the example of {path}: {line}");
        }
    }
    assert!(shown.is_empty(), "docs/cli.md shows what no help text shows: {shown:#?}");
}

#[test]
fn the_page_names_every_variable_and_every_exit_code() {
    for (path, command) in all_leaves().into_iter().chain([(String::new(), Args::command())]) {
        for variable in command.get_arguments().filter_map(|argument| argument.get_env()) {
            let row = format!("| `{}` |", variable.to_str().unwrap());
            assert!(PAGE.contains(&row), "docs/cli.md has no row for {row} of {path}");
        }
    }
    for code in [0, exit::FAILED, exit::WRONG_USAGE, exit::JOB_NOT_DONE, exit::INTERRUPTED] {
        assert!(PAGE.contains(&format!("\n| {code} | ")), "docs/cli.md does not tell exit code {code}");
    }
}
