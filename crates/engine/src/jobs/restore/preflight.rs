//! What is looked at before anything is written: a restore that cannot end well does not begin.

use std::collections::BTreeSet;

use bson::doc;
use model::outage;
use mongo::{Deployment, Facts, Namespace, facts::Member, privileges::Purpose, write::timeseries::series_of};

use super::{
    cutover,
    errors::job_error,
    plan::{self, Way},
    source::{Item, Restore},
    standing,
};
use crate::{
    lease::{JobContext, JobError},
    observed,
    privileges::lacking,
};

/// The most bytes of stored functions of one database that are restored.
const FUNCTIONS_BYTES_MAX: u64 = 64 << 20;

/// Looks at the target.
///
/// # Errors
/// [`JobError::Failed`] with every reason against it, each with what to do.
pub(crate) async fn check(ctx: &JobContext, job: &Restore) -> Result<(), JobError> {
    let name = &job.target.name;
    let deployment = &job.deployment;
    let purpose = if job.options.with_users { Purpose::RestoreUsers } else { Purpose::Restore };
    let lacking = lacking(deployment, purpose).await;
    if let Some(reason) = lacking.map_err(|e| job_error("looking at the privileges on", name, e))? {
        return Err(refused(name, &[reason]));
    }
    let facts = deployment.facts().await.map_err(|e| job_error("looking at", name, e))?;
    observed::record(ctx.services(), job.target.id, &facts).await?;
    claim(ctx, job, &facts).await?;
    let mut reasons = Vec::new();
    let header = job.manifest.header();
    reasons.extend(version_too_low(&header.mongod_version, &header.fcv, &facts));
    reasons.extend(no_majority(&facts.members));
    reasons.extend(buckets_without_series(job));
    reasons.extend(too_many_functions(job));
    if facts.engine != "wiredTiger" {
        reasons.push(format!("the target's storage engine is {}, not wiredTiger", facts.engine));
    }
    if !job.options.in_place || job.options.selection.is_some() {
        reasons.extend(names_in_the_way(job).await?);
    }
    let snapshot = ctx.catalog().snapshots().get(job.row.snapshot_id).await?;
    let part = job.totals();
    // Of the disk at the source what is selected takes its share.
    let at_source = snapshot.and_then(|snapshot| {
        let bytes = snapshot.notes["sourceDiskBytes"].as_u64()?;
        let is_part = job.options.selection.is_some();
        Some(if is_part { share(bytes, part.bytes, snapshot.logical_bytes) } else { bytes })
    });
    let need = disk_bytes(at_source, part.stored_bytes);
    // A rewind needs room for what is made anew.
    let need = share(need, loaded(job).map(|item| item.entry.bytes).sum(), part.bytes);
    // Of a selection, what goes first is little beside what stays.
    let old_data_goes_first = job.options.in_place && job.options.selection.is_none();
    if let Some(room) = room(deployment, old_data_goes_first).await
        && room < need
    {
        reasons.push(format!(
            "the target has room for {room} bytes, and the snapshot will take about {need}; free disk space{}",
            if job.options.in_place {
                ""
            } else {
                ", or restore with inPlace, which needs no room for two copies"
            },
        ));
    }
    if !reasons.is_empty() {
        return Err(refused(name, &reasons));
    }
    Ok(())
}

/// No other restore may write to the same servers, under whatever name they are registered.
async fn claim(ctx: &JobContext, job: &Restore, facts: &Facts) -> Result<(), JobError> {
    let Some(id) = &facts.replica_set_id else { return Ok(()) };
    match ctx.catalog().restores().claim_target(ctx.lease(), id).await {
        Err(catalog::Error::Conflict(_)) => Err(refused(
            &job.target.name,
            &[format!(
                "another restore writes to a replica set of the same id ({id}), registered under another name; wait \
                 until it ends or cancel it"
            )],
        )),
        claimed => Ok(claimed?),
    }
}

fn refused(name: &impl std::fmt::Display, reasons: &[String]) -> JobError {
    JobError::failed(format!(
        "the restore into {name} was not begun, and nothing was changed: {}",
        reasons.join("; ")
    ))
}

/// Sets the totals, and says what the outage will be about.
pub(crate) fn count(ctx: &JobContext, job: &Restore) {
    ctx.progress().restart();
    expect(ctx, job, 0, 0);
    let totals = job.totals();
    let series: u64 = job.going(Way::Buckets).map(|item| item.entry.bytes).sum();
    let (loaded, what) =
        if job.options.in_place { (totals.bytes, "documents") } else { (series, "time series") };
    if loaded > 0 {
        let seconds = outage::estimated_seconds(loaded, totals.collections);
        ctx.progress().message(format!(
            "{loaded} bytes of {what} are loaded inside the cut-over: an outage of about {seconds} s"
        ));
    }
}

