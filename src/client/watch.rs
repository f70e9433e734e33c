//! Waiting for a job, with a progress bar on a terminal and in silence otherwise.

use std::{process::ExitCode, time::Duration};

use serde_json::Value;

use super::{Client, bar};
use crate::exit;

/// How soon the server is asked again: short jobs end soon, long ones need no hurry.
const POLL_MIN: Duration = Duration::from_millis(10);
const POLL_MAX: Duration = Duration::from_millis(200);
/// By how much it waits longer each time: its end is known a twentieth later than it comes.
const POLL_GROWTH: f64 = 1.05;
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
    let bar = bar::of_job();
    let mut failing_since: Option<std::time::Instant> = None;
    let mut poll = POLL_MIN;
    loop {
        match client.get(path).await {
            Ok(answer) => {
                failing_since = None;
                bar::show_job(&bar, &answer);
                if let Some(well) = answer["state"].as_str().and_then(ended) {
                    bar.finish_and_clear();
                    if let Some(warning) = answer["progress"]["warning"].as_str() {
                        eprintln!("to be known: {warning}");
                    }
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
            () = tokio::time::sleep(poll) => poll = POLL_MAX.min(poll.mul_f64(POLL_GROWTH)),
            _ = tokio::signal::ctrl_c() => {
                bar.finish_and_clear();
                eprintln!("stopped watching; the job goes on");
                return Ok(None);
            }
        }
    }
}
