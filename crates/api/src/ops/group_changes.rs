//! Making, renaming and deleting projects.

use catalog::{Conflict, Project};
use serde_json::{Value, json};

use super::{audit, groups};
use crate::{
    body::{Fields, invalid},
    error::{Answer, Code, Problem},
    gate::Call,
    reply::Reply,
};

/// Atlas's limit on project names.
const NAME_CHARACTERS_MAX: usize = 64;
const NO_TAGS: &str = "Projects of a server of your own have no tags.";
const NO_ALERTS: &str =
    "There are no alerts here that could be left out: watch the server and its log instead.";
const NO_USERS: &str =
    "There are no users here: give a role in the project to an API key or a service account.";
const NO_REGIONS: &str = "Deployments run where you run them: no regions are restricted.";

/// `Group`. What only Atlas can do is refused, and never taken and forgotten.
pub(super) async fn create(call: Call) -> Answer<Reply> {
    if call.query.get("projectOwnerId").is_some() {
        return Err(not_done("projectOwnerId", NO_USERS));
    }
    let known = [
        "clusterCount",
        "created",
        "id",
        "links",
        "name",
        "orgId",
        "regionUsageRestrictions",
        "tags",
        "withDefaultAlertsSettings",
    ];
    let mut fields = Fields::parse(&call.headers, &call.body, &known)?;
    let name = name(fields.required_text("name")?)?;
    let organization = &call.server.state.settings.organization.id;
    if fields.required_text("orgId")? != *organization {
        return Err(invalid("orgId").because(format!("This server has one organization, {organization}.")));
    }
    refuse_tags(&mut fields)?;
    if fields.flag("withDefaultAlertsSettings")? == Some(false) {
        return Err(not_done("withDefaultAlertsSettings", NO_ALERTS));
    }
    if fields.text("regionUsageRestrictions")?.is_some_and(|restriction| restriction != "NONE") {
        return Err(not_done("regionUsageRestrictions", NO_REGIONS));
    }
    Ok(Reply::object(made(&call, &name).await?))
}

/// Makes a project of that name and shows it.
pub(super) async fn made(call: &Call, name: &str) -> Answer<Value> {
    let project = call.server.state.catalog.projects().create(name, call.server.now()).await;
    let project = project.map_err(|e| refused(call, "make a project", e))?;
    audit::record_in(call, project.id, "project.create", json!({"name": name}));
    groups::view(call, &project).await
}

/// `GroupUpdate`.
pub(super) async fn update(call: Call) -> Answer<Reply> {
    let project = call.server.project(call.project_id()?).await?;
    let mut fields = Fields::parse(&call.headers, &call.body, &["name", "tags"])?;
    let wanted = fields.text("name")?.map(name).transpose()?;
    refuse_tags(&mut fields)?;
    let Some(wanted) = wanted.filter(|wanted| *wanted != project.name) else {
        return Ok(Reply::object(groups::view(&call, &project).await?));
    };
    let renamed = call.server.state.catalog.projects().rename(project.id, &wanted).await;
    let renamed: Project = renamed.map_err(|e| refused(&call, "rename a project", e))?;
    call.server.forget_projects();
    audit::record(&call, "project.update", project.id, json!({"name": wanted, "before": project.name}));
    Ok(Reply::object(groups::view(&call, &renamed).await?))
}

/// Deletes a project that has no deployments and no backups any more.
pub(super) async fn delete(call: Call) -> Answer<Reply> {
    let project = call.server.project(call.project_id()?).await?;
    let deleted = call.server.state.catalog.projects().delete(project.id, call.server.now()).await;
    deleted.map_err(|e| refused(&call, "delete a project", e))?;
    call.server.forget_projects();
    call.server.forget_credentials();
    audit::record(&call, "project.delete", project.id, json!({"name": project.name}));
    Ok(Reply::no_content())
}

fn refused(call: &Call, context: &str, error: catalog::Error) -> Problem {
    match error {
        catalog::Error::AlreadyExists { name, .. } => Problem::new(Code::GroupAlreadyExists).with(name),
        catalog::Error::NotFound { id, .. } => {
            call.server.forget_projects();
            Problem::new(Code::GroupNotFound).with(id)
        }
        catalog::Error::Conflict(Conflict::ProjectHasDeployments { deployments }) => {
            let why = format!("It has {deployments} registered deployments.");
            Problem::new(Code::CannotCloseGroupActiveClusters).because(why)
        }
        catalog::Error::Conflict(
            conflict @ (Conflict::ProjectHasSnapshots { .. } | Conflict::ProjectHasPolicy),
        ) => Problem::new(Code::ResourceBusy).with(conflict.to_string()),
        other => call.server.catalog_problem(context, other),
    }
}

fn refuse_tags(fields: &mut Fields) -> Answer<()> {
    match fields.list("tags")? {
        Some(tags) if !tags.is_empty() => Err(not_done("tags", NO_TAGS)),
        _ => Ok(()),
    }
}

fn not_done(name: &str, why: &str) -> Problem {
    Problem::new(Code::UnsupportedForCurrentConfig).because(why).field(name, why)
}

/// A name as Atlas takes it.
pub(super) fn name(name: String) -> Answer<String> {
    let allowed = |c: char| c.is_alphanumeric() || " -_.(),:&@+'".contains(c);
    let length = name.chars().count();
    if length == 0 || length > NAME_CHARACTERS_MAX || name.trim() != name || !name.chars().all(allowed) {
        return Err(invalid("name"));
    }
    Ok(name)
}
