//! The first project and the first credentials: made on the data directory, since nobody can log in yet.

use anyhow::{Context, anyhow, bail};
use catalog::{Catalog, Credential, Grant as RoleGrant, Project};
use model::{account::SecretHours, id::ProjectId, role::Role};
use serde_json::json;

use super::{
    audit::{Change, Line},
    say,
};
use crate::{
    args::{DataDir, Grant, Output},
    config::Config,
    datadir,
    secrets::MasterKeySecrets,
};

/// Makes a project.
pub(super) async fn create_project(name: &str, data: &DataDir, output: Output) -> anyhow::Result<()> {
    let opened = datadir::open(&Config::read(data)?).await?;
    let line = Line::begin(&opened.catalog, "create-project").await?;
    let made = opened.catalog.projects().create(name, engine::engine::wall_clock()).await;
    let made = made.with_context(|| format!("make the project {name}"));
    let told = |project: &Project| Change {
        action: "project.create",
        subject: project.id.to_string(),
        project: Some(project.id),
        detail: json!({ "name": project.name }),
    };
    let project = line.end(&opened.catalog, made, told).await?;
    say(
        output,
        &json!({ "id": project.id, "name": project.name }),
        &format!("project {} has id {}", project.name, project.id),
    );
    Ok(())
}

/// Makes an API key and shows its private part, once.
pub(super) async fn create_key(grant: &Grant, data: &DataDir, output: Output) -> anyhow::Result<()> {
    let opened = datadir::open(&Config::read(data)?).await?;
    let secrets = MasterKeySecrets(opened.master_key.clone());
    let (project, grants) = grants(&opened.catalog, grant).await?;
    let issued = api::issue_api_key(&secrets, &grant.description, grants)?;
    let line = Line::begin(&opened.catalog, "create-key").await?;
    let made = store(&opened.catalog, issued).await.context("make the API key");
    let made = line.end(&opened.catalog, made, |(made, _)| created(made, project)).await?;
    let (public_key, private_key) = (made.0.public_name, made.1);
    let json = json!({ "publicKey": public_key, "privateKey": private_key });
    say(
        output,
        &json,
        &format!("public key:  {public_key}\nprivate key: {private_key}\nThe private key is shown only now."),
    );
    Ok(())
}

/// Makes a service account and shows its secret, once.
pub(super) async fn create_service_account(
    grant: &Grant,
    secret_hours: Option<SecretHours>,
    data: &DataDir,
    output: Output,
) -> anyhow::Result<()> {
    let opened = datadir::open(&Config::read(data)?).await?;
    let (project, grants) = grants(&opened.catalog, grant).await?;
    let issued = api::issue_service_account(api::NewAccount {
        name: grant.description.clone(),
        description: grant.description.clone(),
        grants,
        hours: secret_hours,
    });
    let line = Line::begin(&opened.catalog, "create-service-account").await?;
    let made = store(&opened.catalog, issued).await.context("make the service account");
    let made = line.end(&opened.catalog, made, |(made, _)| created(made, project)).await?;
    let (client_id, secret) = (made.0.public_name, made.1);
    let json = json!({ "clientId": client_id, "clientSecret": secret });
    say(
        output,
        &json,
        &format!("client id:     {client_id}\nclient secret: {secret}\nThe secret is shown only now."),
    );
    Ok(())
}

/// Keeps a new credential; what is kept of it, and its secret.
async fn store(catalog: &Catalog, issued: api::Issued) -> anyhow::Result<(Credential, String)> {
    let secret = issued.secret.expose_text().context("a secret is text")?.to_owned();
    let row = catalog.credentials().create(issued.row, engine::engine::wall_clock()).await?;
    Ok((row, secret))
}

/// A new credential, for the audit log.
fn created(credential: &Credential, project: ProjectId) -> Change {
    let roles: Vec<&str> = credential.grants.iter().map(|grant| grant.role.as_str()).collect();
    Change {
        action: "credential.create",
        subject: credential.id.to_string(),
        project: Some(project),
        detail: json!({ "publicName": credential.public_name, "roles": roles }),
    }
}

/// The project that is named, and the roles.
async fn grants(catalog: &Catalog, grant: &Grant) -> anyhow::Result<(ProjectId, Vec<RoleGrant>)> {
    let project: ProjectId = grant.project.parse().context("understand --project")?;
    if catalog.projects().get(project).await?.is_none() {
        bail!("there is no project {project}; make one with `ebbtide admin create-project NAME`");
    }
    let granted = |name: &String| {
        let role: Role = name.parse().map_err(|error: String| anyhow!(error))?;
        Ok(RoleGrant { role, project: (!role.is_organization_wide()).then_some(project) })
    };
    Ok((project, grant.role.iter().map(granted).collect::<anyhow::Result<_>>()?))
}
