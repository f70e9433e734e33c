//! How far back the oplog reaches.

use bson::{RawDocumentBuf, rawdoc};

use super::{Position, position_of};
use crate::{
    ClusterTime, Deployment, Error, Result,
    wire::{Connection, ReplyExt as _},
};

/// What the oplog of one member holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OplogWindow {
    /// The first entry.
    pub oldest: Position,
    /// The last entry, whether a majority has it or not.
    pub newest: Position,
    /// Bytes of all entries, uncompressed.
    pub bytes: u64,
    /// Bytes that it may hold before the first entries go. With a minimum retention it may hold more.
    pub bytes_max: u64,
}

impl OplogWindow {
    /// Seconds from the first entry to the last.
    pub fn seconds(&self) -> u32 {
        self.newest.time.time.saturating_sub(self.oldest.time.time)
    }

    /// How much of what the oplog can hold has been written after `at`, in per cent: at 100 the entry after `at` is
    /// about to go. An estimate that takes the entries for evenly spread. An oplog that is not full yet has room, so
    /// its own age says nothing.
    pub fn percent_behind(&self, at: ClusterTime) -> u32 {
        if at < self.oldest.time {
            return 100;
        }
        let behind = u128::from(self.newest.time.time.saturating_sub(at.time));
        let span = u128::from(self.seconds().max(1));
        let room = u128::from(self.bytes_max.max(self.bytes).max(1));
        let percent = u128::from(self.bytes) * behind * 100 / (span * room);
        u32::try_from(percent).unwrap_or(100).min(100)
    }
}

/// What the oplog of the primary holds now.
///
/// # Errors
/// The server's.
pub async fn window(deployment: &Deployment) -> Result<OplogWindow> {
    window_on(&mut deployment.primary_wire().await?).await
}

/// [`window`] of the member that `connection` leads to.
///
/// # Errors
/// The server's.
pub async fn window_on(connection: &mut Connection) -> Result<OplogWindow> {
    let stats = rawdoc! {
        "collStats": "oplog.rs", "$db": "local", "$readPreference": { "mode": "primaryPreferred" },
    };
    let reply = connection.command(&stats).await?;
    let number = |name: &str| reply.number(name).and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
    let (bytes, bytes_max) = (number("size"), number("maxSize"));
    let (oldest, newest) = ends(connection).await?.ok_or_else(|| Error::protocol("an empty oplog"))?;
    Ok(OplogWindow { oldest, newest, bytes, bytes_max })
}

/// First and last entry of the oplog of the member that `connection` leads to, whatever the member is now.
pub(crate) async fn ends(connection: &mut Connection) -> Result<Option<(Position, Position)>> {
    let mut end = async |direction: i32| {
        let mut find = find();
        find.append(bson::raw::cstr!("sort"), rawdoc! { "$natural": direction });
        one(connection, &find).await
    };
    let (first, last) = (end(1).await?, end(-1).await?);
    Ok(first.zip(last))
}

/// A find of the position of one entry.
pub(super) fn find() -> RawDocumentBuf {
    rawdoc! {
        "find": "oplog.rs", "$db": "local", "limit": 1, "singleBatch": true, "projection": { "ts": 1, "t": 1 },
        "$readPreference": { "mode": "primaryPreferred" },
    }
}

/// The position of the one entry that a find gives.
pub(super) async fn one(connection: &mut Connection, find: &RawDocumentBuf) -> Result<Option<Position>> {
    let reply = connection.command(find).await?;
    let entry = reply.child("cursor").and_then(|cursor| cursor.children("firstBatch").into_iter().next());
    entry.map(|entry| position_of(entry.as_bytes())).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: u32) -> ClusterTime {
        ClusterTime { time, increment: 1 }
    }

    fn window(bytes: u64, bytes_max: u64) -> OplogWindow {
        let position = |time| Position { time: at(time), term: 1 };
        OplogWindow { oldest: position(1000), newest: position(2000), bytes, bytes_max }
    }

    #[test]
    fn a_full_oplog_is_behind_by_time_and_a_young_one_by_what_it_has_room_for() {
        let full = window(1 << 30, 1 << 30);
        assert_eq!(full.seconds(), 1000);
        for (time, percent) in [(999, 100), (1000, 100), (1500, 50), (1900, 10), (2000, 0), (2500, 0)] {
            assert_eq!(full.percent_behind(at(time)), percent, "{time}");
        }
        assert_eq!(window(1 << 20, 1 << 30).percent_behind(at(1000)), 0);
        assert_eq!(window(1 << 29, 1 << 30).percent_behind(at(1000)), 50);
        // A minimum retention lets it grow.
        assert_eq!(window(1 << 31, 1 << 30).percent_behind(at(1500)), 50);
        assert_eq!(window(0, 0).percent_behind(at(1500)), 0);
        assert_eq!(window(u64::MAX, u64::MAX).percent_behind(at(0)), 100);
        let moment = OplogWindow { newest: full.oldest, ..full };
        assert_eq!(moment.percent_behind(at(1000)), 0);
    }
}
