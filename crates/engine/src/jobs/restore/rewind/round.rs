//! One round of a rewind behind the fence: from the record to a target that is as it was.

use std::collections::{BTreeMap, BTreeSet};

use catalog::Timeline;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use model::ClusterTime;
use mongo::{
    CollectionInfo, Namespace, fence,
    fence::OwnWrites,
    time,
    write::{Barrier, ConnectionPool, indexes, ttl},
};

use super::{
    super::{
        checkpoint::{Checkpoint, Parked},
        errors::job_error,
        load, preflight, specs,
    },
    Begun, Changes, Decision, Item, Plan, Restore, SpillWriter, Verdict, Way,
    compare::compare,
    differences::Differences,
    follow, id_of, in_order_of_changes,
    known::Known,
    lifetimes, listing,
    target::{Collection, Side, Written},
    verdict,
};
use crate::{
    connect::{to_model, to_mongo},
    crash,
    fold::changed::Memory,
    lease::{JobContext, JobError},
    timeline,
};

const DUPLICATE_KEY: i32 = 11_000;
/// Collections that are put back at a time.
const COLLECTIONS_AT_A_TIME: usize = 3;

/// How a round ended.
pub(super) enum Ended {
    /// Everything is as it was, and nobody else wrote.
    Quiet,
    /// Others wrote meanwhile.
    Disturbed(String),
    /// Something had to be done, or given up, before the record can be followed to its end.
    Again,
}

/// What a round works with.
pub(super) struct Round<'a> {
    pub(super) ctx: &'a JobContext,
    pub(super) job: &'a Restore,
    pub(super) timeline: &'a Timeline,
    /// The time up to which the record is followed.
    pub(super) until: ClusterTime,
    pub(super) memory: Memory,
    /// What was found out before.
    pub(super) known: &'a Known,
}

/// What has to be done in a round.
#[derive(Default)]
pub(super) struct Work {
    documents: BTreeMap<Namespace, Differences>,
    indexes: BTreeMap<Namespace, indexes::Repair>,
    /// Lifetimes that have to be put aside first.
    lifetimes: BTreeMap<Namespace, Vec<Lifetime>>,
    /// Those with unique keys, beside that of `_id`, which may have moved from one document to another.
    keyed: BTreeSet<Namespace>,
    /// What everything that stays was when the round began.
    identities: BTreeMap<Namespace, Option<[u8; 16]>>,
}

/// A lifetime of an index that stays, and is put aside while documents are put back.
struct Lifetime {
    /// As it was at the time that is restored.
    wanted: ttl::ParkedTtl,
    /// As it is now.
    now: ttl::ParkedTtl,
    /// Whether documents may expire under it.
    is_live: bool,
}

impl Work {
    /// What was found of documents.
    pub(super) fn into_known(self) -> Known {
        Known::new(self.documents)
    }

    /// As it is remembered.
    pub(super) fn begun(&self) -> Begun {
        let mut begun = Begun::default();
        for (ns, differences) in &self.documents {
            begun.documents = begun.documents.and(differences.counts);
            if differences.counts.documents() > 0 {
                begun.collections.insert(ns.to_string(), differences.counts);
            }
        }
        for (ns, repair) in &self.indexes {
            begun.indexes_dropped.extend(repair.drop.iter().map(|name| format!("{ns} {name}")));
            let built = repair.build.iter().filter_map(|spec| specs::name(spec));
            begun.indexes_built.extend(built.map(|name| format!("{ns} {name}")));
        }
        begun
    }
}

