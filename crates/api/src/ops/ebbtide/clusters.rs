//! Registering deployments, and showing them. The check needs a MongoDB, which this crate doesn't know: the binary does it.

use catalog::{Deployment, NewDeployment, Sealed};
use http::Method;
use model::{ContinuousBackup, DeploymentKind, DeploymentName, RestoreWindowDays, role::Action};
use serde_json::{Value, json};

use super::{UNVERSIONED, cluster_update};
use crate::{
    access::Scope,
    body::{Fields, invalid},
    error::{Answer, Code, Problem},
    gate::Call,
    ops::{Operation, audit, checkup, clusters::any, groups::catalog_page, links},
    page::{Location, PageRequest, page},
    rate::Set,
    reply::Reply,
    state::{CheckReport, PURPOSE_URI, Secret},
};

/// Longest connection string.
const URI_BYTES_MAX: usize = 8 * 1024;

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "ebbtideListClusters",
        method: Method::GET,
        path: "/groups/{groupId}/clusters",
        versions: UNVERSIONED,
        scope: Scope::Project(&[Action::Read]),
        limit: Set::Clusters,
        run: |call| Box::pin(list(call)),
    },
    Operation {
        id: "ebbtideAddCluster",
        method: Method::POST,
        path: "/groups/{groupId}/clusters",
        versions: UNVERSIONED,
        scope: Scope::Project(&[Action::Own]),
        limit: Set::Clusters,
        run: |call| Box::pin(add(call)),
    },
    Operation {
        id: "ebbtideGetCluster",
        method: Method::GET,
        path: "/groups/{groupId}/clusters/{clusterName}",
        versions: UNVERSIONED,
        scope: Scope::Project(&[Action::Read]),
        limit: Set::Clusters,
        run: |call| Box::pin(get(call)),
    },
    Operation {
        id: "ebbtideUpdateCluster",
        method: Method::PATCH,
        path: "/groups/{groupId}/clusters/{clusterName}",
        versions: UNVERSIONED,
        scope: Scope::Project(&[Action::Own]),
        limit: Set::Clusters,
        run: |call| Box::pin(cluster_update::update(call)),
    },
    Operation {
        id: "ebbtideRemoveCluster",
        method: Method::DELETE,
        path: "/groups/{groupId}/clusters/{clusterName}",
        versions: UNVERSIONED,
        scope: Scope::Project(&[Action::Own]),
        limit: Set::Clusters,
        run: |call| Box::pin(remove(call)),
    },
];

async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let listing =
        call.server.state.catalog.deployments().list(call.project_id()?, None, catalog_page(asked)).await;
    let listing = listing.map_err(|e| call.server.catalog_problem("list deployments", e))?;
    let results = listing.items.iter().map(|deployment| view(&call, deployment)).collect();
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, results, listing.total.unwrap_or_default())))
}

async fn get(call: Call) -> Answer<Reply> {
    let deployment = any(&call, call.params.cluster()).await?;
    Ok(Reply::object(view(&call, &deployment)))
}

/// The body of a registration.
struct Registration {
    name: DeploymentName,
    kind: DeploymentKind,
    uri: Secret,
    allow_untested: bool,
    dry_run: bool,
    /// None: off, or what a deployment that comes back had.
    continuous: Option<ContinuousBackup>,
}

impl Registration {
    fn read(call: &Call) -> Answer<Self> {
        let known = ["allowUntestedVersion", "continuousBackup", "dryRun", "kind", "name", "uri"];
        let mut fields = Fields::parse(&call.headers, &call.body, &known)?;
        let name = fields.required_text("name")?;
        let shown = |text: &str| text.chars().take(64).collect::<String>();
        let kind = fields.text("kind")?.unwrap_or_else(|| DeploymentKind::ReplicaSet.as_str().to_owned());
        let uri = uri(fields.required_text("uri")?)?;
        Ok(Self {
            name: name.parse().map_err(|_| Problem::new(Code::ClusterNameInvalid).with(shown(&name)))?,
            kind: kind.parse().map_err(|_| Problem::new(Code::InvalidEnumValue).with(shown(&kind)))?,
            uri,
            allow_untested: fields.flag("allowUntestedVersion")?.unwrap_or(false),
            dry_run: fields.flag("dryRun")?.unwrap_or(false),
            continuous: continuous(&mut fields, ContinuousBackup::default())?,
        })
    }
}

async fn add(call: Call) -> Answer<Reply> {
    let project = call.project_id()?;
    let wanted = Registration::read(&call)?;
    let taken =
        || Problem::new(Code::DuplicateClusterName).with(wanted.name.as_str()).with(project.to_string());
    if call.server.deployment(project, wanted.name.as_str()).await?.is_some() {
        return Err(taken());
    }
    let report = checkup::of_new(&call, &wanted.uri, wanted.kind, wanted.allow_untested).await;
    if wanted.dry_run {
        // A question, and this is its answer, whatever it says.
        return Ok(Reply::object(dry_view(&wanted, &report)));
    }
    if !report.ok {
        return Err(refusal(&report));
    }
    let new = NewDeployment {
        project_id: project,
        name: wanted.name.clone(),
        kind: wanted.kind,
        uri_sealed: seal(&call, &wanted.uri)?,
        options: json!({"allowUntestedVersion": wanted.allow_untested}),
        facts: checkup::facts_of(&report, call.server.now()),
        continuous: wanted.continuous,
    };
    let added = call.server.state.catalog.deployments().add(new, call.server.now()).await;
    let added = added.map_err(|e| match e {
        catalog::Error::AlreadyExists { .. } => taken(),
        other => call.server.catalog_problem("register a deployment", other),
    })?;
    call.server.forget_deployments();
    call.server.state.poke.notify_one();
    let detail = json!({"continuousBackup": added.continuous, "name": added.name.as_str()});
    audit::record(&call, "cluster.add", added.id, detail);
    let mut object = view(&call, &added);
    object["check"] = serde_json::to_value(&report).unwrap_or_default();
    Ok(Reply::created(object))
}

