//! `ebbtide admin forget-copies`.

use anyhow::{Context, bail};
use model::copy::RegionName;
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

/// Forgets a region. What is at its place stays there.
pub(super) async fn forget(region: &RegionName, data: &DataDir, output: Output) -> anyhow::Result<()> {
    let catalog = datadir::open_catalog(&Config::read(data)?).await?;
    let line = Line::begin(&catalog, "forget-copies").await?;
    let forgotten = catalog.copies().forget_region(region, engine::engine::wall_clock()).await;
    if matches!(forgotten, Err(catalog::Error::LeaseLost { .. })) {
        bail!("a server works on the copies in {region}: stop it, wait for some minutes, and try again");
    }
    let told = |(): &()| Change {
        action: "copies.forget",
        subject: region.to_string(),
        project: None,
        detail: json!({}),
    };
    line.end(&catalog, forgotten.context("forget the copies"), told).await?;
    catalog.close().await;
    say(output, &json!({ "forgotten": region }), &format!("what was copied to {region} is forgotten"));
    Ok(())
}
