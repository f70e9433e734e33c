//! A captured deployment and somebody who writes to it, and notes after each step what the server then has.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use bson::{Binary, Bson, Document, RawDocumentBuf, Timestamp, doc, rawdoc, spec::BinarySubtype};
use model::{ClusterTime, ContinuousBackup, snapshot::SnapshotState};
use mongo::Deployment;
use testbed::Options;
use tokio_util::sync::CancellationToken;

use crate::support::{
    Bench,
    engine::{Engine, Settings, past::Past},
};

/// What anything here may take on a busy machine before the test says that it hangs.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(300);
/// Documents that there may be.
pub(crate) const IDS: u64 = 120;
/// Steps that are noted.
pub(crate) const STEPS: u64 = 110;
/// The step that changes a definition.
pub(crate) const REDEFINED: usize = 50;

/// Numbers that look like chance and are the same each time.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 += 1;
        (crate::support::scatter(self.0) >> 11) % end
    }
}

/// Ids of all kinds.
pub(crate) fn id_of(number: u64) -> Bson {
    match number % 6 {
        0 => Bson::Int32(number as i32),
        1 => Bson::String(format!("{number} \"quoted\"")),
        2 => {
            let mut bytes = [7; 12];
            bytes[4..].copy_from_slice(&number.to_be_bytes());
            bson::oid::ObjectId::from_bytes(bytes).into()
        }
        3 => Bson::Double(number as f64 + 0.5),
        4 => Bson::Int64(-(number as i64) << 33),
        _ => Bson::Document(doc! { "b": number as i64, "a": bson::DateTime::from_millis(number as i64) }),
    }
}

/// The bytes of a document's `_id`, which never change here.
pub(crate) fn key_of(document: &[u8]) -> Vec<u8> {
    let id = history::raw::field(document, "_id").unwrap().unwrap();
    [&[id.kind], id.value].concat()
}

/// What the server had after a step.
pub(crate) struct Step {
    pub(crate) at: ClusterTime,
    /// Counts collections that had the name.
    pub(crate) identity: u64,
    /// The documents; none while there is no collection of the name.
    pub(crate) state: Option<BTreeMap<Vec<u8>, Vec<u8>>>,
    pub(crate) touched: Vec<u64>,
}

impl Step {
    pub(crate) fn document(&self, number: u64) -> Option<&Vec<u8>> {
        let id = RawDocumentBuf::try_from(&doc! { "_id": id_of(number) }).unwrap();
        self.state.as_ref()?.get(&key_of(id.as_bytes()))
    }
}

