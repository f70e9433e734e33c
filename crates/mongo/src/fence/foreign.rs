//! Who else wrote, by what the oplog says.

use std::collections::BTreeSet;

use bson::{RawDocument, RawDocumentBuf, rawdoc};

use crate::{
    ClusterTime, Deployment, Error, Namespace, Result,
    wire::{Connection, ReplyExt as _},
    write::{load::session_prefix, staging::is_staging_name},
};

/// Foreign writes that are described one by one; the rest is only counted.
const DESCRIBED_MAX: usize = 100;
/// Namespaces that are remembered; a deployment that has more has other worries.
const NAMESPACES_MAX: usize = 100_000;
/// Entries in one reply.
pub(super) const BATCH_ENTRIES: i32 = 5_000;

/// Commands that leave a collection and its documents in place.
const MAINTENANCE: [&str; 7] = [
    "abortIndexBuild",
    "collMod",
    "commitIndexBuild",
    "createIndexes",
    "deleteIndexes",
    "dropIndexes",
    "startIndexBuild",
];

/// What one restore writes itself.
#[derive(Debug, Clone, Default)]
pub struct OwnWrites {
    /// The job, by whose sessions its documents under final names are known (see [`session_prefix`]).
    pub job: String,
    /// Namespaces (`db.collection`) whose creation, drop, rename, options and indexes are the restore's work.
    pub ddl: BTreeSet<String>,
    /// Namespaces that stay, and of which only the options and indexes are the restore's work.
    pub maintained: BTreeSet<String>,
    /// Databases that the restore drops.
    pub dropped_databases: BTreeSet<String>,
    /// What the restore is about, when that is not everything: writes to other namespaces are nobody's concern.
    pub only: Option<BTreeSet<String>>,
}

/// One foreign write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// When.
    pub at: ClusterTime,
    /// To what: `db.collection`, or `db.$cmd` where the entry does not tell.
    pub namespace: String,
    /// `insert`, `update`, `delete`, or the name of the command.
    pub operation: String,
}

/// The writes of others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ForeignWrites {
    /// All of them.
    pub count: u64,
    /// The first hundred.
    pub first: Vec<Write>,
    /// Everything that any of them went to.
    pub namespaces: BTreeSet<String>,
}

/// Searches the oplog for writes to user data with `since` < time ≤ `until` that are not the restore's own.
///
/// Own are: everything under staging names; documents written in one of the job's sessions; DDL on what the job says it
/// changes. An entry that cannot be told apart counts as foreign.
///
/// # Errors
/// [`Error::OplogGap`] when the oplog does not reach back to `since`.
pub async fn foreign_writes(
    deployment: &Deployment,
    since: ClusterTime,
    until: ClusterTime,
    own: &OwnWrites,
) -> Result<ForeignWrites> {
    let mut connection = deployment.primary_wire().await?;
    let mut found = ForeignWrites::default();
    let find = rawdoc! {
        "find": "oplog.rs", "$db": "local", "batchSize": BATCH_ENTRIES,
        // None of those up to `until` missing.
        "readConcern": { "level": "majority", "afterClusterTime": until },
        "filter": { "ts": { "$gt": since, "$lte": until }, "op": { "$in": ["i", "u", "d", "c"] } },
        // Documents stay on the server; commands are needed to see what they are about.
        "projection": {
            "ts": 1, "op": 1, "ns": 1, "lsid.id": 1, "o.create": 1, "o.drop": 1, "o.dropDatabase": 1, "o.collMod": 1,
            "o.renameCollection": 1, "o.to": 1, "o.createIndexes": 1, "o.startIndexBuild": 1, "o.commitIndexBuild": 1,
            "o.abortIndexBuild": 1, "o.dropIndexes": 1, "o.deleteIndexes": 1, "o.emptycapped": 1,
            "o.convertToCapped": 1, "o.applyOps.op": 1, "o.applyOps.ns": 1, "o.commitTransaction": 1,
            "o.abortTransaction": 1,
        },
    };
    for_each_entry(&mut connection, find, since, |entry| own.sort(entry, &mut found)).await?;
    Ok(found)
}

