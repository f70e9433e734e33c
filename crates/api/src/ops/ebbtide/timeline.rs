//! What is recorded of a deployment, and which points in time can be restored because of that.

use catalog::{Capture, Defect, LiveRound, Timeline};
use http::Method;
use model::{ClusterTime, WallTime, role::Action};
use serde_json::{Value, json};

use super::UNVERSIONED;
use crate::{
    access::Scope,
    error::Answer,
    gate::Call,
    json,
    ops::{Operation, clusters::any, links, point_in_time::Record, restore_view::date},
    rate::Set,
    reply::Reply,
};

pub(super) static OPERATIONS: &[Operation] = &[Operation {
    id: "ebbtideGetTimeline",
    method: Method::GET,
    path: "/groups/{groupId}/clusters/{clusterName}/timeline",
    versions: UNVERSIONED,
    scope: Scope::Project(&[Action::Read]),
    limit: Set::Backups,
    run: |call| Box::pin(get(call)),
}];

async fn get(call: Call) -> Answer<Reply> {
    let deployment = any(&call, call.params.cluster()).await?;
    let now = call.server.now();
    let record = Record::read(&call, &deployment).await?;
    let restorable = record.restorable(&deployment, now).into_iter().map(|(timeline, range)| {
        json!({"from": time(range.from), "timelineId": timeline.id.to_string(), "to": time(range.to)})
    });
    let own = format!(
        "{}/api/ebbtide/v1/groups/{}/clusters/{}/timeline",
        call.base, deployment.project_id, deployment.name
    );
    let mut object = json!({
        "clusterName": deployment.name.as_str(),
        "continuousBackup": deployment.continuous,
        "groupId": deployment.project_id.to_string(),
        "links": [links::own(own)],
        "restorable": restorable.collect::<Vec<_>>(),
        "timelines": record.timelines.iter().map(view).collect::<Vec<_>>(),
    });
    let catalog = &call.server.state.catalog;
    let fault =
        |e| call.server.catalog_problem("read how a deployment compares with what is recorded of it", e);
    let defects = catalog.defects().of(deployment.id).await.map_err(fault)?;
    object["defects"] = defects.iter().map(defect_view).collect();
    if let Some(round) = catalog.live_checks().of(deployment.id).await.map_err(fault)? {
        object["liveCheck"] = round_view(&round);
    }
    if let Some(capture) = &record.capture {
        object["capture"] = capture_view(capture, record.is_recorded(now));
    }
    Ok(Reply::object(object))
}

/// A cluster time: for people, as `oplogTs` and `oplogInc` take it, and as Atlas shows it.
pub(super) fn time(time: ClusterTime) -> Value {
    json!({"date": date(time), "increment": time.increment, "seconds": time.seconds})
}

/// A timeline: `start` is the last entry before it, `end` the last one recorded, `durableEnd` the last one in the vault.
fn view(timeline: &Timeline) -> Value {
    let mut object = json!({
        "durableEnd": time(timeline.durable.time),
        "end": time(timeline.end.time),
        "id": timeline.id.to_string(),
        "replicaSetName": timeline.replica_set_name,
        "start": time(timeline.start.time),
        "startedAt": timeline.started_at.to_rfc3339(),
        "state": if timeline.ended.is_some() { "ended" } else { "open" },
    });
    if let Some(ended) = &timeline.ended {
        object["endDetail"] = ended.detail.as_str().into();
        object["endReason"] = ended.reason.as_str().into();
        object["endedAt"] = ended.at.to_rfc3339().into();
    }
    object
}

/// How the recording stands: what its holder saw last, and whether there is one.
fn capture_view(capture: &Capture, active: bool) -> Value {
    let mut object = match json::without_nulls(&capture.status) {
        Value::Object(status) => Value::Object(status),
        _ => json!({}),
    };
    object["active"] = active.into();
    object["updatedAt"] = WallTime::to_rfc3339(capture.updated_at).into();
    object
}

/// A collection that is not what is recorded of it, until a snapshot has read it anew.
fn defect_view(defect: &Defect) -> Value {
    json!({
        "clusterTime": time(defect.found),
        "collectionUuid": defect.collection.to_string(),
        "foundAt": defect.found_at.to_rfc3339(),
        "namespace": defect.namespace,
        "what": defect.what,
    })
}

/// How far the deployment is compared with what is recorded of it.
fn round_view(round: &LiveRound) -> Value {
    let mut object = json!({
        "bytes": round.bytes,
        "documents": round.documents,
        "roundBeganAt": round.began_at.to_rfc3339(),
        "roundIsThrough": round.next.is_none(),
    });
    if let Some(at) = round.completed_at {
        object["lastThroughAt"] = at.to_rfc3339().into();
    }
    object
}
