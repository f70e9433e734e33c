//! Restore jobs as they are: state, progress, error, receipt; and restores with choices that Atlas does not have.

use http::Method;
use model::{
    Selection, outage,
    restore::{DeliveryType, RestoreResource},
    role::Action,
};
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use super::UNVERSIONED;
use crate::{
    access::Scope,
    body::{Fields, invalid},
    error::{Answer, Code, Problem},
    gate::Call,
    ops::{
        Operation,
        clusters::any,
        restore_create::{self, Checked},
        restore_input::{self, Wanted},
        restore_jobs, restore_view,
    },
    page::{Location, PageRequest, page},
    rate::Set,
    reply::Reply,
};

/// What of the state is restored, and as what.
const SELECTION: &str = "selection";
const COLLECTION: &str = "/groups/{groupId}/clusters/{clusterName}/restoreJobs";
const ONE: &str = "/groups/{groupId}/clusters/{clusterName}/restoreJobs/{restoreJobId}";
/// Fields beside those of Atlas.
const OWN_FIELDS: [&str; 10] = [
    "dryRun",
    "fence",
    "inPlace",
    "indexCommitQuorum",
    "indexDeadlineSeconds",
    "parkTtl",
    "planOnly",
    "rewind",
    "selection",
    "withUsers",
];
/// A week.
const INDEX_DEADLINE_SECONDS_MAX: i32 = 7 * 24 * 3_600;
/// A replica set has 50 members at most.
const MEMBERS_MAX: i64 = 50;

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "ebbtideListRestoreJobs",
        method: Method::GET,
        path: COLLECTION,
        versions: UNVERSIONED,
        scope: Scope::Project(&[Action::ReadRestores]),
        limit: Set::Backups,
        run: |call| Box::pin(list(call)),
    },
    Operation {
        id: "ebbtideCreateRestoreJob",
        method: Method::POST,
        path: COLLECTION,
        versions: UNVERSIONED,
        scope: Scope::Project(&[Action::Restore, Action::Download]),
        limit: Set::Backups,
        run: |call| Box::pin(create(call)),
    },
    Operation {
        id: "ebbtideGetRestoreJob",
        method: Method::GET,
        path: ONE,
        versions: UNVERSIONED,
        scope: Scope::Project(&[Action::ReadRestores]),
        limit: Set::Backups,
        run: |call| Box::pin(get(call)),
    },
    Operation {
        id: "ebbtideCancelRestoreJob",
        method: Method::DELETE,
        path: ONE,
        versions: UNVERSIONED,
        scope: Scope::Project(&[Action::Restore, Action::Download]),
        limit: Set::Backups,
        run: |call| Box::pin(cancel(call)),
    },
];

async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let deployment = any(&call, call.params.cluster()).await?;
    let (jobs, total) = restore_jobs::listed(&call, &deployment, None, asked).await?;
    let results = jobs.iter().map(|job| restore_view::own(&call, &deployment, job, None)).collect();
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, results, total)))
}

async fn create(call: Call) -> Answer<Reply> {
    let deployment = any(&call, call.params.cluster()).await?;
    let known = [restore_input::KNOWN, &OWN_FIELDS].concat();
    let mut fields = Fields::parse(&call.headers, &call.body, &known)?;
    let options = options(&mut fields)?;
    let dry_run = fields.flag("dryRun")?.unwrap_or(false);
    let wanted = restore_input::read(&mut fields)?;
    if wanted.delivery() == DeliveryType::Download && options.get(SELECTION).is_some() {
        return Err(
            invalid(SELECTION).because("A download has everything; take what is wanted out of the archive.")
        );
    }
    if dry_run {
        let checked = restore_create::check(&call, &deployment, &wanted).await?;
        return Ok(Reply::object(plan(&checked, &wanted, options)));
    }
    let job =
        restore_create::create(&call, &deployment, &wanted, RestoreResource::RestoreJob, options).await?;
    Ok(Reply::created(restore_view::own(&call, &deployment, &job, None)))
}

