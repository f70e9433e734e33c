//! What stands on the target where something is to be restored under another name than its own: an accident must not
//! destroy it. Under its own name something is replaced; that is what a restore is.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use mongo::CollectionInfo;

use super::{
    checkpoint::Checkpoint,
    cutover,
    errors::job_error,
    plan::Way,
    source::{Item, Restore},
};
use crate::lease::JobError;

/// NamespaceExists.
pub(crate) const NAMESPACE_EXISTS: i32 = 48;

/// The collections that a job has made inside its cut-over under names at which nothing may stand: they may be made anew, and
/// nothing else.
#[derive(Debug)]
pub(crate) struct Made {
    /// Whether they are known: an earlier version did not write them down.
    is_known: bool,
    uuids: Mutex<BTreeSet<String>>,
}

impl Made {
    /// What the checkpoint has of them.
    pub(crate) fn of(state: &Checkpoint) -> Self {
        Self {
            is_known: state.made.is_some() || state.cut_over_since.is_none(),
            uuids: Mutex::new(state.made.clone().unwrap_or_default()),
        }
    }

    /// Whether it is known what this job has made.
    pub(crate) const fn is_known(&self) -> bool {
        self.is_known
    }

    /// Notes what was made. It counts for a later attempt once it is in the checkpoint.
    pub(crate) fn note(&self, uuid: &str) {
        self.uuids.lock().unwrap_or_else(PoisonError::into_inner).insert(uuid.to_owned());
    }

    /// Whether this was.
    pub(crate) fn has(&self, uuid: &str) -> bool {
        self.uuids.lock().unwrap_or_else(PoisonError::into_inner).contains(uuid)
    }
}

/// Whether nothing may stand at the destination of an item: under another name than its own, and in a collection restore that
/// is to make everything new, under its own name too.
pub(crate) fn must_be_free(job: &Restore, item: &Item) -> bool {
    let may_replace = job.options.selection.as_ref().is_some_and(|selection| selection.overwrites());
    !may_replace && (item.ns != item.from || job.options.collection_restore.is_some())
}

/// Whether everything is restored beside what is there.
pub(crate) fn replaces_nothing(job: &Restore) -> bool {
    job.options.selection.is_some() && job.items.iter().all(|item| must_be_free(job, item))
}

/// What is in the way of the restore, each with what to do.
pub(crate) fn in_the_way(job: &Restore, found: &[CollectionInfo]) -> Vec<String> {
    let stands = |item: &&Item| found.iter().any(|info| info.namespace == item.ns);
    // A time series that stands there is told once, not with its buckets again.
    let told = |item: &&Item| {
        let series = mongo::write::timeseries::series_of(&item.ns).filter(|_| item.way == Way::Buckets);
        series.is_none_or(|series| !found.iter().any(|info| info.namespace == series))
    };
    let in_the_way = job.items.iter().filter(|item| must_be_free(job, item)).filter(stands).filter(told);
    in_the_way
        .map(|item| {
            format!(
                "{} is to be restored as {}, and there is something of that name; choose another name, drop it, or \
                 restore with overwrite",
                item.from, item.ns
            )
        })
        .collect()
}

/// Looks again, at the last moment at which the target is as it was: somebody may have taken a name since the preflight.
///
/// # Errors
/// [`JobError::Failed`] when something is in the way. Nothing was changed then.
pub(crate) async fn refuse(job: &Restore) -> Result<(), JobError> {
    if !job.items.iter().any(|item| must_be_free(job, item)) {
        return Ok(());
    }
    let found =
        cutover::list(&job.deployment).await.map_err(|e| job_error("listing", &job.target.name, e))?;
    let in_the_way = in_the_way(job, &found);
    if in_the_way.is_empty() {
        return Ok(());
    }
    Err(JobError::failed(format!(
        "the restore into {} ended before its cut-over, and nothing was changed: {}",
        job.target.name,
        in_the_way.join("; ")
    )))
}

/// Somebody was quicker, where nobody could be kept out.
pub(crate) fn made_meanwhile(item: &Item) -> JobError {
    JobError::failed(format!(
        "somebody made {} in the moment in which {} was to be restored under that name; it was left as it is, and what \
         was restored before stays; drop it, or choose another name, and restore again",
        item.ns, item.from
    ))
}
