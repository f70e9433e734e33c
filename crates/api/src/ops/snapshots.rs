//! Cloud Backup snapshots of replica sets.

use catalog::{Conflict, Deployment, NewSnapshot, Snapshot, SnapshotFilter, SnapshotType};
use http::Method;
use model::{ClusterTime, Retention, RetentionUnit, role::Action, schedule::SnapshotKind};
use serde_json::json;

use super::{
    Operation, SINCE_2023, audit, clusters::cluster, groups::catalog_page, links, schedule, snapshot_view,
};
use crate::{
    access::Scope,
    body::{Fields, invalid},
    error::{Answer, Code, Problem},
    gate::Call,
    page::{Location, PageRequest, page},
    rate::Set,
    reply::Reply,
};

/// Longest retention in days: a hundred years.
pub(super) const RETENTION_DAYS_MAX: i32 = Retention::DAYS_MAX as i32;
/// Longest description.
const DESCRIPTION_CHARACTERS_MAX: usize = 1_024;

const COLLECTION: &str = "/groups/{groupId}/clusters/{clusterName}/backup/snapshots";
const ONE: &str = "/groups/{groupId}/clusters/{clusterName}/backup/snapshots/{snapshotId}";

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listGroupClusterBackupSnapshots",
        method: Method::GET,
        path: COLLECTION,
        versions: SINCE_2023,
        scope: Scope::Project(&[Action::Read]),
        limit: Set::Backups,
        run: |call| Box::pin(list(call)),
    },
    Operation {
        id: "takeGroupClusterBackupSnapshots",
        method: Method::POST,
        path: COLLECTION,
        versions: SINCE_2023,
        scope: Scope::Project(&[Action::TakeSnapshot]),
        limit: Set::Backups,
        run: |call| Box::pin(take(call)),
    },
    Operation {
        id: "getGroupClusterBackupSnapshot",
        method: Method::GET,
        path: ONE,
        versions: SINCE_2023,
        scope: Scope::Project(&[Action::Read]),
        limit: Set::Backups,
        run: |call| Box::pin(get(call)),
    },
    Operation {
        id: "updateGroupClusterBackupSnapshot",
        method: Method::PATCH,
        path: ONE,
        versions: SINCE_2023,
        scope: Scope::Project(&[Action::ManageSnapshots]),
        limit: Set::Backups,
        run: |call| Box::pin(update(call)),
    },
    Operation {
        id: "deleteGroupClusterBackupSnapshot",
        method: Method::DELETE,
        path: ONE,
        versions: SINCE_2023,
        scope: Scope::Project(&[Action::ManageSnapshots]),
        limit: Set::Backups,
        run: |call| Box::pin(delete(call)),
    },
    Operation {
        id: "listGroupClusterBackupSnapshotShardedClusters",
        method: Method::GET,
        path: "/groups/{groupId}/clusters/{clusterName}/backup/snapshots/shardedClusters",
        versions: SINCE_2023,
        scope: Scope::Project(&[Action::Read]),
        limit: Set::Backups,
        run: |call| Box::pin(list_sharded(call)),
    },
    Operation {
        id: "getGroupClusterBackupSnapshotShardedCluster",
        method: Method::GET,
        path: "/groups/{groupId}/clusters/{clusterName}/backup/snapshots/shardedCluster/{snapshotId}",
        versions: SINCE_2023,
        scope: Scope::Project(&[Action::Read]),
        limit: Set::Backups,
        run: |call| Box::pin(get_sharded(call)),
    },
    Operation {
        id: "deleteGroupClusterBackupSnapshotShardedCluster",
        method: Method::DELETE,
        path: "/groups/{groupId}/clusters/{clusterName}/backup/snapshots/shardedCluster/{snapshotId}",
        versions: SINCE_2023,
        scope: Scope::Project(&[Action::ManageSnapshots]),
        limit: Set::Backups,
        run: |call| Box::pin(delete_sharded(call)),
    },
];

async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let not_after = time_asked(&call)?;
    let deployment = cluster(&call).await?;
    let filter = SnapshotFilter { not_after, ..SnapshotFilter::of(deployment.id) };
    let (mut items, mut total) = listed(&call, filter, asked).await?;
    if not_after.is_some() {
        // With a time, the list is the one snapshot closest before it.
        total = total.min(1);
        items.truncate(if asked.number == 1 { 1 } else { 0 });
    }
    let copies = snapshot_view::Copies::look_up(&call, &items).await?;
    let shown = |snapshot| snapshot_view::replica_set(&call, &deployment, snapshot, &copies);
    let results = items.iter().map(shown).collect();
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, results, total)))
}

