//! `ebbtide admin rebuild-catalog`: a new catalog out of what the vault says of itself.

use anyhow::{Context, bail};
use engine::rebuild::Rebuilt;
use serde_json::json;
use vault::Vault;

use super::{
    audit::{Change, Line},
    say,
};
use crate::{
    args::{DataDir, Output},
    config::Config,
    datadir,
};

/// Enters everything that the vault tells. Never makes a vault or a key: both must be there.
pub(super) async fn run(data: &DataDir, output: Output) -> anyhow::Result<()> {
    let config = Config::read(data)?;
    let key = datadir::master_key(&config)?;
    // Out of a copy it becomes a vault of its own, and whoever has copied to it finds that and stops.
    let vault = Vault::open_to_read(&datadir::location(&config)?, &key).await.context("open the vault")?;
    datadir::make_private(&config.data_dir)?;
    let catalog = datadir::open_catalog(&config).await?;
    vault.become_first().await.context("make a vault of its own of what may be a copy")?;
    let line = Line::begin(&catalog, "rebuild-catalog").await?;
    let rebuilt = engine::rebuild::rebuild(&vault, &catalog, engine::engine::wall_clock()).await;
    let told = |rebuilt: &Rebuilt| Change {
        action: "catalog.rebuild",
        subject: vault.id().to_string(),
        project: None,
        detail: json!({
            "deployments": rebuilt.deployments, "projects": rebuilt.projects, "snapshots": rebuilt.snapshots,
        }),
    };
    let rebuilt = line.end(&catalog, rebuilt.context("rebuild the catalog"), told).await?;
    catalog.close().await;
    let mut sentence = format!(
        "{} snapshots of {} deployments in {} projects are back; make keys with `ebbtide admin create-key` and add each \
         deployment again under its old name",
        rebuilt.snapshots, rebuilt.deployments, rebuilt.projects
    );
    if rebuilt.slices > 0 {
        sentence.push_str(&format!(
            "\n{} slices of operations are back that the catalog did not know of",
            rebuilt.slices
        ));
    }
    if rebuilt.prolonged > 0 {
        sentence.push_str(&format!(
            "\n{} of them would expire sooner, as far as the vault knows, and are kept until {}: changes of their \
             retention are not in the vault; make them again until then",
            rebuilt.prolonged,
            rebuilt.kept_until
        ));
    }
    say(output, &serde_json::to_value(&rebuilt).context("write the result")?, &sentence);
    if let Some(first) = rebuilt.unreadable.first() {
        bail!(
            "{} manifests or slices cannot be read or entered; the first is {}: {}",
            rebuilt.unreadable.len(),
            first.object,
            first.why
        );
    }
    Ok(())
}
