//! The receipt of a restore: what was proved, collection by collection, and what a person should know.

use mongo::{Namespace, principals::RestoredPrincipals};
use serde_json::{Value, json};

use super::{
    checkpoint::{Checkpoint, Parked},
    plan::Way,
    prove::Proof,
    rewind::Decision,
    source::{Item, Restore},
    unparked,
};
use crate::lease::JobContext;

/// Writes the receipt.
pub(crate) fn write(ctx: &JobContext, job: &Restore, state: &Checkpoint, proof: &Proof) -> Value {
    let rewind = state.rewind.as_ref().and_then(Decision::rewind);
    let items: Vec<Item> = state.as_loaded(&job.items).collect();
    let per_collection: Vec<Value> = items
        .iter()
        .filter(|item| item.way != Way::Server)
        .map(|item| {
            let stays = rewind.is_some_and(|plan| plan.changes_in_place(&item.ns.to_string()));
            let changed = proof.changed_by_others.contains(&item.ns)
                || (stays
                    && rewind.is_some_and(|plan| plan.changed_by_others.contains(&item.ns.to_string())));
            let mut line = json!({
                "ns": item.ns.to_string(),
                "indexes": item.entry.meta.indexes.len(),
                "ok": !changed,
            });
            // Nobody has counted what is not loaded and was never read as a whole.
            if item.beside.is_none() {
                line["documents"] = item.entry.documents.into();
                line["bytes"] = item.entry.bytes.into();
                line["contentHash"] = item.entry.content.to_hex().into();
            }
            if stays {
                // Of what stays, only what was touched was read back.
                line["kept"] = true.into();
            }
            if job.options.selection.is_some() {
                line["from"] = item.from.to_string().into();
            }
            if let Some(hash) = state.sequences.get(&item.ns.to_string()) {
                line["sequenceHash"] = hash.as_str().into();
            }
            if changed {
                line["changedByOthers"] = true.into();
            }
            line
        })
        .collect();
    let switched = state.switched.clone().unwrap_or_default();
    let totals = job.totals_of(&items);
    let began = state.began_ms.unwrap_or(ctx.now().0);
    let mut receipt = json!({
        "snapshotId": job.row.snapshot_id,
        "snapshotClusterTime": job.manifest.header().cluster_time.to_string(),
        "pointInTime": job.row.point_in_time.map(|point| point.time().to_string()),
        "fold": state.fold,
        "target": job.target.name,
        "targetVersion": job.deployment.identity().version_text,
        "untestedVersion": job.deployment.identity().untested.then_some(true),
        "collections": per_collection.len(),
        "documents": totals.documents,
        "bytes": totals.bytes,
        "perCollection": per_collection,
        "rewind": state.rewind.as_ref().map(Decision::to_json),
        "fence": switched.fence,
        "foreignWrites": switched.foreign,
        "parkedTtl": proof.parked.iter().map(|(ns, parked)| put_aside(job, ns, parked)).collect::<Vec<_>>(),
        "users": switched.users,
        "clusterTimeOfCutover": state.cut_over_since.map(|since| model::ClusterTime::from_u64(since).to_string()),
        "outageMs": state.cut_over_ended_ms.zip(state.cut_over_began_ms).map(|(ended, began)| ended.saturating_sub(began)),
        "timeSeriesBytes": items.iter().filter(|item| item.way == Way::Buckets).map(|item| item.entry.bytes).sum::<u64>(),
        "durationMs": ctx.now().0.saturating_sub(began),
    });
    if let Some(selection) = &job.options.selection {
        receipt["selection"] = json!(selection);
        receipt["warnings"] = job.left_out.iter().chain(&proof.warnings).cloned().collect();
        receipt["tornTransactions"] = proof.torn.clone();
    }
    receipt
}

/// A lifetime that stays put aside, and the command that gives it back.
fn put_aside(job: &Restore, ns: &Namespace, parked: &Parked) -> Value {
    json!({
        "ns": ns.to_string(), "index": parked.index, "expireAfterSeconds": parked.expire_after_seconds,
        "command": unparked::command(job, ns, parked),
    })
}

/// Users and roles, as the receipt tells of them.
pub(crate) fn users(restored: RestoredPrincipals) -> Value {
    json!({"users": restored.users, "roles": restored.roles, "kept": restored.kept})
}
