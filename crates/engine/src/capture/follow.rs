//! Following the oplog of one deployment.

use std::time::Duration;

use catalog::CaptureLease;
use model::OplogPosition;
use mongo::oplog::{self, Tail};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    base, begin,
    chain::Chain,
    error::CaptureError,
    keep::Kept,
    status::{Status, warning},
};
use crate::{
    connect::{self, Connected, to_model, to_mongo},
    engine::Services,
};

/// How long the deployment is waited for when nothing comes.
const QUIET: Duration = Duration::from_millis(500);
/// The shortest wait: none at all would mean for ever.
const AT_ONCE: Duration = Duration::from_millis(1);
/// Wait before it is tried again after an error; doubled each time.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// The longest such wait.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// How often the oplog's window, the base and the connection string are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How far a deployment was followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Followed {
    /// Until it was to stop.
    Wholly,
    /// Until there was another connection string.
    ForAnotherConnection,
    /// Until the vault was back, without which it was not known which transactions are open.
    UntilTheVaultIsBack,
}

/// Follows one deployment until `stop`; whatever goes wrong is shown and tried again.
pub(super) async fn until_stopped(
    services: &Services,
    lease: &CaptureLease,
    status: &Status,
    stop: &CancellationToken,
) {
    let mut pause = PAUSE_FIRST;
    while !stop.is_cancelled() {
        let began = Instant::now();
        let ended = follow(services, lease, status, stop).await;
        let error = match ended {
            Ok(Followed::Wholly) | Err(CaptureError::Lost) => return stop.cancel(),
            Ok(Followed::ForAnotherConnection | Followed::UntilTheVaultIsBack) => {
                pause = PAUSE_FIRST;
                continue;
            }
            Err(error) => error,
        };
        let text = error.full_text();
        tracing::warn!(deployment.id = %lease.deployment_id, error = text, "the capture of {} stumbled: {text}", lease.deployment_id);
        status.update(|shown| (shown.error, shown.is_unkept) = (Some(text), error.is_unkept()));
        if began.elapsed() > PAUSE_MAX {
            pause = PAUSE_FIRST;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Follows it until `stop`, until it is to be reached otherwise, or until something goes wrong.
async fn follow(
    services: &Services,
    lease: &CaptureLease,
    status: &Status,
    stop: &CancellationToken,
) -> Result<Followed, CaptureError> {
    let connected = connect::connect(services, lease.deployment_id).await?;
    let (mut chain, keeping) = begin::chain(services, lease, &connected).await?;
    let timeline = chain.timeline();
    let mut keeping = std::pin::pin!(keeping.run());
    let followed = tokio::select! {
        biased;
        // It ends before the chain does only when something is wrong.
        Err(error) = &mut keeping => return Err(error),
        followed = tail(services, &connected, &mut chain, status, stop) => followed,
    };
    if matches!(followed, Err(CaptureError::Lost)) {
        return Err(CaptureError::Lost);
    }
    // Closed also on the way out: what was read need not be read again.
    chain.close();
    drop(chain);
    let kept = keeping.await;
    let Err(CaptureError::Ends { end, detail }) = followed else { return kept.and(followed) };
    kept?;
    tracing::error!(deployment.id = %lease.deployment_id, timeline.id = %timeline, end = end.as_str(), "the timeline {timeline} of {} ends: {detail}", connected.row.name);
    services.catalog.timelines().end(lease, timeline, end, &detail, services.now()).await?;
    Err(CaptureError::Ends { end, detail })
}

async fn tail(
    services: &Services,
    connected: &Connected,
    chain: &mut Chain,
    status: &Status,
    stop: &CancellationToken,
) -> Result<Followed, CaptureError> {
    let mut wanted = services.waiters.of(connected.row.id);
    let mut tail = Tail::open(&connected.deployment, to_oplog(chain.position())).await?;
    let (mut looked, began): (Option<Instant>, _) = (None, chain.kept().recorded);
    while !stop.is_cancelled() {
        let wait = chain.filling().map_or(QUIET, |filling| filling.due_in().clamp(AT_ONCE, QUIET));
        let batch = {
            let mut next = std::pin::pin!(tail.next(wait));
            loop {
                tokio::select! {
                    biased;
                    batch = &mut next => break batch?,
                    // What is waited for may be here, and nothing else come for a while.
                    Ok(()) = wanted.changed() => {
                        let asked_for = *wanted.borrow_and_update();
                        if chain.filling().is_some_and(|filling| filling.is_due(asked_for)) {
                            chain.close();
                        }
                    }
                }
            }
        };
        for (position, entry) in batch.entries() {
            chain.push(of_oplog(position), entry).await?;
        }
        tail.recycle(batch);
        let asked_for = *wanted.borrow();
        if chain.filling().is_some_and(|filling| filling.is_due(asked_for)) {
            chain.close();
        }
        let (position, Kept { recorded, waiting, warning }) = (chain.position(), chain.kept());
        let is_kept = recorded != began;
        status.update(|shown| {
            shown.position = Some(position);
            shown.read_at = Some(services.now());
            shown.waiting_slices = waiting;
            shown.vault_warning = warning;
            // Entries that were read again are not kept yet: until a slice is, the reason why they were not holds.
            if !shown.is_unkept || is_kept {
                (shown.error, shown.is_unkept) = (None, false);
            }
        });
        if looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            looked = Some(Instant::now());
            look(connected, chain, status).await?;
            base::ensure(services, chain.timeline()).await?;
            if connect::is_outdated(services, connected).await? {
                return Ok(Followed::ForAnotherConnection);
            }
            // What is recorded meanwhile is needed from where they may have begun, for as long as nobody looks.
            if chain.is_unsure() && is_kept && waiting == 0 {
                return Ok(Followed::UntilTheVaultIsBack);
            }
        }
    }
    Ok(Followed::Wholly)
}

/// Looks how much of the oplog's window is used up.
async fn look(connected: &Connected, chain: &Chain, status: &Status) -> Result<(), CaptureError> {
    let window = oplog::window(&connected.deployment).await?;
    let holds = window.seconds();
    let behind = window.newest.time.time.saturating_sub(chain.position().time.seconds);
    let warning = warning(holds, behind);
    if let Some(warning) = &warning {
        tracing::warn!(deployment.id = %connected.row.id, "{}: {warning}", connected.row.name);
    }
    status.update(|shown| {
        shown.oplog_window_seconds = Some(holds);
        shown.behind_seconds = Some(behind);
        shown.oplog_warning = warning;
    });
    Ok(())
}

fn to_oplog(position: OplogPosition) -> oplog::Position {
    oplog::Position { time: to_mongo(position.time), term: position.term }
}

pub(super) fn of_oplog(position: oplog::Position) -> OplogPosition {
    OplogPosition { time: to_model(position.time), term: position.term }
}
