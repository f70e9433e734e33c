//! A restore of a deployment onto itself that touches only what changed since the time that is restored.
//!
//! Possible where the record of operations is unbroken from that time to now: it tells which documents were written to,
//! and the vault has what they were. All others are what they were, and stay untouched.
//!
//! 1. [`decide`], before anything is written: which collections stay, what is made anew because it was dropped, altered,
//!    capped and written to, or a time series that was written to; and whether that is cheaper than to restore everything.
//!    What is made anew goes the way of every restore, under staging names.
//! 2. [`look_ahead`], still before the fence: what changed documents were is looked up, so that nobody waits for it.
//! 3. [`undo`], behind the fence, in rounds: the record is followed up to a time after the fence, and what every touched
//!    document is now is computed from it. The target has to agree, document by document, before the first write; then
//!    indexes go that were made since, documents are replaced, or removed and inserted, missing indexes are built, and
//!    everything that was touched is read back.
//!
//! Nothing of it has to be remembered from one attempt to the next: our own writes are in the record as well, so whoever
//! takes over follows it to a later time and does what is left. In the same way writes of others that got past
//! the fence, or came where there is none, are undone by another round.

mod compare;
mod decision;
mod differences;
mod known;
mod lifetimes;
mod round;
mod state;
mod target;

use std::{collections::BTreeMap, sync::Arc};

use catalog::Timeline;
use model::{ClusterTime, restore::RestoreState};
use mongo::{CollectionInfo, Namespace, time, write::collections};
use serde_json::{Value, json};

pub(crate) use known::Known;
pub(crate) use lifetimes::{PARKED_TTL, put_back as put_lifetime_back, settle as settle_lifetimes};
pub(crate) use state::{Decision, Plan};

use super::{
    ahead,
    checkpoint::Checkpoint,
    cutover,
    errors::job_error,
    options::RewindMode,
    plan::Way,
    source::{Item, Restore},
    stage,
};
use crate::{
    connect::to_model,
    fold::{
        FoldFailure,
        changed::{self, Changed, Memory},
    },
    lease::{JobContext, JobError},
    spill::SpillWriter,
    timeline,
};
use decision::{Changes, Cost, Verdict, id_of, verdict};
use round::{Round, Work};
use state::Begun;

/// Rounds before it is given up to undo what others keep writing.
const ROUNDS_MAX: u32 = 8;

/// Decides whether the job is a rewind, unless an earlier attempt has, and sets the ways of what stays.
///
/// # Errors
/// [`JobError::Failed`] where a rewind and nothing else was asked for and is not possible; nothing was touched then.
pub(crate) async fn decide(
    ctx: &JobContext,
    job: &mut Restore,
    state: &mut Checkpoint,
) -> Result<(), JobError> {
    if state.rewind.is_none() && job.row.state != RestoreState::CutOver {
        let decision = match job.options.rewind {
            RewindMode::Off => Decision::Full { reason: "the option rewind switches it off".to_owned() },
            mode => decision(ctx, job, mode).await?,
        };
        if let (RewindMode::Only, Decision::Full { reason }) = (job.options.rewind, &decision) {
            return Err(JobError::failed(format!(
                "{} cannot be rewound, and nothing was changed: {reason}; restore it without rewind",
                job.target.name
            )));
        }
        tracing::info!(job.id = %job.job, rewind = decision.rewind().is_some(), "decided how {} is restored", job.target.name);
        state.rewind = Some(decision);
        if !job.options.plan_only {
            ctx.checkpoint(state).await?;
        }
    }
    if let Some(plan) = state.rewind.as_ref().and_then(Decision::rewind) {
        for item in &mut job.items {
            if plan.kept.contains(&item.ns.to_string()) {
                item.way = Way::Kept;
            }
        }
    }
    Ok(())
}