async fn shown(call: &Call, deployment: &Deployment, snapshot: &Snapshot) -> Answer<Reply> {
    let copies = snapshot_view::Copies::look_up(call, std::slice::from_ref(snapshot)).await?;
    Ok(Reply::object(snapshot_view::replica_set(call, deployment, snapshot, &copies)))
}

/// A page of snapshots and how many there are.
pub(super) async fn listed(
    call: &Call,
    filter: SnapshotFilter,
    asked: PageRequest,
) -> Answer<(Vec<Snapshot>, u64)> {
    let listing = call.server.state.catalog.snapshots().list(filter, catalog_page(asked)).await;
    let listing = listing.map_err(|e| call.server.catalog_problem("list snapshots", e))?;
    Ok((listing.items, listing.total.unwrap_or_default()))
}

/// `pointInTimeUtcSeconds`, or `oplogTs` with `oplogInc`.
fn time_asked(call: &Call) -> Answer<Option<ClusterTime>> {
    let seconds_max = u64::from(u32::MAX);
    let point = call.query.number("pointInTimeUtcSeconds", 0, seconds_max)?;
    let ts = call.query.number("oplogTs", 0, seconds_max)?;
    let inc = call.query.number("oplogInc", 0, seconds_max)?;
    let time =
        |seconds: u64, increment: u64| ClusterTime { seconds: seconds as u32, increment: increment as u32 };
    match (point, ts, inc) {
        (None, None, None) => Ok(None),
        (Some(point), None, None) => Ok(Some(time(point, 0))),
        (None, Some(ts), Some(inc)) => Ok(Some(time(ts, inc))),
        (None, Some(_), None) => Err(Problem::new(Code::MissingQueryParameter).with("oplogInc")),
        (None, None, Some(_)) => Err(Problem::new(Code::MissingQueryParameter).with("oplogTs")),
        (Some(_), ..) => Err(Problem::new(Code::MutuallyExclusiveQueryParameters)
            .with("pointInTimeUtcSeconds")
            .with("oplogTs")),
    }
}

async fn take(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    let snapshot = request(&call, &deployment).await?;
    shown(&call, &deployment, &snapshot).await
}

/// Reads the body and asks for a snapshot of the deployment.
pub(super) async fn request(call: &Call, deployment: &Deployment) -> Answer<Snapshot> {
    let mut fields = Fields::parse(&call.headers, &call.body, &["description", "links", "retentionInDays"])?;
    let description = fields.text("description")?;
    if description.as_ref().is_some_and(|text| text.chars().count() > DESCRIPTION_CHARACTERS_MAX) {
        return Err(invalid("description"));
    }
    let retention_days = match fields.int32("retentionInDays")? {
        Some(days) if days < 1 => {
            return Err(Problem::new(Code::AttributeNegativeOrZero).with("retentionInDays"));
        }
        Some(days) if days > RETENTION_DAYS_MAX => return Err(invalid("retentionInDays")),
        days => days.map(i32::unsigned_abs),
    };
    let kept = schedule::read(call, deployment).await?;
    let longer = |days| kept.map_or(days, |kept| kept.schedule.extra.on_top_of(days, SnapshotKind::OnDemand));
    let new = NewSnapshot {
        deployment_id: deployment.id,
        snapshot_type: SnapshotType::OnDemand,
        description,
        retention_days: retention_days.map(longer),
    };
    let snapshot = call.server.state.catalog.snapshots().request(new, call.server.now()).await;
    let snapshot = snapshot.map_err(|e| match e {
        catalog::Error::NotFound { .. } => not_found(call, deployment),
        other => call.server.catalog_problem("ask for a snapshot", other),
    })?;
    call.server.state.poke.notify_one();
    audit::record(call, "snapshot.create", snapshot.id, json!({"cluster": deployment.name.as_str()}));
    Ok(snapshot)
}

/// The deployment was removed since it was looked up.
fn not_found(call: &Call, deployment: &Deployment) -> Problem {
    call.server.forget_deployments();
    Problem::new(Code::ClusterNotFound).with(deployment.name.as_str()).with(deployment.project_id.to_string())
}

async fn get(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    let snapshot = one(&call, &deployment).await?;
    shown(&call, &deployment, &snapshot).await
}

/// The snapshot of the path, if it is this deployment's and not deleted.
pub(super) async fn one(call: &Call, deployment: &Deployment) -> Answer<Snapshot> {
    let id = call.params.snapshot()?;
    let found = call.server.state.catalog.snapshots().get(id).await;
    let found = found.map_err(|e| call.server.catalog_problem("read a snapshot", e))?;
    let found =
        found.filter(|snapshot| snapshot.deployment_id == deployment.id && snapshot_view::is_shown(snapshot));
    found.ok_or_else(|| unknown(call, deployment))
}

