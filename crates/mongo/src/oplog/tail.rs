//! Following the oplog.

use std::time::{Duration, Instant};

use bson::{RawDocumentBuf, raw::cstr, rawdoc};

use super::{Position, TailBatch, window::ends};
use crate::{
    ClusterTime, Deployment, Error, Result,
    read::Batch,
    time::majority_now_on,
    wire::{Connection, ReplyExt as _},
};

/// Bytes wanted in one batch, as of any cursor.
const BATCH_BYTES_TARGET: usize = 1024 * 1024;
/// A batch of this size says that there is more: the next one is asked for before it is given.
const BATCH_BYTES_FULL: usize = BATCH_BYTES_TARGET / 2;
/// Entries of the first batch, when their size is unknown.
const FIRST_BATCH_ENTRIES: i32 = 101;
/// Of one batch, for tiny entries.
const BATCH_ENTRIES_MAX: usize = 50_000;
/// Longest wait that is asked of the server.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// How much longer than the wait a reply may take.
const REPLY_PATIENCE: Duration = Duration::from_secs(60);
/// How often the member is asked whether it is still the primary. Its cursor goes on when it is not, and falls behind
/// or stands still without a word.
const OFFICE_ASKED_EVERY: Duration = Duration::from_secs(2);

/// Every entry after one, in order, as a majority of the members has it. After an error it is of no more use: open
/// another one at [`Tail::position`].
#[derive(Debug)]
pub struct Tail {
    connection: Connection,
    /// 0 when there is none.
    cursor: i64,
    /// The last entry that was given.
    at: Position,
    first: Option<TailBatch>,
    /// The request for the next batch, which was sent.
    asked: Option<RawDocumentBuf>,
    /// Memory for batches to come.
    spare: Vec<(Vec<u8>, Vec<Position>)>,
    batch_entries: i32,
    primary_seen: Instant,
    /// A call failed or was dropped half-way: a batch may be gone that was not given.
    broken: bool,
}

impl Tail {
    /// Follows the oplog of the primary after the entry `after`, which has to be in it.
    ///
    /// # Errors
    /// [`Error::RolledOver`], [`Error::RolledBack`]: entries after `after` are gone, or what was recorded is. `NotPrimary`,
    /// `TimedOut`, network: try again.
    pub async fn open(deployment: &Deployment, after: Position) -> Result<Self> {
        let mut tail = Self {
            connection: deployment.primary_wire().await?,
            cursor: 0,
            at: after,
            first: None,
            asked: None,
            spare: Vec::new(),
            batch_entries: FIRST_BATCH_ENTRIES,
            primary_seen: Instant::now(),
            broken: false,
        };
        if tail.begin().await? {
            return Ok(tail);
        }
        // A primary that was elected a moment ago does not know yet what a majority has, and one that was deposed does
        // not know that. When a majority has taken an entry of this one, what it does not show is not there.
        majority_now_on(&mut tail.connection).await?;
        if tail.begin().await? {
            return Ok(tail);
        }
        // Asked after the find: what the oplog reaches back to now, it reached back to then.
        match ends(&mut tail.connection).await? {
            Some((oldest, _)) if oldest.time > after.time => Err(Error::RolledOver { after, oldest }),
            Some((oldest, newest)) => Err(Error::RolledBack { after, oldest, newest }),
            None => Err(Error::protocol("an empty oplog")),
        }
    }

    /// Opens the cursor; whether the entry that it has to follow is there.
    async fn begin(&mut self) -> Result<bool> {
        let find = rawdoc! {
            "find": "oplog.rs", "$db": "local", "filter": { "ts": { "$gte": self.at.time } },
            "tailable": true, "awaitData": true, "batchSize": FIRST_BATCH_ENTRIES,
            "readConcern": { "level": "majority" },
        };
        self.connection.set_reply_timeout(REPLY_PATIENCE);
        let mut first = match self.fetch(&find).await {
            Err(error) => return Err(self.why(error).await),
            Ok(first) => first,
        };
        if !first.begins_with(self.at) {
            self.kill().await?;
            return Ok(false);
        }
        first.check_follows(self.at)?;
        self.first = (!first.is_empty()).then_some(first);
        Ok(true)
    }

    /// The last entry that was given: where the next tail goes on.
    pub fn position(&self) -> Position {
        self.at
    }

    /// `host:port` of the member that is followed.
    pub fn host(&self) -> &str {
        self.connection.host()
    }

