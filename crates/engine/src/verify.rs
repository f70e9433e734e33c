//! Verifying a snapshot: every segment is read and everything in it checked.
//!
//! Needs the vault and the name of the manifest, no catalog and no server, so that it also works on what a disaster
//! has left.

mod beside;
mod timeline;

use futures::{StreamExt, stream};
use history::ContentSum;
use serde::Serialize;
use vault::{CollectionEntry, Manifest, ObjectName, Order, SegmentEntry, Vault};

pub use timeline::{TimelineReport, verify_timeline};

use crate::progress::Counters;
use beside::Fitting;

/// Segments that are read at a time; each takes the memory of a sealed and of a plain segment.
const SEGMENTS_AT_A_TIME: usize = 3;
/// So many faults are told in full.
const FAULTS_TOLD_MAX: usize = 1000;

/// What is wrong with one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// `db.collection`; absent when it is about the whole snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The object in the vault, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// What is wrong.
    pub what: String,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Collections and views looked at.
    pub collections: u64,
    /// Segments read.
    pub segments: u64,
    /// Documents in them.
    pub documents: u64,
    /// Bytes of BSON in them.
    pub bytes: u64,
    /// Changes that are kept beside them.
    pub changes: u64,
    /// How many faults there are.
    pub faults_total: u64,
    /// The first of them.
    pub faults: Vec<Fault>,
    /// All objects whose stored bytes are gone or wrong.
    #[serde(skip)]
    pub damaged: Vec<ObjectName>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.faults_total == 0
    }

    fn fault(&mut self, namespace: Option<&str>, object: Option<&ObjectName>, what: impl Into<String>) {
        self.faults_total += 1;
        if self.faults.len() < FAULTS_TOLD_MAX {
            let object = object.map(ToString::to_string);
            self.faults.push(Fault { namespace: namespace.map(str::to_owned), object, what: what.into() });
        }
    }
}

/// Reads everything that the manifest names and checks it: hashes, counts, content sums, keys, order, that segments
/// do not overlap, and that the parts add up to the whole. Damage is reported, and does not end the verification.
///
/// # Errors
/// When the store itself cannot be used: then nothing is known about the snapshot.
pub async fn verify(vault: &Vault, manifest: &ObjectName, progress: &Counters) -> vault::Result<Report> {
    let mut report = Report::default();
    let manifest = match Manifest::open(vault, manifest).await {
        Ok(manifest) => manifest,
        Err(error) => {
            note(&mut report, None, error)?;
            return Ok(report);
        }
    };
    let totals = manifest.totals();
    progress.phase("verify");
    progress.totals(totals.documents, totals.bytes, totals.collections);
    let mut collections = manifest.collections();
    while let Some(collection) = collections.next().await {
        match collection {
            Ok(collection) => verify_collection(vault, &manifest, &collection, &mut report, progress).await?,
            Err(error) => note(&mut report, None, error)?,
        }
        progress.collection_done();
    }
    if let Err(error) = manifest.principals().await {
        note(&mut report, None, error)?;
    }
    beside::verify_runs(vault, &manifest, &mut report).await?;
    let counted = (report.collections, report.documents, report.bytes);
    if report.is_good() && counted != (totals.collections, totals.documents, totals.bytes) {
        report.fault(
            None,
            Some(&manifest.name()),
            "its parts do not add up to what the manifest says in all",
        );
    }
    Ok(report)
}

async fn verify_collection(
    vault: &Vault,
    manifest: &Manifest,
    collection: &CollectionEntry,
    report: &mut Report,
    progress: &Counters,
) -> vault::Result<()> {
    let namespace = format!("{}.{}", collection.meta.db, collection.meta.name);
    progress.message(namespace.as_str());
    let faults_before = report.faults_total;
    let checks = manifest.segments(collection).map(|entry| async move {
        match entry {
            Ok(entry) => {
                let checked = vault.verify_segment(&entry).await;
                (Some(entry), checked)
            }
            Err(error) => (None, Err(error)),
        }
    });
    let mut checks = std::pin::pin!(checks.buffered(SEGMENTS_AT_A_TIME));
    let mut fitting = match Fitting::of(vault, manifest, collection).await {
        Ok(fitting) => Some(fitting),
        Err(error) => {
            note(report, Some(&namespace), error)?;
            None
        }
    };
    let mut sum = ContentSum::default();
    let mut last: Option<SegmentEntry> = None;
    let mut segments = 0;
    while let Some((entry, checked)) = checks.next().await {
        if let Err(error) = checked {
            note(report, Some(&namespace), error)?;
        }
        let Some(entry) = entry else { continue };
        if let Some(fitting) = &mut fitting
            && let Err(error) = fitting.next(Some(&entry), &namespace, report).await
        {
            note(report, Some(&namespace), error)?;
        }
        segments += 1;
        sum.merge(&entry.content);
        progress.add(entry.documents, entry.bytes);
        let overlaps = entry.order == Order::Sorted
            && last.as_ref().is_some_and(|last| last.last_key >= entry.first_key);
        if overlaps {
            report.fault(Some(&namespace), Some(&entry.name), "it overlaps the segment before it");
        }
        let is_as_of = if manifest.delta_runs().is_empty() || entry.order == Order::Natural {
            entry.as_of == collection.meta.as_of
        } else {
            entry.as_of <= collection.meta.as_of
        };
        if entry.order != collection.meta.order || !is_as_of {
            report.fault(
                Some(&namespace),
                Some(&entry.name),
                "its order or its time is not that of its collection",
            );
        }
        last = Some(entry);
    }
    if let Some(fitting) = &mut fitting
        && let Err(error) = fitting.next(None, &namespace, report).await
    {
        note(report, Some(&namespace), error)?;
    }
    report.collections += 1;
    report.segments += segments;
    report.documents += sum.documents;
    report.bytes += sum.bytes;
    if report.faults_total == faults_before && (sum != collection.content || segments != collection.segments)
    {
        report.fault(
            Some(&namespace),
            None,
            "its segments do not add up to what the manifest says of the collection",
        );
    }
    Ok(())
}

/// Damage is a finding; a store that does not answer is an error.
fn note(report: &mut Report, namespace: Option<&str>, error: vault::Error) -> vault::Result<()> {
    let object = error.damaged_object();
    if object.is_none() && !matches!(error, vault::Error::NewerFormat { .. }) {
        return Err(error);
    }
    report.damaged.extend(object);
    report.fault(namespace, object, error.to_string());
    Ok(())
}

/// The manifests of a vault verified one after the other; for `--all` without a catalog.
///
/// # Errors
/// As [`verify`].
pub async fn verify_all(vault: &Vault, progress: &Counters) -> vault::Result<Vec<(ObjectName, Report)>> {
    let names: Vec<_> =
        vault.list_manifests().collect::<Vec<_>>().await.into_iter().collect::<vault::Result<_>>()?;
    let mut reports = vec![];
    let mut names = stream::iter(names);
    while let Some(listed) = names.next().await {
        progress.restart();
        reports.push((listed.name, verify(vault, &listed.name, progress).await?));
    }
    Ok(reports)
}
