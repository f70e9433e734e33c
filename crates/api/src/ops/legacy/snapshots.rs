//! Snapshots in their legacy shape. A legacy snapshot is a snapshot: what is changed here is changed everywhere.

use catalog::{Deployment, Protection, Snapshot, SnapshotFilter};
use model::{RetentionUnit, WallTime, snapshot::SnapshotState};
use serde_json::{Value, json};

use super::{Shown, shown};
use crate::{
    body::Fields,
    error::{Answer, Code, Problem},
    gate::Call,
    ops::{
        audit,
        clusters::cluster,
        links, restore_view,
        snapshots::{self, RETENTION_DAYS_MAX},
    },
    page::{Location, PageRequest, page},
    reply::Reply,
};

/// Where snapshots are shown today.
const INSTEAD: &str = "/backup/snapshots";
/// Fields of `BackupSnapshot`, read-only ones included.
const KNOWN: &[&str] = &[
    "clusterId",
    "clusterName",
    "complete",
    "created",
    "doNotDelete",
    "expires",
    "groupId",
    "id",
    "incremental",
    "lastOplogAppliedTimestamp",
    "links",
    "parts",
];

pub(super) async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let completed = match call.query.get("completed") {
        None | Some("true") => Some(true),
        Some("false") => Some(false),
        Some("all") => None,
        Some(_) => return Err(Problem::new(Code::InvalidQueryParameter).with("completed")),
    };
    let deployment = cluster(&call).await?;
    let (items, total) = match shown(&call, &deployment, INSTEAD)? {
        Shown::Nothing => (vec![], 0),
        Shown::Everything => {
            let filter = SnapshotFilter { completed, ..SnapshotFilter::of(deployment.id) };
            snapshots::listed(&call, filter, asked).await?
        }
    };
    let results = items.iter().map(|snapshot| view(&call, &deployment, snapshot)).collect();
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, results, total)))
}

pub(super) async fn get(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    let snapshot = one(&call, &deployment).await?;
    Ok(Reply::object(view(&call, &deployment, &snapshot)))
}

async fn one(call: &Call, deployment: &Deployment) -> Answer<Snapshot> {
    match shown(call, deployment, INSTEAD)? {
        Shown::Everything => snapshots::one(call, deployment).await,
        Shown::Nothing => Err(snapshots::unknown(call, deployment)),
    }
}

pub(super) async fn update(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    let snapshot = one(&call, &deployment).await?;
    let wanted = Wanted::read(&call)?;
    let unfinished = || Problem::new(Code::CannotModifyInProgressSnapshotRetention);
    let completed = snapshot.completed_at.filter(|_| snapshot.state == SnapshotState::Completed);
    let completed = completed.ok_or_else(unfinished)?;
    if let Some(expires) = wanted.expires() {
        require_expiry(&call, completed, expires)?;
    }
    let kept = call.server.state.catalog.snapshots();
    let updated = match wanted {
        Wanted::Expires(expires) => kept.update_retention(snapshot.id, expires).await,
        Wanted::Protected => kept.protect(snapshot.id, Protection::On).await,
        Wanted::Released(expires_at) => kept.protect(snapshot.id, Protection::Off { expires_at }).await,
    };
    let updated = updated.map_err(|e| match e {
        catalog::Error::Illegal(_) => unfinished(),
        other => snapshots::refused(&call, &deployment, "change when a snapshot expires", other),
    })?;
    let detail = json!({
        "doNotDelete": updated.do_not_delete,
        "expiresAt": updated.expires_at.map(WallTime::to_rfc3339),
    });
    audit::record(&call, "snapshot.update", updated.id, detail);
    Ok(Reply::object(view(&call, &deployment, &updated)))
}

pub(super) async fn delete(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    one(&call, &deployment).await?;
    snapshots::remove(&call, &deployment).await
}

/// What a change asks for.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    Expires(WallTime),
    Protected,
    Released(Option<WallTime>),
}

