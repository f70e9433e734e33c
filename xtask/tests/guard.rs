//! What stands between `cargo xtask test` and a test program.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const GUARD: [&str; 2] = [env!("CARGO_BIN_EXE_xtask"), "test-guard"];
const PATIENCE: Duration = Duration::from_secs(60);

fn guarded(seconds: &str, script: &str) -> Output {
    Command::new(GUARD[0]).args([GUARD[1], seconds, "sh", "-c", script]).output().unwrap()
}

/// Waits until the process that was printed is gone.
fn assert_gone(output: &Output) {
    let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(printed.parse::<u32>().is_ok(), "{output:?}");
    let begun = Instant::now();
    while Path::new("/proc").join(&printed).exists() {
        assert!(begun.elapsed() < PATIENCE, "{printed} lives");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_a_program_says_and_how_it_ends_are_passed_on() {
    let output = guarded("60", "echo one; echo two >&2; exit 3");
    assert_eq!(output.status.code(), Some(3));
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"one\n"[..], &b"two\n"[..]));
    assert_eq!(guarded("60", "kill -ABRT $$").status.code(), Some(134));
}

#[test]
fn what_a_program_leaves_is_ended() {
    let output = guarded("60", "setsid sleep 300 >/dev/null 2>&1 & echo $!");
    assert_eq!(output.status.code(), Some(0));
    assert_gone(&output);
}

#[test]
fn what_takes_too_long_is_killed_with_all_below() {
    let output = guarded("1", "setsid sleep 300 >/dev/null 2>&1 & echo $!; wait");
    assert_eq!(output.status.code(), Some(124));
    assert!(String::from_utf8_lossy(&output.stderr).contains("after 1 s"), "{output:?}");
    assert_gone(&output);
}

#[test]
fn a_program_does_not_outlive_who_wants_it() {
    let script = "\"$0\" \"$1\" 60 sh -c 'echo $$; exec sleep 300' & sleep 1; kill -KILL $$";
    let output = Command::new("sh").args(["-c", script]).args(GUARD).output().unwrap();
    assert_gone(&output);
}
