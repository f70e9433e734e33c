//! Telling our own writes in the oplog from those of others.

use std::collections::BTreeSet;

use mongo::{
    CollectionKind, Error,
    fence::{self, ForeignWrites, OwnWrites},
    time,
    write::{system_js, timeseries},
};

use super::{checkpoint::Checkpoint, cutover, errors::job_error, plan, source::Restore};
use crate::{connect::to_mongo, lease::JobError};

/// Writes down what the cut-over will remove, before it does: afterwards the target does not show it any more.
///
/// # Errors
/// [`JobError`] when the target cannot be listed.
pub(crate) async fn record_removals(job: &Restore, state: &mut Checkpoint) -> Result<(), JobError> {
    let found =
        cutover::list(&job.deployment).await.map_err(|e| job_error("listing", &job.target.name, e))?;
    let removals = plan::removals(&job.wanted(), &found);
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

/// Looks for writes of others since the cut-over began.
///
/// # Errors
/// [`JobError`] when the oplog cannot be read.
pub(crate) async fn foreign_writes(job: &Restore, state: &Checkpoint) -> Result<ForeignWrites, JobError> {
    let fail = |e| job_error("looking for writes of others on", &job.target.name, e);
    let mut ddl: BTreeSet<String> = state.removed.iter().cloned().collect();
    for item in &job.items {
        ddl.insert(item.ns.to_string());
        ddl.insert(format!("{}.system.views", item.ns.db));
    }
    for name in &state.removed {
        let db = name.split_once('.').map_or(name.as_str(), |(db, _)| db);
        ddl.insert(format!("{db}.system.views"));
    }
    let dropped_databases = state.removed_databases.iter().cloned().collect();
    let own = OwnWrites { job: job.job.clone(), ddl, dropped_databases };
    let since = to_mongo(model::ClusterTime::from_u64(state.cut_over_since.unwrap_or_default()));
    let until = time::majority_now(&job.deployment).await.map_err(fail)?;
    match fence::foreign_writes(&job.deployment, since, until, &own).await {
        Ok(found) => Ok(without_replaced_functions(job, found)),
        // A load in place can roll a small oplog over. The proof then has nobody to blame, and needs nobody.
        Err(error @ Error::OplogGap { .. }) => {
            tracing::warn!(%error, "writes of others cannot be looked for: {error}");
            Ok(ForeignWrites::default())
        }
        Err(error) => Err(fail(error)),
    }
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
    found
}
