//! `ebbtide verify`: read snapshots and recorded operations back and check every byte. Works beside a running server.

use std::{collections::BTreeSet, process::ExitCode};

use anyhow::{Context, anyhow, bail};
use engine::{
    progress::Counters,
    verify::{Report, TimelineReport, verify_timeline},
};
use model::{
    ClusterTime,
    copy::{CopyState, RegionName},
    id::{SnapshotId, TimelineId},
};
use serde_json::json;
use vault::{ObjectName, Vault};

use super::{live, mend::Mender};
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
    let mut place = Place::open(&config, args.copies_in.as_ref()).await?;
    let manifests = place.manifests(&catalog, args.snapshot.as_deref()).await?;
    let mut mender = match &args.mend_from {
        Some(region) => Some(Mender::open(&config, region).await?),
        None => None,
    };
    let mut reports = Vec::new();
    for (id, manifest) in manifests {
        let name: ObjectName =
            manifest.parse().with_context(|| format!("understand the manifest name {manifest}"))?;
        let report = loop {
            let report = checked(&place.vault, id, &name).await?;
            place.note(&catalog, &report.damaged).await?;
            if !mend(&mut mender, &place, &catalog, &report.damaged).await? {
                break report;
            }
        };
        if !report.is_good() && !place.is_still_there(&catalog, id).await? {
            continue;
        }
        if output == Output::Text {
            tell(id, &report, place.region.as_ref());
        }
        reports.push((id, report));
    }
    let recorded = if args.all { recorded(&catalog, &mut place, &mut mender, output).await? } else { vec![] };
    place.report(&catalog).await?;
    let good = reports.iter().all(|(_, report)| report.is_good())
        && recorded.iter().all(|(_, report)| report.is_good());
    if let (Output::Text, Some(mender), Some(region)) = (output, &mender, &args.mend_from) {
        say!("{} objects were put back from the copies in {region}", mender.count());
    }
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

/// Whether anything was put back, so that another look is worth it.
async fn mend(
    mender: &mut Option<Mender>,
    place: &Place,
    catalog: &catalog::Catalog,
    damaged: &[ObjectName],
) -> anyhow::Result<bool> {
    match mender {
        Some(mender) => mender.put_back(&place.vault, catalog, damaged).await,
        None => Ok(false),
    }
}

/// Opens the copies in a region, to look at them.
pub(super) async fn open_copies(config: &Config, region: &RegionName) -> anyhow::Result<Vault> {
    let mut places = datadir::copy_places(config)?;
    let location = places.remove(region).ok_or_else(|| {
        anyhow!("the configuration names no region {region}: put [copies.{region}] with its url into it")
    })?;
    let key = datadir::master_key(config)?;
    Vault::open_to_read(&location, &key).await.with_context(|| format!("open the copies in {region}"))
}

/// What is read: the vault, or a copy of it.
struct Place {
    vault: Vault,
    region: Option<RegionName>,
    /// What was found damaged in copies.
    damaged: BTreeSet<String>,
}

impl Place {
    async fn open(config: &Config, region: Option<&RegionName>) -> anyhow::Result<Self> {
        let vault = match region {
            None => {
                let (location, key) = (datadir::location(config)?, datadir::master_key(config)?);
                Vault::open(&location, &key).await.context("open the vault")?
            }
            Some(region) => open_copies(config, region).await?,
        };
        Ok(Self { vault, region: region.cloned(), damaged: BTreeSet::new() })
    }

    /// The snapshots to read: one, or all.
    async fn manifests(
        &self,
        catalog: &catalog::Catalog,
        snapshot: Option<&str>,
    ) -> anyhow::Result<Vec<(SnapshotId, String)>> {
        let Some(region) = &self.region else {
            return Ok(match snapshot {
                Some(id) => vec![one(catalog, id).await?],
                None => catalog.snapshots().live_manifests().await.context("list snapshots")?,
            });
        };
        let copies = catalog.copies().in_state(region, CopyState::Made).await.context("list copies")?;
        let found: Vec<_> = copies.into_iter().map(|copy| (copy.snapshot_id, copy.manifest)).collect();
        let Some(id) = snapshot else { return Ok(found) };
        let id: SnapshotId = id.parse().context("understand the snapshot's id")?;
        let found: Vec<_> = found.into_iter().filter(|(copied, _)| *copied == id).collect();
        if found.is_empty() {
            bail!("snapshot {id} has no copy in {region} that is whole")
        }
        Ok(found)
    }

