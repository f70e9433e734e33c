//! `ebbtide verify`: read snapshots and recorded operations back and check every byte. Works beside a running server.

use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use engine::{
    progress::Counters,
    verify::{Report, TimelineReport, verify_timeline},
};
use model::{
    ClusterTime,
    id::{SnapshotId, TimelineId},
};
use serde_json::json;
use vault::{ObjectName, Vault};

use super::live;
use crate::{
    args::{Output, Verify},
    config::Config,
    datadir, exit,
    out::say,
};

/// Verifies one snapshot, or all of them and all that was recorded; exit code 1 when anything is wrong.
pub(crate) async fn run(args: Verify, output: Output) -> anyhow::Result<ExitCode> {
    if let (Some(cluster), Some(project)) = (&args.live, &args.project) {
        return live::run(&args, project, cluster, output).await;
    }
    let config = Config::read(&args.data)?;
    let catalog = datadir::open_catalog(&config).await?;
    let location = datadir::location(&config)?;
    let vault = Vault::open(&location, &datadir::master_key(&config)?).await.context("open the vault")?;
    let manifests = match &args.snapshot {
        Some(id) => vec![one(&catalog, id).await?],
        None => catalog.snapshots().live_manifests().await.context("list snapshots")?,
    };
    let mut reports = Vec::new();
    for (id, manifest) in manifests {
        let name: ObjectName =
            manifest.parse().with_context(|| format!("understand the manifest name {manifest}"))?;
        let report = checked(&vault, id, &name).await?;
        let damaged: Vec<String> = report.damaged.iter().map(ToString::to_string).collect();
        // So that they are not taken for stored by the next snapshot.
        catalog.objects().report_damage(&damaged).await.context("note the damage in the catalog")?;
        if output == Output::Text {
            tell(id, &report);
        }
        reports.push((id, report));
    }
    let recorded = if args.all { recorded(&catalog, &vault, output).await? } else { vec![] };
    let good = reports.iter().all(|(_, report)| report.is_good())
        && recorded.iter().all(|(_, report)| report.is_good());
    if output == Output::Json {
        let snapshots = reports
            .iter()
            .map(|(id, report)| json!({ "snapshotId": id, "good": report.is_good(), "report": report }));
        let timelines = recorded
            .iter()
            .map(|(id, report)| json!({ "timelineId": id, "good": report.is_good(), "report": report }));
        say!("{}", json!(snapshots.chain(timelines).collect::<Vec<_>>()));
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

/// Verifies the timelines of all deployments.
async fn recorded(
    catalog: &catalog::Catalog,
    vault: &Vault,
    output: Output,
) -> anyhow::Result<Vec<(TimelineId, TimelineReport)>> {
    let mut reports = vec![];
    for timeline in catalog.timelines().of_all().await.context("list timelines")? {
        let slices = catalog.timelines().slices(timeline.id, ClusterTime::default(), timeline.end.time).await;
        let slices = slices.with_context(|| format!("list the slices of timeline {}", timeline.id))?;
        let counters = Counters::default();
        let verifying = verify_timeline(vault, catalog, &slices, &counters);
        let report = watched(&format!("timeline {}", timeline.id), &counters, verifying).await;
        let report = report.with_context(|| format!("verify timeline {}", timeline.id))?;
        if output == Output::Text {
            tell_of_timeline(timeline.id, &report);
        }
        reports.push((timeline.id, report));
    }
    Ok(reports)
}

async fn one(catalog: &catalog::Catalog, id: &str) -> anyhow::Result<(SnapshotId, String)> {
    let id: SnapshotId = id.parse().context("understand the snapshot's id")?;
    let snapshot = catalog.snapshots().get(id).await?.ok_or_else(|| anyhow!("there is no snapshot {id}"))?;
    match snapshot.manifest {
        Some(manifest) => Ok((id, manifest)),
        None => bail!("snapshot {id} is {} and has nothing to verify", snapshot.state.as_str()),
    }
}

/// Verifies one snapshot while a bar shows how far it is.
async fn checked(vault: &Vault, id: SnapshotId, manifest: &ObjectName) -> anyhow::Result<Report> {
    let counters = Counters::default();
    let verifying = engine::verify::verify(vault, manifest, &counters);
    let report = watched(&format!("snapshot {id}"), &counters, verifying).await;
    report.with_context(|| format!("verify snapshot {id}"))
}

/// Shows how far something is until it is done.
pub(super) async fn watched<T>(what: &str, counters: &Counters, work: impl Future<Output = T>) -> T {
    let bar = indicatif::ProgressBar::new_spinner();
    tokio::pin!(work);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            () = tokio::time::sleep(std::time::Duration::from_millis(200)) => {
                let progress = counters.snapshot();
                bar.set_message(format!("{what}: {} documents, {} bytes", progress.documents_done, progress.bytes_done));
                bar.tick();
            }
        }
    };
    bar.finish_and_clear();
    done
}

fn tell_of_timeline(id: TimelineId, report: &TimelineReport) {
    if report.is_good() {
        say!(
            "timeline {id} is good: {} slices, {} operations, {} bytes",
            report.slices,
            report.entries,
            report.bytes
        );
        return;
    }
    say!("timeline {id} is DAMAGED: {} faults", report.faults_total);
    for fault in &report.faults {
        say!("  {}: {}", fault.object.as_deref().unwrap_or_default(), fault.what);
    }
    say!(
        "  No point in time can be restored from before a damaged slice to after it without a snapshot in between: take one."
    );
}

fn tell(id: SnapshotId, report: &Report) {
    if report.is_good() {
        say!(
            "snapshot {id} is good: {} collections, {} segments, {} documents, {} bytes",
            report.collections,
            report.segments,
            report.documents,
            report.bytes
        );
        return;
    }
    say!("snapshot {id} is DAMAGED: {} faults", report.faults_total);
    for fault in &report.faults {
        let place = [fault.namespace.as_deref(), fault.object.as_deref()];
        say!("  {}: {}", place.into_iter().flatten().collect::<Vec<_>>().join(", "), fault.what);
    }
    if !report.damaged.is_empty() {
        say!(
            "  What is damaged is noted: the next snapshot of the same data stores it anew, and this one is whole again."
        );
    }
}
