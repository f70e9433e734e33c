//! The body of a legacy restore job: which state, and how it is delivered. Nothing is looked up here.

use http::HeaderMap;
use model::{
    ClusterTime, DeploymentName, LinkTerms,
    id::{DeploymentId, ProjectId, SnapshotId},
    timeline::PointInTime,
};

use super::snapshots::time;
use crate::{
    body::{Fields, invalid, missing},
    error::{Answer, Code, Problem},
};

/// Fields of `BackupRestoreJob`, read-only ones included.
const KNOWN: &[&str] = &[
    "batchId",
    "checkpointId",
    "clusterId",
    "clusterName",
    "created",
    "delivery",
    "deploymentJobId",
    "encryptionEnabled",
    "groupId",
    "hashes",
    "id",
    "links",
    "masterKeyUUID",
    "oplogInc",
    "oplogTs",
    "pointInTime",
    "pointInTimeUTCMillis",
    "snapshotId",
    "statusName",
    "timestamp",
];
/// Fields of `BackupRestoreJobDelivery`.
const DELIVERY: &[&str] = &[
    "authHeader",
    "authValue",
    "expirationHours",
    "expires",
    "maxDownloads",
    "methodName",
    "statusName",
    "targetClusterId",
    "targetClusterName",
    "targetGroupId",
    "url",
    "urlV2",
];
/// How a state is told, of which one is given.
const STATES: &str = "snapshotId, pointInTimeUTCMillis, oplogTs with oplogInc, checkpointId";
/// 2008-01-01, the earliest time that Atlas takes.
const MILLIS_MIN: i64 = 1_199_145_600_000;
/// How long a link lives when nobody says it.
const EXPIRATION_HOURS_DEFAULT: u32 = 48;
/// How often it may be used then. A link is a key: whoever wants more of them says so.
const MAX_DOWNLOADS_DEFAULT: u32 = 1;

/// What is wanted, complete and well formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Download { snapshot: SnapshotId, terms: LinkTerms },
    Load { state: State, target: Target },
}

/// What is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Snapshot(SnapshotId),
    PointInTime(PointInTime),
}

/// The deployment that it is loaded into; the project is that of the path when it is not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) project: ProjectId,
    pub(super) name: Option<DeploymentName>,
    pub(super) id: Option<DeploymentId>,
}

/// Reads and checks a body.
pub(super) fn parse(headers: &HeaderMap, body: &[u8]) -> Answer<Wanted> {
    let mut fields = Fields::parse(headers, body, KNOWN)?;
    let mut delivery = fields.object("delivery", DELIVERY)?.ok_or_else(|| missing("delivery"))?;
    let method = delivery.text("methodName")?.ok_or_else(|| missing("delivery.methodName"))?;
    let loads = match method.as_str() {
        "AUTOMATED_RESTORE" => true,
        "HTTP" => false,
        other => return Err(refused_method(other)),
    };
    let state = state(&mut fields)?;
    match (loads, state) {
        (true, state) => {
            refuse_terms(&mut delivery)?;
            Ok(Wanted::Load { state, target: target(&mut delivery)? })
        }
        (false, State::Snapshot(snapshot)) => Ok(Wanted::Download { snapshot, terms: terms(&mut delivery)? }),
        (false, State::PointInTime(_)) => {
            let why = "An archive is of a snapshot: load a point in time into a deployment with AUTOMATED_RESTORE, or name a \
                       snapshot.";
            Err(Problem::new(Code::UnsupportedDeliveryMethod).with(method).because(why))
        }
    }
}

fn refused_method(method: &str) -> Problem {
    match method {
        "CLIENT_PIT_HTTP" | "CLIENT_PIT_SCP" => Problem::new(Code::LegacyPitRestoreUnsupported)
            .because("Restore to the point in time itself: AUTOMATED_RESTORE with oplogTs and oplogInc, or pointInTimeUTCMillis."),
        "SCP" => Problem::new(Code::InvalidDeliveryScp).because("Fetch the archive instead: HTTP."),
        "QUERY" | "THIRD_PARTY_COPY" => Problem::new(Code::UnsupportedDeliveryMethod)
            .with(method)
            .because("Those that are: AUTOMATED_RESTORE and HTTP."),
        other => Problem::new(Code::InvalidEnumValue).with(other.chars().take(64).collect::<String>()),
    }
}

