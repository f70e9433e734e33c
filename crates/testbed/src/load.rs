//! Background writers: the load under which a backup has to be exact.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use bson::{Document, doc};
use mongodb::{Client, Collection};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::data::Random;

/// Pause after an error, so that an election does not become a busy loop.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// What the writers do.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The collection to write into.
    pub database: String,
    /// See `database`.
    pub collection: String,
    /// Writers in parallel.
    pub writers: u32,
    /// Each writer works on this many keys of its own, so the collection stays small.
    pub keys_per_writer: u32,
    /// Pause between two writes of one writer.
    pub pause: Duration,
    /// Makes the sequence of operations.
    pub seed: u64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            database: "load".to_owned(),
            collection: "counters".to_owned(),
            writers: 2,
            keys_per_writer: 500,
            pause: Duration::from_millis(1),
            seed: 1,
        }
    }
}

/// Running writers. Dropped, they are aborted; [`Load::stop`] ends them cleanly and tells what they did.
#[derive(Debug)]
pub struct Load {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    written: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

impl Load {
    /// Starts inserts, updates and deletes on keys `{ writer, number }` of one collection.
    ///
    /// Every document holds its own key twice (`_id` and `check`) and one number in two fields (`n`, `twice` =
    /// 2 n), so that a torn document shows; see [`torn_documents`].
    pub fn start(client: &Client, options: &LoadOptions) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (written, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let tasks = (0..options.writers)
            .map(|writer| {
                let collection = client.database(&options.database).collection(&options.collection);
                let random = Random::new(options.seed.wrapping_add(u64::from(writer)));
                let writer =
                    Writer { collection, random, writer, keys: options.keys_per_writer.max(1), number: 0 };
                let (written, failed) = (Arc::clone(&written), Arc::clone(&failed));
                tokio::spawn(writer.run(options.pause, stopped.clone(), written, failed))
            })
            .collect();
        Self { stop, tasks, written, failed }
    }

    /// Operations that the server has acknowledged until now.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Operations that failed until now (elections, write blocks).
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Waits until so many further operations have been acknowledged.
    pub async fn wait_for(&self, operations: u64) {
        let wanted = self.written() + operations;
        while self.written() < wanted && !self.tasks.iter().all(JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the writers; returns the number of acknowledged operations.
    pub async fn stop(mut self) -> anyhow::Result<u64> {
        self.stop.send_replace(true);
        for task in std::mem::take(&mut self.tasks) {
            task.await.context("a writer panicked")?;
        }
        Ok(self.written())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

struct Writer {
    collection: Collection<Document>,
    random: Random,
    writer: u32,
    keys: u32,
    number: i64,
}

impl Writer {
    async fn run(
        mut self,
        pause: Duration,
        mut stopped: watch::Receiver<bool>,
        written: Arc<AtomicU64>,
        failed: Arc<AtomicU64>,
    ) {
        while !*stopped.borrow() {
            let pause = match self.write().await {
                Ok(()) => {
                    written.fetch_add(1, Ordering::Relaxed);
                    pause
                }
                Err(_) => {
                    failed.fetch_add(1, Ordering::Relaxed);
                    ERROR_PAUSE
                }
            };
            // An error means that the handle is gone; the loop ends by the abort then.
            let _ = tokio::time::timeout(pause, stopped.changed()).await;
        }
    }

    async fn write(&mut self) -> mongodb::error::Result<()> {
        let id = doc! { "writer": self.writer, "number": self.random.below(u64::from(self.keys)) as i64 };
        self.number += 1;
        if self.random.below(10) == 0 {
            self.collection.delete_one(doc! { "_id": id }).await?;
            return Ok(());
        }
        let text = self.random.text(20);
        let fields = doc! { "check": id.clone(), "n": self.number, "twice": self.number * 2, "text": text };
        self.collection.update_one(doc! { "_id": id }, doc! { "$set": fields }).upsert(true).await?;
        Ok(())
    }
}

/// Documents of [`Load`] that no moment of the load has ever shown.
pub async fn torn_documents(collection: &Collection<Document>) -> anyhow::Result<u64> {
    let whole = doc! { "$and": [
        { "$eq": ["$_id", "$check"] },
        { "$eq": [{ "$multiply": ["$n", 2] }, "$twice"] },
    ] };
    Ok(collection.count_documents(doc! { "$expr": { "$not": [whole] } }).await?)
}