/// `uri` of a body.
pub(super) fn uri(text: String) -> Answer<Secret> {
    if text.is_empty() || text.len() > URI_BYTES_MAX { Err(invalid("uri")) } else { Ok(Secret::new(text)) }
}

/// A connection string as the catalog keeps it.
pub(super) fn seal(call: &Call, uri: &Secret) -> Answer<Sealed> {
    let sealed = call.server.state.secrets.seal(PURPOSE_URI, uri.expose());
    Ok(Sealed(sealed.map_err(|e| Problem::internal("seal a connection string", &e))?))
}

/// `continuousBackup` of a body, laid over what holds so far.
pub(super) fn continuous(fields: &mut Fields, so_far: ContinuousBackup) -> Answer<Option<ContinuousBackup>> {
    let Some(mut object) = fields.object("continuousBackup", &["pitEnabled", "restoreWindowDays"])? else {
        return Ok(None);
    };
    let (enabled, days) = (object.flag("pitEnabled")?, object.int32("restoreWindowDays")?);
    if enabled.is_none() && days.is_none() {
        return Err(Problem::new(Code::MissingOneOfAttributes).with("pitEnabled").with("restoreWindowDays"));
    }
    let window = days.map(|days| match u32::try_from(days) {
        Ok(days) => RestoreWindowDays::new(days)
            .map_err(|bad| Problem::new(Code::InvalidRestoreWindow).because(format!("That is, {bad}."))),
        Err(_) => Err(Problem::new(Code::InvalidRestoreWindow)),
    });
    Ok(Some(ContinuousBackup {
        pit_enabled: enabled.unwrap_or(so_far.pit_enabled),
        restore_window_days: window.transpose()?.unwrap_or(so_far.restore_window_days),
    }))
}

/// Why a deployment is not registered, or its connection string not taken: as a sentence, and finding by finding, each command that mends something once.
pub(super) fn refusal(report: &CheckReport) -> Problem {
    let mut told: Vec<&str> = report.problems.iter().map(|finding| finding.message.as_str()).collect();
    let mut remedies: Vec<&str> = Vec::new();
    for remedy in report.problems.iter().filter_map(|finding| finding.remedy.as_deref()) {
        if !remedies.contains(&remedy) {
            remedies.push(remedy);
        }
    }
    told.extend(&remedies);
    let mut problem = Problem::new(Code::ValidationError).with(told.join("; "));
    for finding in &report.problems {
        problem = problem.field("uri", &format!("{}: {}", finding.code, finding.message));
    }
    for remedy in remedies {
        problem = problem.field("remedy", remedy);
    }
    problem
}

async fn remove(call: Call) -> Answer<Reply> {
    let deployment = any(&call, call.params.cluster()).await?;
    let deployments = call.server.state.catalog.deployments();
    let now = call.server.now();
    let removed = if call.query.flag("force", false)? {
        deployments.remove_by_force(deployment.id, now).await
    } else {
        deployments.remove(deployment.id, now).await.map(|()| vec![])
    };
    call.server.forget_deployments();
    let not_undone = removed.map_err(|e| match e {
        catalog::Error::NotFound { .. } => {
            let project = deployment.project_id.to_string();
            Problem::new(Code::ClusterNotFound).with(deployment.name.as_str()).with(project)
        }
        other => call.server.catalog_problem("remove a deployment", other),
    })?;
    let forgotten = not_undone.iter().map(|left| json!({"detail": left.detail, "kind": left.kind}));
    let detail = json!({"forgotten": forgotten.collect::<Vec<_>>(), "name": deployment.name.as_str()});
    audit::record(&call, "cluster.remove", deployment.id, detail);
    Ok(Reply::no_content())
}

fn dry_view(wanted: &Registration, report: &CheckReport) -> Value {
    let mut object = json!({
        "check": serde_json::to_value(report).unwrap_or_default(),
        "dryRun": true,
        "kind": wanted.kind.as_str(),
        "name": wanted.name.as_str(),
    });
    describe(&mut object, report.mongodb_version.as_deref(), report.replica_set_name.as_deref());
    object
}

/// A deployment as these operations show it.
pub(super) fn view(call: &Call, deployment: &Deployment) -> Value {
    let own =
        format!("{}/api/ebbtide/v1/groups/{}/clusters/{}", call.base, deployment.project_id, deployment.name);
    let mut object = json!({
        "continuousBackup": deployment.continuous,
        "createdAt": deployment.created_at.to_rfc3339(),
        "details": deployment.facts.details,
        "groupId": deployment.project_id.to_string(),
        "id": deployment.id.to_string(),
        "kind": deployment.kind.as_str(),
        "links": [links::own(own), links::other("cluster", call.link(&links::deployment_path(deployment)))],
        "name": deployment.name.as_str(),
        "options": deployment.options,
    });
    let facts = &deployment.facts;
    describe(&mut object, facts.mongodb_version.as_deref(), facts.replica_set_name.as_deref());
    if let Some(at) = facts.checked_at {
        object["checkedAt"] = at.to_rfc3339().into();
    }
    object
}

fn describe(object: &mut Value, version: Option<&str>, replica_set: Option<&str>) {
    for (name, text) in [("mongoDBVersion", version), ("replicaSetName", replica_set)] {
        if let Some(text) = text {
            object[name] = text.into();
        }
    }
}