/// What a job would do that was asked for its plan alone.
///
/// # Errors
/// [`JobError`] when it cannot be found out.
pub(crate) async fn plan_only(
    ctx: &JobContext,
    job: &Restore,
    state: &Checkpoint,
) -> Result<Value, JobError> {
    let decided = match state.rewind.as_ref() {
        Some(Decision::Rewind(plan)) => {
            let (timeline, until) = match current(ctx, job).await? {
                Ok(current) => (current.clone(), current.durable.time),
                Err(reason) => return Err(JobError::failed(reason)),
            };
            let mut plan = (**plan).clone();
            let memory = Memory::of(ctx).await?;
            let known = &Known::default();
            let round = Round { ctx, job, timeline: &timeline, until, memory, known };
            let begun = round.plan(&mut plan).await?.begun();
            plan.to_json(Some(&begun))
        }
        Some(full) => full.to_json(),
        None => Value::Null,
    };
    let made = |way| job.going(way).map(|item| item.ns.to_string()).collect::<Vec<_>>();
    let loaded: Vec<&Item> = job
        .items
        .iter()
        .filter(|item| matches!(item.way, Way::Renamed | Way::Buckets | Way::Functions))
        .collect();
    let found =
        cutover::list(&job.deployment).await.map_err(|e| job_error("listing", &job.target.name, e))?;
    let removals = super::plan::removals(&job.wanted(), &found);
    Ok(json!({
        "planOnly": true,
        "snapshotId": job.row.snapshot_id,
        "pointInTime": job.row.point_in_time.map(|point| point.time().to_string()),
        "target": job.target.name,
        "rewind": decided,
        "loaded": {
            "collections": made(Way::Renamed), "timeSeries": made(Way::TimeSeries), "functions": made(Way::Functions),
            "documents": loaded.iter().map(|item| item.entry.documents).sum::<u64>(),
            "bytes": loaded.iter().map(|item| item.entry.bytes).sum::<u64>(),
        },
        "removed": {
            "databases": removals.databases,
            "collections": removals.collections.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
    }))
}

/// The timeline that has everything from the time that is restored up to now, all of it in the vault, or why there is none.
async fn current(ctx: &JobContext, job: &Restore) -> Result<Result<Timeline, String>, JobError> {
    if job.row.deployment_id != job.target.id {
        return Ok(Err("it is restored into another deployment than it was taken from".to_owned()));
    }
    if job.options.selection.is_some() {
        return Ok(Err("only a part of it is restored".to_owned()));
    }
    if job.options.in_place {
        return Ok(Err("the option inPlace asks for another way".to_owned()));
    }
    let timelines = ctx.catalog().timelines();
    let current = timelines.current(job.row.deployment_id).await?.filter(|timeline| timeline.ended.is_none());
    let Some(current) = current else {
        return Ok(Err("there is no continuous backup of it".to_owned()));
    };
    let snapshot = ctx.catalog().snapshots().get(job.row.snapshot_id).await?;
    let complete_at = snapshot.as_ref().and_then(|snapshot| snapshot.last_as_of.or(snapshot.cluster_time));
    let Some(complete_at) = complete_at else { return Ok(Err("its snapshot is gone".to_owned())) };
    // An accident of a moment ago is to be told and looked up now, and not behind a fence. A snapshot of a moment ago is a base
    // when everything up to its end is recorded.
    let now = time::majority_now(&job.deployment).await;
    let now = now.map_err(|e| job_error("asking for the time of", &job.target.name, e))?;
    let reached = timeline::reach(ctx, &current, to_model(now)).await?;
    let base = timelines.base_for(job.row.deployment_id, complete_at).await?;
    if reached.is_ok() && base.is_none_or(|(timeline, _)| timeline.id != current.id) {
        let text = format!("the continuous backup has a gap since {complete_at}, or begins later");
        return Ok(Err(text));
    }
    Ok(reached)
}

async fn decision(ctx: &JobContext, job: &Restore, mode: RewindMode) -> Result<Decision, JobError> {
    let timeline = match current(ctx, job).await? {
        Ok(timeline) => timeline,
        Err(reason) => return Ok(Decision::Full { reason }),
    };
    ctx.progress().message("looking what has changed since");
    let until = timeline.durable.time.max(restored_time(job));
    let memory = Memory::of(ctx).await?;
    let mut changed = match follow(ctx, job, &timeline, until, memory).await? {
        Ok(changed) => changed,
        Err(reason) => return Ok(Decision::Full { reason }),
    };
    let found = listing(job).await?;
    let mut plan = Plan { timeline: timeline.id.to_string(), ..Plan::default() };
    let slices = ctx.catalog().timelines().slices(timeline.id, restored_time(job), until).await?;
    // The record is read again behind the fence.
    let mut cost = Cost::of_record(slices.iter().map(|slice| slice.bytes).sum());
    for item in in_order_of_changes(job) {
        let changes = changes_of(&mut changed, item).await?;
        let verdict = verdict(item, found.get(&item.ns), &changes);
        cost.add(item, &verdict, &changes);
        match verdict {
            Verdict::Kept => {
                plan.kept.insert(item.ns.to_string());
            }
            Verdict::Rebuilt(reason) => {
                plan.rebuilt.insert(item.ns.to_string(), reason);
            }
            Verdict::AsEver => {}
        }
    }
    if mode == RewindMode::Auto && !cost.pays() {
        let Cost { rewind, full } = cost;
        let reason = format!(
            "so much has changed that it is no cheaper (about as much work as loading {rewind} bytes, and there are {full})"
        );
        return Ok(Decision::Full { reason });
    }
    Ok(Decision::Rewind(Box::new(plan)))
}

/// The time that is restored.
fn restored_time(job: &Restore) -> ClusterTime {
    job.manifest.header().cluster_time
}

/// What changed since the time that is restored, or why that cannot be told.
async fn follow(
    ctx: &JobContext,
    job: &Restore,
    timeline: &Timeline,
    until: ClusterTime,
    memory: Memory,
) -> Result<Result<Changed, String>, JobError> {
    let record = timeline::record_since(ctx.services(), timeline, restored_time(job)).await?;
    let Some(record) = record else {
        return Ok(Err(format!(
            "the continuous backup no longer has the operations that follow {}",
            restored_time(job)
        )));
    };
    match changed::changes(ctx, &job.manifest, record, until, memory).await {
        Ok(changed) => Ok(Ok(changed)),
        Err(FoldFailure::Job(error @ JobError::Failed { .. })) => Ok(Err(error.full_text())),
        Err(FoldFailure::Job(error)) => Err(error),
        Err(failure) => Ok(Err(JobError::from(failure).full_text())),
    }
}

/// What stands under each name on the target.
async fn listing(job: &Restore) -> Result<BTreeMap<Namespace, CollectionInfo>, JobError> {
    let found =
        cutover::list(&job.deployment).await.map_err(|e| job_error("listing", &job.target.name, e))?;
    Ok(found.into_iter().map(|info| (info.namespace.clone(), info)).collect())
}

/// What has documents, in the order in which changes come.
fn in_order_of_changes(job: &Restore) -> Vec<&Item> {
    let mut items: Vec<_> = job.items.iter().filter(|item| id_of(item).is_some()).collect();
    items.sort_by_key(|item| id_of(item));
    items
}

/// How many documents of an item were written to; passes over their changes.
async fn changes_of(changed: &mut Changed, item: &Item) -> Result<Changes, JobError> {
    let Some(id) = id_of(item) else { return Ok(Changes::Documents(0)) };
    changed.skip_to(id).await?;
    if let Some(hindered) = changed.hindered(id, &item.ns.to_string()) {
        return Ok(Changes::Unknown(hindered.to_string()));
    }
    if changed.touches_capped(id) {
        return Ok(Changes::Documents(1));
    }
    Ok(Changes::Documents(changed.count(id).await?))
}

/// The memory that [`undo`] takes, if the job is a rewind that is not done: nobody is to wait for it behind a fence.
///
/// # Errors
/// As [`JobContext::check`].
pub(crate) async fn memory(ctx: &JobContext, state: &Checkpoint) -> Result<Option<Memory>, JobError> {
    match state.rewind.as_ref().and_then(Decision::rewind) {
        Some(plan) if !plan.done => Memory::of(ctx).await.map(Some),
        _ => Ok(None),
    }
}

/// Looks up, before others are kept out, what documents were that have changed by now. What cannot be found out is left to
/// [`undo`], which finds the same in the way and says so.
///
/// # Errors
/// [`JobError`] when the vault or the target cannot be read.
pub(crate) async fn look_ahead(
    ctx: &JobContext,
    job: &Restore,
    state: &Checkpoint,
) -> Result<Known, JobError> {
    let Some(plan) = state.rewind.as_ref().and_then(Decision::rewind) else { return Ok(Known::default()) };
    let Ok(timeline) = current(ctx, job).await? else { return Ok(Known::default()) };
    ctx.progress().message("looking up what has changed");
    let until = timeline.durable.time.max(restored_time(job));
    let memory = Memory::of(ctx).await?;
    let round = Round { ctx, job, timeline: &timeline, until, memory, known: &Known::default() };
    let work = round.try_plan(&mut plan.clone()).await?;
    Ok(work.map(Work::into_known).unwrap_or_default())
}

/// Puts back what changed in what stays, or goes on with it. Others are kept out, as far as that is possible.
///
/// # Errors
/// [`JobError`]: a retry goes on. [`JobError::Failed`] before the first write names the document where target and record
/// differ.
pub(crate) async fn undo(
    ctx: &JobContext,
    job: &Arc<Restore>,
    state: &mut Checkpoint,
    memory: Option<Memory>,
    known: &Known,
) -> Result<(), JobError> {
    let (Some(Decision::Rewind(plan)), Some(memory)) = (&state.rewind, memory) else { return Ok(()) };
    if plan.done {
        return Ok(());
    }
    let mut rounds_left = ROUNDS_MAX;
    let mut preparations_left = plan.kept.len() + ROUNDS_MAX as usize;
    loop {
        match round::run(ctx, job, state, &memory, known).await? {
            round::Ended::Quiet => break,
            // Every lifetime is put aside once, and every collection given up once.
            round::Ended::Again if preparations_left > 0 => preparations_left -= 1,
            round::Ended::Again => {
                return Err(JobError::failed(format!(
                    "{} does not come to rest: what has to be done before documents are put back has no effect; restore it \
                     without rewind",
                    job.target.name
                )));
            }
            round::Ended::Disturbed(by) => {
                rounds_left -= 1;
                if rounds_left == 0 {
                    // As in every restore, what others write after what was there before is in its place is theirs.
                    tracing::warn!(target_deployment = %job.target.name, "others keep writing, and are not waited for any more: {by}");
                    break;
                }
                tracing::warn!(target_deployment = %job.target.name, "another round, because others wrote to it: {by}");
            }
        }
    }
    drop(memory);
    load_given_up(ctx, job, state).await?;
    if let Some(Decision::Rewind(plan)) = &mut state.rewind {
        plan.done = true;
    }
    ctx.checkpoint(state).await
}

/// Finds out what others wrote, after the last round and until everything was in its place, to what stays.
///
/// # Errors
/// [`JobError`] when the oplog cannot be read.
pub(crate) async fn look_for_others(
    job: &Restore,
    state: &mut Checkpoint,
    until: ClusterTime,
) -> Result<(), JobError> {
    let Some(Decision::Rewind(plan)) = &mut state.rewind else { return Ok(()) };
    let Some(since) = plan.followed.map(ClusterTime::from_u64) else { return Ok(()) };
    plan.changed_by_others = match round::written_by_others(job, plan, since, until).await {
        Ok(names) => names,
        // The receipt says that it is not known (`foreignWrites`).
        Err(mongo::Error::OplogGap { .. }) => return Ok(()),
        Err(error) => return Err(job_error("looking for writes of others on", &job.target.name, error)),
    };
    Ok(())
}

/// What was to stay and could not: loaded beside what is there, and put in its place when it is proved.
async fn load_given_up(ctx: &JobContext, job: &Arc<Restore>, state: &mut Checkpoint) -> Result<(), JobError> {
    let Some(Decision::Rewind(plan)) = &state.rewind else { return Ok(()) };
    let given_up = job.items.iter().filter(|item| plan.given_up.contains_key(&item.ns.to_string()));
    let given_up: Vec<_> = given_up.map(|item| Item { way: item.own_way(), ..item.clone() }).collect();
    let (mut renamed, mut in_place) = (vec![], vec![]);
    for item in given_up {
        if item.way != Way::Renamed {
            in_place.push(item);
        } else if !is_in_place(job, &item, state).await? {
            renamed.push(item);
        }
    }
    if !renamed.is_empty() {
        stage::stage_some(ctx, job, renamed.clone(), state).await?;
    }
    for item in renamed {
        ctx.check()?;
        let uuid = staged_identity(state, &item);
        let from = item.staging(&job.job);
        let renamed = collections::rename_over(
            &job.deployment,
            &item.ns.db,
            &from.collection,
            &item.ns.collection,
            uuid,
        );
        renamed.await.map_err(|e| job_error("switching", &item.ns, e))?;
    }
    // A time series cannot be renamed, so it is read before what is there goes.
    ahead::read_items(ctx, job, &in_place).await?;
    stage::load_in_place(ctx, job, in_place, state).await
}

fn staged_identity(state: &Checkpoint, item: &Item) -> Option<[u8; 16]> {
    let staged = state.staged.get(&item.ns.to_string())?;
    hex::decode(&staged.uuid).ok()?.try_into().ok()
}

async fn is_in_place(job: &Restore, item: &Item, state: &Checkpoint) -> Result<bool, JobError> {
    let Some(staged) = staged_identity(state, item) else { return Ok(false) };
    let there = collections::uuid_of(&job.deployment, &item.ns).await;
    Ok(there.map_err(|e| job_error("looking at", &item.ns, e))? == Some(staged))
}
