//! One round of a rewind behind the fence: from the record to a target that is as it was.

use std::collections::{BTreeMap, BTreeSet};

use catalog::Timeline;
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
    current,
    differences::Differences,
    follow, id_of, in_order_of_changes, listing,
    target::{Collection, Side, Written},
    verdict,
};
use crate::{
    connect::{to_model, to_mongo},
    crash,
    lease::{JobContext, JobError},
    timeline,
};

/// How a round ended.
pub(super) enum Ended {
    /// Everything is as it was, and nobody else wrote.
    Quiet,
    /// Others wrote meanwhile.
    Disturbed(String),
    /// Something had to be done before the record can be followed to its end.
    Prepared,
}

/// What a round works with.
pub(super) struct Round<'a> {
    pub(super) ctx: &'a JobContext,
    pub(super) job: &'a Restore,
    pub(super) timeline: &'a Timeline,
    /// The time up to which the record is followed.
    pub(super) until: ClusterTime,
}

/// What has to be done in a round.
#[derive(Default)]
pub(super) struct Work {
    documents: BTreeMap<Namespace, Differences>,
    indexes: BTreeMap<Namespace, indexes::Repair>,
    /// Lifetimes that have to be put aside first.
    lifetimes: BTreeMap<Namespace, Vec<ttl::ParkedTtl>>,
}

impl Work {
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
pub(super) async fn run(ctx: &JobContext, job: &Restore, state: &mut Checkpoint) -> Result<Ended, JobError> {
    let Some(Decision::Rewind(plan)) = state.rewind.clone() else { return Ok(Ended::Quiet) };
    let mut plan = *plan;
    ctx.progress().message("following the record up to now");
    let until = to_model(time::majority_now(&job.deployment).await.map_err(|e| failed(job, e))?);
    let timeline = match reached(ctx, job, until).await? {
        Ok(timeline) => timeline,
        Err(reason) => return without_record(ctx, state, plan, &reason).await,
    };
    let round = Round { ctx, job, timeline: &timeline, until };
    let given_up = plan.given_up.len();
    let work = match round.try_plan(&mut plan).await? {
        Ok(work) => work,
        Err(reason) => return without_record(ctx, state, plan, &reason).await,
    };
    if given_up != plan.given_up.len() {
        state.rewind = Some(Decision::Rewind(Box::new(plan.clone())));
        ctx.checkpoint(state).await?;
    }
    if round.park(&mut plan, &work, state).await? {
        // Until then documents may have expired.
        return Ok(Ended::Prepared);
    }
    let pool = ConnectionPool::new(&job.deployment);
    let collection =
        |ns, differences| Collection { ctx, pool: &pool, job: &job.job, namespace: ns, differences };
    ctx.progress().message("comparing the target with the record");
    for (ns, differences) in &work.documents {
        if let Some(document) = collection(ns, differences).differing(Side::Now, until).await? {
            return match round.others().await? {
                Some(by) => Ok(Ended::Disturbed(by)),
                None => Err(contradiction(ns, &document, plan.begun.is_some())),
            };
        }
    }
    if plan.begun.is_none() {
        plan.begun = Some(work.begun());
        state.rewind = Some(Decision::Rewind(Box::new(plan.clone())));
        ctx.checkpoint(state).await?;
        crash::point("restore.rewind.begun");
        ctx.services().probe("restore.rewind.begun", &job.job).await;
    }
    let left = work.begun().documents;
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
    for (ns, differences) in &work.documents {
        let collection = collection(ns, differences);
        collection.remove().await?;
        if let Written::InTheWay(what) = collection.insert(barrier).await? {
            return match round.others().await? {
                Some(by) => Ok(Ended::Disturbed(by)),
                None => Err(JobError::failed(format!("documents of {ns} could not be put back: {what}"))),
            };
        }
    }
    let written = barrier.wait(&job.deployment).await.map_err(|e| failed(job, e))?;
    crash::point("restore.rewind.after-documents");
    round.build_indexes(&work, &mut plan, state).await?;
    crash::point("restore.rewind.after-indexes");
    ctx.progress().message("reading back what was put back");
    let mut wrong = None;
    for (ns, differences) in &work.documents {
        let document = collection(ns, differences).differing(Side::Want, to_model(written)).await?;
        wrong = wrong.or(document.map(|document| (ns, document)));
    }
    match (round.others().await?, wrong) {
        (Some(by), _) => Ok(Ended::Disturbed(by)),
        (None, None) => Ok(Ended::Quiet),
        (None, Some((ns, document))) => Err(JobError::failed(format!(
            "{ns} does not hold what was written to it: the document {document} differs; restore it without rewind"
        ))),
    }
}

fn contradiction(ns: &Namespace, document: &str, begun: bool) -> JobError {
    let so_far = if begun { "part of the rewind was done" } else { "nothing was changed" };
    JobError::failed(format!(
        "the document {document} of {ns} is not what the record of operations says, so the record cannot be relied on; \
         {so_far}; restore it without rewind"
    ))
}

fn failed(job: &Restore, error: mongo::Error) -> JobError {
    job_error("rewinding", &job.target.name, error)
}

/// The timeline once it has everything up to `until`, or why it never will.
async fn reached(
    ctx: &JobContext,
    job: &Restore,
    until: ClusterTime,
) -> Result<Result<Timeline, String>, JobError> {
    match current(ctx, job).await? {
        Ok(current) => timeline::reach(ctx, &current, until).await,
        Err(reason) => Ok(Err(reason)),
    }
}

/// The record ends before now. Before the first write that ends the job; after it there is only forward: everything that
/// was to stay is loaded in place.
async fn without_record(
    ctx: &JobContext,
    state: &mut Checkpoint,
    mut plan: Plan,
    reason: &str,
) -> Result<Ended, JobError> {
    if plan.begun.is_none() {
        return Err(JobError::failed(format!(
            "what has changed cannot be told any more, and nothing was changed: {reason}; restore it without rewind"
        )));
    }
    tracing::warn!("what stayed so far is loaded in place: {reason}");
    for ns in &plan.kept {
        plan.given_up.entry(ns.clone()).or_insert_with(|| reason.to_owned());
    }
    state.rewind = Some(Decision::Rewind(Box::new(plan)));
    ctx.checkpoint(state).await?;
    Ok(Ended::Quiet)
}

impl Round<'_> {
    /// What has to be done. What cannot stay is given up in `plan`.
    pub(super) async fn plan(&self, plan: &mut Plan) -> Result<Work, JobError> {
        self.try_plan(plan).await?.map_err(|reason| {
            JobError::failed(format!("what has changed cannot be told: {reason}; restore it without rewind"))
        })
    }