/// Shows every entry that a find in the oplog gives, which looks for entries later than `since`.
pub(super) async fn for_each_entry(
    connection: &mut Connection,
    find: RawDocumentBuf,
    since: ClusterTime,
    mut see: impl FnMut(&RawDocument),
) -> Result<()> {
    let mut next = find;
    loop {
        let reply = connection.command(&next).await?;
        let cursor =
            reply.child("cursor").ok_or_else(|| Error::Protocol("a find without a cursor".to_owned()))?;
        for entry in cursor.children("firstBatch").into_iter().chain(cursor.children("nextBatch")) {
            see(entry);
        }
        match cursor.number("id") {
            Some(0) | None => break,
            Some(id) => {
                next = rawdoc! { "getMore": id, "collection": "oplog.rs", "$db": "local", "batchSize": BATCH_ENTRIES }
            }
        }
    }
    // Asked after the scan: entries that were truncated while we read would be missed otherwise.
    refuse_gap(connection, since).await
}

async fn refuse_gap(connection: &mut Connection, since: ClusterTime) -> Result<()> {
    let ends = crate::facts::oplog_ends(connection).await?;
    match ends {
        Some((oldest, _)) if oldest <= since => Ok(()),
        Some((oldest, _)) => Err(Error::OplogGap { wanted: since, oldest }),
        None => Err(Error::Protocol("an empty oplog".to_owned())),
    }
}

impl OwnWrites {
    /// Adds an entry's writes to `found`, unless they are our own or nobody's data.
    fn sort(&self, entry: &RawDocument, found: &mut ForeignWrites) {
        let at = entry.timestamp("ts").unwrap_or(ClusterTime { time: 0, increment: 0 });
        let (op, namespace) = (entry.text("op").unwrap_or_default(), entry.text("ns").unwrap_or_default());
        let ours = self.is_our_session(entry);
        match entry.child("o").filter(|_| op == "c") {
            None => self.sort_document_write(at, op, namespace, ours, found),
            Some(command) => self.sort_command(at, namespace, command, ours, found),
        }
    }

    fn is_our_session(&self, entry: &RawDocument) -> bool {
        let id = entry.child("lsid").and_then(|lsid| lsid.uuid("id"));
        !self.job.is_empty() && id.is_some_and(|id| id.starts_with(&session_prefix(&self.job)))
    }

    fn sort_document_write(
        &self,
        at: ClusterTime,
        op: &str,
        namespace: &str,
        ours: bool,
        found: &mut ForeignWrites,
    ) {
        // Definitions of views and time series are written by `create` and `drop`, which carry no session.
        let defines_ours = namespace.ends_with(".system.views") && self.ddl.contains(namespace);
        if !ours && !defines_ours && is_user_data(namespace) && self.concerns(namespace) {
            let operation = match op {
                "i" => "insert",
                "u" => "update",
                "d" => "delete",
                other => other,
            };
            found.add(at, namespace, operation);
        }
    }

    fn sort_command(
        &self,
        at: ClusterTime,
        namespace: &str,
        command: &RawDocument,
        ours: bool,
        found: &mut ForeignWrites,
    ) {
        let Some(Ok((name, value))) = command.iter().next() else {
            if self.concerns(namespace) {
                found.add(at, namespace, "unknown command");
            }
            return;
        };
        let db = namespace.split_once('.').map_or(namespace, |(db, _)| db);
        match name.as_str() {
            "applyOps" => {
                for write in command.children("applyOps") {
                    let (op, namespace) =
                        (write.text("op").unwrap_or_default(), write.text("ns").unwrap_or_default());
                    self.sort_document_write(at, op, namespace, ours, found);
                }
            }
            // The writes of a prepared transaction were in its applyOps.
            "commitTransaction" | "abortTransaction" => {}
            "dropDatabase" if self.dropped_databases.contains(db) || !is_user_data(&format!("{db}.x")) => {}
            "dropDatabase" => {
                if self.concerns(namespace) {
                    found.add(at, namespace, "dropDatabase");
                }
            }
            "renameCollection" => {
                let (from, to) = (value.as_str().unwrap_or_default(), command.text("to").unwrap_or_default());
                let is_ours = self.is_our_ddl(from) && self.is_our_ddl(to);
                if !is_ours && (self.concerns(from) || self.concerns(to)) {
                    found.add(at, to, "renameCollection");
                    found.remember(from);
                }
            }
            other => {
                let target =
                    value.as_str().map_or_else(|| namespace.to_owned(), |name| format!("{db}.{name}"));
                let maintains = MAINTENANCE.contains(&other) && self.maintained.contains(&target);
                let is_ours = self.is_our_ddl(&target) || maintains;
                if !is_ours && is_user_data(&target) && self.concerns(&target) {
                    found.add(at, &target, other);
                }
            }
        }
    }

