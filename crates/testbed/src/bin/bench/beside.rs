//! What capture costs a restore: the same snapshot into one target, recorded and not.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::Value;

use crate::{Plan, process::Ebbtide, report::Report, server, timeline::wait_for_base};

const UNCAPTURED: &str = "full restore of a snapshot, nothing is recorded of the target";
const CAPTURED: &str = "the same, while the target is recorded";
/// How often it is asked how far the recording is behind.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Restores the newest state of `source` three times into one target: into its emptiness, which warms everything and is not
/// counted, then without and with capture.
pub(crate) async fn measure(plan: &Plan, ebbtide: &Ebbtide, report: &mut Report) -> anyhow::Result<()> {
    let snapshot = ebbtide.client(&["snapshot", "create", "source", "--watch"])?;
    let snapshot = snapshot["id"].as_str().context("a snapshot id")?;
    let target = server(plan, 1.0).await?;
    ebbtide.client(&["cluster", "add", "beside", "--uri", &target.uri()])?;
    restore(ebbtide, snapshot)?;
    report.time(UNCAPTURED, restore(ebbtide, snapshot)?.took);
    ebbtide.client(&["cluster", "update", "beside", "--pit", "on"])?;
    wait_for_base(ebbtide, "beside")?;
    let captured = restore(ebbtide, snapshot)?;
    report.time(CAPTURED, captured.took);
    report.time("recording beside a restore: how far behind at most", captured.behind);
    report.time("recording beside a restore: for how long the restore waited for it", captured.waited);
    ebbtide.client(&["cluster", "update", "beside", "--pit", "off"])?;
    ebbtide.client(&["cluster", "remove", "beside"])?;
    Ok(())
}

/// The figure that has a goal.
pub(crate) fn ratio(report: &mut Report) {
    report.ratio("a full restore takes longer while its target is recorded by", CAPTURED, UNCAPTURED);
}

/// One restore, and what was seen of capture meanwhile.
struct Restored {
    took: Duration,
    behind: Duration,
    waited: Duration,
}

fn restore(ebbtide: &Ebbtide, snapshot: &str) -> anyhow::Result<Restored> {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| look(ebbtide, &ended));
        let started = Instant::now();
        let words = ["--snapshot", snapshot, "--target", "beside", "--rewind", "off", "--watch"];
        let restored = ebbtide.client(&[&["restore", "start", "source"], &words[..]].concat());
        let took = started.elapsed();
        ended.store(true, Ordering::SeqCst);
        let (behind, waited) =
            looking.join().map_err(|_| anyhow::anyhow!("looking at capture panicked"))??;
        restored.map(|_| Restored { took, behind, waited })
    })
}

/// How far behind capture says that it is, at most, and how long the newest restore says that it waits.
fn look(ebbtide: &Ebbtide, ended: &AtomicBool) -> anyhow::Result<(Duration, Duration)> {
    let (mut behind, mut waited) = (0, Duration::ZERO);
    while !ended.load(Ordering::SeqCst) {
        let begun = Instant::now();
        let shown = ebbtide.client(&["timeline", "show", "beside"])?;
        behind = behind.max(shown["capture"]["behindSeconds"].as_u64().unwrap_or(0));
        let jobs = ebbtide.client(&["restore", "list", "source"])?;
        std::thread::sleep(LOOK_EVERY);
        if jobs.as_array().is_some_and(|jobs| jobs.iter().any(waits)) {
            waited += begun.elapsed();
        }
    }
    Ok((Duration::from_secs(behind), waited))
}

fn waits(job: &Value) -> bool {
    job["progress"]["warning"].as_str().is_some_and(|warning| warning.contains("continuous backup is behind"))
}
