//! The process between `cargo xtask test` and one test program: whatever ends the program, or us, nothing that it started is
//! left. Servers, and what starts servers, would go on otherwise when somebody interrupts the tests.

use std::process::{Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, WaitOptions, getpid, getppid, kill_process, wait};

/// What a guard is called by.
pub(crate) const COMMAND: &str = "test-guard";
/// The code of a program that took too long, that of timeout(1).
pub(super) const TOO_LONG: u8 = 124;
/// That of one whose end nobody awaits any more.
const ABANDONED: u8 = 130;
const POLL: Duration = Duration::from_millis(50);
/// How long killed processes may take to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// `cargo xtask test-guard PARENT SECONDS PROGRAM ARGUMENT…`
pub(crate) fn run(words: &[&str]) -> anyhow::Result<ExitCode> {
    let [parent, seconds, program, arguments @ ..] = words else {
        anyhow::bail!("{COMMAND} is for `test` alone")
    };
    let parent = Pid::from_raw(parent.parse().context("understand the parent")?);
    let limit = Duration::from_secs(seconds.parse().context("understand the limit")?);
    adopt_what_is_left()?;
    let code = watch(Command::new(program).args(arguments), limit, parent);
    end_all_below();
    Ok(ExitCode::from(code?))
}

/// Processes whose parents end become ours, so that they can be found.
fn adopt_what_is_left() -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(getpid())).context("adopt what is left")?;
    Ok(())
}

/// `parent` is told by who wants the program, and not asked for: that one may have ended before we could ask.
fn watch(command: &mut Command, limit: Duration, parent: Option<Pid>) -> anyhow::Result<u8> {
    if getppid() != parent {
        return Ok(ABANDONED);
    }
    let mut child = command.spawn().with_context(|| format!("start {:?}", command.get_program()))?;
    let deadline = Instant::now() + limit;
    loop {
        let code = match child.try_wait().context("wait for it")? {
            Some(status) => return Ok(code_of(status)),
            // Interrupted, killed, or crashed: whoever adopted us is another.
            None if getppid() != parent => ABANDONED,
            None if Instant::now() >= deadline => {
                eprintln!("it still ran after {} s and is killed", limit.as_secs());
                TOO_LONG
            }
            None => {
                std::thread::sleep(POLL);
                continue;
            }
        };
        child.kill().context("kill it")?;
        child.wait().context("wait for it")?;
        return Ok(code);
    }
}

/// As shells tell it: what ends by a signal has 128 and its number.
fn code_of(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

fn end_all_below() {
    let begun = Instant::now();
    loop {
        let below = below(getpid());
        if below.is_empty() || begun.elapsed() > PATIENCE {
            return;
        }
        for process in below {
            // An error means that it has ended.
            let _ = kill_process(process, Signal::KILL);
        }
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The processes below one; none where there is no `/proc`.
fn below(of: Pid) -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let all: Vec<(Pid, Pid)> = entries
        .filter_map(|entry| {
            let id = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((id, Pid::from_raw(parent_in(&stat)?)?))
        })
        .collect();
    let mut found = vec![of];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(all.iter().filter(|(_, its)| *its == parent).map(|(id, _)| *id));
        next += 1;
    }
    found.split_off(1)
}

/// The parent in `id (name) state parent …`; a name may have spaces and parentheses.
fn parent_in(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parent_in;

    #[test]
    fn odd_names_do_not_hide_a_parent() {
        assert_eq!(parent_in("12 (sleep) S 7 12 12 0 -1"), Some(7));
        assert_eq!(parent_in("12 (a) S 3 (b) R 8 12 12 0 -1"), Some(8));
        assert_eq!(parent_in(""), None);
    }
}
