//! State machines of the model as SQL.
//!
//! One conditional `UPDATE` decides each transition, and its condition and result come from the model's own `next`:
//! `SET state = CASE state WHEN 'queued' THEN 'cancelled' … END … WHERE … AND state IN ('queued', …)`. Two requests
//! that contradict each other meet on the row, and the second one no longer finds a state that allows it.

use model::{
    copy::{CopyEvent, CopyState},
    export::{ExportEvent, ExportState},
    restore::{RestoreEvent, RestoreState},
    snapshot::{SnapshotEvent, SnapshotState},
};

/// The exits of a machine under one event, as SQL.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Moves {
    /// `CASE state WHEN … END`
    pub(crate) next: String,
    /// `('queued', 'running')`
    pub(crate) from: String,
}

/// The exits of a restore job.
pub(crate) fn restore(event: RestoreEvent) -> Moves {
    moves(RestoreState::ALL.iter().filter_map(|s| Some((s.as_str(), s.next(event).ok()?.as_str()))))
}

/// The exits of an export.
pub(crate) fn export(event: ExportEvent) -> Moves {
    moves(ExportState::ALL.iter().filter_map(|s| Some((s.as_str(), s.next(event).ok()?.as_str()))))
}

/// The exits of a snapshot.
pub(crate) fn snapshot(event: SnapshotEvent) -> Moves {
    moves(SnapshotState::ALL.iter().filter_map(|s| Some((s.as_str(), s.next(event).ok()?.as_str()))))
}

/// The exits of a copy.
pub(crate) fn copy(event: CopyEvent) -> Moves {
    moves(CopyState::ALL.iter().filter_map(|s| Some((s.as_str(), s.next(event).ok()?.as_str()))))
}

fn moves(pairs: impl Iterator<Item = (&'static str, &'static str)>) -> Moves {
    let (mut cases, mut from) = (Vec::new(), Vec::new());
    for (state, next) in pairs {
        cases.push(format!("WHEN '{state}' THEN '{next}'"));
        from.push(format!("'{state}'"));
    }
    Moves { next: format!("CASE state {} END", cases.join(" ")), from: format!("({})", from.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_decides() {
        let cancel = restore(RestoreEvent::CancelRequested);
        assert_eq!(cancel.from, "('queued', 'running', 'cancelling', 'ready', 'cancelled')");
        assert!(cancel.next.contains("WHEN 'queued' THEN 'cancelled'"));
        assert!(cancel.next.contains("WHEN 'running' THEN 'cancelling'"));
        assert_eq!(snapshot(SnapshotEvent::Completed).from, "('inProgress')");
    }

    #[test]
    fn every_event_has_an_exit() {
        for event in [
            RestoreEvent::Claimed,
            RestoreEvent::CancelRequested,
            RestoreEvent::Cancelled,
            RestoreEvent::CutOver,
            RestoreEvent::Ready,
            RestoreEvent::Finished,
            RestoreEvent::Failed,
            RestoreEvent::Expired,
        ] {
            assert_ne!(restore(event).from, "()", "{event:?}");
        }
        for event in [
            ExportEvent::Claimed,
            ExportEvent::CancelRequested,
            ExportEvent::Cancelled,
            ExportEvent::Finished,
            ExportEvent::Failed,
        ] {
            assert_ne!(export(event).from, "()", "{event:?}");
        }
    }
}
