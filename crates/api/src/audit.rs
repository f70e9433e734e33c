//! Writing down who changes what. A line is begun before the change, and the change is made only when that line is there;
//! when it is known how it went, the line says so. What is refused before it comes to that gets a line that is whole at once.
//!
//! Changes always get their line. Refusals are written for nothing but asking, so of each asker only so many a minute are.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use catalog::{AuditEntry, AuditOutcome, Credential};
use http::{HeaderMap, Method, Uri, header::AUTHORIZATION};
use model::{WallTime, id::ProjectId};
use serde_json::{Value, json};

use crate::{
    auth::{self, Denied},
    error::{Answer, Problem},
    gate::Call,
    ops::Operation,
    params::Params,
    reply::Reply,
    server::Server,
};

/// Lines of one asker in a minute that tell of no change.
pub(crate) const REFUSALS_PER_MINUTE: u32 = 60;
const MINUTE_MS: i64 = 60_000;
/// Askers that are counted at a time. More than these share what one has.
const ASKERS_MAX: usize = 1_000;
/// So much of a path is kept.
const RESOURCE_CHARACTERS_MAX: usize = 512;
/// Who asks without having proved to be anybody.
const NOBODY: &str = "unknown";

/// Whether the log tells of calls of an operation.
pub(crate) fn is_kept(operation: &Operation) -> bool {
    operation.method != Method::GET
}

/// What a handler says of the change that it made; nothing when it made none.
#[derive(Clone, Default)]
pub(crate) struct Note(Arc<Mutex<Option<Noted>>>);

struct Noted {
    action: String,
    subject: String,
    project: Option<ProjectId>,
    detail: Value,
}

impl Note {
    /// Keeps what was changed. `project` where the path names none.
    pub(crate) fn keep(&self, action: &str, subject: String, project: Option<ProjectId>, detail: Value) {
        let noted = Noted { action: action.to_owned(), subject, project, detail };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(noted);
    }

    fn take(&self) -> Option<Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A call as the log tells of it: what is known of it before it is known who calls.
pub(crate) struct Asked {
    at: WallTime,
    from: Option<IpAddr>,
    resource: String,
    project: Option<ProjectId>,
    /// What was shown as proof of who calls.
    authorization: HeaderMap,
}

impl Asked {
    pub(crate) fn new(
        server: &Server,
        from: Option<IpAddr>,
        uri: &Uri,
        headers: &HeaderMap,
        params: &Params,
    ) -> Self {
        let shown = headers.get(AUTHORIZATION).map(|value| (AUTHORIZATION, value.clone()));
        Self {
            at: server.now(),
            from,
            resource: uri.path().chars().take(RESOURCE_CHARACTERS_MAX).collect(),
            project: params.get("groupId").and_then(|text| text.parse().ok()),
            authorization: shown.into_iter().collect(),
        }
    }

    fn entry(&self, who: &str, operation: &Operation) -> AuditEntry {
        let from = self.from.map(|address| address.to_string()).unwrap_or_default();
        AuditEntry {
            resource: self.resource.clone(),
            project: self.project,
            ..AuditEntry::begun(self.at, who, &from, operation.id)
        }
    }
}

/// Runs what was let in, between the two halves of its line. It runs to its end also when the caller hangs up.
pub(crate) async fn carry_out(operation: &'static Operation, call: Call, asked: &Asked) -> Answer<Reply> {
    let server = Arc::clone(&call.server);
    let mut entry = asked.entry(&call.credential.public_name, operation);
    let begun = server.state.catalog.audit().append(&entry).await;
    begun.map_err(|e| server.catalog_problem("write into the audit log", e))?;
    let ran = tokio::spawn(async move {
        let note = call.note.clone();
        let answer = (operation.run)(call).await;
        tell(&mut entry, note.take(), &answer);
        conclude(&server, entry).await;
        answer
    });
    match ran.await {
        Ok(answer) => answer,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(Problem::internal("run an operation to its end", &error)),
        },
    }
}

fn tell(entry: &mut AuditEntry, noted: Option<Noted>, answer: &Answer<Reply>) {
    match answer {
        Ok(reply) => {
            entry.status = Some(reply.status.as_u16());
            entry.outcome = AuditOutcome::Unchanged;
        }
        Err(problem) => refuse(entry, problem),
    }
    // Also when the answer could not be made any more: what was changed is changed.
    if let Some(noted) = noted {
        entry.outcome = AuditOutcome::Ok;
        entry.action = noted.action;
        entry.subject = noted.subject;
        entry.project = entry.project.or(noted.project);
        entry.detail = noted.detail;
    }
}

