//! The claim loop: takes jobs, keeps their leases alive, records how they ended.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use catalog::Lease;
use futures::FutureExt;
use model::WallTime;
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    engine::{SHUTDOWN_GRACE, Services},
    jobs,
    lease::{Asking, JobContext, JobError, Outcome, Stop},
};

/// A cancel must be answered within a second or two, so no heartbeat is later than this.
const HEARTBEAT_EVERY_MAX: Duration = Duration::from_secs(1);
/// Wait after an error of the catalog before it is asked again.
const CATALOG_RETRY: Duration = Duration::from_secs(1);

/// A job that stumbles over something passing is begun so many times before it fails.
const RETRIES_MAX: u32 = 4;
/// Wait before the second attempt; doubled for each one after.
const RETRY_FIRST_MS: i64 = 1_000;
/// The longest such wait.
const RETRY_WAIT_MS_MAX: i64 = 30_000;
/// A job that has left things half changed is tried again for so long.
const MUST_FINISH_MS_MAX: i64 = 24 * 3600 * 1000;
/// How long undoing may hold up the record of a job's end.
const CLEAN_UP_MAX: Duration = Duration::from_secs(60);

/// Claims and runs jobs until `shutdown`.
pub(crate) async fn run(services: &Services, poke: &Arc<Notify>, shutdown: &CancellationToken) {
    let mut running = JoinSet::new();
    while !shutdown.is_cancelled() {
        // Interest is registered before the catalog is asked, so that a job queued in between is not missed.
        let mut poked = std::pin::pin!(poke.notified());
        poked.as_mut().enable();
        let mut wait = services.settings.poll_every;
        while running.len() < services.settings.workers {
            let asking = Asking::now();
            match services
                .catalog
                .jobs()
                .claim(&services.settings.worker_name, &[], services.now(), services.settings.lease_ms)
                .await
            {
                Ok(Some(lease)) => {
                    running.spawn(run_job(services.clone(), lease, asking, shutdown.clone()));
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(error = %error, "jobs cannot be claimed: {error}; trying again");
                    wait = CATALOG_RETRY;
                    break;
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = poked => {}
            () = tokio::time::sleep(wait) => {}
            Some(_) = running.join_next(), if !running.is_empty() => {}
        }
    }
    let stop_all = async { while running.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN_GRACE, stop_all).await.is_err() {
        tracing::warn!("jobs did not stop in time; their leases will run out and another worker goes on");
    }
}

/// Runs one claimed job to its end, whatever that is.
async fn run_job(services: Services, lease: Lease, asking: Asking, shutdown: CancellationToken) {
    let ctx = JobContext::new(services, lease, asking);
    let work = ctx.work();
    tracing::info!(job.id = %ctx.lease().job_id, job.kind = work.kind(), job.attempt = ctx.lease().attempt, "job {} ({}) begins", ctx.lease().job_id, work.kind());
    let beating = tokio::spawn(keep_alive(ctx.clone(), shutdown));
    let ended = AssertUnwindSafe(jobs::run(&ctx, work)).catch_unwind().await;
    let ended = ended.unwrap_or_else(|panic| {
        Err(JobError::failed(format!("a bug in Ebbtide stopped the job: {}", panic_text(&*panic))))
    });
    // The next job may begin at once, and needs other memory than this one did.
    ctx.services().let_memory_go();
    record(&ctx, ended).await;
    beating.abort();
    ctx.services().probe("job.ended", &ctx.lease().job_id.to_string()).await;
}

/// Sends heartbeats and stops the job when the user, the process or the lease says so.
async fn keep_alive(ctx: JobContext, shutdown: CancellationToken) {
    let lease = Duration::from_millis(ctx.services().settings.lease_ms.unsigned_abs());
    let every = (lease / 3).min(HEARTBEAT_EVERY_MAX);
    let mut shutting_down = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = shutdown.cancelled(), if !shutting_down => {
                shutting_down = true;
                ctx.stop_token().stop(Stop::Shutdown);
            }
        }
        match tokio::time::timeout(ctx.lease_left(), ctx.beat(None)).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(JobError::Lost)) => return,
            Ok(Err(error)) => {
                tracing::warn!(job.id = %ctx.lease().job_id, error = %error, "a heartbeat of job {} failed: {error}", ctx.lease().job_id)
            }
        }
        if !ctx.holds_lease() {
            tracing::error!(job.id = %ctx.lease().job_id, "the lease of job {} could not be renewed; it stops before another worker starts", ctx.lease().job_id);
            return;
        }
    }
}

