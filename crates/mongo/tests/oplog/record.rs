//! A record of the oplog as a keeper makes it, and what the server itself says that it has to be.

use std::time::Duration;

use bson::{RawDocumentBuf, doc};
use futures::TryStreamExt as _;
use mongo::{
    ClusterTime, Deployment, Error, Result,
    oplog::{Position, Tail, TailBatch, position_of},
};

pub(crate) const WAIT: Duration = Duration::from_millis(200);

/// Everything that tails gave, in the order in which it came.
pub(crate) struct Record {
    pub(crate) after: Position,
    pub(crate) entries: Vec<Vec<u8>>,
}

impl Record {
    pub(crate) fn new(after: Position) -> Self {
        Self { after, entries: Vec::new() }
    }

    /// The entry that comes next is the one after this.
    pub(crate) fn position(&self) -> Position {
        self.entries.last().map_or(self.after, |entry| position_of(entry).unwrap())
    }

    pub(crate) fn keep(&mut self, batch: &TailBatch) {
        for (position, entry) in batch.entries() {
            assert_eq!(position_of(entry).unwrap(), position);
            self.entries.push(entry.to_vec());
        }
    }

    /// Reads on until it has `time`.
    pub(crate) async fn follow(&mut self, tail: &mut Tail, time: ClusterTime) -> Result<()> {
        while self.position().time < time {
            let batch = tail.next(WAIT).await?;
            self.keep(&batch);
            assert_eq!(tail.position(), self.position());
            tail.recycle(batch);
        }
        Ok(())
    }

    /// Reads on until the tail fails, which it has to within a minute.
    pub(crate) async fn until_it_fails(&mut self, tail: &mut Tail) -> Error {
        let failing = async {
            loop {
                match tail.next(WAIT).await {
                    Ok(batch) => self.keep(&batch),
                    Err(error) => break error,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), failing).await.unwrap()
    }

    /// Reads on until it has `time`, opening the oplog again whenever that helps.
    pub(crate) async fn follow_on(&mut self, deployment: &Deployment, time: ClusterTime) {
        while self.position().time < time {
            let followed = async {
                let mut tail = Tail::open(deployment, self.position()).await?;
                self.follow(&mut tail, time).await?;
                tail.close().await
            };
            if let Err(error) = followed.await {
                assert!(error.is_transient(), "{error}");
            }
        }
    }

    /// The entries that are not after `time`.
    pub(crate) fn until(&self, time: ClusterTime) -> &[Vec<u8>] {
        &self.entries[..self.entries.partition_point(|entry| position_of(entry).unwrap().time <= time)]
    }

    /// Compares it byte by byte with a plain find of the driver.
    pub(crate) async fn assert_is_the_oplog(&self, client: &mongodb::Client) {
        let range = doc! { "ts": { "$gt": self.after.time, "$lte": self.position().time } };
        let oplog = client.database("local").collection::<RawDocumentBuf>("oplog.rs");
        let found: Vec<RawDocumentBuf> = oplog.find(range).await.unwrap().try_collect().await.unwrap();
        assert_eq!(self.entries.len(), found.len());
        for (kept, found) in self.entries.iter().zip(&found) {
            assert!(kept == found.as_bytes(), "{found:?}");
        }
    }
}
