//! Progress bars: on standard error, and only when that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::print;

/// A bar of a job; [`show_job`] moves it.
pub(super) fn of_job() -> ProgressBar {
    let bar = ProgressBar::new(0);
    style(&bar, "{prefix:<10} [{bar:32}] {percent:>3}%  {msg}");
    bar
}

/// A bar of an archive that is fetched. `total` bytes, of which `there` are there.
pub(super) fn of_archive(total: u64, there: u64) -> ProgressBar {
    let bar = ProgressBar::new(total).with_position(there);
    style(
        &bar,
        "{prefix:<10} [{bar:32}] {percent:>3}%  {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}",
    );
    bar.set_prefix("fetching");
    // What was there before does not count as speed.
    bar.reset_eta();
    bar.tick();
    bar
}

fn style(bar: &ProgressBar, template: &str) {
    // A template that is not understood is a mistake in this file, which a test finds.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
}

/// Shows how far a job is, as the server tells it.
pub(super) fn show_job(bar: &ProgressBar, answer: &Value) {
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
