//! Where the record of a deployment goes on: after the last slice of its timeline, or on a new one.

use std::collections::VecDeque;

use catalog::{CaptureLease, NewTimeline, PAGE_SIZE_MAX, Page, SliceState, Timeline};
use history::transaction::OpenTransactions;
use model::{ClusterTime, timeline::TimelineEnd};
use mongo::oplog;
use vault::{ObjectName, Slice, SliceSource};

use super::{
    chain::{Chain, Standing},
    error::CaptureError,
    follow::of_oplog,
    keep::{Brought, Keeping, bring},
    spool::Spool,
};
use crate::{connect::Connected, engine::Services, lease::JobError, observed};

/// The chain of the deployment, ready to be made longer, and what keeps its slices.
pub(super) async fn chain<'a>(
    services: &'a Services,
    lease: &'a CaptureLease,
    connected: &Connected,
) -> Result<(Chain, Keeping<'a>), CaptureError> {
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
    let standing = match standing(services, connected, &spool, &timeline, waiting).await {
        Err(CaptureError::Ends { end, detail }) => {
            tracing::error!(deployment.id = %lease.deployment_id, timeline.id = %timeline.id, end = end.as_str(), "the timeline {} of {} ends: {detail}", timeline.id, connected.row.name);
            timelines.end(lease, timeline.id, end, &detail, services.now()).await?;
            return Err(CaptureError::Ends { end, detail });
        }
        standing => standing?,
    };
    let (keeping, line) = Keeping::new(services, lease, spool, &standing);
    Ok((Chain::new(standing, line), keeping))
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
    let present = spool.present().await?;
    let mut waiting = VecDeque::new();
    for timeline in all(services, lease).await? {
        let is_open = current.is_some_and(|current| current.id == timeline.id);
        let mut here = vec![];
        for slice in timelines.spooled(timeline.id).await? {
            let name = named(&slice.name)?;
            if is_there(services, spool, name).await? {
                here.push(name);
                continue;
            }
            if is_open {
                tracing::warn!(timeline.id = %timeline.id, slice = %name, "{name} is not in the spool of this machine: from there on it is read from the oplog again");
                rewind(services, lease, spool, &timeline, std::mem::take(&mut here)).await?;
                break;
            } else {
                // What follows it and is here is brought all the same: another machine may still have this one.
                tracing::error!(timeline.id = %timeline.id, slice = %name, "{name} is in no spool and not in the vault: the timeline {} can be restored up to {} only", timeline.id, timeline.durable);
            }
        }
        waiting.extend(here);
    }
    spool.keep_only(present, waiting.make_contiguous()).await?;
    Ok(waiting)
}

/// All timelines of the deployment, oldest first.
async fn all(services: &Services, lease: &CaptureLease) -> Result<Vec<Timeline>, CaptureError> {
    let mut all = vec![];
    for page in 1.. {
        let page = Page::new(page, PAGE_SIZE_MAX);
        let listed = services.catalog.timelines().list(lease.deployment_id, page).await?.items;
        let whole = listed.len() < PAGE_SIZE_MAX as usize;
        all.extend(listed);
        if whole {
            break;
        }
    }
    all.reverse();
    Ok(all)
}

/// Whether a slice is in the spool, or was put into the vault by an attempt that died before it could say so. While the
/// vault is away that is not known, and nothing is given up for it.
async fn is_there(services: &Services, spool: &Spool, name: ObjectName) -> Result<bool, CaptureError> {
    Ok(spool.has(name).await? || services.vault.contains(&name).await.unwrap_or(true))
}

/// Takes back what the open timeline has after `here`, which are brought into the vault first.
async fn rewind(
    services: &Services,
    lease: &CaptureLease,
    spool: &Spool,
    timeline: &Timeline,
    here: Vec<ObjectName>,
) -> Result<(), CaptureError> {
    for name in here {
        if bring(services, lease, spool, name).await? != Brought::Stored {
            return Err(CaptureError::SpoolGone { slice: name });
        }
    }
    services.catalog.timelines().rewind(lease, timeline.id).await?;
    Ok(())
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
    let OpenAtEnd { open, since } = open_at_end(services, spool, timeline).await?;
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
        open,
        open_since: since,
        waiting,
    })
}

/// The transactions that are open where the timeline stands.
struct OpenAtEnd {
    /// Those that were found.
    open: OpenTransactions,
    /// There may be others, which began at this time at the earliest.
    since: Option<ClusterTime>,
}

/// Finds them by reading again what may have begun them. Where the vault is away, the last slice tells how far back they
/// may reach, and capture goes on: it must not wait for the vault. Where what began them is gone or damaged, nobody will ever
/// tell, every later state would depend on it, and the timeline ends.
async fn open_at_end(
    services: &Services,
    spool: &Spool,
    timeline: &Timeline,
) -> Result<OpenAtEnd, CaptureError> {
    let mut open = OpenTransactions::new();
    // The time of the last entry may be that of a transaction that begins there, or stand for none.
    if timeline.last_slice.is_none() {
        return Ok(OpenAtEnd { open, since: None });
    }
    let rows =
        services.catalog.timelines().slices(timeline.id, timeline.read_from, timeline.end.time).await?;
    for row in rows {
        let name = named(&row.name)?;
        match feed(services, spool, name, row.state, &mut open).await {
            Ok(()) => {}
            Err(CaptureError::Vault(error)) if is_lost(services, name, row.state, &error).await => {
                let detail = format!("the end of what is recorded cannot be read any more: {error}");
                return Err(CaptureError::Ends { end: TimelineEnd::Damaged, detail });
            }
            Err(CaptureError::Vault(error)) => {
                tracing::warn!(slice = %name, error = %error, "{name} cannot be read, and with it which transactions are open: {error}");
                return Ok(OpenAtEnd { open: OpenTransactions::new(), since: Some(timeline.read_from) });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(OpenAtEnd { open, since: None })
}

/// Whether it is this slice that is lost, and not the whole vault that is away (an empty mount point has no slice either), nor a
/// spool that another disk has. It is read once more when the vault is seen to be there: a timeline ends for good.
async fn is_lost(services: &Services, name: ObjectName, state: SliceState, error: &vault::Error) -> bool {
    let may_be = state == SliceState::Stored && error.is_damage();
    if !may_be || !services.vault.is_here().await.unwrap_or(false) {
        return false;
    }
    let again =
        async { read(&Slice::open(&services.vault, &name).await?, &mut OpenTransactions::new()).await };
    again.await.is_err_and(|error| error.is_damage())
}

async fn feed(
    services: &Services,
    spool: &Spool,
    name: ObjectName,
    state: SliceState,
    open: &mut OpenTransactions,
) -> Result<(), CaptureError> {
    let waiting = match state {
        SliceState::Stored => None,
        SliceState::Spooled => spool.get(name).await?,
    };
    let slice = match waiting {
        Some(object) => Slice::from_sealed(&services.vault, &name, object.bytes),
        None => Slice::open(&services.vault, &name).await,
    };
    read(&slice.map_err(CaptureError::Vault)?, open).await.map_err(CaptureError::Vault)
}

async fn read(slice: &Slice, open: &mut OpenTransactions) -> vault::Result<()> {
    for block in 0..slice.blocks().len() {
        let block = slice.read_block(block).await?;
        for entry in history::raw::documents(&block).map_while(Result::ok) {
            open.feed_raw(entry);
        }
    }
    Ok(())
}

pub(super) fn named(text: &str) -> Result<ObjectName, CaptureError> {
    Ok(text.parse().map_err(|e| JobError::failed_by("the catalog names a slice that is none", e))?)
}