/// What a restore would do. Of a selection it is not known here how much it is. Of a point in time the numbers are those of the snapshot that the fold begins with.
fn plan(checked: &Checked, wanted: &Wanted, options: Value) -> Value {
    let in_place = options["inPlace"].as_bool().unwrap_or(false);
    let mut object = json!({
        "collections": checked.snapshot.collections,
        "deliveryType": wanted.delivery().as_str(),
        "documents": checked.snapshot.documents,
        "dryRun": true,
        "logicalBytes": checked.snapshot.logical_bytes,
        "options": options,
        "snapshotId": checked.snapshot.id.to_string(),
    });
    if let Some(at) = checked.point_in_time {
        restore_view::describe_point_in_time(&mut object, at);
    }
    let is_part = object["options"].get(SELECTION).is_some();
    if let Some(plan) = object.as_object_mut().filter(|_| is_part) {
        plan.retain(|name, _| !["collections", "documents", "logicalBytes"].contains(&name.as_str()));
    }
    // Snapshots that were completed by an earlier version don't tell.
    let series = checked.snapshot.notes["timeSeriesBytes"].as_u64().filter(|_| !is_part);
    if let Some(bytes) = series {
        object["timeSeriesBytes"] = bytes.into();
    }
    if let Some(target) = &checked.target {
        // Time series cannot be renamed, and with inPlace nothing is.
        let loaded = if in_place && !is_part { Some(checked.snapshot.logical_bytes) } else { series };
        if let Some(bytes) = loaded {
            object["bytesLoadedInCutOver"] = bytes.into();
            object["expectedOutageSeconds"] =
                outage::estimated_seconds(bytes, checked.snapshot.collections).into();
        }
        object["targetClusterName"] = target.name.as_str().into();
        if let Some(version) = &target.facts.mongodb_version {
            object["targetMongoDBVersion"] = version.as_str().into();
        }
    }
    object
}

/// The choices, checked, in the form that the worker reads.
fn options(fields: &mut Fields) -> Answer<Value> {
    let mut options = Map::new();
    for name in ["inPlace", "parkTtl", "planOnly", "withUsers"] {
        if let Some(flag) = fields.flag(name)? {
            options.insert(name.to_owned(), flag.into());
        }
    }
    for (name, modes) in [("fence", &["auto", "off"][..]), ("rewind", &["auto", "only", "off"])] {
        match fields.text(name)? {
            None => {}
            Some(mode) if modes.contains(&mode.as_str()) => {
                options.insert(name.to_owned(), mode.into());
            }
            Some(other) => {
                let shown: String = other.chars().take(64).collect();
                return Err(Problem::new(Code::InvalidEnumValue).with(shown));
            }
        }
    }
    match fields.int32("indexDeadlineSeconds")? {
        None => {}
        Some(seconds) if (1..=INDEX_DEADLINE_SECONDS_MAX).contains(&seconds) => {
            options.insert("indexDeadlineSeconds".to_owned(), seconds.into());
        }
        Some(_) => return Err(invalid("indexDeadlineSeconds")),
    }
    if let Some(quorum) = fields.any("indexCommitQuorum") {
        let good = match &quorum {
            Value::Number(number) => {
                number.as_i64().is_some_and(|members| (0..=MEMBERS_MAX).contains(&members))
            }
            Value::String(word) => matches!(word.as_str(), "majority" | "votingMembers"),
            _ => false,
        };
        if !good {
            return Err(invalid("indexCommitQuorum"));
        }
        options.insert("indexCommitQuorum".to_owned(), quorum);
    }
    if let Some(said) = fields.any(SELECTION) {
        let selection = Selection::deserialize(said);
        let selection = selection.map_err(|error| invalid(SELECTION).because(format!("{error}.")))?;
        if options.get("withUsers") == Some(&Value::Bool(true)) {
            let why = "Users and roles are restored with everything else only, not with a selection.";
            return Err(invalid("withUsers").because(why));
        }
        options.insert(SELECTION.to_owned(), json!(selection));
    }
    Ok(Value::Object(options))
}

async fn get(call: Call) -> Answer<Reply> {
    let deployment = any(&call, call.params.cluster()).await?;
    let job = restore_jobs::of_any_kind(&call, &deployment).await?;
    let work = call.server.state.catalog.jobs().of_subject(&job.id.to_string()).await;
    let work = work.map_err(|e| call.server.catalog_problem("read a work item", e))?;
    Ok(Reply::object(restore_view::own(&call, &deployment, &job, work.as_ref())))
}

async fn cancel(call: Call) -> Answer<Reply> {
    let deployment = any(&call, call.params.cluster()).await?;
    let job = restore_jobs::of_any_kind(&call, &deployment).await?;
    restore_jobs::withdraw(&call, &deployment, &job).await
}
