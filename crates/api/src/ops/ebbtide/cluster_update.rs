//! Changing a registered deployment: how it is reached, whether its operations are recorded, and for how long.

use catalog::{Conflict, Deployment, DeploymentFacts};
use model::ContinuousBackup;
use serde_json::{Value, json};

use super::clusters::{continuous, refusal, seal, uri, view};
use crate::{
    body::Fields,
    error::{Answer, Code, Problem},
    gate::Call,
    ops::{audit, checkup, clusters::any},
    reply::Reply,
    state::{CheckFinding, CheckReport, Secret},
};

/// The body of a change; what is not given stays as it is.
struct Change {
    uri: Option<Secret>,
    continuous: Option<ContinuousBackup>,
}

impl Change {
    fn read(call: &Call, so_far: ContinuousBackup) -> Answer<Self> {
        let mut fields = Fields::parse(&call.headers, &call.body, &["continuousBackup", "uri"])?;
        let continuous = continuous(&mut fields, so_far)?;
        let uri = fields.text("uri")?.map(uri).transpose()?;
        if uri.is_none() && continuous.is_none() {
            return Err(Problem::new(Code::MissingOneOfAttributes).with("continuousBackup").with("uri"));
        }
        Ok(Self { uri, continuous })
    }
}

/// Changes how a deployment is reached, whether its operations are recorded, and for how long. Jobs use a new connection
/// string when they next connect, whoever records the operations within seconds; nobody is waited for.
pub(super) async fn update(call: Call) -> Answer<Reply> {
    let known = any(&call, call.params.cluster()).await?;
    let unknown = || {
        call.server.forget_deployments();
        Problem::new(Code::ClusterNotFound).with(known.name.as_str()).with(known.project_id.to_string())
    };
    let catalog = &call.server.state.catalog;
    // What is remembered of it may be a second old, and half of it may be written back.
    let found = catalog.deployments().get(known.id).await;
    let found = found.map_err(|e| call.server.catalog_problem("read a deployment", e))?;
    let before = found.filter(|deployment| deployment.removed_at.is_none()).ok_or_else(unknown)?;
    let wanted = Change::read(&call, before.continuous)?;
    let mut detail = json!({"name": before.name.as_str()});
    let mut seen = None;
    if let Some(uri) = &wanted.uri {
        let report = look(&call, &before, uri).await?;
        let facts = checkup::facts_of(&report, call.server.now());
        seen = Some((seal(&call, uri)?, facts, report));
        detail["uri"] = "replaced".into();
    }
    if let Some(continuous) = wanted.continuous {
        detail["continuousBackup"] = json!(continuous);
        detail["continuousBackupBefore"] = json!(before.continuous);
    }
    // All at once, so that what is refused of one changes nothing of the other.
    let uri = seen.as_ref().map(|(sealed, facts, _)| (sealed, facts));
    let updated = catalog.deployments().update(before.id, uri, wanted.continuous).await;
    let after = updated.map_err(|error| match (error, uri) {
        (catalog::Error::Conflict(Conflict::OtherReplicaSet { registered }), Some((_, facts))) => {
            another(&before, &registered, facts)
        }
        (catalog::Error::NotFound { .. }, _) => unknown(),
        (other, _) => call.server.catalog_problem("change a deployment", other),
    })?;
    call.server.forget_deployments();
    call.server.state.poke.notify_one();
    audit::record(&call, "cluster.update", before.id, detail);
    let mut object = view(&call, &after);
    if let Some((_, _, report)) = seen {
        object["check"] = serde_json::to_value(&report).unwrap_or(Value::Null);
    }
    Ok(Reply::object(object))
}

/// Connects with another connection string, as it is done before a deployment is registered.
async fn look(call: &Call, deployment: &Deployment, uri: &Secret) -> Answer<CheckReport> {
    let allow_untested = deployment.options["allowUntestedVersion"].as_bool().unwrap_or(false);
    let report = checkup::of_new(call, uri, deployment.kind, allow_untested).await;
    if report.ok { Ok(report) } else { Err(refusal(&report)) }
}

/// The refusal of a connection string that leads elsewhere: what is recorded and the snapshots are those of one set.
fn another(registered: &Deployment, registered_id: &str, seen: &DeploymentFacts) -> Problem {
    let set = |name: &Option<String>, id: &str| {
        format!("{} (id {id})", name.as_deref().unwrap_or("of unknown name"))
    };
    let name = &registered.name;
    let message = format!(
        "the connection string leads to the replica set {}, and {name} is the replica set {}: register that one as another \
         cluster; or, if the set of {name} was initiated anew, remove {name} and add it again under its name, which keeps \
         its snapshots",
        set(&seen.replica_set_name, seen.replica_set_id.as_deref().unwrap_or("unknown")),
        set(&registered.facts.replica_set_name, registered_id),
    );
    let other = CheckFinding { code: "OTHER_REPLICA_SET".to_owned(), message, remedy: None };
    refusal(&CheckReport { problems: vec![other], ..CheckReport::default() })
}
