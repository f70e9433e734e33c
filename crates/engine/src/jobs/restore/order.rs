//! The order of capped collections is data, and no sum over their documents shows it: it is proved by itself.

use std::collections::BTreeSet;

use futures::TryStreamExt as _;
use mongo::{
    Namespace,
    write::verify::{self, SequenceHash},
};
use vault::Order;

use super::{
    checkpoint::Checkpoint,
    errors::job_error,
    plan::Way,
    rewind::Decision,
    segments,
    source::{Item, Restore},
};
use crate::lease::{JobContext, JobError};

/// Compares the order of what lies under staging names with that of the snapshot, and notes the hashes for the receipt.
///
/// # Errors
/// [`JobError::Failed`] names the collection that differs.
pub(crate) async fn prove_staged(
    ctx: &JobContext,
    job: &Restore,
    state: &mut Checkpoint,
) -> Result<(), JobError> {
    state.sequences.clear();
    for item in job.going(Way::Renamed).filter(|item| is_ordered(item)) {
        if let Some(how) = differs(ctx, job, item, &item.staging(&job.job), state).await? {
            return Err(JobError::failed(format!("{} was not loaded as it should be: {how}", item.ns)));
        }
    }
    ctx.checkpoint(state).await
}

/// The same for what was loaded straight to its name, and for what others may have written to since it was staged: all
/// but what is known to be `unchanged`. What differs is given back.
///
/// # Errors
/// The server's, the vault's.
pub(crate) async fn differing_in_place(
    ctx: &JobContext,
    job: &Restore,
    unchanged: &BTreeSet<Namespace>,
    state: &mut Checkpoint,
) -> Result<Vec<(Namespace, String)>, JobError> {
    let mut differing = Vec::new();
    let plan = state.rewind.clone();
    let plan = plan.as_ref().and_then(Decision::rewind);
    let stayed = |item: &Item| plan.is_some_and(|plan| plan.changes_in_place(&item.ns.to_string()));
    for item in job.items.iter().filter(|item| is_ordered(item) && !stayed(item)) {
        if !unchanged.contains(&item.ns) {
            let how = differs(ctx, job, item, &item.ns, state).await?;
            differing.extend(how.map(|how| (item.ns.clone(), how)));
        }
    }
    Ok(differing)
}

const fn is_ordered(item: &Item) -> bool {
    matches!(item.entry.meta.order, Order::Natural)
}

async fn differs(
    ctx: &JobContext,
    job: &Restore,
    item: &Item,
    at: &Namespace,
    state: &mut Checkpoint,
) -> Result<Option<String>, JobError> {
    ctx.progress().message(format!("comparing the order of {}", item.ns));
    let mut wanted = SequenceHash::default();
    let mut segments =
        std::pin::pin!(segments::read(ctx, &job.manifest, &item.entry, item.beside.as_ref(), 0));
    while let Some(segment) = ctx.or_stop(segments.try_next()).await?? {
        wanted.add(&segment.documents);
    }
    let wanted = wanted.finish();
    let found = ctx.or_stop(verify::sequence(&job.deployment, at)).await?;
    let found = found.map_err(|e| job_error("reading back", &item.ns, e))?;
    if found != wanted {
        return Ok(Some("its documents come in another order than in the snapshot".to_owned()));
    }
    state.sequences.insert(item.ns.to_string(), found);
    Ok(None)
}
