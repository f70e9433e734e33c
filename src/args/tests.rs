//! What the help texts promise: every command has an example, the example is understood, and the page says the same.
#![allow(clippy::unwrap_used)]

use clap::{Command, CommandFactory, Parser};

use super::Args;
use crate::exit;

const PAGE: &str = include_str!("../../docs/cli.md");
/// What people type in a hurry.
const RECOVER: &str = include_str!("../../docs/recover.md");
/// What people type who look into the past.
const TIME_MACHINE: &str = include_str!("../../docs/time-machine.md");

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
fn a_restore_is_of_a_snapshot_or_to_a_point_in_time() {
    let start = |more: &[&str]| {
        let words = ["ebbtide", "restore", "start", "orders", "--project", "68a7", "--target", "orders"];
        Args::try_parse_from(words.iter().chain(more)).map(drop)
    };
    start(&["--snapshot", "68a8"]).unwrap();
    start(&["--at", "1767323045,7"]).unwrap();
    assert!(start(&[]).is_err(), "neither");
    assert!(start(&["--snapshot", "68a8", "--at", "1767323045,7"]).is_err(), "both");
    let error = start(&["--at", "yesterday"]).unwrap_err().to_string();
    assert!(error.contains("2026-01-02T03:04:05Z"), "{error}");
}

#[test]
fn what_is_renamed_is_selected_and_comes_without_users() {
    let start = |more: &[&str]| {
        let words = ["ebbtide", "restore", "start", "orders", "--project", "68a7", "--target", "orders"];
        Args::try_parse_from(words.iter().chain(&["--snapshot", "68a8"]).chain(more)).map(drop)
    };
    start(&[
        "--namespace",
        "a.b",
        "--namespace",
        "c.*",
        "--rename",
        "a.b=a.c",
        "--rename",
        "c=d",
        "--overwrite",
    ])
    .unwrap();
    for wrong in [
        &["--rename", "a.b=a.c"][..],
        &["--namespace", "a.b", "--rename", "a.b"],
        &["--namespace", "a.b", "--overwrite"],
        &["--namespace", "a.b", "--with-users"],
    ] {
        assert!(start(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_window_needs_a_record_and_a_change_needs_something_to_change() {
    let parse = |words: &str| Args::try_parse_from(words.split(' ')).map(drop);
    let add = "ebbtide cluster add orders --project 68a7 --uri mongodb://db1";
    parse(&format!("{add} --pit --restore-window-days 365")).unwrap();
    for bad in ["--restore-window-days 7", "--pit --restore-window-days 0", "--pit --restore-window-days 366"]
    {
        assert!(parse(&format!("{add} {bad}")).is_err(), "{bad}");
    }
    let update = "ebbtide cluster update orders --project 68a7";
    for good in [
        "--pit on",
        "--pit off --restore-window-days 1",
        "--restore-window-days 2",
        "--uri mongodb://db1",
        "--uri mongodb://db1 --pit on",
    ] {
        parse(&format!("{update} {good}")).unwrap();
    }
    for bad in ["", " --uri", " --pit", " --pit maybe", " --restore-window-days 400"] {
        assert!(parse(&format!("{update}{bad}")).is_err(), "{bad}");
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
fn what_is_to_be_typed_after_an_accident_is_understood() {
    let lines: Vec<&str> = RECOVER.lines().filter(|line| line.starts_with("ebbtide ")).collect();
    assert!(lines.len() >= 10, "{lines:#?}");
    for line in lines {
        // The page has the project in the environment.
        let words = words(line).into_iter().chain(["--project", "68a7"]);
        Args::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn what_is_to_be_typed_to_look_into_the_past_is_understood() {
    let lines: Vec<&str> = TIME_MACHINE.lines().filter(|line| line.starts_with("ebbtide ")).collect();
    assert!(lines.len() >= 5, "{lines:#?}");
    for line in lines {
        let words = words(line).into_iter().chain(["--project", "68a7"]);
        Args::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    let show = ["ebbtide", "doc", "show", "orders", "shop.items"];
    let ask =
        |more: &[&str]| Args::try_parse_from(show.iter().chain(more).chain(&["--project", "68a7"])).map(drop);
    ask(&["-5", "--at", "1767323045"]).unwrap();
    for bad in [&["5"][..], &["--at", "1767323045"], &["5", "--at", "yesterday"]] {
        assert!(ask(bad).is_err(), "{bad:?}");
    }
    let diff = ["ebbtide", "diff", "orders", "shop.items", "--project", "68a7", "--from", "1767323045"];
    assert!(Args::try_parse_from(diff).is_err(), "without an end");
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
