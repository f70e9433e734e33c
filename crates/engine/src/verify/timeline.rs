//! Verifying a record of operations: every slice that is in the vault is read, and has to follow the one before it.

use catalog::Catalog;
use serde::Serialize;
use vault::{ObjectName, Slice, Vault};

use super::{FAULTS_TOLD_MAX, Fault};
use crate::progress::Counters;

/// What a verification of one timeline found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TimelineReport {
    /// Slices read.
    pub slices: u64,
    /// Entries in them.
    pub entries: u64,
    /// Bytes of BSON in them.
    pub bytes: u64,
    /// How many faults there are.
    pub faults_total: u64,
    /// The first of them.
    pub faults: Vec<Fault>,
}

impl TimelineReport {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.faults_total == 0
    }

    fn fault(&mut self, object: &str, what: impl Into<String>) {
        self.faults_total += 1;
        if self.faults.len() < FAULTS_TOLD_MAX {
            self.faults.push(Fault { namespace: None, object: Some(object.to_owned()), what: what.into() });
        }
    }
}

/// Reads the slices of a timeline, which the catalog has in order, and checks them: hashes, that each is what the catalog
/// says and follows the one before it. Slices that wait for the vault are left out. Damage is reported, and does not end the
/// verification.
///
/// # Errors
/// When the store itself cannot be used.
pub async fn verify_timeline(
    vault: &Vault,
    catalog: &Catalog,
    rows: &[catalog::Slice],
    progress: &Counters,
) -> vault::Result<TimelineReport> {
    let mut report = TimelineReport::default();
    let stored: Vec<_> = rows.iter().filter(|row| row.state == catalog::SliceState::Stored).collect();
    progress.phase("verify");
    progress.totals(0, stored.iter().map(|row| row.bytes).sum(), stored.len() as u64);
    let mut before: Option<&catalog::Slice> = None;
    for row in stored {
        match one(vault, row, before).await {
            Ok(None) => {}
            Ok(Some(what)) => report.fault(&row.name, what),
            // Let go meanwhile, because it lies before the restore window.
            Err(vault::Error::Missing { .. }) if is_forgotten(catalog, row).await => continue,
            Err(error) => {
                let told =
                    error.damaged_object().is_some() || matches!(error, vault::Error::NewerFormat { .. });
                if !told {
                    return Err(error);
                }
                report.fault(&row.name, error.to_string());
            }
        }
        report.slices += 1;
        report.entries += row.entries;
        report.bytes += row.bytes;
        progress.add(0, row.bytes);
        progress.collection_done();
        before = Some(row);
    }
    Ok(report)
}

async fn is_forgotten(catalog: &Catalog, row: &catalog::Slice) -> bool {
    let known = catalog.timelines().known(std::slice::from_ref(&row.name)).await;
    known.is_ok_and(|known| known.is_empty())
}

/// What is wrong with one slice, in words.
async fn one(
    vault: &Vault,
    row: &catalog::Slice,
    before: Option<&catalog::Slice>,
) -> vault::Result<Option<String>> {
    let Ok(name) = row.name.parse::<ObjectName>() else {
        return Ok(Some("the catalog has it under a name that is none".to_owned()));
    };
    let slice = Slice::open(vault, &name).await?;
    let header = slice.header();
    let is_what_is_said = header.sequence == row.sequence
        && header.after == row.span.after
        && header.first == row.span.first
        && header.last == row.span.last
        && header.entries == row.entries;
    if !is_what_is_said {
        return Ok(Some("it does not hold what the catalog says; run rebuild-catalog".to_owned()));
    }
    let previous = header.previous.map(|name| name.to_string());
    if before.is_some_and(|before| previous.as_deref() != Some(&before.name)) {
        return Ok(Some("it does not follow the slice before it".to_owned()));
    }
    slice.verify().await?;
    Ok(None)
}