    /// Whether the restore is about this namespace, or about something in the database of a command.
    fn concerns(&self, namespace: &str) -> bool {
        let Some(only) = &self.only else { return true };
        match namespace.strip_suffix("$cmd") {
            Some(database) => {
                only.range(database.to_owned()..).next().is_some_and(|next| next.starts_with(database))
            }
            None => only.contains(namespace),
        }
    }

    fn is_our_ddl(&self, namespace: &str) -> bool {
        self.ddl.contains(namespace)
            || Namespace::parse(namespace).is_some_and(|n| is_staging_name(&n.collection))
    }
}

/// Whether a backup takes this namespace; staging names it does not.
fn is_user_data(namespace: &str) -> bool {
    Namespace::parse(namespace).is_none_or(|namespace| namespace.never_taken().is_none())
}

impl ForeignWrites {
    fn add(&mut self, at: ClusterTime, namespace: &str, operation: &str) {
        self.count += 1;
        self.remember(namespace);
        if self.first.len() < DESCRIBED_MAX {
            self.first.push(Write { at, namespace: namespace.to_owned(), operation: operation.to_owned() });
        }
    }

    fn remember(&mut self, namespace: &str) {
        if self.namespaces.len() < NAMESPACES_MAX && !self.namespaces.contains(namespace) {
            self.namespaces.insert(namespace.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::{Binary, RawDocumentBuf, rawdoc, spec::BinarySubtype};

    use super::*;

    fn own() -> OwnWrites {
        OwnWrites {
            job: "job".to_owned(),
            ddl: ["app.orders".to_owned(), "app.system.views".to_owned()].into(),
            maintained: ["app.stays".to_owned()].into(),
            dropped_databases: ["gone".to_owned()].into(),
            only: None,
        }
    }

    fn described(entry: &RawDocumentBuf) -> Vec<String> {
        described_by(&own(), entry)
    }

    fn described_by(own: &OwnWrites, entry: &RawDocumentBuf) -> Vec<String> {
        let mut found = ForeignWrites::default();
        own.sort(entry, &mut found);
        found.first.iter().map(|write| format!("{} {}", write.operation, write.namespace)).collect()
    }

    #[test]
    fn what_others_write_is_told() {
        for (entry, told) in [
            (rawdoc! { "op": "i", "ns": "app.orders", "o": {} }, "insert app.orders"),
            (rawdoc! { "op": "d", "ns": "admin.mine", "o": {} }, "delete admin.mine"),
            (rawdoc! { "op": "u", "ns": "app.system.buckets.w", "o": {} }, "update app.system.buckets.w"),
            (rawdoc! { "op": "c", "ns": "app.$cmd", "o": { "drop": "users" } }, "drop app.users"),
            (rawdoc! { "op": "c", "ns": "app.$cmd", "o": { "drop": "stays" } }, "drop app.stays"),
            (
                rawdoc! { "op": "c", "ns": "app.$cmd", "o": { "renameCollection": "app.a", "to": "app.orders" } },
                "renameCollection app.orders",
            ),
            (
                rawdoc! { "op": "c", "ns": "other.$cmd", "o": { "dropDatabase": 1 } },
                "dropDatabase other.$cmd",
            ),
            (
                rawdoc! { "op": "c", "ns": "admin.$cmd", "o": { "applyOps": [{ "op": "u", "ns": "app.orders" }] } },
                "update app.orders",
            ),
            (rawdoc! { "op": "c", "ns": "app.$cmd", "o": { "newCommand": 1 } }, "newCommand app.$cmd"),
            (rawdoc! { "op": "c", "ns": "app.$cmd", "o": {} }, "unknown command app.$cmd"),
        ] {
            assert_eq!(described(&entry), [told]);
        }
    }

    #[test]
    fn our_own_and_the_servers_are_not() {
        let mut id = session_prefix("job").to_vec();
        id.resize(16, 9);
        let lsid = rawdoc! { "id": Binary { subtype: BinarySubtype::Uuid, bytes: id } };
        for entry in [
            rawdoc! { "op": "i", "ns": "app.orders", "o": {}, "lsid": lsid },
            rawdoc! { "op": "i", "ns": "app.ebbtide.staging.x.1", "o": {} },
            rawdoc! { "op": "i", "ns": "app.system.views", "o": {} },
            rawdoc! { "op": "i", "ns": "config.transactions", "o": {} },
            rawdoc! { "op": "c", "ns": "app.$cmd", "o": { "create": "orders" } },
            rawdoc! { "op": "c", "ns": "app.$cmd", "o": { "collMod": "stays", "index": {} } },
            rawdoc! { "op": "c", "ns": "app.$cmd", "o": { "commitIndexBuild": "stays" } },
            rawdoc! { "op": "c", "ns": "app.$cmd", "o": { "startIndexBuild": "ebbtide.staging.x.1" } },
            rawdoc! { "op": "c", "ns": "app.$cmd", "o": { "renameCollection": "app.ebbtide.staging.x.1", "to": "app.orders" } },
            rawdoc! { "op": "c", "ns": "gone.$cmd", "o": { "dropDatabase": 1 } },
            rawdoc! { "op": "c", "ns": "admin.$cmd", "o": { "commitTransaction": 1 } },
            rawdoc! { "op": "c", "ns": "config.$cmd", "o": { "create": "x" } },
        ] {
            assert_eq!(described(&entry), [""; 0], "{entry:?}");
        }
    }

    #[test]
    fn what_a_selective_restore_is_not_about_is_nobodys_concern() {
        let only = Some(["app.orders".to_owned(), "app.other".to_owned()].into());
        let own = OwnWrites { only, ..OwnWrites::default() };
        for (entry, told) in [
            (rawdoc! { "op": "i", "ns": "app.orders", "o": {} }, &["insert app.orders"][..]),
            (rawdoc! { "op": "i", "ns": "app.orders2", "o": {} }, &[]),
            (rawdoc! { "op": "i", "ns": "ap.orders", "o": {} }, &[]),
            (rawdoc! { "op": "c", "ns": "app.$cmd", "o": { "drop": "other" } }, &["drop app.other"]),
            (rawdoc! { "op": "c", "ns": "app.$cmd", "o": { "create": "new" } }, &[]),
            (
                rawdoc! { "op": "c", "ns": "app.$cmd", "o": { "renameCollection": "app.orders", "to": "app.gone" } },
                &["renameCollection app.gone"],
            ),
            (
                rawdoc! { "op": "c", "ns": "app.$cmd", "o": { "renameCollection": "app.x", "to": "app.y" } },
                &[],
            ),
            (rawdoc! { "op": "c", "ns": "app.$cmd", "o": { "dropDatabase": 1 } }, &["dropDatabase app.$cmd"]),
            (rawdoc! { "op": "c", "ns": "ap.$cmd", "o": { "dropDatabase": 1 } }, &[]),
            (rawdoc! { "op": "c", "ns": "app.$cmd", "o": {} }, &["unknown command app.$cmd"]),
            (rawdoc! { "op": "c", "ns": "x.$cmd", "o": {} }, &[]),
            (
                rawdoc! { "op": "c", "ns": "admin.$cmd", "o": { "applyOps": [
                    { "op": "u", "ns": "app.orders" }, { "op": "i", "ns": "app.x" },
                ] } },
                &["update app.orders"],
            ),
        ] {
            assert_eq!(described_by(&own, &entry), told, "{entry:?}");
        }
    }
}
