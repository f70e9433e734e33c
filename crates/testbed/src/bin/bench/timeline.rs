//! What continuous backup is good for: folded snapshots, rewinds, points in time, and what recording itself takes.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bson::{Bson, Document, RawDocumentBuf, Timestamp, doc};
use mongodb::Client;
use testbed::Server;

use crate::{
    Plan, beside,
    dataset::{Random, SHAPES, Shape, Words},
    load,
    process::{Ebbtide, timed},
    report::Report,
    server, settle,
};

/// Documents that one statement of the load changes.
const STATEMENT_DOCUMENTS: u64 = 1_000;
/// Statements under way at a time.
const WRITERS: u64 = 4;
/// Documents that an accident changes.
const ACCIDENT_DOCUMENTS: u64 = 10_000;
/// Operations that are replayed by the server itself, to compare with.
const REPLAYED_SINGLY: usize = 5_000;
const REPLAYED_TOGETHER: usize = 50_000;
const REPLAY_BATCH: usize = 1_000;
/// How often it is asked how far the recording is behind.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Capture that is no further by then has stopped.
const PATIENCE: Duration = Duration::from_secs(600);

const FOLDED: &str = "snapshot after 1 % updates, 1 % inserts, 0.1 % deletes";
const DUMP: &str = "mongodump --archive | zstd -1 -T2 of the same";
const FULL: &str = "restore onto itself, everything";
const IN_A_RANGE: &str = "rewind of 10,000 documents side by side";
const AT_RANDOM: &str = "rewind of 10,000 documents anywhere";
const OF_SNAPSHOT: &str = "restore of the snapshot alone";
const OF_POINT: &str = "restore to a point in time after the operations";
const FOLDING: &str = "operations folded for it";
const ONE_DOCUMENT: &str = "one document after the operations";
const SINGLY: &str = "applyOps, one operation per command";
const TOGETHER: &str = "applyOps, 1,000 operations per command";

/// Measures all of it.
pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("loading {} MB", plan.megabytes);
    let source = server(plan, 1.0).await?;
    load::standard(&source.client().await?, plan.megabytes).await?;
    settle(&source).await?;
    for run in 0..plan.runs {
        eprintln!("run {} of {}", run + 1, plan.runs);
        let directory = plan.directory.join(format!("timeline-{run}"));
        let ebbtide = Ebbtide::start(&plan.program, &directory, None)?;
        ebbtide.client(&["cluster", "add", "source", "--uri", &source.uri(), "--pit"])?;
        wait_for_base(&ebbtide, "source")?;
        let bench = Bench { plan, source: &source, client: source.client().await?, ebbtide: &ebbtide };
        let first = ebbtide.vault_bytes()?;
        report.bytes("base: bytes stored", first);
        bench.folded(run as u64, report).await?;
        if plan.wants("timeline") {
            bench.rewinds(report).await?;
            bench.operations(report).await?;
            beside::measure(plan, &ebbtide, report).await?;
        }
        report.memory("ebbtide serve with continuous backup: peak memory", ebbtide.peak_memory()?);
        drop(bench);
        drop(ebbtide);
        std::fs::remove_dir_all(&directory)?;
    }
    report.ratio("folded snapshot is faster than mongodump --archive | zstd -1 -T2 by", DUMP, FOLDED);
    report.ratio("rewind side by side is faster than restoring everything by", FULL, IN_A_RANGE);
    report.ratio("rewind anywhere is faster than restoring everything by", FULL, AT_RANDOM);
    report.ratio("a point in time takes longer than its snapshot by", OF_POINT, OF_SNAPSHOT);
    report.ratio("folding is faster than applyOps, one operation per command, by", FOLDING, SINGLY);
    report.ratio("folding is faster than applyOps, 1,000 operations per command, by", FOLDING, TOGETHER);
    beside::ratio(report);
    Ok(())
}