/// Writes into the catalog how the job ended. Tries until it is written or the lease is gone.
async fn record(ctx: &JobContext, ended: Result<Outcome, JobError>) {
    let id = ctx.lease().job_id;
    ctx.holds_lease();
    // A job that stops because it must says so, whatever error it met on the way out.
    let ended = match (ended, ctx.stop_token().reason()) {
        (
            Err(JobError::Failed { .. } | JobError::Retry { .. }),
            Some(stop @ (Stop::Lost | Stop::Shutdown)),
        ) => Err(stop.into()),
        (ended, _) => ended,
    };
    let error = match ended {
        Ok(Outcome::Recorded) => {
            tracing::info!(job.id = %id, "job {id} is done");
            return;
        }
        Err(JobError::Lost) => {
            tracing::warn!(job.id = %id, "job {id} was lost to another worker");
            return;
        }
        Err(error) => error,
    };
    tracing::warn!(job.id = %id, error = %error.full_text(), "job {id} ended: {}", error.full_text());
    clean_up(ctx, &error).await;
    loop {
        match write_end(ctx, &error).await {
            Ok(()) | Err(catalog::Error::LeaseLost { .. }) => return,
            Err(failure @ (catalog::Error::Illegal(_) | catalog::Error::NotFound { .. })) => {
                tracing::error!(job.id = %id, error = %failure, "the end of job {id} does not fit its state: {failure}");
                return;
            }
            Err(failure) if ctx.stop_token().reason() == Some(Stop::Lost) => {
                tracing::error!(job.id = %id, error = %failure, "the end of job {id} could not be recorded before its lease ran out");
                return;
            }
            Err(failure) => {
                tracing::error!(job.id = %id, error = %failure, "the end of job {id} cannot be recorded: {failure}; trying again");
                tokio::time::sleep(CATALOG_RETRY).await;
            }
        }
    }
}

async fn write_end(ctx: &JobContext, error: &JobError) -> catalog::Result<()> {
    let (jobs, lease, now) = (ctx.catalog().jobs(), ctx.lease(), ctx.now());
    let failed = || catalog::Outcome::Failed { error: error.full_text() };
    match error {
        JobError::Shutdown => jobs.release(lease).await,
        JobError::Cancelled => jobs.finish(lease, catalog::Outcome::Cancelled, now).await,
        JobError::Retry { .. } => match next_try(lease.attempt, ctx.must_finish_since(), now) {
            Some(Next::Counted { at }) => jobs.retry_at(lease, at, &error.full_text()).await,
            Some(Next::Free { at }) => jobs.postpone(lease, at, &error.full_text()).await,
            None => jobs.finish(lease, failed(), now).await,
        },
        JobError::Failed { .. } => jobs.finish(lease, failed(), now).await,
        JobError::Lost => Ok(()),
    }
}

/// When a job is tried again.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// As one of its attempts.
    Counted { at: WallTime },
    /// Beyond them.
    Free { at: WallTime },
}

/// Whether and when a job that met something passing is tried again after its `attempt`-th try.
///
/// A job that has left things half changed waits for a day: a target whose servers are being restarted, or whose network
/// is away over night, must not be left so.
fn next_try(attempt: u32, must_finish_since: Option<WallTime>, now: WallTime) -> Option<Next> {
    let at = now.plus_ms((RETRY_FIRST_MS << attempt.min(RETRIES_MAX)).min(RETRY_WAIT_MS_MAX));
    if attempt < RETRIES_MAX {
        return Some(Next::Counted { at });
    }
    let since = must_finish_since?;
    (now < since.plus_ms(MUST_FINISH_MS_MAX)).then_some(Next::Free { at })
}