/// One round: until nothing is left to do, or others were seen to write.
pub(super) async fn run(
    ctx: &JobContext,
    job: &Restore,
    state: &mut Checkpoint,
    memory: &Memory,
    known: &Known,
) -> Result<Ended, JobError> {
    let Some(Decision::Rewind(plan)) = state.rewind.clone() else { return Ok(Ended::Quiet) };
    let mut plan = *plan;
    ctx.progress().message("following the record up to now");
    let until = to_model(time::majority_now(&job.deployment).await.map_err(|e| failed(job, e))?);
    let timeline = match reached(ctx, &plan, until).await? {
        Ok(timeline) => timeline,
        Err(reason) => return without_record(ctx, state, plan, &reason).await,
    };
    let round = Round { ctx, job, timeline: &timeline, until, memory: memory.clone(), known };
    let given_up = plan.given_up.len();
    let work = match round.try_plan(&mut plan).await? {
        Ok(work) => work,
        Err(reason) => return without_record(ctx, state, plan, &reason).await,
    };
    plan.followed = Some(until.as_u64());
    if given_up != plan.given_up.len() {
        remember(ctx, state, &plan).await?;
    }
    if round.park(&mut plan, &work, state).await? {
        // Until then documents may have expired.
        return Ok(Ended::Again);
    }
    let pool = ConnectionPool::new(&job.deployment);
    let pool = &pool;
    let collection = |namespace, differences| Collection {
        ctx,
        pool,
        job: &job.job,
        pace: &job.pace,
        namespace,
        differences,
        replaces: !work.keyed.contains(namespace),
    };
    ctx.progress().message("comparing the target with the record");
    let mut disturbed = None;
    let looked = together(&work.documents, |ns, differences| {
        async move { collection(ns, differences).differing(Side::Now, until).await }.boxed()
    });
    for (ns, document) in looked.await? {
        let Some(document) = document else { continue };
        disturbed = match round.others(&plan).await? {
            // What is put back is the same, whatever they made of it; another round looks after the rest.
            Some(by) => Some(by),
            None if plan.begun.is_none() => return Err(contradiction(ns, &document)),
            None => return give_up(ctx, state, plan, ns, contradiction(ns, &document).full_text()).await,
        };
    }
    let begun = work.begun();
    match &mut plan.begun {
        None => {
            plan.begun = Some(begun.clone());
            remember(ctx, state, &plan).await?;
            crash::point("restore.rewind.begun");
            ctx.services().probe("restore.rewind.begun", &job.job).await;
        }
        // Before the first write to what others have touched since: should the record end, it has to be loaded anew as well.
        Some(known) => {
            if known.take_up(&begun) {
                remember(ctx, state, &plan).await?;
            }
        }
    }
    let left = begun.documents;
    preflight::expect(ctx, job, left.inserted + left.replaced, left.bytes);
    let barrier = Barrier::begin(&job.deployment).await.map_err(|e| failed(job, e))?;
    for (ns, repair) in &work.indexes {
        ctx.check()?;
        indexes::drop(&job.deployment, ns, &repair.drop)
            .await
            .map_err(|e| job_error("dropping indexes of", ns, e))?;
        crash::point("restore.rewind.after-index-drops");
    }
    ctx.progress().message("putting documents back");
    let put_back = together(&work.documents, |ns, differences| {
        let collection = collection(ns, differences);
        async move {
            if let in_the_way @ Written::InTheWay(_) = collection.replace().await? {
                return Ok(in_the_way);
            }
            collection.remove().await?;
            collection.insert(barrier).await
        }
        .boxed()
    });
    for (ns, written) in put_back.await? {
        if let Written::InTheWay(what) = written {
            return match round.others(&plan).await? {
                Some(by) => Ok(Ended::Disturbed(by)),
                None => {
                    give_up(ctx, state, plan, ns, format!("documents could not be put back: {what}")).await
                }
            };
        }
    }
    let written = barrier.wait(&job.deployment).await.map_err(|e| failed(job, e))?;
    crash::point("restore.rewind.after-documents");
    if let Some((ns, what)) = round.build_indexes(&work, &mut plan, state).await? {
        return match round.others(&plan).await? {
            Some(by) => Ok(Ended::Disturbed(by)),
            None => give_up(ctx, state, plan, &ns, format!("an index could not be built: {what}")).await,
        };
    }
    crash::point("restore.rewind.after-indexes");
    ctx.progress().message("reading back what was put back");
    let looked = together(&work.documents, |ns, differences| {
        async move { collection(ns, differences).differing(Side::Want, to_model(written)).await }.boxed()
    });
    let wrong = looked.await?.into_iter().find_map(|(ns, document)| Some((ns, document?)));
    let disturbed = disturbed.or(round.others(&plan).await?).or(round.exchanged(&work).await?);
    match (disturbed, wrong) {
        (Some(by), _) => Ok(Ended::Disturbed(by)),
        (None, None) => Ok(Ended::Quiet),
        (None, Some((ns, document))) => {
            let what = format!("it does not hold what was written to it: the document {document} differs");
            give_up(ctx, state, plan, ns, what).await
        }
    }
}