/// Sets the totals to what is loaded, and so many documents that are put back in what stays.
pub(crate) fn expect(ctx: &JobContext, job: &Restore, documents: u64, bytes: u64) {
    let loaded = || loaded(job).map(|item| &item.entry);
    ctx.progress().totals(
        documents + loaded().map(|entry| entry.documents).sum::<u64>(),
        bytes + loaded().map(|entry| entry.bytes).sum::<u64>(),
        loaded().count() as u64,
    );
}

/// What is loaded out of the vault.
fn loaded(job: &Restore) -> impl Iterator<Item = &Item> {
    job.items.iter().filter(|item| matches!(item.way, Way::Renamed | Way::Buckets | Way::Functions))
}

/// Data goes to the same version or a higher one: what a lower one lacks, it cannot hold.
fn version_too_low(snapshot_version: &str, snapshot_fcv: &str, facts: &Facts) -> Vec<String> {
    let mut reasons = Vec::new();
    let (major, minor, _) = facts.version;
    if let Some(needed) = major_minor(snapshot_version)
        && (major, minor) < needed
    {
        reasons.push(format!(
            "the snapshot is of MongoDB {snapshot_version} and the target runs {}; upgrade the target",
            facts.version_text
        ));
    }
    if let (Some(needed), Some(is)) = (major_minor(snapshot_fcv), major_minor(&facts.fcv))
        && is < needed
    {
        reasons.push(format!(
            "the snapshot has feature compatibility version {snapshot_fcv} and the target {}; run setFeatureCompatibilityVersion {snapshot_fcv} there",
            facts.fcv
        ));
    }
    reasons
}

fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// About how many bytes of disk a snapshot takes once it is restored, indexes included.
///
/// What it took at the source, less a quarter: pages that are filled in order are full, and those of a collection that was
/// written to for a while are three quarters full. Where that is not known, twice what it takes in the vault: servers
/// compress faster and less, and have indexes. Never less than in the vault: a server that has not written its last minute
/// to disk yet says too little.
fn disk_bytes(at_source: Option<u64>, in_vault: u64) -> u64 {
    at_source.map_or(in_vault.saturating_mul(2), |bytes| (bytes / 4 * 3).max(in_vault))
}

/// So much of `bytes` as `part` is of `whole`.
fn share(bytes: u64, part: u64, whole: u64) -> u64 {
    let share = u128::from(bytes) * u128::from(part.min(whole)) / u128::from(whole.max(1));
    u64::try_from(share).unwrap_or(bytes)
}

/// Without a majority nothing that is written is ever safe.
fn no_majority(members: &[Member]) -> Option<String> {
    let up = members
        .iter()
        .filter(|m| m.healthy && matches!(m.state.as_str(), "PRIMARY" | "SECONDARY" | "RECOVERING"))
        .count();
    let bearing = members.iter().filter(|m| m.state != "ARBITER").count();
    let down: Vec<_> = members.iter().filter(|m| !m.healthy).map(|m| m.host.as_str()).collect();
    (bearing > 0 && up <= bearing / 2).then(|| {
        format!(
            "only {up} of {bearing} members are up, which is no majority (down: {}); bring them up",
            down.join(", ")
        )
    })
}

/// What a drop that was interrupted left on the source: no client can make it, and the cut-over is too late to find out.
fn buckets_without_series(job: &Restore) -> Vec<String> {
    let series: BTreeSet<&Namespace> = job.going(Way::TimeSeries).map(|item| &item.ns).collect();
    let orphans =
        job.going(Way::Buckets).filter(|item| series_of(&item.ns).is_none_or(|ns| !series.contains(&ns)));
    orphans
        .map(|item| {
            format!("{} of the snapshot belongs to no time series, and no server can be made to hold it; restore single collections from a download", item.ns)
        })
        .collect()
}

/// Stored functions are replaced as a whole, out of memory.
fn too_many_functions(job: &Restore) -> Vec<String> {
    let large = job.going(Way::Functions).filter(|item| item.entry.bytes > FUNCTIONS_BYTES_MAX);
    large
        .map(|item| {
            format!(
                "{} of the snapshot holds {} bytes, and no more than {FUNCTIONS_BYTES_MAX} can be replaced at once; \
                 restore single collections from a download",
                item.ns, item.entry.bytes
            )
        })
        .collect()
}

