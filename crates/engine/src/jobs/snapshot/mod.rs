//! Taking a snapshot: every collection of a deployment, exact as of one cluster time.
//!
//! Of a captured deployment that has a snapshot on its timeline, the next one is [`folded`] out of the vault. All others
//! are read:
//!
//! 1. [`mongo::listing::pin`] gives a cluster time and the catalog that is true at it.
//! 2. Every collection is read at that time. What the history window or DDL takes away under the read makes the job
//!    start again at a later time for **all** collections, a bounded number of times: what is read is as of one time.
//!    Deduplication makes the repetition cheap to store. Capped collections, which the server does not read at a past
//!    time, are the one exception; their own time is recorded. Where the deployment is captured, history that is gone makes
//!    nobody start again: what was read is kept, the rest is read later, and the [`pieces`] are folded to one time.
//! 3. When all segments are durable, the manifest is written, read back, and one transaction completes the snapshot.
//!
//! A job that is taken over starts at 1; what its predecessors stored is found again by its name.

mod attempt;
mod collection;
mod filler;
mod folded;
mod guard;
mod manifest;
mod natural;
mod pieces;
mod principals;
mod sorted;
mod source;
mod window;
mod windowed;

use std::{collections::HashMap, time::Duration};

use catalog::{Completion, Defect};
use model::id::SnapshotId;
use mongo::{Namespace, privileges::Purpose, read::Size};
use vault::ManifestHeader;
pub use window::{HISTORY_WINDOW, discharge};

use crate::{
    connect::{self, Connected},
    crash,
    lease::{JobContext, JobError, Outcome},
    observed,
    pipeline::SegmentStore,
    privileges::lacking,
};
use attempt::{Again, Attempt};
use folded::Instead;

/// So often everything is read at a later time before the snapshot fails. An attempt that DDL ends is short, since
/// what was hit before is read first.
pub const READ_ATTEMPTS_MAX: u32 = 8;
/// A read may turn out so many times longer than the speed so far tells.
const WINDOW_MARGIN: u64 = 3;

/// What gets round a history that is too short.
const CONTINUOUS_BACKUP_HELPS: &str =
    "; or switch continuous backup on: then what is read at different times is folded to one";

/// Wait before everything is read again when the deployment is in trouble; doubled each time. All waits together
/// outlast an election.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// The longest such wait.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Takes the snapshot.
///
/// # Errors
/// [`JobError`]: the text of a failure names the collection and the cause.
pub async fn run(ctx: &JobContext, id: SnapshotId) -> Result<Outcome, JobError> {
    let found = ctx.catalog().snapshots().get(id).await?;
    let snapshot = found.ok_or_else(|| JobError::failed(format!("snapshot {id} is not in the catalog")))?;
    ctx.progress().phase("connect");
    let mut connected = ctx.or_stop(connect::connect(ctx.services(), snapshot.deployment_id)).await??;
    connected.deployment = connected.deployment.with_permit(ctx.permit());
    observed::warn_if_untested(ctx, &connected.deployment).await?;
    // Those that are found from now on are the next snapshot's affair.
    let known = ctx.catalog().defects().of(connected.row.id).await?;
    let taken = take(ctx, &snapshot, &connected, &known).await;
    if !ctx.holds_lease() {
        // Whoever has the job now also has the window that it raised.
        return Err(JobError::Lost);
    }
    let put_back = window::put_back(ctx, connected.row.id, &connected.deployment).await;
    let completion = taken?;
    if let Err(hindrance) = put_back {
        // The data is good; the reaper goes on trying, since the obligation stays recorded.
        tracing::warn!(snapshot.id = %id, error = %hindrance.full_text(), "the history window cannot be put back now: {}", hindrance.full_text());
    }
    crash::point("snapshot.before-complete");
    let outcome = catalog::Outcome::SnapshotCompleted(Box::new(completion));
    ctx.catalog().jobs().finish(ctx.lease(), outcome, ctx.now()).await?;
    crash::point("snapshot.after-complete");
    mended(ctx, &known).await;
    tracing::info!(snapshot.id = %id, "snapshot {id} is complete");
    Ok(Outcome::Recorded)
}

/// What had a defect was read, whichever way the snapshot was taken. A defect that cannot be forgotten now has its collection
/// read once more.
async fn mended(ctx: &JobContext, known: &[Defect]) {
    for defect in known {
        let namespace = &defect.namespace;
        match ctx.catalog().defects().mended(defect).await {
            Ok(()) => tracing::info!(namespace, "{namespace} was read anew, which mends its defect"),
            Err(error) => {
                tracing::warn!(namespace, error = %error, "the defect of {namespace} is mended and cannot be forgotten now: {error}; the next snapshot reads it once more");
            }
        }
    }
}

