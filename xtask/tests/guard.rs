//! What stands between `cargo xtask test` and a test program.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const GUARD: [&str; 2] = [env!("CARGO_BIN_EXE_xtask"), "test-guard"];
const PATIENCE: Duration = Duration::from_secs(60);

fn guarded(seconds: &str, script: &str) -> Output {
    guarded_for(std::process::id(), seconds, script)
}

/// The same for another parent than us.
fn guarded_for(parent: u32, seconds: &str, script: &str) -> Output {
    let parent = parent.to_string();
    Command::new(GUARD[0]).args([GUARD[1], &parent, seconds, "sh", "-c", script]).output().unwrap()
}

/// Waits until the process that was printed is gone.
fn assert_gone(printed: &[u8]) {
    let printed = String::from_utf8_lossy(printed).trim().to_owned();
    assert!(printed.parse::<u32>().is_ok(), "{printed:?}");
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
    assert_gone(&output.stdout);
}

#[test]
fn what_takes_too_long_is_killed_with_all_below() {
    // Long enough for a shell to say what it has started.
    let output = guarded("5", "setsid sleep 300 >/dev/null 2>&1 & echo $!; wait");
    assert_eq!(output.status.code(), Some(124));
    assert!(String::from_utf8_lossy(&output.stderr).contains("after 5 s"), "{output:?}");
    assert_gone(&output.stdout);
}

#[test]
fn a_program_does_not_outlive_who_wants_it() {
    let script = "\"$0\" \"$1\" $$ 60 sh -c 'echo $$; exec sleep 300' & wait";
    let mut command = Command::new("sh");
    let mut wanting = command.args(["-c", script]).args(GUARD).stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = String::new();
    BufReader::new(wanting.stdout.take().unwrap()).read_line(&mut printed).unwrap();
    wanting.kill().unwrap();
    wanting.wait().unwrap();
    assert_gone(printed.as_bytes());
}

#[test]
fn a_program_is_not_started_when_who_wants_it_has_ended() {
    let output = guarded_for(std::os::unix::process::parent_id(), "60", "echo started");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(130), &b""[..]));
}