    /// Those of these slices that are here.
    async fn those_there(
        &self,
        catalog: &catalog::Catalog,
        slices: Vec<catalog::Slice>,
    ) -> anyhow::Result<Vec<catalog::Slice>> {
        let Some(region) = &self.region else { return Ok(slices) };
        let names: Vec<String> = slices.iter().map(|slice| slice.name.clone()).collect();
        let held = catalog.copies().held(region, &names).await.context("look up what is copied")?;
        Ok(slices.into_iter().filter(|slice| held.contains_key(&slice.name)).collect())
    }

    /// Notes what is damaged, so that it is not taken for stored: it is stored anew by the next snapshot of the same data, or
    /// copied anew by the server.
    async fn note(&mut self, catalog: &catalog::Catalog, damaged: &[ObjectName]) -> anyhow::Result<()> {
        let damaged = damaged.iter().map(ToString::to_string);
        if self.region.is_some() {
            self.damaged.extend(damaged);
            return Ok(());
        }
        let noted = catalog.objects().report_damage(&damaged.collect::<Vec<_>>()).await;
        noted.map(drop).context("note the damage in the catalog")
    }

    /// Reports what was found damaged in copies, all at once: whoever copies there has to begin anew each time. What a server has
    /// deleted since it was listed here is no damage.
    async fn report(&self, catalog: &catalog::Catalog) -> anyhow::Result<()> {
        let (Some(region), false) = (&self.region, self.damaged.is_empty()) else { return Ok(()) };
        let names: Vec<String> = self.damaged.iter().cloned().collect();
        let held = catalog.copies().held(region, &names).await.context("look up what is copied")?;
        let damaged: Vec<String> = names.into_iter().filter(|name| held.contains_key(name)).collect();
        catalog.copies().report_damage(region, &damaged).await.context("note the damage in the catalog")
    }

    /// Whether a copy has not been let go by a server since it was listed here.
    async fn is_still_there(&self, catalog: &catalog::Catalog, snapshot: SnapshotId) -> anyhow::Result<bool> {
        let Some(region) = &self.region else { return Ok(true) };
        let copies = catalog.copies().of(&[snapshot]).await.context("look up copies")?;
        let mut copies = copies.into_values().flatten();
        Ok(copies.any(|copy| copy.region == *region && copy.state == CopyState::Made))
    }
}

/// Verifies the timelines of all deployments.
async fn recorded(
    catalog: &catalog::Catalog,
    place: &mut Place,
    mender: &mut Option<Mender>,
    output: Output,
) -> anyhow::Result<Vec<(TimelineId, TimelineReport)>> {
    let mut reports = vec![];
    for timeline in catalog.timelines().of_all().await.context("list timelines")? {
        let slices = catalog.timelines().slices(timeline.id, ClusterTime::default(), timeline.end.time).await;
        let slices = slices.with_context(|| format!("list the slices of timeline {}", timeline.id))?;
        let slices = place.those_there(catalog, slices).await?;
        if slices.is_empty() && place.region.is_some() {
            continue;
        }
        let report = loop {
            let counters = Counters::default();
            let verifying = verify_timeline(&place.vault, catalog, &slices, &counters);
            let report = watched(&format!("timeline {}", timeline.id), &counters, verifying).await;
            let report = report.with_context(|| format!("verify timeline {}", timeline.id))?;
            let named = report.faults.iter().filter_map(|fault| fault.object.as_deref());
            let damaged: Vec<ObjectName> = named.filter_map(|name| name.parse().ok()).collect();
            if place.region.is_some() {
                place.note(catalog, &damaged).await?;
            }
            if !mend(mender, place, catalog, &damaged).await? {
                break report;
            }
        };
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

fn tell(id: SnapshotId, report: &Report, region: Option<&RegionName>) {
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
    if report.damaged.is_empty() {
        return;
    }
    match region {
        None => say!(
            "  What is damaged is noted: the next snapshot of the same data stores it anew, and this one is whole again."
        ),
        Some(region) => say!("  What is damaged is noted: the server copies it to {region} anew."),
    }
}