async fn take(
    ctx: &JobContext,
    snapshot: &catalog::Snapshot,
    connected: &Connected,
    known: &[Defect],
) -> Result<Completion, JobError> {
    let lacking = ctx.or_stop(lacking(&connected.deployment, Purpose::Backup)).await??;
    if let Some(reason) = lacking {
        return Err(JobError::failed(format!(
            "no snapshot of {} can be taken: {reason}",
            connected.row.name
        )));
    }
    let facts = ctx.or_stop(connected.deployment.facts()).await??;
    observed::record(ctx.services(), connected.row.id, &facts).await?;
    let header = manifest::header(ctx, snapshot, connected, &facts).await?;
    let store = SegmentStore::new(ctx);
    let mut completion = match folded::take(ctx, connected, &header, facts.cache_bytes, &store, known).await?
    {
        Ok(completion) => completion,
        Err(Instead::NoBase) => read(ctx, snapshot, connected, &header, facts.cache_bytes, &store).await?,
        Err(Instead::Because(reason)) => {
            tracing::warn!(snapshot.id = %snapshot.id, reason, "the snapshot cannot be folded and {} is read as a whole: {reason}", connected.row.name);
            ctx.progress().warn(format!("not folded, the deployment is read as a whole: {reason}"));
            let mut completion = read(ctx, snapshot, connected, &header, facts.cache_bytes, &store).await?;
            completion.notes["notFolded"] = reason.into();
            completion
        }
    };
    if facts.untested {
        completion.notes["untestedVersion"] = facts.version_text.into();
    }
    Ok(completion)
}

/// Reads the deployment as a whole.
async fn read(
    ctx: &JobContext,
    snapshot: &catalog::Snapshot,
    connected: &Connected,
    header: &ManifestHeader,
    cache_bytes: u64,
    store: &SegmentStore,
) -> Result<Completion, JobError> {
    let mut hot: Vec<Namespace> = vec![];
    let mut sizes = HashMap::new();
    let mut last = None;
    for number in 1..=READ_ATTEMPTS_MAX {
        ctx.check()?;
        ctx.progress().restart();
        let attempt = Attempt { ctx, connected, store, header, cache_bytes, hot: &hot };
        let mut begun = None;
        match attempt.run(&mut sizes, &mut begun).await {
            Ok(everything) => {
                let mut completion = manifest::write(ctx, header, everything, store).await?;
                note_disk(&mut completion, &sizes);
                return Ok(completion);
            }
            Err(Again::Stop(error)) => return Err(error),
            Err(Again::Later(why)) => {
                tracing::warn!(snapshot.id = %snapshot.id, attempt = number, namespace = %why.namespace, cause = why.cause, "reading {} failed: {}; starting again at a later time", why.namespace, why.cause);
                ctx.progress()
                    .message(format!("{}: {}; reading again at a later time", why.namespace, why.cause));
                if why.too_old {
                    let widened = widen(ctx, connected, &why).await?;
                    if let Some(begun) = begun
                        && let Some(timeline) = pieces::timeline_at(ctx, connected, begun.at).await?
                    {
                        let attempt = Attempt { hot: &[], ..attempt };
                        let mut completion = pieces::take(&attempt, timeline, begun, &mut sizes).await?;
                        note_disk(&mut completion, &sizes);
                        return Ok(completion);
                    }
                    if !widened && !pieces::is_captured(ctx, connected).await? {
                        return Err(history_is_too_short(&why));
                    }
                }
                if why.needs_time {
                    let pause = (PAUSE_FIRST * 2_u32.pow(number)).min(PAUSE_MAX);
                    ctx.or_stop(tokio::time::sleep(pause)).await?;
                }
                hot.retain(|namespace| *namespace != why.namespace);
                hot.insert(0, why.namespace.clone());
                last = Some(why);
            }
        }
    }
    let hint = match &last {
        Some(why) if why.too_old && !pieces::is_captured(ctx, connected).await? => CONTINUOUS_BACKUP_HELPS,
        _ => "",
    };
    let last = last.map(|why| format!("; the last was {}: {}", why.namespace, why.cause)).unwrap_or_default();
    Err(JobError::failed(format!(
        "the deployment could not be read at one cluster time in {READ_ATTEMPTS_MAX} attempts{last}; take the snapshot when there is less change{hint}"
    )))
}

fn note_disk(completion: &mut Completion, sizes: &HashMap<Namespace, Size>) {
    completion.notes["sourceDiskBytes"] = sizes.values().map(|size| size.used_bytes).sum::<u64>().into();
}

/// Raises the history window to what the read seems to need. False when that cannot help.
async fn widen(ctx: &JobContext, connected: &Connected, why: &attempt::Why) -> Result<bool, JobError> {
    let done = ctx.progress().snapshot();
    let seconds = why.after.as_secs().max(1);
    let whole = done.bytes_total.max(1).saturating_mul(seconds) / done.bytes_done.max(1);
    window::raise(ctx, connected.row.id, &connected.deployment, whole.saturating_mul(WINDOW_MARGIN)).await
}

fn history_is_too_short(why: &attempt::Why) -> JobError {
    JobError::failed(format!(
        "{}; this was {} s after the time of the snapshot, and the window could not be raised further; grant the \
         account getParameter and setParameter on the cluster, or raise minSnapshotHistoryWindowInSeconds yourself \
         while the snapshot is taken{CONTINUOUS_BACKUP_HELPS}",
        why.cause,
        why.after.as_secs(),
    ))
}