/// No snapshot of the deployment has the id of the path.
pub(super) fn unknown(call: &Call, deployment: &Deployment) -> Problem {
    let id = call.params.get("snapshotId").unwrap_or_default();
    Problem::new(Code::SnapshotNotFound).with(id).with(deployment.name.as_str())
}

async fn update(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    let snapshot = one(&call, &deployment).await?;
    let mut fields = Fields::parse(&call.headers, &call.body, &["links", "retentionUnit", "retentionValue"])?;
    let unit = fields.required_text("retentionUnit")?;
    let unit =
        RetentionUnit::ALL.into_iter().find(|known| known.as_upper_str() == unit).ok_or_else(|| {
            Problem::new(Code::InvalidEnumValue).with(unit.chars().take(64).collect::<String>())
        })?;
    let value = fields.int32("retentionValue")?.ok_or_else(|| crate::body::missing("retentionValue"))?;
    if value < 1 {
        return Err(Problem::new(Code::AttributeNegativeOrZero).with("retentionValue"));
    }
    let unfinished = || Problem::new(Code::CannotModifyInProgressSnapshotRetention);
    let created = snapshot.completed_at.ok_or_else(unfinished)?;
    let wrong = || Problem::new(Code::BackupSnapshotRetentionValueInvalid);
    let expires = unit.later(created, i64::from(value)).ok_or_else(wrong)?;
    let last = RetentionUnit::Days.later(created, i64::from(RETENTION_DAYS_MAX));
    // An expiry in the past would be a deletion in disguise.
    if expires <= call.server.now() || last.is_some_and(|last| expires > last) {
        return Err(wrong());
    }
    let updated = call.server.state.catalog.snapshots().update_retention(snapshot.id, expires).await;
    let updated = updated.map_err(|e| match e {
        catalog::Error::Illegal(_) => unfinished(),
        other => refused(&call, &deployment, "change a retention", other),
    })?;
    audit::record(&call, "snapshot.update", updated.id, json!({"expiresAt": expires.to_rfc3339()}));
    shown(&call, &deployment, &updated).await
}

/// What the catalog does not do to the snapshot of the path, whatever it was.
pub(super) fn refused(call: &Call, deployment: &Deployment, context: &str, error: catalog::Error) -> Problem {
    match error {
        catalog::Error::NotFound { .. } => unknown(call, deployment),
        catalog::Error::Conflict(Conflict::SnapshotKept) => Problem::new(Code::CannotModifySnapshot)
            .with(call.params.get("snapshotId").unwrap_or_default())
            .because("It is marked as not to be deleted: set doNotDelete to false first, on the legacy page of the snapshot."),
        other => call.server.catalog_problem(context, other),
    }
}

async fn delete(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    remove(&call, &deployment).await
}

/// Deletes the snapshot of the path.
pub(super) async fn remove(call: &Call, deployment: &Deployment) -> Answer<Reply> {
    let snapshot = one(call, deployment).await?;
    let deleted = call.server.state.catalog.snapshots().delete(snapshot.id, call.server.now()).await;
    deleted.map_err(|e| match e {
        catalog::Error::Illegal(illegal) if illegal.state == "deleted" => unknown(call, deployment),
        catalog::Error::Illegal(_) => {
            Problem::new(Code::CannotDeleteInProgressSnapshot).with(snapshot.id.to_string())
        }
        other => refused(call, deployment, "delete a snapshot", other),
    })?;
    call.server.state.poke.notify_one();
    audit::record(call, "snapshot.delete", snapshot.id, json!({"cluster": deployment.name.as_str()}));
    Ok(Reply::no_content())
}

/// No deployment is sharded yet: an empty list. It has no pages, and so no parameters of any.
async fn list_sharded(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    let path = links::deployment_path(&deployment);
    let own = links::own(call.link(&format!("{path}/backup/snapshots/shardedClusters")));
    Ok(Reply::page(json!({"links": [own], "results": [], "totalCount": 0})))
}

/// That of a replica set is shown, and has no members. The Terraform provider asks for it after the plain one, and where this is
/// an error it goes on planning to learn what they are: its own tests at Atlas find none, and nothing left to do.
async fn get_sharded(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    let snapshot = one(&call, &deployment).await?;
    Ok(Reply::object(snapshot_view::without_shards(&call, &deployment, &snapshot)))
}

/// A snapshot of a replica set is none of a sharded cluster: it is deleted on its own page.
async fn delete_sharded(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    Err(unknown(&call, &deployment))
}