impl Wanted {
    fn read(call: &Call) -> Answer<Self> {
        let mut fields = Fields::parse(&call.headers, &call.body, KNOWN)?;
        let expires = fields.text("expires")?.map(|text| time(&text)).transpose()?;
        match (fields.flag("doNotDelete")?, expires) {
            (None, None) => {
                Err(Problem::new(Code::MissingOneOfAttributes).with("doNotDelete").with("expires"))
            }
            (None, Some(expires)) => Ok(Self::Expires(expires)),
            (Some(false), expires) => Ok(Self::Released(expires)),
            (Some(true), None) => Ok(Self::Protected),
            (Some(true), Some(_)) => {
                let why =
                    "what is not to be deleted does not expire: doNotDelete and expires exclude each other";
                Err(Problem::new(Code::ValidationError).with(why).field("expires", why))
            }
        }
    }

    fn expires(self) -> Option<WallTime> {
        match self {
            Self::Expires(expires) => Some(expires),
            Self::Released(expires) => expires,
            Self::Protected => None,
        }
    }
}

/// A point in time as ISO 8601 writes it, with its offset.
pub(super) fn time(text: &str) -> Answer<WallTime> {
    let shown: String = text.chars().take(64).collect();
    WallTime::parse_rfc3339(text).ok_or_else(|| Problem::new(Code::InvalidDateFormat).with(shown))
}

/// An expiry in the past would be a deletion in disguise, and one that is too far away rather a slip than a wish.
fn require_expiry(call: &Call, completed: WallTime, expires: WallTime) -> Answer<()> {
    let last = RetentionUnit::Days.later(completed, i64::from(RETENTION_DAYS_MAX));
    if expires <= call.server.now() || last.is_some_and(|last| expires > last) {
        let why = "It has to lie ahead, and within a hundred years of the snapshot.";
        return Err(Problem::new(Code::BackupSnapshotRetentionValueInvalid).because(why));
    }
    Ok(())
}

/// `BackupSnapshot`. How its data is compressed and encrypted in the vault is not what the fields of that name tell of, so
/// they are left out, or say that no key of the user's own is needed.
fn view(call: &Call, deployment: &Deployment, snapshot: &Snapshot) -> Value {
    let path = links::deployment_path(deployment);
    let is_complete = snapshot.state == SnapshotState::Completed;
    let requested = json!({"date": snapshot.requested_at.to_rfc3339()});
    let taken = snapshot
        .cluster_time
        .map(|time| json!({"date": restore_view::date(time), "increment": time.increment}));
    let mut object = json!({
        "clusterId": deployment.id.to_string(),
        "clusterName": deployment.name.as_str(),
        "complete": is_complete,
        "created": taken.clone().unwrap_or(requested),
        "doNotDelete": snapshot.do_not_delete,
        "groupId": deployment.project_id.to_string(),
        "id": snapshot.id.to_string(),
        // Whether it shares with others what it stores.
        "incremental": is_complete && snapshot.added_bytes < snapshot.stored_bytes,
        "links": [links::own(call.link(&format!("{path}/snapshots/{}", snapshot.id)))],
        "parts": [part(deployment, snapshot)],
    });
    if let Some(expires) = snapshot.expires_at {
        object["expires"] = expires.to_rfc3339().into();
    }
    if let Some(taken) = taken {
        object["lastOplogAppliedTimestamp"] = taken;
    }
    object
}

/// `BackupSnapshotPart`: a replica set has one.
fn part(deployment: &Deployment, snapshot: &Snapshot) -> Value {
    let mut object = json!({
        "clusterId": deployment.id.to_string(),
        "dataSizeBytes": snapshot.logical_bytes,
        "encryptionEnabled": false,
        "storageSizeBytes": snapshot.stored_bytes,
        "typeName": "REPLICA_SET",
    });
    let replica_set = snapshot.replica_set_name.clone().or_else(|| deployment.facts.replica_set_name.clone());
    for (name, text) in [
        ("completedTime", snapshot.completed_at.map(WallTime::to_rfc3339)),
        ("fcv", snapshot.fcv.clone()),
        ("mongodVersion", snapshot.mongod_version.clone()),
        ("replicaSetName", replica_set),
    ] {
        if let Some(text) = text {
            object[name] = text.into();
        }
    }
    object
}