/// Staging makes the snapshot's databases beside those that are there, and a selection may give things other names.
async fn names_in_the_way(job: &Restore) -> Result<Vec<String>, JobError> {
    let found =
        cutover::list(&job.deployment).await.map_err(|e| job_error("listing", &job.target.name, e))?;
    let mut databases: Vec<String> = found.iter().map(|info| info.namespace.db.clone()).collect();
    databases.dedup();
    let wanted: std::collections::BTreeSet<&str> = job.items.iter().map(|item| item.ns.db.as_str()).collect();
    Ok(plan::differ_by_case(wanted, &databases)
        .into_iter()
        .map(|(want, have)| {
            let remedy = if job.options.selection.is_some() { "rename it in the restore" } else { "restore with inPlace" };
            format!("the target has a database {have}, and no server holds it beside {want} of the snapshot; drop {have}, or {remedy}")
        })
        .chain(standing::in_the_way(job, &found))
        .collect())
}

/// Bytes that the target's disk has room for, when the server tells: free ones and, where old data goes first, its own.
async fn room(deployment: &Deployment, old_data_goes_first: bool) -> Option<u64> {
    let number = |document: &bson::Document, name: &str| match document.get(name)? {
        bson::Bson::Double(value) => Some(*value as u64),
        bson::Bson::Int32(value) => u64::try_from(*value).ok(),
        bson::Bson::Int64(value) => u64::try_from(*value).ok(),
        _ => None,
    };
    let stats = deployment.run_admin(doc! {"dbStats": 1}).await.ok()?;
    let free = number(&stats, "fsTotalSize")?.checked_sub(number(&stats, "fsUsedSize")?)?;
    if !old_data_goes_first {
        return Some(free);
    }
    let listed = deployment.run_admin(doc! {"listDatabases": 1}).await.ok()?;
    Some(free + number(&listed, "totalSize")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(version: (u32, u32, u32), fcv: &str) -> Facts {
        Facts {
            version,
            version_text: format!("{}.{}.{}", version.0, version.1, version.2),
            untested: false,
            fcv: fcv.to_owned(),
            replica_set_name: "rs".to_owned(),
            replica_set_id: None,
            members: vec![],
            auth_enabled: false,
            authenticated_user: None,
            tls: false,
            cache_bytes: 0,
            oplog: None,
            oplog_bytes_max: 0,
            engine: "wiredTiger".to_owned(),
        }
    }

    #[test]
    fn only_an_equal_or_higher_version_takes_a_snapshot() {
        assert!(version_too_low("5.0.4", "5.0", &facts((6, 0, 5), "6.0")).is_empty());
        assert!(
            version_too_low("6.0.27", "6.0", &facts((6, 0, 5), "6.0")).is_empty(),
            "patch levels do not matter"
        );
        assert_eq!(version_too_low("6.0.5", "5.0", &facts((5, 0, 4), "5.0")).len(), 1);
        assert_eq!(version_too_low("6.0.5", "6.0", &facts((6, 0, 5), "5.0")).len(), 1);
    }

    #[test]
    fn the_room_that_is_needed_is_estimated_with_the_indexes() {
        assert_eq!(disk_bytes(Some(4_000), 1_000), 3_000);
        assert_eq!(disk_bytes(Some(4_000), 3_500), 3_500);
        assert_eq!(disk_bytes(Some(0), 1_000), 1_000);
        assert_eq!(disk_bytes(None, 1_000), 2_000);
    }

    #[test]
    fn a_part_takes_its_share_of_the_room() {
        assert_eq!([share(1_000, 50, 100), share(1_000, 100, 100), share(1_000, 0, 0)], [500, 1_000, 0]);
        assert_eq!(share(u64::MAX, u64::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn a_minority_is_refused_and_who_is_down_is_named() {
        let member = |host: &str, state: &str| Member {
            host: host.to_owned(),
            state: state.to_owned(),
            healthy: !state.starts_with('('),
        };
        let up = member("a:1", "PRIMARY");
        let down = member("b:1", "(not reachable/healthy)");
        assert_eq!(no_majority(std::slice::from_ref(&up)), None);
        assert_eq!(no_majority(&[up.clone(), member("c:1", "SECONDARY"), down.clone()]), None);
        assert!(no_majority(&[up, down.clone(), down]).is_some_and(|text| text.contains("b:1")));
    }
}