/// Works on collections, a few at a time, and on all of them even when one fails: nobody is left writing. In their order.
async fn together<'a, T>(
    documents: &'a BTreeMap<Namespace, Differences>,
    work: impl Fn(&'a Namespace, &'a Differences) -> BoxFuture<'a, Result<T, JobError>>,
) -> Result<Vec<(&'a Namespace, T)>, JobError> {
    let all: Vec<_> = documents.iter().map(|(ns, differences)| work(ns, differences)).collect();
    let done: Vec<_> = stream::iter(all).buffered(COLLECTIONS_AT_A_TIME).collect().await;
    documents.keys().zip(done).map(|(ns, done)| Ok((ns, done?))).collect()
}

async fn remember(ctx: &JobContext, state: &mut Checkpoint, plan: &Plan) -> Result<(), JobError> {
    state.rewind = Some(Decision::Rewind(Box::new(plan.clone())));
    ctx.checkpoint(state).await
}

/// One collection cannot stay after all.
async fn give_up(
    ctx: &JobContext,
    state: &mut Checkpoint,
    mut plan: Plan,
    ns: &Namespace,
    reason: String,
) -> Result<Ended, JobError> {
    tracing::warn!(namespace = %ns, reason, "{ns} is loaded anew: {reason}");
    plan.given_up.insert(ns.to_string(), reason);
    remember(ctx, state, &plan).await?;
    Ok(Ended::Again)
}

fn contradiction(ns: &Namespace, document: &str) -> JobError {
    JobError::failed(format!(
        "the document {document} of {ns} is not what the record of operations says, so the record cannot be relied on; \
         nothing was changed; restore it without rewind"
    ))
}

fn failed(job: &Restore, error: mongo::Error) -> JobError {
    job_error("rewinding", &job.target.name, error)
}

/// The timeline once it has everything up to `until`, or why it never will.
async fn reached(
    ctx: &JobContext,
    plan: &Plan,
    until: ClusterTime,
) -> Result<Result<Timeline, String>, JobError> {
    let id = plan.timeline.parse().map_err(|e| JobError::failed_by("the plan names no timeline", e))?;
    let timelines = ctx.catalog().timelines();
    let Some(current) = timelines.get(id).await? else {
        return Ok(Err(format!("the timeline {id} is gone")));
    };
    let reason = match timeline::reach(ctx, &current, until).await? {
        Ok(reached) => return Ok(Ok(reached)),
        Err(reason) => reason,
    };
    let goes_on = timelines.get(id).await?.is_some_and(|timeline| timeline.ended.is_none());
    if goes_on && plan.begun.is_some() {
        return Err(JobError::retry_by(
            "the record cannot be followed up to now",
            std::io::Error::other(reason),
        ));
    }
    Ok(Err(reason))
}

/// The record ends before now. Before the first write that ends the job; after it there is only forward: what was touched is
/// loaded anew.
async fn without_record(
    ctx: &JobContext,
    state: &mut Checkpoint,
    mut plan: Plan,
    reason: &str,
) -> Result<Ended, JobError> {
    let Some(begun) = &plan.begun else {
        return Err(JobError::failed(format!(
            "what has changed cannot be told any more, and nothing was changed: {reason}; restore it without rewind"
        )));
    };
    tracing::warn!("what was touched so far is loaded anew: {reason}");
    for ns in begun.collections.keys() {
        plan.given_up.entry(ns.clone()).or_insert_with(|| reason.to_owned());
    }
    remember(ctx, state, &plan).await?;
    Ok(Ended::Quiet)
}