    /// The next entries, as soon as there are any; none when none comes in `wait`, which ends on the server, so that a
    /// reply may be a little later.
    ///
    /// A call that is dropped before it ends makes the tail useless, as an error does, and not its position.
    ///
    /// # Errors
    /// [`Error::RolledOver`] when the oplog was cut under the tail; [`Error::OplogDisorder`]; `CursorLost`, `NotPrimary`,
    /// `TimedOut`, network: open another one.
    pub async fn next(&mut self, wait: Duration) -> Result<TailBatch> {
        if std::mem::replace(&mut self.broken, true) {
            return Err(lost("an error ended this tail, or a call that was abandoned"));
        }
        let batch = match self.first.take() {
            Some(first) => first,
            None => match self.more(wait).await {
                Err(error) => return Err(self.why(error).await),
                Ok(batch) => batch,
            },
        };
        batch.check_follows(self.at)?;
        if batch.bytes() >= BATCH_BYTES_FULL && self.cursor != 0 {
            self.ask(wait).await?;
        }
        self.at = batch.last().unwrap_or(self.at);
        self.broken = false;
        Ok(batch)
    }

    /// Gives a batch's memory back, so that a batch to come needs no new one.
    pub fn recycle(&mut self, batch: TailBatch) {
        self.spare.push(batch.into_memory());
    }

    /// Tells the server that no more is wanted. Dropped without it, a tail leaves a cursor that the server forgets in
    /// ten minutes.
    ///
    /// # Errors
    /// Network.
    pub async fn close(mut self) -> Result<()> {
        if let Some(asked) = self.asked.take() {
            // Its reply stands between us and the next one, and nobody wants it.
            let answer = self.connection.complete(&asked).await;
            if let Err(error @ (Error::Unreachable { .. } | Error::TimedOut { .. })) = answer {
                return Err(error);
            }
        }
        self.kill().await
    }

    async fn more(&mut self, wait: Duration) -> Result<TailBatch> {
        if self.asked.is_none() {
            if self.primary_seen.elapsed() >= OFFICE_ASKED_EVERY {
                self.ask_for_office().await?;
            }
            self.ask(wait).await?;
        }
        let asked = self.asked.take().ok_or_else(|| Error::protocol("an answer that nobody asked for"))?;
        let committed = self.connection.complete(&asked).await?.timestamp("operationTime");
        self.batch(committed)
    }

    async fn ask(&mut self, wait: Duration) -> Result<()> {
        if self.cursor == 0 {
            return Err(lost("the server has closed it"));
        }
        let wait = wait.clamp(Duration::from_millis(1), WAIT_MAX);
        let mut more = rawdoc! { "getMore": self.cursor, "collection": "oplog.rs", "$db": "local" };
        more.append(cstr!("batchSize"), self.batch_entries);
        more.append(cstr!("maxTimeMS"), i64::try_from(wait.as_millis()).unwrap_or(1));
        self.connection.set_reply_timeout(wait + REPLY_PATIENCE);
        self.connection.begin(&more).await?;
        self.asked = Some(more);
        Ok(())
    }

    async fn fetch(&mut self, command: &RawDocumentBuf) -> Result<TailBatch> {
        let committed = self.connection.command(command).await?.timestamp("operationTime");
        self.batch(committed)
    }

    fn batch(&mut self, committed: Option<ClusterTime>) -> Result<TailBatch> {
        let (buffer, positions) = self.spare.pop().unwrap_or_default();
        let (buffer, body) = self.connection.swap_reply(buffer)?;
        let (batch, cursor) = Batch::new(buffer, body, None)?;
        self.cursor = cursor;
        if let Some(average) = batch.bytes().checked_div(batch.len()) {
            let wanted = (BATCH_BYTES_TARGET / average.max(1)).clamp(1, BATCH_ENTRIES_MAX);
            self.batch_entries = i32::try_from(wanted).unwrap_or(FIRST_BATCH_ENTRIES);
        }
        TailBatch::new(batch, positions, committed)
    }

    async fn ask_for_office(&mut self) -> Result<()> {
        let hello = self.connection.command(&rawdoc! { "hello": 1, "$db": "admin" }).await?;
        if !hello.truth("isWritablePrimary") {
            let host = self.connection.host().to_owned();
            return Err(Error::NotPrimary { host, message: "it has stepped down".to_owned() });
        }
        self.primary_seen = Instant::now();
        Ok(())
    }

    /// A cursor that was lost may have been lost because the oplog was cut under it, whatever the server says.
    async fn why(&mut self, error: Error) -> Error {
        if !matches!(error, Error::CursorLost { .. }) {
            return error;
        }
        match ends(&mut self.connection).await {
            Ok(Some((oldest, _))) if oldest.time > self.at.time => {
                Error::RolledOver { after: self.at, oldest }
            }
            // It is there, or cannot be asked for: another tail will see.
            _ => error,
        }
    }

    async fn kill(&mut self) -> Result<()> {
        let id = std::mem::take(&mut self.cursor);
        if id == 0 {
            return Ok(());
        }
        let kill = rawdoc! { "killCursors": "oplog.rs", "cursors": [id], "$db": "local" };
        self.connection.command(&kill).await.map(drop)
    }
}

fn lost(why: &str) -> Error {
    Error::CursorLost { namespace: "local.oplog.rs".to_owned(), message: why.to_owned() }
}
