//! Compares captured deployments with what is recorded of them, a little at a time, so that each is compared wholly in a
//! round of some days.
//!
//! A round is divided into steps. What is due is what a steady pace would have done by now; a step does that, but never
//! much more than its share, so that a server that was away catches up slowly. Each range that was compared is remembered,
//! so a step can end anywhere. One ends as soon as any job is queued: jobs need the memory, and the deployment.

use std::time::{Duration, Instant};

use catalog::{LiveLease, LiveRound};
use model::{WallTime, id::DeploymentId};
use serde_json::{Value, json};

use crate::{
    engine::Services,
    lease::{JobError, Stop},
    live::{Go, LiveCheck, LiveReport, Passed, Scope, Watch},
};

/// A round has so many steps: with one of 30 days there are four a day, and each reads what was recorded since the newest
/// snapshot.
const STEPS: u64 = 120;
/// No step does more than so many would.
const CATCH_UP_MAX: u64 = 4;
/// Each range is followed by a pause so many times as long as it took.
const PAUSE_FACTOR: u32 = 3;
/// But no longer than this: the deployment forgets the time that is compared.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether a job waits, and the lease is renewed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a deployment is left alone that could not be compared.
const FAILURE_PAUSE_MS: i64 = 15 * 60 * 1000;

pub(super) async fn activate(services: &Services) -> Result<Value, JobError> {
    let Some(every) = services.settings.live_check_every.filter(|_| services.settings.workers > 0) else {
        return Ok(json!({ "on": false }));
    };
    let (mut did, mut failed) = (Vec::new(), None);
    for deployment in services.catalog.timelines().wanted().await? {
        match step(services, deployment, every).await {
            Ok(Some(step)) => did.push(step),
            Ok(None) => {}
            // The other deployments are compared all the same.
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or_else(|| Ok(json!({ "on": true, "steps": did })), Err)
}

/// Does what is due of one deployment.
async fn step(
    services: &Services,
    deployment: DeploymentId,
    every: Duration,
) -> Result<Option<Value>, JobError> {
    let (catalog, lease_ms) = (&services.catalog, services.settings.lease_ms);
    let Some(total) = recorded_bytes(services, deployment).await? else { return Ok(None) };
    let standing = catalog.live_checks().of(deployment).await?;
    let is_due = |round: &LiveRound| due(round, total, every, services.now()).is_some();
    if standing.is_some_and(|round| !is_due(&round)) || !catalog.jobs().active().await?.is_empty() {
        return Ok(None);
    }
    let owner = &services.settings.worker_name;
    let claimed = catalog.live_checks().claim(deployment, owner, services.now(), lease_ms).await?;
    let Some((lease, mut round)) = claimed else { return Ok(None) };
    let Some(goal) = due(&round, total, every, services.now()) else {
        // It has just begun, or somebody else was faster.
        catalog.live_checks().release(&lease).await?;
        return Ok(None);
    };
    if round.next.is_none() {
        round = LiveRound::begin(services.now(), round.completed_at);
    }
    match compare(services, &lease, round, goal).await {
        Ok(report) => {
            catalog.live_checks().release(&lease).await?;
            Ok(Some(json!({ "deploymentId": deployment, "report": report })))
        }
        Err(error) => {
            // Kept for a while, so that nobody tries again at once. What went wrong first is what is told.
            catalog.live_checks().renew(&lease, services.now(), FAILURE_PAUSE_MS).await.ok();
            Err(error)
        }
    }
}

/// Compares about `goal` bytes; nothing is told when a job came.
async fn compare(
    services: &Services,
    lease: &LiveLease,
    round: LiveRound,
    goal: u64,
) -> Result<Option<LiveReport>, JobError> {
    let check = LiveCheck::open(services, lease.deployment_id, Scope::everything()).await?;
    let Some(from) = round.next.clone() else { return Ok(None) };
    let mut keeper = Keeper { services, lease, round, left: goal, since: Instant::now() };
    let following = check.follow(from, &mut keeper);
    let stop = check.stop_token();
    let ended = tokio::select! {
        ended = following => ended,
        // The check has stopped at the next step of its own then.
        error = until_it_must_end(services, lease) => {
            stop.stop(Stop::Shutdown);
            error.map_or(Err(JobError::Shutdown), Err)
        }
    };
    match ended {
        Ok(report) => Ok(Some(report)),
        Err(JobError::Shutdown) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns when a job waits, or why the comparison cannot go on.
async fn until_it_must_end(services: &Services, lease: &LiveLease) -> Option<JobError> {
    let look = async || {
        let now = services.now();
        services.catalog.live_checks().renew(lease, now, services.settings.lease_ms).await?;
        services.catalog.jobs().active().await.map(|jobs| !jobs.is_empty())
    };
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        match look().await {
            Ok(true) => return None,
            Ok(false) => {}
            Err(error) if error.is_transient() => {}
            Err(error) => return Some(error.into()),
        }
    }
}

/// Bytes of the newest snapshot that can be compared with; none when there is none.
async fn recorded_bytes(services: &Services, deployment: DeploymentId) -> Result<Option<u64>, JobError> {
    let timelines = services.catalog.timelines();
    let Some(current) = timelines.current(deployment).await? else { return Ok(None) };
    let base = timelines.base_for(deployment, current.durable.time).await?;
    Ok(base.filter(|(of, _)| of.id == current.id).map(|(_, snapshot)| snapshot.logical_bytes))
}

/// How many bytes are to be compared now, of `total` in the whole round; none when it is not time.
fn due(round: &LiveRound, total: u64, every: Duration, now: WallTime) -> Option<u64> {
    let elapsed = u64::try_from(now.0.saturating_sub(round.began_at.0)).unwrap_or(0);
    let every = u64::try_from(every.as_millis()).unwrap_or(u64::MAX).max(1);
    let steps =
        u64::try_from(u128::from(elapsed) * u128::from(STEPS) / u128::from(every)).unwrap_or(u64::MAX);
    let share = |steps: u64| u64::try_from(u128::from(total) * u128::from(steps) / u128::from(STEPS));
    if round.next.is_none() {
        // The next round begins when this one was to be through, with its first step.
        return (steps >= STEPS).then(|| share(1).unwrap_or(u64::MAX).max(1));
    }
    let done_by_now = share(steps.min(STEPS)).unwrap_or(u64::MAX);
    let behind = done_by_now.saturating_sub(round.bytes);
    // The deployment may have grown: then the round goes on until it is through.
    let behind = if steps >= STEPS { behind.max(share(1).unwrap_or(u64::MAX)).max(1) } else { behind };
    (behind > 0).then(|| behind.min(share(CATCH_UP_MAX).unwrap_or(u64::MAX)).max(1))
}

/// Remembers each range, and keeps the pace.
struct Keeper<'a> {
    services: &'a Services,
    lease: &'a LiveLease,
    round: LiveRound,
    /// Bytes that are still to be compared.
    left: u64,
    since: Instant,
}

impl Watch for Keeper<'_> {
    async fn passed(&mut self, range: Passed<'_>) -> Result<Go, JobError> {
        let (services, now) = (self.services, self.services.now());
        self.round.next = range.next.cloned();
        self.round.documents += range.documents;
        self.round.bytes += range.bytes;
        if self.round.next.is_none() {
            self.round.completed_at = Some(now);
        }
        let lease_ms = services.settings.lease_ms;
        services.catalog.live_checks().save(self.lease, &self.round, now, lease_ms).await?;
        self.left = self.left.saturating_sub(range.bytes);
        if self.left == 0 || self.round.next.is_none() {
            return Ok(Go::Stop);
        }
        tokio::time::sleep((self.since.elapsed() * PAUSE_FACTOR).min(PAUSE_MAX)).await;
        self.since = Instant::now();
        Ok(Go::On)
    }
}

#[cfg(test)]
mod tests {
    use catalog::LivePlace;
    use model::CollectionUuid;

    use super::*;

    const HOUR: i64 = 3_600_000;

    fn round(bytes: u64, through: bool) -> LiveRound {
        let next = LivePlace { collection: CollectionUuid::FIRST, key: None };
        let next = (!through).then_some(next);
        LiveRound { began_at: WallTime(0), next, documents: 0, bytes, completed_at: None }
    }

    #[test]
    fn what_is_due_keeps_a_steady_pace() {
        let month = Duration::from_secs(30 * 24 * 3600);
        let due = |round: &LiveRound, at: i64| due(round, 120_000, month, WallTime(at));
        assert_eq!(due(&round(0, false), 0), None);
        assert_eq!(due(&round(0, false), 6 * HOUR - 1), None);
        assert_eq!(due(&round(0, false), 6 * HOUR), Some(1_000));
        assert_eq!(due(&round(1_000, false), 11 * HOUR), None, "it is on time");
        assert_eq!(due(&round(1_000, false), 15 * HOUR), Some(1_000));
        assert_eq!(due(&round(0, false), 15 * 24 * HOUR), Some(4_000), "it catches up slowly");
        assert_eq!(due(&round(500_000, false), 29 * 24 * HOUR), None);
        assert_eq!(due(&round(500_000, false), 31 * 24 * HOUR), Some(1_000), "it grew, and is not through");
        assert_eq!(due(&round(120_000, true), 29 * 24 * HOUR), None);
        assert_eq!(due(&round(120_000, true), 30 * 24 * HOUR), Some(1_000), "the next round");
    }

    #[test]
    fn nothing_is_through_at_once_and_no_clock_makes_it_fail() {
        let month = Duration::from_secs(30 * 24 * 3600);
        assert_eq!(due(&round(0, false), 0, month, WallTime(15 * 24 * HOUR)), None);
        assert_eq!(due(&round(0, false), 0, month, WallTime(30 * 24 * HOUR)), Some(1));
        assert_eq!(due(&round(0, false), 10, month, WallTime(-5)), None);
        assert!(due(&round(0, false), u64::MAX, Duration::ZERO, WallTime(i64::MAX)).is_some());
    }
}