    async fn try_plan(&self, plan: &mut Plan) -> Result<Result<Work, String>, JobError> {
        let Self { ctx, job, timeline, until } = *self;
        let mut changed = match follow(ctx, job, timeline, until).await? {
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
                work.indexes.remove(&item.ns);
                work.lifetimes.remove(&item.ns);
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
        if own.way != Way::Renamed {
            return Ok(Ok(()));
        }
        let malformed = |e| job_error("reading the indexes of", &item.ns, e);
        let repair = indexes::repair(&item.entry.meta.indexes, &info.indexes).map_err(malformed)?;
        if is_changed {
            match compare(self.ctx, &self.job.manifest, item, changed, spill).await? {
                Ok(differences) => {
                    work.documents.insert(item.ns.clone(), differences);
                }
                Err(reason) => return Ok(Err(reason)),
            }
        }
        let lifetimes = ttl::lifetimes(&self.job.deployment, &item.ns, &item.entry.meta.indexes).await;
        let mut lifetimes = lifetimes.map_err(malformed)?;
        let there: BTreeSet<_> = info.indexes.iter().filter_map(|spec| specs::name(spec)).collect();
        lifetimes.retain(|lifetime| {
            let name = lifetime.index.as_deref().unwrap_or_default();
            let stays = there.contains(name) && !repair.drop.iter().any(|dropped| dropped == name);
            stays && (is_changed || repair.lifetimes.iter().any(|changed| changed == name))
        });
        if !lifetimes.is_empty() {
            work.lifetimes.insert(item.ns.clone(), lifetimes);
        }
        if repair != indexes::Repair::default() {
            work.indexes.insert(item.ns.clone(), repair);
        }
        Ok(Ok(()))
    }

    /// Puts lifetimes aside that are not yet, so that nothing expires that is put back. Tells whether there were any.
    async fn park(&self, plan: &mut Plan, work: &Work, state: &mut Checkpoint) -> Result<bool, JobError> {
        let mut parked_any = false;
        for (ns, lifetimes) in &work.lifetimes {
            let known = plan.parked.entry(ns.to_string()).or_default();
            for lifetime in lifetimes {
                let parked = Parked::of(lifetime.clone());
                if known.iter().any(|known| known.index == parked.index) {
                    continue;
                }
                known.push(parked);
                parked_any = true;
            }
        }
        if !parked_any {
            return Ok(false);
        }
        // Known before it is done: nobody else would give them back.
        state.rewind = Some(Decision::Rewind(Box::new(plan.clone())));
        self.ctx.checkpoint(state).await?;
        for (ns, lifetimes) in &work.lifetimes {
            for lifetime in lifetimes {
                self.ctx.check()?;
                ttl::park(&self.job.deployment, lifetime)
                    .await
                    .map_err(|e| job_error("putting aside a lifetime of", ns, e))?;
            }
        }
        crash::point("restore.rewind.after-parking");
        Ok(true)
    }

    async fn build_indexes(
        &self,
        work: &Work,
        plan: &mut Plan,
        state: &mut Checkpoint,
    ) -> Result<(), JobError> {
        for (ns, repair) in work.indexes.iter().filter(|(_, repair)| !repair.build.is_empty()) {
            self.ctx.check()?;
            self.ctx.progress().message(format!("building indexes of {ns}"));
            let options = load::build_options(self.job);
            let built = indexes::build(&self.job.deployment, ns, &repair.build, &options);
            let built = self.ctx.or_stop(built).await?;
            let built = built.map_err(|e| job_error("building the indexes of", ns, e))?;
            plan.parked.entry(ns.to_string()).or_default().extend(built.parked.into_iter().map(Parked::of));
        }
        state.rewind = Some(Decision::Rewind(Box::new(plan.clone())));
        self.ctx.checkpoint(state).await
    }

    /// Whether anybody else wrote to what stays since the time of the round, in words.
    async fn others(&self) -> Result<Option<String>, JobError> {
        let Self { job, until, .. } = *self;
        let now = time::majority_now(&job.deployment).await.map_err(|e| failed(job, e))?;
        let kept: BTreeSet<String> = job.going(Way::Kept).map(|item| item.ns.to_string()).collect();
        let own = OwnWrites { job: job.job.clone(), ddl: kept.clone(), dropped_databases: BTreeSet::new() };
        let found = fence::foreign_writes(&job.deployment, to_mongo(until), now, &own);
        let found = found.await.map_err(|e| failed(job, e))?;
        let first = found.namespaces.intersection(&kept).next();
        Ok(first.map(|ns| format!("{ns} was written to after {until}")))
    }
}
