//! `ebbtide verify --live`: compare a deployment with what is recorded of it. Works beside a running server, which records.

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context, anyhow, bail};
use engine::{
    Engine,
    live::{LiveCheck, LiveReport, Scope, Share},
};
use model::id::ProjectId;
use serde_json::json;
use vault::Vault;

use super::verify::watched;
use crate::{
    args::{Output, Verify},
    config::Config,
    datadir, exit,
    out::{self, say},
};

/// Compares one deployment; exit code 1 when anything differs.
pub(super) async fn run(
    args: &Verify,
    project: &str,
    cluster: &str,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let config = Config::read(&args.data)?;
    let catalog = datadir::open_catalog(&config).await?;
    let project: ProjectId = project.parse().context("understand the project's id")?;
    let found = catalog.deployments().by_name(project, cluster).await.context("find the deployment")?;
    let deployment =
        found.ok_or_else(|| anyhow!("there is no deployment {cluster} in the project {project}"))?;
    let master_key = datadir::master_key(&config)?;
    let vault = Vault::open(&datadir::location(&config)?, &master_key).await.context("open the vault")?;
    let jobs = &config.file.jobs;
    let spill_dir = jobs.spill_dir.clone().unwrap_or_else(|| config.data_dir.join("spill"));
    std::fs::create_dir_all(&spill_dir).with_context(|| format!("make {}", spill_dir.display()))?;
    let settings = engine::Settings { spill_dir, ..engine::Settings::default() };
    let engine = Engine::new(catalog, vault, Arc::new(master_key), settings);
    let scope = Scope { share: args.share.unwrap_or(Share::ALL), namespaces: args.namespace.clone() };
    let check = LiveCheck::open(engine.services(), deployment.id, scope).await?;
    let report = watched(cluster, check.progress(), check.run()).await?;
    if report.ranges == 0 && report.skipped_total == 0 && args.share.is_none() && !args.namespace.is_empty() {
        bail!("nothing in {cluster} is named {}", args.namespace.join(" or "));
    }
    match output {
        Output::Json => {
            say!("{}", json!({ "clusterName": cluster, "good": report.is_good(), "report": report }));
        }
        Output::Text => out::text(&told(cluster, &report)),
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

fn told(cluster: &str, report: &LiveReport) -> String {
    let mut text = if report.is_good() {
        format!("{cluster} is what is recorded of it")
    } else {
        format!("{cluster} DIFFERS from what is recorded of it in {} collections", report.differences_total)
    };
    let at = report.cluster_time.map(|at| format!(" at {at}")).unwrap_or_default();
    text.push_str(&format!(
        "; compared{at}: {} collections, {} ranges, {} documents, {} bytes\n",
        report.collections, report.ranges, report.documents, report.bytes
    ));
    for difference in &report.differences {
        text.push_str(&format!("  {} at {}: {}\n", difference.namespace, difference.at, difference.what));
    }
    for skipped in &report.skipped {
        text.push_str(&format!("  not compared: {}: {}\n", skipped.namespace, skipped.reason));
    }
    let untold = (report.differences_total + report.skipped_total)
        .saturating_sub((report.differences.len() + report.skipped.len()) as u64);
    if untold > 0 {
        text.push_str(&format!("  and {untold} more\n"));
    }
    if !report.is_good() {
        text.push_str(
            "  What differs is noted: the next snapshot reads these collections from the deployment. Restores to times \
             before that snapshot give them as they were recorded.\n",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use engine::live::{Difference, Skipped};
    use model::ClusterTime;

    use super::*;

    #[test]
    fn what_differs_and_what_was_not_compared_are_told() {
        let at = ClusterTime { seconds: 7, increment: 2 };
        let mut report = LiveReport {
            cluster_time: Some(at),
            collections: 3,
            ranges: 9,
            documents: 100,
            bytes: 5000,
            skipped_total: 1,
            skipped: vec![Skipped { namespace: "shop.log".into(), reason: "it is capped".into() }],
            ..LiveReport::default()
        };
        assert_eq!(
            told("orders", &report),
            "orders is what is recorded of it; compared at 7,2: 3 collections, 9 ranges, 100 documents, 5000 bytes\n  \
             not compared: shop.log: it is capped\n"
        );
        report.differences_total = 2;
        let (namespace, what) = ("shop.items".into(), "1 are there and not recorded".into());
        report.differences.push(Difference { namespace, at, first_id: None, what });
        let text = told("orders", &report);
        assert!(text.starts_with("orders DIFFERS from what is recorded of it in 2 collections; "), "{text}");
        assert!(text.contains("\n  shop.items at 7,2: 1 are there and not recorded\n"), "{text}");
        assert!(text.contains("\n  and 1 more\n") && text.contains("the next snapshot reads"), "{text}");
    }
}
