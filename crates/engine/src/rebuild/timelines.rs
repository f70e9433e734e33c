//! Timelines out of the slices in the vault.
//!
//! A capture that died may have left two slices with one number: the chain is read backwards, from the slice that ends last.

use std::collections::{BTreeMap, BTreeSet};

use catalog::{Catalog, Ended, ImportedTimeline};
use futures::StreamExt as _;
use model::{
    WallTime,
    id::{DeploymentId, TimelineId},
    timeline::TimelineEnd,
};
use vault::{ObjectName, Slice, SliceHeader, Vault};

use super::{Rebuilt, Unreadable, is_unreadable};
use crate::{lease::JobError, timeline};

/// What an ended timeline's end is told by, when only its slices are left.
const UNKNOWN_END: &str = "another timeline of the deployment follows; why is not in the vault";

/// One slice and its size in the store.
struct Found {
    header: SliceHeader,
    stored_bytes: u64,
}

type Slices = BTreeMap<ObjectName, Found>;

/// The slices that the vault has, by timeline.
pub(super) struct Recorded(BTreeMap<TimelineId, Slices>);

/// Looks which slices there are.
pub(super) async fn find(vault: &Vault, rebuilt: &mut Rebuilt) -> Result<Recorded, JobError> {
    let mut found: BTreeMap<TimelineId, Slices> = BTreeMap::new();
    let mut listed = vault.list_slices();
    while let Some(listed) = listed.next().await {
        let listed = listed?;
        match Slice::open(vault, &listed.name).await {
            Ok(slice) => {
                let header = slice.header().clone();
                let slices = found.entry(header.timeline_id).or_default();
                slices.insert(listed.name, Found { header, stored_bytes: listed.stored_bytes });
            }
            Err(error) if is_unreadable(&error) => {
                rebuilt.unreadable.push(Unreadable::new(&listed.name, &error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Recorded(found))
}

impl Recorded {
    /// Whether operations of a deployment were recorded.
    pub(super) fn is_of(&self, deployment: DeploymentId) -> bool {
        self.0.values().flat_map(BTreeMap::values).any(|found| found.header.deployment_id == deployment)
    }

    /// Enters the timelines of the deployments that are `known`; without a snapshot nothing on one can be restored. The
    /// newest one of each is open, unless the catalog has a later one; all others have ended. One that does not fit what the
    /// catalog has does not hide the others.
    pub(super) async fn enter(
        self,
        catalog: &Catalog,
        known: impl Fn(DeploymentId) -> bool,
        now: WallTime,
        rebuilt: &mut Rebuilt,
    ) -> Result<(), JobError> {
        let mut chains: Vec<Vec<(ObjectName, Found)>> = self.0.into_values().map(chain).collect();
        // The newest first: the others of its deployment have ended.
        chains.sort_by_key(|chain| std::cmp::Reverse(chain.last().map(|(_, last)| last.header.last.time)));
        let mut open = BTreeSet::new();
        for chain in chains {
            let (Some((_, first)), Some((last, _))) = (chain.first(), chain.last()) else { continue };
            let (header, last) = (first.header.clone(), *last);
            if !known(header.deployment_id) {
                continue;
            }
            let is_newest = open.insert(header.deployment_id);
            let is_known = catalog.timelines().get(header.timeline_id).await?.is_some();
            match catalog.import_timeline(&imported(header, chain, is_newest, now)).await {
                Ok(slices) if is_known => rebuilt.slices += slices,
                Ok(slices) => rebuilt.timelines += u64::from(slices > 0),
                Err(error @ (catalog::Error::AlreadyExists { .. } | catalog::Error::Illegal(_))) => {
                    rebuilt.unreadable.push(Unreadable::new(&last, &error));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// A timeline as its chain tells it, with the header of the first slice.
fn imported(
    header: SliceHeader,
    chain: Vec<(ObjectName, Found)>,
    is_newest: bool,
    now: WallTime,
) -> ImportedTimeline {
    let ended = Ended { at: now, reason: TimelineEnd::SwitchedOff, detail: UNKNOWN_END.to_owned() };
    ImportedTimeline {
        id: header.timeline_id,
        project_id: header.project_id,
        deployment_id: header.deployment_id,
        replica_set_name: header.replica_set_name,
        ended: (!is_newest).then(|| ended.clone()),
        unknown_end: ended,
        slices: chain
            .into_iter()
            .map(|(name, found)| timeline::row(&name, &found.header, found.stored_bytes))
            .collect(),
    }
}

/// The slices of one timeline in order, from the oldest that there is without a gap up to the one that ends last.
fn chain(mut slices: Slices) -> Vec<(ObjectName, Found)> {
    let last = slices
        .iter()
        .max_by_key(|(_, found)| (found.header.sequence, found.header.last.time))
        .map(|(name, _)| *name);
    let mut chain = vec![];
    let mut next = last;
    while let Some((name, found)) = next.and_then(|name| slices.remove(&name).map(|found| (name, found))) {
        next = found.header.previous;
        chain.push((name, found));
    }
    chain.reverse();
    chain
}
