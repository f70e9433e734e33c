//! Commands on the data directory in the audit log: begun before the change, concluded after it, as those of the API are.

use anyhow::Context;
use catalog::{AuditEntry, AuditOutcome, Catalog};
use model::id::ProjectId;
use serde_json::Value;

/// What a command has changed.
pub(super) struct Change {
    /// What was done, such as `project.create`.
    pub(super) action: &'static str,
    /// To what, such as an id.
    pub(super) subject: String,
    /// The project that it concerns.
    pub(super) project: Option<ProjectId>,
    /// Whatever else is worth keeping; no secret.
    pub(super) detail: Value,
}

/// A line that was begun.
pub(super) struct Line(AuditEntry);

impl Line {
    /// Begins the line of a command. Where it cannot be written, nothing is to be changed.
    pub(super) async fn begin(catalog: &Catalog, command: &str) -> anyhow::Result<Self> {
        let now = engine::engine::wall_clock();
        let entry = AuditEntry::begun(now, &who(), &machine(), &format!("admin {command}"));
        catalog.audit().append(&entry).await.context("write into the audit log")?;
        Ok(Self(entry))
    }

    /// Concludes it with what became of the change.
    pub(super) async fn end<T>(
        self,
        catalog: &Catalog,
        done: anyhow::Result<T>,
        told: impl FnOnce(&T) -> Change,
    ) -> anyhow::Result<T> {
        let Self(mut entry) = self;
        match &done {
            Ok(made) => {
                let change = told(made);
                entry.outcome = AuditOutcome::Ok;
                entry.action = change.action.to_owned();
                entry.subject = change.subject;
                entry.project = change.project;
                entry.detail = change.detail;
            }
            Err(_) => entry.outcome = AuditOutcome::Failed,
        }
        if let Err(error) = catalog.audit().conclude(&entry).await {
            // The change stands; the line says that it is not known how it ended.
            eprintln!("warning: the audit log could not be told how this ended: {error}");
        }
        done
    }
}

/// The account of the system that runs the command.
fn who() -> String {
    let number = rustix::process::getuid().as_raw();
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    format!("admin ({})", name(&accounts, number).unwrap_or_else(|| format!("uid {number}")))
}

/// The name of an account by its number, in a file such as `/etc/passwd`.
fn name(accounts: &str, number: u32) -> Option<String> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _password, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id.parse() == Ok(number)).then(|| name.to_owned())
    })
}

/// The name of the machine, as it calls itself.
fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "localhost".to_owned() } else { name.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn accounts_are_found_by_their_number() {
        let file = "root:x:0:0:root:/root:/bin/sh\n# odd line\nada:x:1000:1000:Ada:/home/ada:/bin/sh\n";
        assert_eq!((name(file, 1000).as_deref(), name(file, 0).as_deref()), (Some("ada"), Some("root")));
        assert_eq!((name(file, 7), name("", 0)), (None, None));
    }
}