/// Undoes what a job that ended badly left on deployments. What cannot be undone now stays recorded in the
/// catalog, and the reaper goes on with it.
async fn clean_up(ctx: &JobContext, error: &JobError) {
    if !matches!(error, JobError::Failed { .. } | JobError::Cancelled) {
        return;
    }
    let undone = AssertUnwindSafe(jobs::discharge_all(ctx)).catch_unwind();
    match tokio::time::timeout(CLEAN_UP_MAX, undone).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(hindrance))) => {
            tracing::warn!(error = %hindrance.full_text(), "what job {} left cannot be undone now: {}; the reaper goes on", ctx.lease().job_id, hindrance.full_text())
        }
        Ok(Err(panic)) => tracing::error!("cleaning up panicked: {}", panic_text(&*panic)),
        Err(_) => {
            tracing::warn!("cleaning up after job {} takes too long; the reaper goes on", ctx.lease().job_id)
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use catalog::{Catalog, DeploymentFacts, NewDeployment, NewSnapshot, Sealed, SnapshotType};
    use vault::{Location, MasterKey, S3Options, Vault};

    use std::time::Instant;

    use super::*;
    use crate::engine::{Engine, Settings, wall_clock};

    const LEASE_MS: i64 = 900;
    /// For what must not lose its lease: with a heartbeat in every second, several may be late on a busy machine.
    const LONG_LEASE_MS: i64 = 4_000;
    /// Longer than that lease.
    const LONGER: Duration = Duration::from_millis(LONG_LEASE_MS as u64 * 3 / 2);

    /// A claimed job over a catalog and a vault of its own, and a moment before it was claimed.
    async fn claimed(dir: &std::path::Path, lease_ms: i64) -> (JobContext, Instant) {
        let catalog = Catalog::open(dir.join("catalog.sqlite").to_str().unwrap()).await.unwrap();
        let master = Arc::new(MasterKey::generate());
        let place = Location::parse(dir.join("vault").to_str().unwrap(), S3Options::default()).unwrap();
        let vault = Vault::create_or_open(&place, &master).await.unwrap();
        let now = wall_clock();
        let project_id = catalog.projects().create("test", now).await.unwrap().id;
        let new = NewDeployment {
            project_id,
            name: "nowhere".parse().unwrap(),
            kind: model::DeploymentKind::ReplicaSet,
            uri_sealed: Sealed(String::new()),
            options: serde_json::json!({}),
            facts: DeploymentFacts::default(),
            continuous: None,
        };
        let deployment_id = catalog.deployments().add(new, now).await.unwrap().id;
        let new = NewSnapshot {
            deployment_id,
            snapshot_type: SnapshotType::OnDemand,
            description: None,
            retention_days: None,
        };
        catalog.snapshots().request(new, now).await.unwrap();
        let (began, asking) = (Instant::now(), Asking::now());
        let lease = catalog.jobs().claim("first", &[], now, lease_ms).await.unwrap().unwrap();
        let settings = Settings { lease_ms, spill_dir: dir.join("spill"), ..Settings::default() };
        let engine = Engine::new(catalog, vault, master, settings);
        (JobContext::new(engine.services().clone(), lease, asking), began)
    }

    #[tokio::test]
    async fn a_lease_that_is_kept_alive_is_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let (ctx, _) = claimed(dir.path(), LONG_LEASE_MS).await;
        let beating = tokio::spawn(keep_alive(ctx.clone(), CancellationToken::new()));
        tokio::time::sleep(LONGER).await;
        assert!(ctx.check().is_ok());
        let other = ctx.catalog().jobs().claim("second", &[], ctx.now(), LONG_LEASE_MS).await.unwrap();
        assert_eq!(other, None);
        beating.abort();
    }

    #[tokio::test]
    async fn a_job_that_another_worker_has_stops() {
        let dir = tempfile::tempdir().unwrap();
        let (ctx, _) = claimed(dir.path(), LEASE_MS).await;
        let later = ctx.now().plus_ms(LEASE_MS * 2);
        let other = ctx.catalog().jobs().claim("second", &[], later, LEASE_MS * 100).await.unwrap();
        assert!(other.is_some());
        let beating = tokio::spawn(keep_alive(ctx.clone(), CancellationToken::new()));
        assert_eq!(ctx.stopped().await, Stop::Lost);
        assert!(matches!(ctx.check(), Err(JobError::Lost)));
        assert!(
            matches!(ctx.checkpoint(&1).await, Err(JobError::Lost)),
            "it could write after it had lost the lease"
        );
        beating.await.unwrap();
    }

    #[tokio::test]
    async fn a_job_whose_lease_cannot_be_renewed_fences_itself() {
        let dir = tempfile::tempdir().unwrap();
        let (ctx, began) = claimed(dir.path(), LEASE_MS).await;
        ctx.catalog().close().await;
        let beating = tokio::spawn(keep_alive(ctx.clone(), CancellationToken::new()));
        assert_eq!(ctx.stopped().await, Stop::Lost);
        // Less one: the wall clock, by which a lease may be over too, counts whole milliseconds.
        assert!(
            began.elapsed() >= Duration::from_millis(LEASE_MS as u64 - 1),
            "it gave up while the lease still held"
        );
        beating.await.unwrap();
    }

    #[test]
    fn a_job_that_left_things_half_changed_is_not_given_up_for_what_passes() {
        let now = WallTime(1_000_000_000);
        assert!(matches!(next_try(1, None, now), Some(Next::Counted { at }) if at > now));
        assert_eq!(next_try(RETRIES_MAX, None, now), None);
        let since = Some(WallTime(now.0 - 3600 * 1000));
        assert!(matches!(next_try(1, since, now), Some(Next::Counted { .. })));
        let at = now.plus_ms(RETRY_FIRST_MS << RETRIES_MAX);
        assert_eq!(next_try(RETRIES_MAX, since, now), Some(Next::Free { at }));
        assert_eq!(next_try(u32::MAX, since, now), Some(Next::Free { at }));
        assert_eq!(next_try(RETRIES_MAX, since, now.plus_ms(MUST_FINISH_MS_MAX)), None, "not for ever");
    }

    #[tokio::test]
    async fn a_job_that_was_frozen_past_its_lease_sends_nothing_more() {
        let dir = tempfile::tempdir().unwrap();
        let (ctx, _) = claimed(dir.path(), LONG_LEASE_MS).await;
        let permit = ctx.permit();
        assert!(ctx.check().is_ok() && format!("{permit:?}").contains("holds"));
        // No heartbeat task runs, as none does in a process that is stopped.
        std::thread::sleep(LONGER);
        assert!(format!("{permit:?}").contains("withdrawn"), "it would go on before it has asked anybody");
        assert!(matches!(ctx.check(), Err(JobError::Lost)));
        assert!(matches!(ctx.or_stop(std::future::ready(())).await, Err(JobError::Lost)));
    }

    #[tokio::test]
    async fn a_shutdown_stops_the_job_and_the_lease_lives_on() {
        let dir = tempfile::tempdir().unwrap();
        let (ctx, _) = claimed(dir.path(), LONG_LEASE_MS).await;
        let shutdown = CancellationToken::new();
        let beating = tokio::spawn(keep_alive(ctx.clone(), shutdown.clone()));
        shutdown.cancel();
        assert_eq!(ctx.stopped().await, Stop::Shutdown);
        tokio::time::sleep(LONGER).await;
        let other = ctx.catalog().jobs().claim("second", &[], ctx.now(), LONG_LEASE_MS).await.unwrap();
        assert_eq!(other, None, "a job that still cleans up must keep its lease");
        beating.abort();
    }
}
