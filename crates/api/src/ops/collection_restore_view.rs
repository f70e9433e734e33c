//! Collection restore jobs, and what became of each collection, as Atlas shows them.

use catalog::{CollectionSums, RestoreJob, RestoredCollection};
use model::{
    CollectionRestore, IndexStrategy,
    collection_restore::{AskedName, CollectionRestoreState, CollectionState, CollectionStep, IndexState},
    restore::RestoreState,
};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::restore_view;
use crate::error::{Answer, Problem};

/// Where the request is kept among a job's options; the worker reads it there.
pub(super) const OPTION: &str = "collectionRestore";

/// What was asked for.
pub(super) fn asked(job: &RestoreJob) -> Answer<CollectionRestore> {
    CollectionRestore::deserialize(&job.options[OPTION])
        .map_err(|error| Problem::internal("read what a collection restore job was asked for", &error))
}

/// `ApiAtlasCollectionRestoreJobResponse`.
pub(super) fn job(job: &RestoreJob, sums: Option<&CollectionSums>) -> Answer<Value> {
    let restore = asked(job)?;
    let asked = restore.asked();
    let none = CollectionSums::default();
    let told = sums.unwrap_or(&none);
    let restored = match job.state {
        // What was loaded was removed again.
        RestoreState::Failed | RestoreState::Cancelled => told.documents_in_place,
        _ => told.documents_done,
    };
    let mut object = json!({
        "collections": names(&asked.collections),
        "createdAt": job.created_at.to_rfc3339(),
        "databases": names(&asked.databases),
        "id": job.id.to_string(),
        "indexStatus": {
            "failedCollectionCount": told.indexes_failed,
            "state": indexes(job.state, asked.index_strategy, told).as_str(),
        },
        "indexStrategy": asked.index_strategy.as_str(),
        "restoredDocuments": restored,
        "state": CollectionRestoreState::of(job.state, told.told > 0).as_str(),
        "totalDocuments": told.documents_total,
        "writeStrategy": asked.write_strategy.as_str(),
    });
    match job.point_in_time {
        None => object["snapshotId"] = job.snapshot_id.to_string().into(),
        Some(at) => restore_view::name_point_in_time(&mut object, at, "pointInTimeUtcSeconds"),
    }
    if let Some(target) = &job.target {
        object["targetClusterName"] = target.deployment_name.as_str().into();
        object["targetGroupId"] = target.project_id.to_string().into();
    }
    let texts = [
        ("collectionSuffix", asked.collection_suffix.clone()),
        ("databaseSuffix", asked.database_suffix.clone()),
        ("errorMessage", job.error.clone()),
        ("finishedAt", job.finished_at.filter(|_| job.state.is_final()).map(model::WallTime::to_rfc3339)),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            object[name] = text.into();
        }
    }
    Ok(object)
}

fn names(names: &[AskedName]) -> Value {
    names.iter().map(|name| json!(name)).collect()
}

/// The indexes of all collections together.
fn indexes(job: RestoreState, wanted: IndexStrategy, told: &CollectionSums) -> IndexState {
    if wanted == IndexStrategy::None {
        return IndexState::NotRestored;
    }
    if told.indexes_failed > 0 {
        return IndexState::Failed;
    }
    match job {
        RestoreState::Queued => IndexState::NotStarted,
        RestoreState::Running if told.indexed == told.restored && told.restored > 0 => IndexState::Successful,
        RestoreState::Running if told.indexing > 0 || told.indexed > 0 => IndexState::InProgress,
        RestoreState::Running => IndexState::NotStarted,
        RestoreState::CutOver | RestoreState::Finished => IndexState::Successful,
        RestoreState::Cancelling
        | RestoreState::Cancelled
        | RestoreState::Failed
        | RestoreState::Ready
        | RestoreState::Expired => IndexState::NotRestored,
    }
}

/// `ApiAtlasCollectionRestoreCollectionStateResponse`.
pub(super) fn collection(job: RestoreState, wanted: IndexStrategy, line: &RestoredCollection) -> Value {
    let state = line.step.shown(job);
    let restored = match state {
        CollectionState::NotRestored | CollectionState::IndexBuildFailed => 0,
        // Of what failed, only what has its name is still there.
        CollectionState::Failed if line.step != CollectionStep::InPlace => 0,
        _ => line.documents_done,
    };
    let mut object = json!({
        "indexStatus": {"state": line.step.indexes(job, wanted).as_str()},
        "restoredDocuments": restored,
        "sourceNamespace": line.source,
        "state": state.as_str(),
        "targetNamespace": line.target,
        "totalDocuments": line.documents_total,
    });
    if line.step.is_restored() {
        object["effectiveTargetNamespace"] = line.effective_target.as_str().into();
    }
    if let Some(error) = line.error.as_ref().filter(|_| line.step == CollectionStep::IndexesFailed) {
        object["indexStatus"]["errorMessage"] = error.as_str().into();
    }
    object
}
