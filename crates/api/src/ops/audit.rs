//! Saying what a handler has changed, for the audit log.

use model::id::ProjectId;
use serde_json::Value;

use crate::gate::Call;

/// A change was made to what the path leads to. Whoever made none says nothing.
pub(super) fn record(call: &Call, action: &str, subject: impl std::fmt::Display, detail: Value) {
    call.note.keep(action, subject.to_string(), None, detail);
}

/// The same, where the path names no project.
pub(super) fn record_in(call: &Call, project: ProjectId, action: &str, detail: Value) {
    call.note.keep(action, project.to_string(), Some(project), detail);
}
