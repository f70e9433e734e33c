//! Where the record of a deployment goes on: after the last slice of its timeline, or on a new one.

use std::collections::VecDeque;

use catalog::{CaptureLease, NewTimeline, PAGE_SIZE_MAX, Page, SliceState, Timeline};
use history::{entry::Entry, transaction::OpenTransactions};
use model::timeline::TimelineEnd;
use mongo::oplog;
use vault::{ObjectName, Slice, SliceSource};

use super::{
    chain::{Chain, Standing},
    error::CaptureError,
    follow::of_oplog,
    spool::Spool,
};
use crate::{connect::Connected, engine::Services, lease::JobError, observed};

/// The chain of the deployment, ready to be made longer.
pub(super) async fn chain<'a>(
    services: &'a Services,
    lease: &'a CaptureLease,
    connected: &Connected,
) -> Result<Chain<'a>, CaptureError> {
    let facts = connected.deployment.facts().await?;
    observed::record(services, connected.row.id, &facts).await?;
    let timelines = services.catalog.timelines();
    let spool = Spool::of(&services.settings.spool_dir, lease.deployment_id);
    let mut current = timelines.current(lease.deployment_id).await?;
    if let Some(other) = current.take_if(|timeline| is_other(timeline, facts.replica_set_id.as_deref())) {
        let detail = "the replica set was initiated anew, or the connection string leads to another one";
        timelines.end(lease, other.id, TimelineEnd::OtherReplicaSet, detail, services.now()).await?;
    }
    let waiting = waiting(services, lease, &spool, current.as_ref()).await?;
    let timeline = match timelines.current(lease.deployment_id).await? {
        Some(timeline) => timeline,
        None => {
            let start = oplog::start(&connected.deployment).await?;
            let new = NewTimeline {
                replica_set_id: facts.replica_set_id.clone(),
                replica_set_name: facts.replica_set_name.clone(),
                start: of_oplog(start.after),
            };
            let timeline = timelines.open(lease, new, services.now()).await?;
            tracing::info!(deployment.id = %lease.deployment_id, timeline.id = %timeline.id, "timeline {} of {} begins after {}", timeline.id, connected.row.name, timeline.start);
            timeline
        }
    };
    let standing = standing(services, connected, &spool, &timeline, waiting).await?;
    Ok(Chain::new(services, lease, spool, standing))
}

/// What is not known is no contradiction: a catalog that was rebuilt does not know the id.
fn is_other(timeline: &Timeline, replica_set_id: Option<&str>) -> bool {
    match (timeline.replica_set_id.as_deref(), replica_set_id) {
        (Some(known), Some(now)) => known != now,
        _ => false,
    }
}

/// The slices of the deployment that wait in the spool, those of ended timelines first. What is there no more, because
/// it was on the disk of another machine or on one that was replaced, is taken back from the open timeline, and read from
/// the deployment again.
pub(super) async fn waiting(
    services: &Services,
    lease: &CaptureLease,
    spool: &Spool,
    current: Option<&Timeline>,
) -> Result<VecDeque<ObjectName>, CaptureError> {
    let timelines = services.catalog.timelines();
    let mut waiting = VecDeque::new();
    let mut all = vec![];
    for page in 1.. {
        let listed = timelines.list(lease.deployment_id, Page::new(page, PAGE_SIZE_MAX)).await?.items;
        let whole = listed.len() < PAGE_SIZE_MAX as usize;
        all.extend(listed);
        if whole {
            break;
        }
    }
    for timeline in all.into_iter().rev() {
        for slice in timelines.spooled(timeline.id).await? {
            let name = named(&slice.name)?;
            if spool.get(name).await?.is_some()
                || services.vault.contains(&name).await.map_err(CaptureError::Vault)?
            {
                waiting.push_back(name);
            } else if current.is_some_and(|current| current.id == timeline.id) {
                tracing::warn!(timeline.id = %timeline.id, slice = %name, "{name} is not in the spool of this machine: what the vault does not have is read from the oplog again");
                let back = timelines.rewind(lease, timeline.id).await?;
                let left = timelines.spooled(back.id).await?;
                waiting.retain(|name| left.iter().any(|slice| slice.name == name.to_string()));
                break;
            } else {
                tracing::error!(timeline.id = %timeline.id, slice = %name, "{name} is in no spool and not in the vault: the timeline {} can be restored up to {} only", timeline.id, timeline.durable);
                break;
            }
        }
    }
    spool.keep_only(waiting.make_contiguous()).await?;
    Ok(waiting)
}

async fn standing(
    services: &Services,
    connected: &Connected,
    spool: &Spool,
    timeline: &Timeline,
    waiting: VecDeque<ObjectName>,
) -> Result<Standing, CaptureError> {
    let project = services.catalog.projects().get(connected.row.project_id).await?;
    let project_name = project.map(|project| project.name.to_string()).unwrap_or_default();
    let previous = timeline.last_slice.as_deref().map(named).transpose()?;
    Ok(Standing {
        timeline: timeline.id,
        source: SliceSource {
            timeline_id: timeline.id,
            project_id: connected.row.project_id,
            project_name,
            deployment_id: connected.row.id,
            deployment_name: connected.row.name.to_string(),
            replica_set_name: timeline.replica_set_name.clone(),
            ebbtide_version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        sequence: timeline.next_sequence,
        previous,
        position: timeline.end,
        open: open_at_end(services, spool, timeline).await?,
        waiting,
    })
}

/// The transactions that are open where the timeline stands, by reading again what may have begun them.
async fn open_at_end(
    services: &Services,
    spool: &Spool,
    timeline: &Timeline,
) -> Result<OpenTransactions, CaptureError> {
    let mut open = OpenTransactions::new();
    if timeline.read_from >= timeline.end.time || timeline.last_slice.is_none() {
        return Ok(open);
    }
    let vault = &services.vault;
    let rows =
        services.catalog.timelines().slices(timeline.id, timeline.read_from, timeline.end.time).await?;
    for row in rows {
        let name = named(&row.name)?;
        let waiting = match row.state {
            SliceState::Stored => None,
            SliceState::Spooled => spool.get(name).await?,
        };
        let slice = match waiting {
            Some(object) => Slice::from_sealed(vault, &name, object.bytes),
            None => Slice::open(vault, &name).await,
        };
        let slice = slice.map_err(CaptureError::Vault)?;
        for block in 0..slice.blocks().len() {
            let block = slice.read_block(block).await.map_err(CaptureError::Vault)?;
            for entry in history::raw::documents(&block).map_while(Result::ok) {
                if let Ok(entry) = Entry::read(entry) {
                    open.feed(&entry);
                }
            }
        }
    }
    Ok(open)
}

pub(super) fn named(text: &str) -> Result<ObjectName, CaptureError> {
    Ok(text.parse().map_err(|e| JobError::failed_by("the catalog names a slice that is none", e))?)
}