/// A deployment of which the past is known.
pub(crate) struct Recorded {
    pub(crate) bench: Bench,
    pub(crate) steps: Vec<Step>,
    engine: Engine,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Recorded {
    pub(crate) fn past(&self) -> Past {
        Past::new(self.engine.services().clone())
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// The time of the last operation.
    pub(crate) async fn now(&self) -> ClusterTime {
        let note = doc! { "appendOplogNote": 1, "data": { "n": 1 }, "writeConcern": { "w": "majority" } };
        time_of(&self.bench.server.admin(note).await.unwrap())
    }

    /// Waits until the record has a time.
    pub(crate) async fn reach(&self, at: ClusterTime) {
        let begun = std::time::Instant::now();
        while self.bench.catalog.timelines().base_for(self.bench.deployment, at).await.unwrap().is_none() {
            pause(begun).await;
        }
    }

    async fn snapshot(&self) {
        let id = self.bench.request().await;
        let begun = std::time::Instant::now();
        loop {
            let snapshot = self.bench.catalog.snapshots().get(id).await.unwrap().unwrap();
            match snapshot.state {
                SnapshotState::Queued | SnapshotState::InProgress => pause(begun).await,
                SnapshotState::Completed => return,
                _ => panic!("{:?}", snapshot.error),
            }
        }
    }
}

async fn pause(begun: std::time::Instant) {
    assert!(begun.elapsed() < PATIENCE, "it hangs");
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
}

fn time_of(reply: &Document) -> ClusterTime {
    let time = reply.get_timestamp("operationTime").unwrap();
    ClusterTime { seconds: time.time, increment: time.increment }
}

fn document(number: u64, value: u64) -> Document {
    doc! { "_id": id_of(number), "n": value as i64, "list": [1, 2, value as i32], "sub": { "x": 1, "y": "z" } }
}

/// Runs the workload on a captured server.
pub(crate) async fn run(version: &str, seed: u64) -> Recorded {
    let options = Options::version(version)
        .set_parameter("maxNumberOfTransactionOperationsInSingleOplogEntry", "3")
        .set_parameter("enableTestCommands", "1");
    let bench = Bench::start(options).await;
    bench.fill("app", "things", (0..IDS).step_by(2).map(|n| document(n, n))).await;
    let wanted = ContinuousBackup { pit_enabled: true, ..ContinuousBackup::default() };
    bench.catalog.timelines().set_continuous_backup(bench.deployment, wanted).await.unwrap();
    let settings = Settings { spool_dir: bench.dir.path().join("spool"), ..bench.settings() };
    let (engine, shutdown) = (bench.engine(settings), CancellationToken::new());
    let task = tokio::spawn({
        let (engine, until) = (engine.clone(), shutdown.clone());
        async move { engine.run(until).await }
    });
    let begun = std::time::Instant::now();
    while bench.catalog.timelines().ranges(bench.deployment).await.unwrap().is_empty() {
        pause(begun).await;
    }
    let mut writer = Writer {
        recorded: Recorded { bench, steps: Vec::new(), engine, shutdown, task },
        random: Random(seed),
        physical: "things",
        identity: 0,
    };
    writer.work().await;
    let last = writer.recorded.now().await;
    writer.recorded.reach(last).await;
    writer.recorded
}

struct Writer {
    recorded: Recorded,
    random: Random,
    /// Where the documents are.
    physical: &'static str,
    identity: u64,
}

impl Writer {
    async fn work(&mut self) {
        let app = |command: Document| ("app", command);
        let rename = |from: &str, to: &str| {
            let (from, to) = (format!("app.{from}"), format!("app.{to}"));
            ("admin", doc! { "renameCollection": from, "to": to, "dropTarget": true })
        };
        let start = self.recorded.now().await;
        self.note(start, vec![]).await;
        while (self.recorded.steps.len() as u64) < STEPS {
            match self.recorded.steps.len() {
                20 => self.prepared().await,
                25 | 70 => {
                    self.recorded.snapshot().await;
                    let now = self.recorded.now().await;
                    self.note(now, vec![]).await;
                }
                30 => {
                    self.physical = "kept";
                    self.define(rename("things", "kept")).await;
                }
                34 => {
                    self.physical = "things";
                    self.define(rename("kept", "things")).await;
                }
                // Never a definition and documents in one step: each is a time of its own.
                REDEFINED => {
                    let index = doc! { "key": { "n": 1 }, "name": "n_1" };
                    let (db, command) = app(doc! { "createIndexes": "things", "indexes": [index] });
                    self.run(db, command).await;
                    let validator = doc! { "never": { "$exists": false } };
                    self.define(app(doc! { "collMod": "things", "validator": validator })).await;
                }
                60 => {
                    let others = (0..IDS).step_by(3).map(|n| document(n, n + 1000));
                    self.recorded.bench.fill("app", "other", others).await;
                    self.identity += 1;
                    self.define(rename("other", "things")).await;
                }
                80 => self.define(app(doc! { "drop": "things" })).await,
                81 => {
                    self.identity += 1;
                    self.define(app(doc! { "create": "things" })).await;
                }
                82 => self.transaction(12).await,
                90 => {
                    let capped = doc! { "create": "ring", "capped": true, "size": 4096 };
                    let view = doc! { "create": "seen", "viewOn": "things", "pipeline": [] };
                    let series = doc! { "create": "measured", "timeseries": { "timeField": "t" } };
                    for command in [capped, view, series] {
                        self.define(app(command)).await;
                    }
                }
                _ => self.step().await,
            }
        }
    }

    async fn run(&mut self, db: &str, command: Document) -> ClusterTime {
        let shown = format!("{command:.300}");
        let mut command = command;
        command.insert("writeConcern", doc! { "w": "majority" });
        let reply = self.recorded.bench.client.database(db).run_command(command).await;
        let reply = reply.unwrap_or_else(|error| panic!("{shown}: {error}"));
        assert!(reply.get("writeErrors").is_none(), "{shown}: {reply}");
        time_of(&reply)
    }

    async fn define(&mut self, (db, command): (&str, Document)) {
        let at = self.run(db, command).await;
        let touched = (0..4).map(|_| self.random.below(IDS)).collect();
        self.note(at, touched).await;
    }

    /// What the server has now, read raw.
    async fn state(&self) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
        let app = self.recorded.bench.client.database("app");
        let names = app.list_collection_names().await.unwrap();
        if !names.iter().any(|name| name == "things") {
            return None;
        }
        let find = RawDocumentBuf::try_from(&doc! { "find": "things", "batchSize": 1000 }).unwrap();
        let mut cursor = app.run_raw_cursor_command(find).await.unwrap();
        let mut state = BTreeMap::new();
        while cursor.advance().await.unwrap() {
            let document = cursor.current().as_bytes().to_vec();
            state.insert(key_of(&document), document);
        }
        Some(state)
    }

    async fn note(&mut self, at: ClusterTime, touched: Vec<u64>) {
        let state = self.state().await;
        self.recorded.steps.push(Step { at, identity: self.identity, state, touched });
    }

    fn update(&mut self, number: u64) -> Document {
        let value = self.random.below(1000) as i64;
        let change = match self.random.below(6) {
            0 => doc! { "$set": { "n": value, format!("field{}", value % 5): [value] } },
            1 => doc! { "$push": { "list": { "$each": [value], "$position": 1 } } },
            2 => doc! { "$unset": { "field1": 1, "sub.x": 1 }, "$inc": { "n": 1_i64 } },
            3 => doc! { "$set": { "list.1": { "deep": [value] }, "sub.y": value } },
            4 => doc! { "$pop": { "list": -1 }, "$set": { "sub.new": value } },
            _ => doc! { "n": value, "replaced": true, "list": [] },
        };
        doc! { "q": { "_id": id_of(number) }, "u": change, "upsert": self.random.below(3) == 0 }
    }

    /// One command, which touches each document once.
    async fn step(&mut self) {
        let mut numbers: Vec<u64> = (0..1 + self.random.below(4)).map(|_| self.random.below(IDS)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let command = match self.random.below(8) {
            0..=3 => {
                let updates: Vec<Document> = numbers.iter().map(|&number| self.update(number)).collect();
                doc! { "update": self.physical, "updates": updates }
            }
            4 | 5 => {
                let delete = |number: &u64| doc! { "q": { "_id": id_of(*number) }, "limit": 1 };
                doc! { "delete": self.physical, "deletes": numbers.iter().map(delete).collect::<Vec<_>>() }
            }
            6 => return self.transaction(4).await,
            _ => {
                let value = self.random.below(1000);
                let put = |number: &u64| {
                    doc! {
                        "q": { "_id": id_of(*number) }, "u": document(*number, value), "upsert": true,
                    }
                };
                doc! { "update": self.physical, "updates": numbers.iter().map(put).collect::<Vec<_>>() }
            }
        };
        let at = self.run("app", command).await;
        self.note(at, numbers).await;
    }

    /// Several writes at one time, some of one document.
    async fn transaction(&mut self, writes: u64) {
        let things = self.recorded.bench.client.database("app").collection::<Document>(self.physical);
        let mut session = self.recorded.bench.client.start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        let mut touched = Vec::new();
        for n in 0..writes {
            let number = self.random.below(IDS);
            let one = doc! { "_id": id_of(number) };
            if self.random.below(3) == 0 {
                things.delete_one(one.clone()).session(&mut session).await.unwrap();
            }
            if self.random.below(3) > 0 {
                let set = doc! { "$set": { "in": n as i64 }, "$inc": { "times": 1 } };
                things.update_one(one, set).upsert(true).session(&mut session).await.unwrap();
            }
            touched.push(number);
        }
        session.commit_transaction().await.unwrap();
        let at = self.recorded.now().await;
        self.note(at, touched).await;
    }

    /// A transaction that takes effect at the time of its prepare, with a write of somebody else before its commit.
    async fn prepared(&mut self) {
        let (number, other) = (1, 4);
        let uri = mongo::Uri::parse(&self.recorded.bench.server.uri()).unwrap();
        let deployment = Deployment::connect(&uri, &mongo::ConnectOptions::default()).await.unwrap();
        let mut connection = deployment.primary_wire().await.unwrap();
        let mut send = async |mut command: RawDocumentBuf| {
            let id = Binary { subtype: BinarySubtype::Uuid, bytes: vec![9; 16] };
            command.append(bson::raw::cstr!("lsid"), rawdoc! { "id": id });
            command.append(bson::raw::cstr!("txnNumber"), 1_i64);
            command.append(bson::raw::cstr!("autocommit"), false);
            connection.command(&command).await.unwrap().to_owned()
        };
        let document = RawDocumentBuf::try_from(&document(number, 777)).unwrap();
        send(rawdoc! {
            "update": "things", "$db": "app", "startTransaction": true,
            "updates": [{ "q": { "_id": document.get("_id").unwrap().unwrap() }, "u": document, "upsert": true }],
        })
        .await;
        let reply = send(rawdoc! { "prepareTransaction": 1, "$db": "admin" }).await;
        let prepared: Timestamp = reply.get_timestamp("prepareTimestamp").unwrap();
        let set = doc! { "q": { "_id": id_of(other) }, "u": { "$set": { "between": true } }, "upsert": true };
        let between = self.run("app", doc! { "update": "things", "updates": [set] }).await;
        send(rawdoc! { "commitTransaction": 1, "$db": "admin", "commitTimestamp": prepared }).await;
        let at = ClusterTime { seconds: prepared.time, increment: prepared.increment };
        assert!(at < between);
        let after = self.state().await.unwrap();
        let mut first = self.recorded.steps.last().unwrap().state.clone().unwrap();
        let id = RawDocumentBuf::try_from(&doc! { "_id": id_of(number) }).unwrap();
        let key = key_of(id.as_bytes());
        first.insert(key.clone(), after[&key].clone());
        let identity = self.identity;
        self.recorded.steps.push(Step { at, identity, state: Some(first), touched: vec![number, other] });
        self.note(between, vec![number, other]).await;
    }
}