impl Round<'_> {
    /// What has to be done. What cannot stay is given up in `plan`.
    pub(super) async fn plan(&self, plan: &mut Plan) -> Result<Work, JobError> {
        self.try_plan(plan).await?.map_err(|reason| {
            JobError::failed(format!("what has changed cannot be told: {reason}; restore it without rewind"))
        })
    }

    /// The same, or why it cannot be told.
    pub(super) async fn try_plan(&self, plan: &mut Plan) -> Result<Result<Work, String>, JobError> {
        let Self { ctx, job, timeline, until, ref memory, .. } = *self;
        let mut changed = match follow(ctx, job, timeline, until, memory.clone()).await? {
            Ok(changed) => changed,
            Err(reason) => return Ok(Err(reason)),
        };
        tracing::debug!(job.id = %job.job, entries = changed.entries, "the record is followed to {until}");
        let found = listing(job).await?;
        let mut spill = SpillWriter::create(&ctx.services().settings.spill_dir)?;
        let mut work = Work::default();
        for item in in_order_of_changes(job) {
            let name = item.ns.to_string();
            if !plan.changes_in_place(&name) {
                continue;
            }
            ctx.check()?;
            if let Err(reason) = self.item(item, &found, &mut changed, &mut spill, &mut work).await? {
                work.documents.remove(&item.ns);
                work.keyed.remove(&item.ns);
                work.indexes.remove(&item.ns);
                work.lifetimes.remove(&item.ns);
                work.identities.remove(&item.ns);
                plan.given_up.insert(name, reason);
            }
        }
        Ok(Ok(work))
    }

    async fn item(
        &self,
        item: &Item,
        found: &BTreeMap<Namespace, CollectionInfo>,
        changed: &mut crate::fold::changed::Changed,
        spill: &mut SpillWriter,
        work: &mut Work,
    ) -> Result<Result<(), String>, JobError> {
        let Some(id) = id_of(item) else { return Ok(Ok(())) };
        changed.skip_to(id).await?;
        let own = Item { way: item.own_way(), ..item.clone() };
        let info = found.get(&item.ns);
        let is_changed = changed.next_key(id).is_some();
        let changes = match changed.hindered(id, &item.ns.to_string()) {
            Some(hindered) => Changes::Unknown(hindered.to_string()),
            None => Changes::Documents(u64::from(is_changed || changed.touches_capped(id))),
        };
        if let Verdict::Rebuilt(reason) = verdict(&own, info, &changes) {
            return Ok(Err(reason));
        }
        let Some(info) = info else { return Ok(Ok(())) };
        work.identities.insert(item.ns.clone(), info.uuid);
        if own.way != Way::Renamed {
            return Ok(Ok(()));
        }
        let malformed = |e| job_error("reading the indexes of", &item.ns, e);
        let repair = indexes::repair(&item.entry.meta.indexes, &info.indexes).map_err(malformed)?;
        if specs::any_unique(&info.indexes) {
            work.keyed.insert(item.ns.clone());
        }
        if is_changed {
            let known = self.known.of(&item.ns);
            match compare(self.ctx, &self.job.manifest, item, known, changed, spill).await? {
                Ok(differences) => {
                    work.documents.insert(item.ns.clone(), differences);
                }
                Err(reason) => return Ok(Err(reason)),
            }
        }
        let wanted = ttl::lifetimes(&item.ns, &item.entry.meta.indexes).map_err(malformed)?;
        let there = ttl::lifetimes(&item.ns, &info.indexes).map_err(malformed)?;
        let parked = ttl::parked_seconds(&self.job.deployment).await.map_err(malformed)?;
        let mut lifetimes = vec![];
        for wanted in wanted {
            let Some(now) = there.iter().find(|now| now.index == wanted.index) else { continue };
            let is = |name: &String| Some(name) == wanted.index.as_ref();
            if repair.drop.iter().any(is) || !(is_changed || repair.lifetimes.iter().any(is)) {
                continue;
            }
            let is_live = now.expire_after_seconds < parked.into();
            lifetimes.push(Lifetime { wanted, now: now.clone(), is_live });
        }
        if !lifetimes.is_empty() {
            work.lifetimes.insert(item.ns.clone(), lifetimes);
        }
        if repair != indexes::Repair::default() {
            work.indexes.insert(item.ns.clone(), repair);
        }
        Ok(Ok(()))
    }

    /// Puts lifetimes aside under which documents might expire that are put back. Tells whether there were any.
    async fn park(&self, plan: &mut Plan, work: &Work, state: &mut Checkpoint) -> Result<bool, JobError> {
        let Self { ctx, job, .. } = *self;
        let mut parked_any = false;
        for (ns, lifetimes) in &work.lifetimes {
            for Lifetime { wanted, now, is_live } in lifetimes {
                let known = plan.parked.entry(ns.to_string()).or_default();
                known.retain(|known| known.index != wanted.index);
                known.push(Parked::of(wanted.clone()));
                if !is_live {
                    continue;
                }
                // Known before it is done: nobody else would give it back if the job ended before it does.
                remember(ctx, state, plan).await?;
                lifetimes::record(ctx, job, now).await?;
                crash::point("restore.rewind.before-parking");
                ctx.check()?;
                ttl::park(&job.deployment, now)
                    .await
                    .map_err(|e| job_error("putting aside a lifetime of", ns, e))?;
                parked_any = true;
            }
        }
        if parked_any {
            crash::point("restore.rewind.after-parking");
        }
        Ok(parked_any)
    }

    /// Builds what is missing; tells which collection does not take its index, and why.
    async fn build_indexes(
        &self,
        work: &Work,
        plan: &mut Plan,
        state: &mut Checkpoint,
    ) -> Result<Option<(Namespace, String)>, JobError> {
        for (ns, repair) in work.indexes.iter().filter(|(_, repair)| !repair.build.is_empty()) {
            self.ctx.check()?;
            self.ctx.progress().message(format!("building indexes of {ns}"));
            let options = load::build_options(self.job);
            let built = indexes::build(&self.job.deployment, ns, &repair.build, &options);
            let built = match self.ctx.or_stop(built).await? {
                Ok(built) => built,
                Err(error) if error.code() == Some(DUPLICATE_KEY) => {
                    return Ok(Some((ns.clone(), error.to_string())));
                }
                Err(error) => return Err(job_error("building the indexes of", ns, error)),
            };
            let parked = plan.parked.entry(ns.to_string()).or_default();
            for one in built.parked.into_iter().map(Parked::of) {
                parked.retain(|known| known.index != one.index);
                parked.push(one);
            }
        }
        remember(self.ctx, state, plan).await?;
        Ok(None)
    }

    /// Whether anybody else wrote to what stays since the time of the round, in words.
    async fn others(&self, plan: &Plan) -> Result<Option<String>, JobError> {
        let now = time::majority_now(&self.job.deployment).await.map_err(|e| failed(self.job, e))?;
        match written_by_others(self.job, plan, self.until, to_model(now)).await {
            Ok(names) => Ok(names.first().map(|ns| format!("{ns} was written to after {}", self.until))),
            // The record still has what the oplog has not: the next round finds out.
            Err(error @ mongo::Error::OplogGap { .. }) => Ok(Some(error.to_string())),
            Err(error) => Err(failed(self.job, error)),
        }
    }

    /// What stays and is another collection now than when the round began.
    async fn exchanged(&self, work: &Work) -> Result<Option<String>, JobError> {
        let found = listing(self.job).await?;
        let other =
            |(ns, uuid): &(&Namespace, &Option<[u8; 16]>)| found.get(ns).and_then(|info| info.uuid) != **uuid;
        let first = work.identities.iter().find(other);
        Ok(first.map(|(ns, _)| format!("{ns} was dropped or replaced")))
    }
}

/// What stays and was written to by others after a time, or stands in a database that they dropped.
pub(super) async fn written_by_others(
    job: &Restore,
    plan: &Plan,
    since: ClusterTime,
    until: ClusterTime,
) -> mongo::Result<BTreeSet<String>> {
    let stays = |item: &&Item| plan.changes_in_place(&item.ns.to_string());
    let kept: BTreeSet<String> = job.going(Way::Kept).filter(stays).map(|item| item.ns.to_string()).collect();
    let own = OwnWrites { job: job.job.clone(), maintained: kept.clone(), ..OwnWrites::default() };
    let found = fence::foreign_writes(&job.deployment, to_mongo(since), to_mongo(until), &own).await?;
    let is_told = |ns: &&String| {
        let database = ns.split_once('.').map_or(ns.as_str(), |(database, _)| database);
        found.namespaces.contains(*ns) || found.namespaces.contains(&format!("{database}.$cmd"))
    };
    Ok(kept.iter().filter(is_told).cloned().collect())
}