/// The snapshot that is taken by itself.
pub(crate) fn wait_for_base(ebbtide: &Ebbtide, cluster: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let shown = ebbtide.client(&["timeline", "show", cluster])?;
        if shown["restorable"].as_array().is_some_and(|ranges| !ranges.is_empty()) {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            bail!("nothing becomes restorable: {shown}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

struct Bench<'a> {
    plan: &'a Plan,
    source: &'a Server,
    client: Client,
    ebbtide: &'a Ebbtide,
}

impl Bench<'_> {
    fn collection(&self, shape: &Shape) -> mongodb::Collection<RawDocumentBuf> {
        self.client.database("bench").collection(shape.name)
    }

    /// The time of the last operation, as `--at` takes it.
    async fn now(&self) -> anyhow::Result<String> {
        let time = self.note().await?;
        Ok(format!("{},{}", time.time, time.increment))
    }

    async fn note(&self) -> anyhow::Result<Timestamp> {
        let note = doc! { "appendOplogNote": 1, "data": { "bench": 1 }, "writeConcern": { "w": "majority" } };
        let reply = self.client.database("admin").run_command(note).await?;
        Ok(reply.get_timestamp("operationTime")?)
    }

    /// Waits until everything so far is in the vault.
    async fn caught_up(&self) -> anyhow::Result<()> {
        let now = self.note().await?;
        let started = Instant::now();
        loop {
            let shown = self.ebbtide.client(&["timeline", "show", "source"])?;
            let end = &shown["timelines"].as_array().and_then(|all| all.last()).context("a timeline")?["durableEnd"];
            let reached = (end["seconds"].as_u64(), end["increment"].as_u64());
            if reached >= (Some(now.time.into()), Some(now.increment.into())) {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                bail!("the recording stands still: {shown}");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn restore(&self, words: &[&str]) -> anyhow::Result<(Duration, serde_json::Value)> {
        let started = Instant::now();
        let command = ["restore", "start", "source"].iter().chain(words).chain(&["--watch"]);
        let answer = self.ebbtide.client(&command.copied().collect::<Vec<_>>())?;
        Ok((started.elapsed(), answer))
    }

    /// A snapshot after some changes, beside a dump.
    async fn folded(&self, seed: u64, report: &mut Report) -> anyhow::Result<()> {
        let words = Words::new();
        let mut random = Random::new(seed + 99);
        let before = self.ebbtide.vault_bytes()?;
        for shape in SHAPES {
            let count = shape.documents(self.plan.megabytes);
            let ids = |random: &mut Random, of: u64| -> anyhow::Result<Vec<Bson>> {
                let some = (0..count / of).map(|_| id_of(&shape, &words, random.below(count)));
                some.collect()
            };
            let (updated, deleted) = (ids(&mut random, 100)?, ids(&mut random, 1_000)?);
            let collection = self.collection(&shape);
            for some in updated.chunks(2_000) {
                let change = doc! { "$set": { "rev": seed as i64 + 1 } };
                collection.update_many(doc! { "_id": { "$in": some } }, change).await?;
            }
            let from = count * (seed + 2);
            let new: Vec<_> = (from..from + count / 100).map(|n| shape.document(&words, n)).collect();
            for some in new.chunks(2_000) {
                collection.insert_many(some).ordered(false).await?;
            }
            collection.delete_many(doc! { "_id": { "$in": deleted } }).await?;
        }
        let (took, snapshot) = self.ebbtide.snapshot("source")?;
        report.time(FOLDED, took);
        if !snapshot["notes"]["folded"].is_object() {
            bail!("the snapshot was read: {}", snapshot["notes"]);
        }
        let added = snapshot["addedBytes"].as_u64().context("the bytes that the snapshot added")?;
        report.bytes(&format!("{FOLDED}: bytes stored"), added);
        report.bytes(&format!("{FOLDED}: with the slices since"), self.ebbtide.vault_bytes()? - before);
        if let Some(mongodump) = &self.plan.mongodump {
            let archive = self.plan.directory.join("archive");
            let line = format!(
                "{} --quiet --uri '{}' --db bench --archive | zstd -q -1 -T2 -f -o {}",
                mongodump.display(),
                self.source.uri(),
                archive.display()
            );
            report.time(DUMP, timed(&line)?);
            std::fs::remove_file(&archive)?;
        }
        Ok(())
    }

    /// Accidents that are undone, and the whole restored for comparison.
    async fn rewinds(&self, report: &mut Report) -> anyhow::Result<()> {
        let words = Words::new();
        let bad = doc! { "$set": { "bad": true } };
        let [_, events, ..] = SHAPES;
        let at = self.now().await?;
        let from = (events.documents(self.plan.megabytes) / 3) as i64;
        let range = doc! { "_id": { "$gte": from, "$lt": from + ACCIDENT_DOCUMENTS as i64 } };
        self.collection(&events).update_many(range, bad.clone()).await?;
        self.rewind(&at, IN_A_RANGE, report)?;

        let at = self.now().await?;
        let mut random = Random::new(5);
        let all: u64 = SHAPES.iter().map(|shape| shape.documents(self.plan.megabytes)).sum();
        for shape in SHAPES {
            let count = shape.documents(self.plan.megabytes);
            let some =
                (0..ACCIDENT_DOCUMENTS * count / all).map(|_| id_of(&shape, &words, random.below(count)));
            let some: Vec<Bson> = some.collect::<anyhow::Result<_>>()?;
            self.collection(&shape).update_many(doc! { "_id": { "$in": some } }, bad.clone()).await?;
        }
        self.rewind(&at, AT_RANDOM, report)?;
        let (took, _) = self.restore(&["--at", &at, "--target", "source", "--rewind", "off"])?;
        report.time(FULL, took);
        Ok(())
    }

    fn rewind(&self, at: &str, name: &str, report: &mut Report) -> anyhow::Result<()> {
        let (took, answer) = self.restore(&["--at", at, "--target", "source"])?;
        let told = &answer["receipt"]["rewind"];
        if told["mode"] != "rewind" {
            bail!("it was no rewind: {told}");
        }
        report.time(name, took);
        let outage = answer["receipt"]["outageMs"].as_u64().unwrap_or(0);
        report.time(&format!("{name}: outage"), Duration::from_millis(outage));
        report.bytes(
            &format!("{name}: bytes read from the vault"),
            told["bytesReadFromVault"].as_u64().unwrap_or(0),
        );
        Ok(())
    }

    /// Very many operations: recorded, and restored over.
    async fn operations(&self, report: &mut Report) -> anyhow::Result<()> {
        // Its own base: a full restore has just made everything anew.
        let snapshot = self.ebbtide.client(&["snapshot", "create", "source", "--watch"])?;
        let snapshot = snapshot["id"].as_str().context("a snapshot id")?;
        let base = self.note().await?;
        self.caught_up().await?;
        let processor = self.ebbtide.processor_seconds()?;
        let (elapsed, mut behind) = self.write(report).await?;
        let spent = self.ebbtide.processor_seconds()? - processor;
        report
            .per_second("operations recorded while they were written", self.plan.operations as f64 / elapsed);
        report.seconds("recording: processor seconds per second", spent / elapsed);
        behind.sort_unstable();
        let p99 = behind.get(behind.len() * 99 / 100).copied().unwrap_or(0);
        report.time("recording: how far behind, 99 of 100 looks", Duration::from_secs(p99));
        let at = self.now().await?;
        self.caught_up().await?;
        self.one_document(&at, report)?;

        let target = server(self.plan, 1.0).await?;
        self.ebbtide.client(&["cluster", "add", "target", "--uri", &target.uri()])?;
        let (took, _) = self.restore(&["--snapshot", snapshot, "--target", "target"])?;
        report.time(OF_SNAPSHOT, took);
        let replayed = self.replay(&target.client().await?, base, report).await;
        replayed.context("replay operations by applyOps")?;
        let (took, answer) = self.restore(&["--at", &at, "--target", "target"])?;
        report.time(OF_POINT, took);
        let fold = &answer["receipt"]["fold"];
        let (writes, ms) =
            fold["writes"].as_f64().zip(fold["durationMs"].as_f64()).context("what was folded")?;
        report.per_second(FOLDING, writes * 1_000.0 / ms.max(1.0));
        self.ebbtide.client(&["cluster", "remove", "target"])?;
        Ok(())
    }

    /// One document out of all that was recorded.
    fn one_document(&self, at: &str, report: &mut Report) -> anyhow::Result<()> {
        let started = Instant::now();
        let shown = self.ebbtide.client(&["doc", "show", "source", "bench.events", "4711", "--at", at])?;
        report.time(ONE_DOCUMENT, started.elapsed());
        if shown["document"].is_null() {
            bail!("the document is not shown: {shown}");
        }
        Ok(())
    }

    /// Writes all operations; how long that took, in seconds, and how far behind the recording was seen to be.
    async fn write(&self, _: &Report) -> anyhow::Result<(f64, Vec<u64>)> {
        let [_, events, ..] = SHAPES;
        let count = events.documents(self.plan.megabytes);
        let started = Instant::now();
        let statements = self.plan.operations / STATEMENT_DOCUMENTS;
        let writers = (0..WRITERS).map(|writer| {
            let collection = self.collection(&events);
            tokio::spawn(async move {
                for statement in (writer..statements).step_by(WRITERS as usize) {
                    let from = (statement * STATEMENT_DOCUMENTS % count) as i64;
                    let range = doc! { "_id": { "$gte": from, "$lt": from + STATEMENT_DOCUMENTS as i64 } };
                    collection.update_many(range, doc! { "$inc": { "v": 1 } }).await?;
                }
                mongodb::error::Result::Ok(())
            })
        });
        let mut writing = Box::pin(futures::future::try_join_all(writers));
        let mut behind = Vec::new();
        loop {
            tokio::select! {
                ended = &mut writing => {
                    ended?.into_iter().collect::<mongodb::error::Result<Vec<()>>>()?;
                    return Ok((started.elapsed().as_secs_f64(), behind));
                }
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let shown = self.ebbtide.client(&["timeline", "show", "source"])?;
            behind.extend(shown["capture"]["behindSeconds"].as_u64());
        }
    }

    /// What the server itself takes for the same operations, one by one and many at once.
    async fn replay(&self, target: &Client, base: Timestamp, report: &mut Report) -> anyhow::Result<()> {
        let oplog = self.client.database("local").collection::<Document>("oplog.rs");
        let wanted = doc! { "ts": { "$gt": base }, "ns": "bench.events", "op": "u" };
        let mut found = oplog.find(wanted).limit((REPLAYED_SINGLY + REPLAYED_TOGETHER) as i64).await?;
        let mut entries = Vec::new();
        while found.advance().await? {
            let entry = found.deserialize_current()?;
            let part = |name: &str| entry.get(name).cloned().unwrap_or(Bson::Null);
            entries.push(doc! { "op": "u", "ns": part("ns"), "o": part("o"), "o2": part("o2") });
        }
        let (singly, together) = entries.split_at(REPLAYED_SINGLY.min(entries.len()));
        let admin = target.database("admin");
        let started = Instant::now();
        for entry in singly {
            admin.run_command(doc! { "applyOps": [entry] }).await?;
        }
        let rate = singly.len() as f64 / started.elapsed().as_secs_f64();
        report.per_second(SINGLY, rate);
        let started = Instant::now();
        for some in together.chunks(REPLAY_BATCH) {
            admin.run_command(doc! { "applyOps": some }).await?;
        }
        let rate = together.len() as f64 / started.elapsed().as_secs_f64();
        report.per_second(TOGETHER, rate);
        Ok(())
    }
}

fn id_of(shape: &Shape, words: &Words, n: u64) -> anyhow::Result<Bson> {
    let document = shape.document(words, n);
    let id = document.get("_id")?.context("a document with an _id")?;
    Ok(Bson::try_from(id)?)
}
