//! The first project and the first credentials: made on the data directory, since nobody can log in yet.

use anyhow::{Context, anyhow, bail};
use catalog::{Catalog, Grant as RoleGrant};
use model::{id::ProjectId, role::Role};
use serde_json::json;

use super::say;
use crate::{
    args::{DataDir, Grant, Output},
    config::Config,
    datadir,
    secrets::MasterKeySecrets,
};

/// Makes a project.
pub(super) async fn create_project(name: &str, data: &DataDir, output: Output) -> anyhow::Result<()> {
    let opened = datadir::open(&Config::read(data)?).await?;
    let project = opened
        .catalog
        .projects()
        .create(name, engine::engine::wall_clock())
        .await
        .with_context(|| format!("make the project {name}"))?;
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
    let issued = api::issue_api_key(&secrets, &grant.description, grants(&opened.catalog, grant).await?)?;
    let (public_key, private_key) = store(&opened.catalog, issued).await.context("make the API key")?;
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
    data: &DataDir,
    output: Output,
) -> anyhow::Result<()> {
    let opened = datadir::open(&Config::read(data)?).await?;
    let issued = api::issue_service_account(&grant.description, grants(&opened.catalog, grant).await?);
    let (client_id, secret) = store(&opened.catalog, issued).await.context("make the service account")?;
    let json = json!({ "clientId": client_id, "clientSecret": secret });
    say(
        output,
        &json,
        &format!("client id:     {client_id}\nclient secret: {secret}\nThe secret is shown only now."),
    );
    Ok(())
}

/// Keeps a new credential; its public name and its secret.
async fn store(catalog: &Catalog, issued: api::Issued) -> anyhow::Result<(String, String)> {
    let secret = issued.secret.expose_text().context("a secret is text")?.to_owned();
    let row = catalog.credentials().create(issued.row, engine::engine::wall_clock()).await?;
    Ok((row.public_name, secret))
}

async fn grants(catalog: &Catalog, grant: &Grant) -> anyhow::Result<Vec<RoleGrant>> {
    let project: ProjectId = grant.project.parse().context("understand --project")?;
    if catalog.projects().get(project).await?.is_none() {
        bail!("there is no project {project}; make one with `ebbtide admin create-project NAME`");
    }
    grant
        .role
        .iter()
        .map(|name| {
            let role: Role = name.parse().map_err(|error: String| anyhow!(error))?;
            Ok(RoleGrant { role, project: (!role.is_organization_wide()).then_some(project) })
        })
        .collect()
}
