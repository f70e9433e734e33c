//! Releasing a compliance policy: for whoever runs the server, and not for whoever has a key.

use anyhow::{Context, anyhow};
use model::id::ProjectId;
use serde_json::json;

use super::{
    audit::{Change, Line},
    say,
};
use crate::{
    args::{DataDir, Output},
    config::Config,
    datadir,
};

/// Lets the policy of a project be lifted.
pub(super) async fn release(project: &str, data: &DataDir, output: Output) -> anyhow::Result<()> {
    let project: ProjectId = project.parse().context("understand --project")?;
    let opened = datadir::open(&Config::read(data)?).await?;
    let line = Line::begin(&opened.catalog, "release-compliance-policy").await?;
    let released = match opened.catalog.compliance().release(project).await {
        Err(catalog::Error::NotFound { .. }) => {
            Err(anyhow!("the project {project} has no compliance policy, or there is no such project"))
        }
        other => other.context("release the compliance policy"),
    };
    let told = |_: &()| Change {
        action: "compliancePolicy.release",
        subject: project.to_string(),
        project: Some(project),
        detail: json!({}),
    };
    line.end(&opened.catalog, released, told).await?;
    let sentence = format!(
        "the compliance policy of {project} can be lifted, or set to ask for less, until it is set anew: \
         `ebbtide compliance-policy lift`"
    );
    say(output, &json!({ "project": project, "released": true }), &sentence);
    Ok(())
}
