//! Transactions that are open at a time: in the oplog with some of their entries, and not yet with the last.
//!
//! Only prepared ones are for long. What a client does in a transaction that it has not committed is not in the oplog at
//! all, and the entries of a large one are written at once when it commits.

use bson::{RawDocumentBuf, raw::cstr, rawdoc};

use super::window::ends;
use crate::{
    ClusterTime, Error, Result,
    wire::{Connection, ReplyExt as _},
};

/// What the server writes where there is no time.
const NONE: ClusterTime = ClusterTime { time: 0, increment: 0 };

/// The time of the first entry of the oldest transaction that is open at `at`; none when no transaction is.
///
/// `at` is a time that a majority has, marked by the member that `connection` leads to as the primary (see
/// [`crate::time::majority_now_on`]): the table of transactions of a member that replicates skips states.
///
/// # Errors
/// `Privilege` without `find` on `config.transactions`; [`Error::OplogGap`] when the oplog does not reach back to `at`,
/// [`Error::TransactionCut`] when it does not to the transaction's beginning; the server's.
pub async fn oldest_open_at(connection: &mut Connection, at: ClusterTime) -> Result<Option<ClusterTime>> {
    let mut oldest = open_now(connection).await?.filter(|began| *began <= at);
    // Those that were open at `at` and had ended when the table was read. Asked after it, so that none is missed.
    for entry in continued_after(connection, at).await? {
        let began = first_of(connection, entry).await?;
        oldest = Some(oldest.map_or(began, |oldest| oldest.min(began)));
    }
    // Entries that were cut off under the search would be missed otherwise.
    match ends(connection).await? {
        Some((first, _)) if first.time <= at => Ok(oldest),
        Some((first, _)) => Err(Error::OplogGap { wanted: at, oldest: first.time }),
        None => Err(Error::protocol("an empty oplog")),
    }
}

/// The same of this moment, by the server's table of transactions.
async fn open_now(connection: &mut Connection) -> Result<Option<ClusterTime>> {
    let find = rawdoc! {
        "find": "transactions", "$db": "config", "filter": { "state": { "$in": ["prepared", "inProgress"] } },
        "sort": { "startOpTime.ts": 1 }, "limit": 1, "singleBatch": true, "projection": { "startOpTime": 1 },
        // As it is: the server refuses to read this collection at a time.
        "readConcern": { "level": "local" },
    };
    let reply = match connection.command(&find).await {
        Err(Error::Privilege(_)) => {
            return Err(Error::Privilege(
                "find on config.transactions, which shows where the transactions that are open now began; the record \
                 of a continuous backup has to begin before them"
                    .to_owned(),
            ));
        }
        other => other?,
    };
    let Some(open) = reply.child("cursor").and_then(|cursor| cursor.children("firstBatch").pop()) else {
        return Ok(None);
    };
    let began = open.child("startOpTime").and_then(|start| start.timestamp("ts"));
    began
        .map(Some)
        .ok_or_else(|| Error::protocol("an open transaction in config.transactions without startOpTime"))
}

/// The entries at or before `at` that entries of transactions after it go on from.
async fn continued_after(connection: &mut Connection, at: ClusterTime) -> Result<Vec<ClusterTime>> {
    let mut next: RawDocumentBuf = rawdoc! {
        "find": "oplog.rs", "$db": "local",
        "filter": { "ts": { "$gt": at }, "op": "c", "prevOpTime.ts": { "$gt": NONE, "$lte": at } },
        "projection": { "prevOpTime": 1 }, "readConcern": { "level": "local" },
    };
    let mut found = Vec::new();
    loop {
        let reply = connection.command(&next).await?;
        let cursor = reply.child("cursor").ok_or_else(|| Error::protocol("a find without a cursor"))?;
        for entry in cursor.children("firstBatch").into_iter().chain(cursor.children("nextBatch")) {
            found.extend(entry.child("prevOpTime").and_then(|previous| previous.timestamp("ts")));
        }
        match cursor.number("id") {
            Some(0) | None => return Ok(found),
            Some(id) => next = rawdoc! { "getMore": id, "collection": "oplog.rs", "$db": "local" },
        }
    }
}

/// The first entry of the transaction that has an entry at `at`.
async fn first_of(connection: &mut Connection, at: ClusterTime) -> Result<ClusterTime> {
    let mut first = at;
    loop {
        let mut find = rawdoc! { "find": "oplog.rs", "$db": "local", "limit": 1, "singleBatch": true };
        find.append(cstr!("filter"), rawdoc! { "ts": first });
        find.append(cstr!("projection"), rawdoc! { "prevOpTime": 1 });
        let reply = connection.command(&find).await?;
        let entry = reply.child("cursor").and_then(|cursor| cursor.children("firstBatch").pop());
        let Some(entry) = entry else {
            return Err(cut(connection, first).await);
        };
        match entry.child("prevOpTime").and_then(|previous| previous.timestamp("ts")) {
            // Backwards only, so that it ends.
            Some(previous) if NONE < previous && previous < first => first = previous,
            _ => return Ok(first),
        }
    }
}

/// That a transaction which began at `began` cannot be recorded whole.
pub(super) async fn cut(connection: &mut Connection, began: ClusterTime) -> Error {
    match ends(connection).await {
        Ok(Some((oldest, _))) => Error::TransactionCut { began, oldest: oldest.time },
        Ok(None) => Error::protocol("an empty oplog"),
        Err(error) => error,
    }
}
