//! Where a record of the oplog begins.

use bson::{raw::cstr, rawdoc};

use super::{
    Position,
    open::{cut, oldest_open_at},
    window::{ends, find, one},
};
use crate::{ClusterTime, Deployment, Error, Result, time::majority_now_on, wire::Connection};

/// By how much the stretch grows in which an entry is looked for, while there is none in it.
const STRETCH_GROWS: u32 = 16;

/// Where a record begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The entry that the record follows. A majority has it.
    pub after: Position,
    /// When the oldest transaction began that is open now, if one is: `after` is before it.
    pub oldest_open: Option<ClusterTime>,
}

/// Where a record that begins now has to begin, so that it has every transaction whole which takes effect from now on:
/// before the oldest one that is open, else at an entry that is written by this.
///
/// # Errors
/// [`Error::TransactionCut`] when the oplog has nothing before a transaction that is open; `Privilege` without `find` on
/// `config.transactions`; [`Error::TimedOut`] when no majority of the members answers; the server's.
pub async fn start(deployment: &Deployment) -> Result<Start> {
    let mut connection = deployment.primary_wire().await?;
    // That a majority takes an entry of this primary proves that it is the one, and fills the holes before it.
    let marked = majority_now_on(&mut connection).await?;
    let oldest_open = oldest_open_at(&mut connection, marked).await?;
    let through = oldest_open.map_or(marked, before);
    if let Some(after) = last_through(&mut connection, through).await? {
        return Ok(Start { after, oldest_open });
    }
    match (oldest_open, ends(&mut connection).await?) {
        (Some(began), _) => Err(cut(&mut connection, began).await),
        (None, Some((oldest, _))) => Err(Error::OplogGap { wanted: marked, oldest: oldest.time }),
        (None, None) => Err(Error::protocol("an empty oplog")),
    }
}

/// The last entry that is not after `time`. Looked for in growing stretches before it, because the server seeks in the
/// oplog forward only: backward it would read everything since.
async fn last_through(connection: &mut Connection, time: ClusterTime) -> Result<Option<Position>> {
    let mut from = time;
    let mut stretch = 1_u32;
    loop {
        let mut find = find();
        find.append(cstr!("filter"), rawdoc! { "ts": { "$gte": from, "$lte": time } });
        find.append(cstr!("sort"), rawdoc! { "ts": -1 });
        let found = one(connection, &find).await?;
        if found.is_some() || from.time == 0 {
            return Ok(found);
        }
        from = ClusterTime { time: time.time.saturating_sub(stretch), increment: 0 };
        stretch = stretch.saturating_mul(STRETCH_GROWS);
    }
}

/// The time just before `time`.
fn before(time: ClusterTime) -> ClusterTime {
    match time.increment.checked_sub(1) {
        Some(increment) => ClusterTime { increment, ..time },
        None => ClusterTime { time: time.time.saturating_sub(1), increment: u32::MAX },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_lies_between_a_time_and_the_one_before_it() {
        let at = |time, increment| ClusterTime { time, increment };
        assert_eq!(before(at(5, 2)), at(5, 1));
        assert_eq!(before(at(5, 1)), at(5, 0));
        assert_eq!(before(at(5, 0)), at(4, u32::MAX));
    }
}