fn state(fields: &mut Fields) -> Answer<State> {
    let snapshot = fields.text("snapshotId")?;
    let millis = fields.epoch_millis("pointInTimeUTCMillis")?;
    let (ts, inc) = (fields.text("oplogTs")?, fields.int32("oplogInc")?);
    let checkpoint = fields.text("checkpointId")?;
    let told = [snapshot.is_some(), millis.is_some(), ts.is_some() || inc.is_some(), checkpoint.is_some()];
    match told.into_iter().filter(|told| *told).count() {
        0 => return Err(Problem::new(Code::MissingOneOfManyAttributes).with(STATES)),
        1 => {}
        _ => {
            let why = format!("a restore is of one state, told by one of {STATES}");
            return Err(Problem::new(Code::ValidationError).with(why));
        }
    }
    if let Some(id) = checkpoint {
        id.parse::<SnapshotId>().map_err(|_| invalid("checkpointId"))?;
        return Err(Problem::new(Code::CheckpointRestoreUnsupportedForReplicaSets)
            .because("Name a snapshot or a point in time."));
    }
    if let Some(id) = snapshot {
        return Ok(State::Snapshot(id.parse().map_err(|_| invalid("snapshotId"))?));
    }
    let at = match (millis, ts, inc) {
        (Some(millis), ..) => PointInTime::Second(whole_second(millis, "pointInTimeUTCMillis")?),
        (None, Some(ts), Some(inc)) => {
            let seconds = whole_second(time(&ts)?.0, "oplogTs")?;
            let increment = u32::try_from(inc).ok().filter(|inc| *inc > 0);
            let increment = increment.ok_or_else(|| invalid("oplogInc"))?;
            PointInTime::Operation(ClusterTime { seconds, increment })
        }
        (None, Some(_), None) => return Err(missing("oplogInc")),
        (None, None, _) => return Err(missing("oplogTs")),
    };
    Ok(State::PointInTime(at))
}

/// Times of restores are seconds, or operations.
fn whole_second(millis: i64, name: &'static str) -> Answer<u32> {
    if millis < MILLIS_MIN {
        return Err(invalid(name));
    }
    if millis % 1_000 != 0 {
        return Err(Problem::new(Code::FractionalTimestamp)
            .because("A state within a second is told by its last operation: oplogTs and oplogInc."));
    }
    u32::try_from(millis / 1_000).map_err(|_| invalid(name))
}

fn target(delivery: &mut Fields) -> Answer<Target> {
    let project = delivery.text("targetGroupId")?.ok_or_else(|| missing("delivery.targetGroupId"))?;
    let (name, id) = (delivery.text("targetClusterName")?, delivery.text("targetClusterId")?);
    if name.is_none() && id.is_none() {
        let missing = Problem::new(Code::MissingOneOfAttributes);
        return Err(missing.with("delivery.targetClusterName").with("delivery.targetClusterId"));
    }
    let shown = |text: &str| text.chars().take(64).collect::<String>();
    let bad_name = |name: &str| Problem::new(Code::ClusterNameInvalid).with(shown(name));
    let bad_id = |id: &str| Problem::new(Code::InvalidClusterId).with(shown(id));
    Ok(Target {
        project: project.parse().map_err(|_| invalid("delivery.targetGroupId"))?,
        name: name.map(|name| name.parse().map_err(|_| bad_name(&name))).transpose()?,
        id: id.map(|id| id.parse().map_err(|_| bad_id(&id))).transpose()?,
    })
}

fn terms(delivery: &mut Fields) -> Answer<LinkTerms> {
    let hours = delivery.int32("expirationHours")?;
    let downloads = delivery.int32("maxDownloads")?;
    let positive =
        |value: Option<i32>, default: u32| value.map_or(default, |value| u32::try_from(value).unwrap_or(0));
    let terms =
        LinkTerms::new(positive(hours, EXPIRATION_HOURS_DEFAULT), positive(downloads, MAX_DOWNLOADS_DEFAULT));
    terms.map_err(|bad| {
        let name = match bad {
            model::link::BadLinkTerms::Hours(_) => "delivery.expirationHours",
            model::link::BadLinkTerms::Downloads(_) => "delivery.maxDownloads",
        };
        invalid(name).because(format!("It cannot be: {bad}."))
    })
}

/// What is loaded into a deployment has no link, and no terms of one.
fn refuse_terms(delivery: &mut Fields) -> Answer<()> {
    for (field, name) in
        [("expirationHours", "delivery.expirationHours"), ("maxDownloads", "delivery.maxDownloads")]
    {
        if delivery.int32(field)?.is_some() {
            return Err(invalid(name).because("Only what is delivered by HTTP has a link that expires."));
        }
    }
    Ok(())
}
