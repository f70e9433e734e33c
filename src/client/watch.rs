//! Waiting for a job, with a progress bar on a terminal and in silence otherwise.

use std::{process::ExitCode, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::{Client, print};
use crate::exit;

/// How soon the server is asked again: short jobs end soon, long ones need no hurry.
const POLL_MIN: Duration = Duration::from_millis(50);
const POLL_MAX: Duration = Duration::from_millis(200);
/// Answers may fail for this long (a restart of the server) before watching gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a watched job ended.
pub(crate) struct Ended {
    /// The last answer of the server.
    pub(crate) answer: Value,
    /// Whether it ended well.
    pub(crate) well: bool,
}

impl Ended {
    /// The exit code of a command that watched.
    pub(crate) fn code(&self) -> ExitCode {
        if self.well { ExitCode::SUCCESS } else { ExitCode::from(exit::JOB_NOT_DONE) }
    }

    /// A sentence about the end.
    pub(crate) fn sentence(&self, what: &str) -> String {
        let state = self.answer["state"].as_str().unwrap_or("unknown");
        match self.answer["error"].as_str() {
            Some(error) => format!("{what} {state}: {error}"),
            None => format!("{what} {state}"),
        }
    }
}

/// Asks `path` until `ended` tells the end, or Ctrl-C: then the job goes on, and `None` comes back.
pub(crate) async fn until(
    client: &Client,
    path: &str,
    ended: fn(state: &str) -> Option<bool>,
) -> anyhow::Result<Option<Ended>> {
    let bar = bar();
    let mut failing_since: Option<std::time::Instant> = None;
    let mut poll = POLL_MIN;
    loop {
        match client.get(path).await {
            Ok(answer) => {
                failing_since = None;
                show(&bar, &answer);
                if let Some(well) = answer["state"].as_str().and_then(ended) {
                    bar.finish_and_clear();
                    return Ok(Some(Ended { answer, well }));
                }
            }
            Err(error) if failing_since.get_or_insert_with(std::time::Instant::now).elapsed() > PATIENCE => {
                bar.finish_and_clear();
                return Err(error);
            }
            Err(error) => bar.set_message(format!("waiting for the server: {error}")),
        }
        tokio::select! {
            () = tokio::time::sleep(poll) => poll = POLL_MAX.min(poll.mul_f64(1.2)),
            _ = tokio::signal::ctrl_c() => {
                bar.finish_and_clear();
                eprintln!("stopped watching; the job goes on");
                return Ok(None);
            }
        }
    }
}

/// indicatif draws nothing when standard error is no terminal.
fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{prefix:<10} [{bar:32}] {percent:>3}%  {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

fn show(bar: &ProgressBar, answer: &Value) {
    let progress = &answer["progress"];
    let number = |name: &str| progress[name].as_u64().unwrap_or(0);
    bar.set_length(number("bytesTotal").max(1));
    bar.set_position(number("bytesDone").min(number("bytesTotal")));
    let phase = progress["phase"].as_str().filter(|p| !p.is_empty()).or_else(|| answer["state"].as_str());
    bar.set_prefix(phase.unwrap_or("waiting").to_owned());
    let left = progress["secondsLeft"].as_u64().map(|s| format!(", {s} s left")).unwrap_or_default();
    bar.set_message(format!(
        "{} of {} documents, {}/s{left} {}",
        number("documentsDone"),
        number("documentsTotal"),
        print::bytes(number("bytesPerSecond")),
        progress["message"].as_str().unwrap_or(""),
    ));
    bar.tick();
}
