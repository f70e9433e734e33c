//! Telling our own writes in the oplog from those of others.

use std::collections::BTreeSet;

use model::ClusterTime;
use mongo::{
    CollectionKind, Error, Namespace,
    fence::{self, ForeignWrites, OwnWrites},
    time,
    write::{system_js, timeseries},
};
use serde_json::{Value, json};

use super::{
    checkpoint::Checkpoint, cutover, errors::job_error, plan::Way, rewind::Decision, source::Restore,
};
use crate::{
    connect::{to_model, to_mongo},
    lease::JobError,
};

/// Writes down what the cut-over will remove, before it does: afterwards the target does not show it any more.
///
/// # Errors
/// [`JobError`] when the target cannot be listed.
pub(crate) async fn record_removals(job: &Restore, state: &mut Checkpoint) -> Result<(), JobError> {
    let found =
        cutover::list(&job.deployment).await.map_err(|e| job_error("listing", &job.target.name, e))?;
    let removals = job.removals(&found);
    let gone = |db: &String| removals.databases.contains(db);
    let in_dropped = found.iter().filter(|info| gone(&info.namespace.db)).map(|info| &info.namespace);
    let mut removed: BTreeSet<String> = removals
        .collections
        .iter()
        .chain(&removals.before_views)
        .chain(in_dropped)
        .map(ToString::to_string)
        .collect();
    for info in found.iter().filter(|info| info.kind == CollectionKind::TimeSeriesView) {
        removed.insert(timeseries::buckets_of(&info.namespace).to_string());
    }
    state.removed = removed.into_iter().collect();
    state.removed_databases = removals.databases;
    Ok(())
}

/// What can be told about the writes of others.
#[derive(Debug, Default)]
pub(crate) struct Others {
    /// What they wrote.
    pub(crate) writes: ForeignWrites,
    /// Why nobody can tell, when nobody can.
    pub(crate) unknown: Option<String>,
}

impl Others {
    /// As the receipt tells it.
    pub(crate) fn to_json(&self) -> Value {
        let first = self.writes.first.iter().map(|write| {
            json!({"at": to_model(write.at).to_string(), "ns": write.namespace, "operation": write.operation})
        });
        let mut told = json!({
            "checked": self.unknown.is_none(),
            "count": self.writes.count,
            "first": first.collect::<Vec<_>>(),
        });
        if let Some(reason) = &self.unknown {
            told["reason"] = reason.as_str().into();
        }
        told
    }
}

/// Looks for writes of others from the beginning of the cut-over until `until`, when everything was in its place.
///
/// # Errors
/// [`JobError`] when the oplog cannot be read.
pub(crate) async fn writes_during(
    job: &Restore,
    state: &Checkpoint,
    until: ClusterTime,
) -> Result<Others, JobError> {
    let mut ddl: BTreeSet<String> = state.removed.iter().cloned().collect();
    let mut maintained = BTreeSet::new();
    let rewind = state.rewind.as_ref().and_then(Decision::rewind);
    for item in &job.items {
        let name = item.ns.to_string();
        let stays = rewind.is_some_and(|plan| plan.changes_in_place(&name));
        if stays {
            maintained.insert(name)
        } else {
            ddl.insert(name)
        };
        ddl.insert(format!("{}.system.views", item.ns.db));
    }
    for name in &state.removed {
        let db = name.split_once('.').map_or(name.as_str(), |(db, _)| db);
        ddl.insert(format!("{db}.system.views"));
    }
    let dropped_databases = state.removed_databases.iter().cloned().collect();
    let own = OwnWrites { job: job.job.clone(), ddl, maintained, dropped_databases, only: only(job) };
    let since = ClusterTime::from_u64(state.cut_over_since.unwrap_or_default());
    let mut others = look(job, since, until, &own).await?;
    others.writes = without_replaced_functions(job, others.writes);
    Ok(others)
}

/// Looks for writes since everything was in its place: the target is its users' again, and the job does nothing there
/// any more but give lifetimes back.
///
/// # Errors
/// [`JobError`] when the oplog cannot be read.
pub(crate) async fn writes_after(
    job: &Restore,
    state: &Checkpoint,
    since: ClusterTime,
) -> Result<Others, JobError> {
    let mut ddl = BTreeSet::new();
    let made = state.staged.iter().chain(&state.loaded).filter(|(_, staged)| !staged.parked.is_empty());
    for ns in made.filter_map(|(name, _)| Namespace::parse(name)) {
        if let Some(series) = timeseries::series_of(&ns) {
            ddl.insert(series.to_string());
            ddl.insert(format!("{}.system.views", ns.db));
        }
        ddl.insert(ns.to_string());
    }
    let rewind = state.rewind.as_ref().and_then(Decision::rewind);
    let maintained = rewind.into_iter().flat_map(|plan| plan.parked.keys()).cloned().collect();
    let own = OwnWrites { job: job.job.clone(), ddl, maintained, only: only(job), ..OwnWrites::default() };
    let until = time::majority_now(&job.deployment).await.map_err(|e| failed(job, e))?;
    look(job, since, to_model(until), &own).await
}

/// Of a restore with a selection only what is selected is of concern: others go on writing to all the rest.
fn only(job: &Restore) -> Option<BTreeSet<String>> {
    job.options.selection.as_ref()?;
    let mut only = BTreeSet::new();
    for item in &job.items {
        only.insert(item.ns.to_string());
        if matches!(item.way, Way::View | Way::TimeSeries) {
            only.insert(format!("{}.system.views", item.ns.db));
            only.insert(timeseries::buckets_of(&item.ns).to_string());
        }
    }
    Some(only)
}

async fn look(
    job: &Restore,
    since: ClusterTime,
    until: ClusterTime,
    own: &OwnWrites,
) -> Result<Others, JobError> {
    match fence::foreign_writes(&job.deployment, to_mongo(since), to_mongo(until), own).await {
        Ok(writes) => Ok(Others { writes, unknown: None }),
        // A load in place can roll a small oplog over. The proof then has nobody to blame.
        Err(error @ Error::OplogGap { .. }) => {
            tracing::warn!(%error, "writes of others cannot be looked for: {error}");
            Ok(Others { writes: ForeignWrites::default(), unknown: Some(error.to_string()) })
        }
        Err(error) => Err(failed(job, error)),
    }
}

fn failed(job: &Restore, error: Error) -> JobError {
    job_error("looking for writes of others on", &job.target.name, error)
}

/// Functions are emptied by a delete, which carries no session.
fn without_replaced_functions(job: &Restore, mut found: ForeignWrites) -> ForeignWrites {
    let told = found.first.len();
    let ours = |name: &str| {
        name.ends_with(&format!(".{}", system_js::NAME))
            && job.items.iter().any(|item| item.ns.to_string() == name)
    };
    found.first.retain(|write| !(write.operation == "delete" && ours(&write.namespace)));
    found.count -= (told - found.first.len()) as u64;
    if found.count == 0 {
        found.namespaces.clear();
    }
    found
}
