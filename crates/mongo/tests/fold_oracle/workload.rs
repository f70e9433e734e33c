//! Random operations of all classes. What the server refuses is no part of the workload.

use bson::{Binary, RawArrayBuf, RawBson, RawDocumentBuf, Timestamp, rawdoc, spec::BinarySubtype};
use history::samples::{self, Random};
use mongo::wire::Connection;

use super::DATABASE;

const COLLECTIONS: [&str; 3] = ["c0", "c1", "c2"];
const SIDE_COLLECTIONS: [&str; 3] = ["x0", "x1", "x2"];
/// `_id`s are drawn from so many, so that they are met again.
const IDS: usize = 30;

/// Runs the workload with this seed.
pub(crate) async fn run(connection: &mut Connection, seed: u64, steps: u64) {
    let mut workload = Workload { connection, random: Random::new(seed), sessions: 0, appended: 0 };
    workload.begin().await;
    for _ in 0..steps {
        workload.step().await;
    }
}

struct Workload<'c> {
    connection: &'c mut Connection,
    random: Random,
    sessions: u8,
    appended: i32,
}

impl Workload<'_> {
    async fn begin(&mut self) {
        for name in COLLECTIONS {
            self.send(rawdoc! { "create": name }).await;
        }
        self.send(rawdoc! { "create": "cap", "capped": true, "size": 4096, "max": 7 }).await;
        self.send(rawdoc! { "create": "ts", "timeseries": { "timeField": "t", "metaField": "m" } }).await;
    }

    async fn step(&mut self) {
        match self.random.below(100) {
            0..=59 => {
                let write = self.write().await;
                self.send(write).await;
            }
            60..=69 => self.transaction().await,
            70..=77 => self.append().await,
            78..=83 => self.measure().await,
            84..=89 => self.define().await,
            90..=93 => self.apply_operations().await,
            _ => self.side().await,
        }
    }

    /// Sends a command; none when the server refused it.
    async fn send(&mut self, mut command: RawDocumentBuf) -> Option<RawDocumentBuf> {
        if command.get("$db").unwrap().is_none() {
            command.append(bson::raw::cstr!("$db"), DATABASE);
        }
        self.connection.command(&command).await.ok().map(ToOwned::to_owned)
    }

    fn id(&mut self) -> i32 {
        self.random.below(IDS) as i32
    }

    fn collection(&mut self) -> &'static str {
        COLLECTIONS[self.random.below(COLLECTIONS.len())]
    }

    fn document(&mut self, id: i32) -> RawDocumentBuf {
        RawDocumentBuf::from_bytes(samples::random_document(&mut self.random, id)).unwrap()
    }

    async fn find(&mut self, collection: &str, id: i32) -> Option<RawDocumentBuf> {
        let found = self.send(rawdoc! { "find": collection, "filter": { "_id": id } }).await?;
        let batch = found.get_document("cursor").ok()?.get_array("firstBatch").ok()?;
        Some(batch.into_iter().next()?.ok()?.as_document()?.to_owned())
    }

    /// A command that writes a document or several.
    async fn write(&mut self) -> RawDocumentBuf {
        let (collection, id) = (self.collection(), self.id());
        let one = |query: RawDocumentBuf, update: RawBson, multi: bool, upsert: bool| {
            rawdoc! {
                "update": collection,
                "updates": [{ "q": query, "u": update, "multi": multi, "upsert": upsert }],
            }
        };
        match self.random.below(12) {
            0..=2 => rawdoc! { "insert": collection, "documents": [self.document(id)] },
            3 => rawdoc! { "delete": collection, "deletes": [{ "q": { "_id": id }, "limit": 1 }] },
            4 => one(rawdoc! { "_id": id }, self.document(id).into(), false, self.random.chance(50)),
            5 => {
                let update = rawdoc! { "$inc": { "counter": 1 } };
                one(rawdoc! { "_id": { "$lt": id } }, update.into(), true, false)
            }
            6..=8 => {
                let Some(before) = self.find(collection, id).await else {
                    return rawdoc! { "insert": collection, "documents": [self.document(id)] };
                };
                let after = samples::edited(&mut self.random, before.as_bytes());
                let after = RawDocumentBuf::from_bytes(after).unwrap();
                let pipeline = RawArrayBuf::from_iter([rawdoc! { "$replaceWith": { "$literal": after } }]);
                one(rawdoc! { "_id": id }, pipeline.into(), false, false)
            }
            _ => {
                let update = self.modifiers(collection, id).await;
                one(rawdoc! { "_id": id }, update.into(), false, false)
            }
        }
    }

    /// An update with modifiers of some paths of the document.
    async fn modifiers(&mut self, collection: &str, id: i32) -> RawDocumentBuf {
        let paths = match self.find(collection, id).await {
            Some(document) => paths(&document, ""),
            None => Vec::new(),
        };
        let mut update = RawDocumentBuf::new();
        let operators =
            ["$set", "$unset", "$push", "$pop", "$inc", "$rename", "$pull", "$addToSet", "$set", "$mul"];
        for _ in 0..1 + self.random.below(3) {
            let operator = operators[self.random.below(operators.len())];
            let mut path = match paths.get(self.random.below(paths.len())) {
                Some(path) if self.random.chance(85) => path.clone(),
                _ => format!("new{}", self.random.below(4)),
            };
            if self.random.chance(20) {
                path.push_str([".n", ".2", ".0.z", ".x.y"][self.random.below(4)]);
            }
            let argument: RawBson = match operator {
                "$unset" | "$pop" => 1.into(),
                "$rename" => format!("renamed{}", self.random.below(3)).into(),
                "$inc" | "$mul" => (self.random.below(9) as i32).into(),
                "$push" if self.random.chance(40) => {
                    rawdoc! { "$each": [1, "x"], "$slice": -3, "$position": self.random.below(3) as i32 }
                        .into()
                }
                _ => {
                    let values = self.document(0);
                    let value = values.iter().nth(1).map(|field| RawBson::from(field.unwrap().1));
                    value.unwrap_or(RawBson::Null)
                }
            };
            let name = bson::raw::CString::try_from(path).unwrap();
            let mut fields = RawDocumentBuf::new();
            fields.append(name, argument);
            let operator = bson::raw::CString::try_from(operator).unwrap();
            if update.get(operator.as_str()).unwrap().is_none() {
                update.append(operator, fields);
            }
        }
        update
    }

    async fn transaction(&mut self) {
        self.sessions += 1;
        let mut writes = Vec::new();
        for _ in 0..1 + self.random.below(7) {
            writes.push(self.write().await);
        }
        let session = Binary { subtype: BinarySubtype::Uuid, bytes: vec![self.sessions; 16] };
        let rest = |command: &mut RawDocumentBuf| {
            command.append(bson::raw::cstr!("lsid"), rawdoc! { "id": session.clone() });
            command.append(bson::raw::cstr!("txnNumber"), 1i64);
            command.append(bson::raw::cstr!("autocommit"), false);
        };
        let mut going = true;
        for (n, mut write) in writes.into_iter().enumerate() {
            rest(&mut write);
            if n == 0 {
                write.append(bson::raw::cstr!("startTransaction"), true);
            }
            going &= self.send(write).await.is_some_and(|reply| reply.get("writeErrors").unwrap().is_none());
            if !going {
                break;
            }
        }
        let end = |mut command: RawDocumentBuf| {
            rest(&mut command);
            command.append(bson::raw::cstr!("$db"), "admin");
            command
        };
        let abort = end(rawdoc! { "abortTransaction": 1 });
        if !going || self.random.chance(15) {
            self.send(abort).await;
            return;
        }
        let mut commit = rawdoc! { "commitTransaction": 1 };
        if self.random.chance(50) {
            let Some(reply) = self.send(end(rawdoc! { "prepareTransaction": 1 })).await else { return };
            let prepared: Timestamp = reply.get_timestamp("prepareTimestamp").unwrap();
            // Others go on meanwhile, on other documents.
            for _ in 0..self.random.below(4) {
                self.append().await;
                self.measure().await;
            }
            if self.random.chance(25) {
                self.send(abort).await;
                return;
            }
            commit.append(bson::raw::cstr!("commitTimestamp"), prepared);
        }
        self.send(end(commit)).await;
    }

    /// What a tool does that replays an oplog: diffs that need not fit, on documents that need not be there.
    async fn apply_operations(&mut self) {
        let mut operations = RawArrayBuf::new();
        for _ in 0..1 + self.random.below(4) {
            let (collection, id) = (self.collection(), self.id());
            let namespace = format!("{DATABASE}.{collection}");
            operations.push(match self.random.below(6) {
                0 => rawdoc! { "op": "i", "ns": namespace, "o": self.document(id) },
                1 => rawdoc! { "op": "d", "ns": namespace, "o": { "_id": id } },
                2 => rawdoc! { "op": "u", "ns": namespace, "o2": { "_id": id }, "o": self.document(id) },
                _ => {
                    let before = self.find(collection, id).await.unwrap_or_else(|| self.document(id));
                    let diff = samples::random_diff(&mut self.random, before.as_bytes(), 15);
                    let diff = RawDocumentBuf::from_bytes(diff).unwrap();
                    let update = rawdoc! { "$v": 2, "diff": diff };
                    rawdoc! { "op": "u", "ns": namespace, "o2": { "_id": id }, "o": update }
                }
            });
        }
        self.send(rawdoc! { "applyOps": operations, "$db": "admin" }).await;
    }

    /// Appends to the capped collection.
    async fn append(&mut self) {
        self.appended += 1;
        let document = rawdoc! { "_id": self.appended, "pad": "x".repeat(self.random.below(9)) };
        self.send(rawdoc! { "insert": "cap", "documents": [document] }).await;
    }

    /// Adds measurements to the time series.
    async fn measure(&mut self) {
        let start = 1_700_000_000_000;
        let measurements: RawArrayBuf = (0..1 + self.random.below(3))
            .map(|_| {
                let mut measurement = rawdoc! {
                    "t": bson::DateTime::from_millis(start + self.random.below(10_000_000) as i64),
                    "m": self.random.below(3) as i32,
                };
                let name = ["v", "w", "x"][self.random.below(3)];
                measurement.append(bson::raw::CString::try_from(name).unwrap(), self.random.below(99) as i32);
                measurement
            })
            .collect();
        self.send(rawdoc! { "insert": "ts", "documents": measurements }).await;
    }

    /// Changes indexes and options of the collections that stay.
    async fn define(&mut self) {
        let collection = self.collection();
        let field = ["a", "counter", "d"][self.random.below(3)];
        let mut key = RawDocumentBuf::new();
        key.append(bson::raw::CString::try_from(field).unwrap(), 1);
        let command = match self.random.below(6) {
            0 => {
                rawdoc! { "createIndexes": collection, "indexes": [{ "key": key, "name": field, "sparse": true }] }
            }
            1 => rawdoc! {
                "createIndexes": collection,
                "indexes": [{ "expireAfterSeconds": 100_000, "key": key, "name": field }],
            },
            2 => rawdoc! { "dropIndexes": collection, "index": field },
            3 => {
                rawdoc! { "collMod": collection, "index": { "name": field, "hidden": self.random.chance(50) } }
            }
            4 => rawdoc! { "collMod": collection, "index": { "name": field, "expireAfterSeconds": 7 } },
            _ => {
                let validators = [rawdoc! {}, rawdoc! { "never": { "$exists": false } }];
                let validator = validators[self.random.below(2)].clone();
                rawdoc! { "collMod": collection, "validator": validator, "validationAction": "warn" }
            }
        };
        self.send(command).await;
    }

    /// Makes, renames and drops collections.
    async fn side(&mut self) {
        let name = SIDE_COLLECTIONS[self.random.below(SIDE_COLLECTIONS.len())];
        let other = SIDE_COLLECTIONS[self.random.below(SIDE_COLLECTIONS.len())];
        let id = self.id();
        let command = match self.random.below(7) {
            0 => rawdoc! { "drop": name },
            1 => rawdoc! {
                "renameCollection": format!("{DATABASE}.{name}"), "to": format!("{DATABASE}.{other}"),
                "dropTarget": self.random.chance(60), "$db": "admin",
            },
            2 => rawdoc! { "aggregate": self.collection(), "pipeline": [{ "$out": name }], "cursor": {} },
            3 => rawdoc! { "create": name, "viewOn": self.collection(), "pipeline": [] },
            4 => rawdoc! { "convertToCapped": name, "size": 100_000 },
            _ => rawdoc! { "insert": name, "documents": [self.document(id)] },
        };
        self.send(command).await;
    }
}

/// The paths of a document that an update can name.
fn paths(document: &bson::RawDocument, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for field in document.iter() {
        let (name, value) = field.unwrap();
        let name = name.as_str();
        if name == "_id" || name.contains(['.', '$', '\0']) || name.is_empty() {
            continue;
        }
        let path = format!("{prefix}{name}");
        if let Some(inner) = value.as_document() {
            found.extend(paths(inner, &format!("{path}.")));
        }
        if let Some(array) = value.as_array() {
            found.extend((0..array.into_iter().count()).map(|at| format!("{path}.{at}")));
        }
        found.push(path);
    }
    found
}
