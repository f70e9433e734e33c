//! What is said of lifetimes that are put aside where a job fails after its cut-over began: nobody gives them back then, and
//! documents that are to expire would stay for ever without a word.

use std::collections::BTreeMap;

use mongo::{Namespace, write::ttl};

use super::{
    checkpoint::{Checkpoint, Parked},
    cutover,
    plan::Way,
    source::Restore,
};
use crate::lease::JobError;

/// So many are named with their command.
const NAMED_MAX: usize = 20;

/// The failure with what has to be done about lifetimes that this job has put aside and that are in place; any other ending as it
/// is.
pub(crate) async fn told(job: &Restore, state: &Checkpoint, error: JobError) -> JobError {
    if state.cut_over_since.is_none() || !matches!(error, JobError::Failed { .. }) {
        return error;
    }
    let parked = in_place(job, state).await;
    told_of(job, &parked, error)
}

/// The same, of these.
pub(crate) fn told_of(job: &Restore, parked: &[(Namespace, Parked)], error: JobError) -> JobError {
    match error {
        JobError::Failed { message, source } if !parked.is_empty() => {
            let commands = parked.iter().take(NAMED_MAX).map(|(ns, parked)| command(job, ns, parked));
            let commands = commands.collect::<Vec<_>>().join("; ");
            let more = parked.len().saturating_sub(NAMED_MAX);
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            let message = format!(
                "{message}. If the target is to stay as it is: documents do not expire in it until their lifetimes are given \
                 back: {commands}{more}"
            );
            JobError::Failed { message, source }
        }
        error => error,
    }
}

/// What somebody types to give a lifetime back.
pub(crate) fn command(job: &Restore, ns: &Namespace, parked: &Parked) -> String {
    // The lifetime of a time series is an option of the series, not of its buckets.
    let series = mongo::write::timeseries::series_of(ns).filter(|_| parked.index.is_none());
    let owner = parked.at(series.as_ref().unwrap_or(ns));
    let item = job.items.iter().find(|item| item.ns == *ns);
    let options = item.map_or(&[][..], |item| &item.entry.meta.options[..]);
    ttl::unpark_line(&job.deployment, &owner, options)
}

/// What is put aside in collections that are what this job has loaded. Where the target does not tell which are, in all.
async fn in_place(job: &Restore, state: &Checkpoint) -> Vec<(Namespace, Parked)> {
    let found = cutover::list(&job.deployment).await.ok();
    let found: Option<BTreeMap<_, _>> = found.map(|found| {
        let uuids = found.into_iter().map(|info| (info.namespace, info.uuid.map(hex::encode)));
        uuids.collect()
    });
    let mut parked = Vec::new();
    for item in job.items.iter().filter(|item| matches!(item.way, Way::Renamed | Way::Buckets)) {
        let name = item.ns.to_string();
        let Some(loaded) = state.loaded.get(&name).or_else(|| state.staged.get(&name)) else { continue };
        let is_there = found.as_ref().is_none_or(|found| {
            found.get(&item.ns).is_some_and(|uuid| uuid.as_deref() == Some(loaded.uuid.as_str()))
        });
        if is_there {
            parked.extend(loaded.parked.iter().map(|parked| (item.ns.clone(), parked.clone())));
        }
    }
    parked
}