fn refuse(entry: &mut AuditEntry, problem: &Problem) {
    let failed = problem.status().is_server_error();
    entry.outcome = if failed { AuditOutcome::Failed } else { AuditOutcome::Refused };
    entry.status = Some(problem.status().as_u16());
    entry.error_code = Some(problem.code().as_str().to_owned());
}

async fn conclude(server: &Server, mut entry: AuditEntry) {
    let audit = server.state.catalog.audit();
    let changed = entry.outcome == AuditOutcome::Ok;
    let kept = changed || server.refusals.may_write(&mut entry);
    let done = if kept { audit.conclude(&entry).await } else { audit.withdraw(entry.id).await };
    if let Err(error) = done {
        let (operation, outcome) = (entry.operation, entry.outcome.as_str());
        tracing::error!(%error, operation, outcome, "the audit log could not be told how a change ended: it says unknown");
    }
}

/// Writes down what was refused before anything was run.
pub(crate) async fn turned_away(
    server: &Server,
    operation: &Operation,
    asked: &Asked,
    credential: Option<&Credential>,
    denied: &Denied,
) {
    let mut entry = asked.entry(credential.map_or(NOBODY, |known| known.public_name.as_str()), operation);
    match denied {
        // A client that shows nothing yet, or an old nonce, asks for a challenge and nothing else.
        Denied::Challenge { stale } if *stale || asked.authorization.is_empty() => return,
        Denied::Challenge { .. } => {
            refuse(&mut entry, &Problem::new(crate::error::Code::Unauthorized));
            if let Some(name) = auth::claimed(server, &asked.authorization).await {
                entry.detail = json!({ "claimed": name });
            }
        }
        Denied::Failed(problem) => refuse(&mut entry, problem),
    }
    if !server.refusals.may_write(&mut entry) {
        return;
    }
    if let Err(error) = server.state.catalog.audit().append(&entry).await {
        tracing::error!(%error, operation = operation.id, "a refusal could not be written into the audit log");
    }
}

/// How many refusals of whom were written in this minute.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<HashMap<String, Counted>>);

struct Counted {
    since: WallTime,
    written: u32,
    left_out: u64,
}

impl Refusals {
    /// Whether a line that tells of no change is written. The first one after some that were not tells how many those were.
    fn may_write(&self, entry: &mut AuditEntry) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= ASKERS_MAX && !all.contains_key(&entry.who) {
            all.retain(|_, counted| counted.left_out > 0 || entry.at < counted.since.plus_ms(MINUTE_MS));
        }
        let key = if all.len() >= ASKERS_MAX && !all.contains_key(&entry.who) {
            NOBODY
        } else {
            entry.who.as_str()
        };
        let fresh = Counted { since: entry.at, written: 0, left_out: 0 };
        let counted = all.entry(key.to_owned()).or_insert(fresh);
        let over = entry.at >= counted.since.plus_ms(MINUTE_MS) || entry.at < counted.since;
        if over {
            (counted.since, counted.written) = (entry.at, 0);
        }
        if counted.written >= REFUSALS_PER_MINUTE {
            counted.left_out += 1;
            return false;
        }
        counted.written += 1;
        if counted.left_out > 0 {
            entry.detail["notWritten"] = counted.left_out.into();
            counted.left_out = 0;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(who: &str, second: i64) -> AuditEntry {
        AuditEntry::begun(WallTime(second * 1000), who, "", "x")
    }

    #[test]
    fn refusals_are_bounded_and_those_left_out_are_told() {
        let refusals = Refusals::default();
        for _ in 0..REFUSALS_PER_MINUTE {
            assert!(refusals.may_write(&mut entry("a", 1)));
        }
        for _ in 0..3 {
            assert!(!refusals.may_write(&mut entry("a", 60)));
        }
        assert!(refusals.may_write(&mut entry("b", 60)), "others have their own");
        let mut next = entry("a", 61);
        assert!(refusals.may_write(&mut next));
        assert_eq!(next.detail, json!({"notWritten": 3}));
        let mut after = entry("a", 62);
        assert!(refusals.may_write(&mut after));
        assert_eq!(after.detail, json!({}), "told once");
        assert!(refusals.may_write(&mut entry("a", 0)), "a clock that was set back locks nobody out");
    }

    #[test]
    fn a_crowd_of_askers_costs_no_memory_without_end() {
        let refusals = Refusals::default();
        for n in 0..ASKERS_MAX * 2 {
            refusals.may_write(&mut entry(&n.to_string(), 1));
        }
        let held = refusals.0.lock().unwrap_or_else(PoisonError::into_inner).len();
        assert!(held <= ASKERS_MAX + 1, "{held}");
        assert!(refusals.may_write(&mut entry("late", 70)));
    }
}
