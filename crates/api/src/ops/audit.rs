//! Writing down who changed what. A change that cannot be written down still stands: it has happened.

use catalog::AuditEntry;
use serde_json::Value;

use crate::gate::Call;

/// Appends a successful change to the audit log.
pub(super) async fn record(call: &Call, action: &str, subject: impl std::fmt::Display, detail: Value) {
    let entry = AuditEntry {
        at: call.server.now(),
        who: call.credential.public_name.clone(),
        action: action.to_owned(),
        subject: subject.to_string(),
        outcome: "ok".to_owned(),
        detail,
    };
    if let Err(error) = call.server.state.catalog.audit().append(&entry).await {
        tracing::error!(%error, action, "a change could not be written into the audit log");
    }
}
