//! Releasing a compliance policy: for whoever runs the server, and not for whoever has a key.

use anyhow::{Context, bail};
use catalog::AuditEntry;
use model::id::ProjectId;
use serde_json::json;

use super::say;
use crate::{
    args::{DataDir, Output},
    config::Config,
    datadir,
};

/// Lets the policy of a project be lifted.
pub(super) async fn release(project: &str, data: &DataDir, output: Output) -> anyhow::Result<()> {
    let project: ProjectId = project.parse().context("understand --project")?;
    let opened = datadir::open(&Config::read(data)?).await?;
    match opened.catalog.compliance().release(project).await {
        Err(catalog::Error::NotFound { .. }) => {
            bail!("the project {project} has no compliance policy, or there is no such project")
        }
        other => other.context("release the compliance policy")?,
    }
    let entry = AuditEntry {
        at: engine::engine::wall_clock(),
        who: "ebbtide admin".to_owned(),
        action: "compliancePolicy.release".to_owned(),
        subject: project.to_string(),
        outcome: "ok".to_owned(),
        detail: json!({}),
    };
    opened.catalog.audit().append(&entry).await.context("write it into the audit log")?;
    let sentence = format!(
        "the compliance policy of {project} can be lifted, or set to ask for less, until it is set anew: \
         `ebbtide compliance-policy lift`"
    );
    say(output, &json!({ "project": project, "released": true }), &sentence);
    Ok(())
}
