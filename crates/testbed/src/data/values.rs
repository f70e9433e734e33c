//! Values and names that break tools: every type of `_id`, the greatest documents, bytes that no library keeps.

use std::str::FromStr;

use anyhow::{Context, ensure};
use bson::{
    Binary, Bson, DateTime, Decimal128, Document, RawDocumentBuf, Timestamp, doc, oid::ObjectId,
    spec::BinarySubtype,
};
use mongodb::{Client, Database};

use super::Random;
use super::raw::{RawBuilder, counted};

/// The greatest document that a user may store: 16 MiB.
const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Nesting below the server's limit of 180.
const DEPTH: usize = 150;

pub(super) async fn ids(database: &Database, random: &mut Random) -> anyhow::Result<()> {
    let decimal = |text: &str| Decimal128::from_str(text).map(Bson::Decimal128).context("a decimal");
    let binary = |subtype, bytes: &[u8]| Bson::Binary(Binary { subtype, bytes: bytes.to_vec() });
    let mut ids = vec![
        Bson::MinKey,
        Bson::MaxKey,
        Bson::Null,
        Bson::Boolean(false),
        Bson::Boolean(true),
        Bson::Int32(1),
        Bson::Int64(i64::MAX),
        Bson::Int64(i64::MIN),
        Bson::Int64((1 << 53) + 1),
        Bson::Double(9_007_199_254_740_992.0),
        Bson::Double(f64::NAN),
        Bson::Double(f64::NEG_INFINITY),
        Bson::Double(f64::INFINITY),
        Bson::Double(-0.5),
        Bson::Double(1e-300),
        decimal("0.1")?,
        decimal("1E+6000")?,
        decimal("-1E+6000")?,
        Bson::Double(0.1),
        Bson::String(String::new()),
        Bson::String("a".to_owned()),
        Bson::String("a\0b".to_owned()),
        Bson::String("é".to_owned()),
        Bson::Symbol("symbol".to_owned()),
        Bson::ObjectId(ObjectId::from_bytes([0; 12])),
        Bson::ObjectId(ObjectId::from_bytes([255; 12])),
        Bson::DateTime(DateTime::from_millis(-1)),
        Bson::DateTime(DateTime::from_millis(i64::MAX)),
        Bson::Timestamp(Timestamp { time: 1, increment: 2 }),
        binary(BinarySubtype::Generic, b""),
        binary(BinarySubtype::Generic, b"abc"),
        binary(BinarySubtype::Uuid, &[7; 16]),
        binary(BinarySubtype::UserDefined(200), b"ab"),
        Bson::JavaScriptCode("function () {}".to_owned()),
        Bson::Document(doc! {}),
        Bson::Document(doc! { "a": 1 }),
        Bson::Document(doc! { "a": 1, "b": [1, { "c": Bson::Null }] }),
        Bson::Document(doc! { "b": 1 }),
        Bson::Document(doc! { "a": "1" }),
    ];
    // Fisher-Yates: storage order is not `_id` order.
    for last in (1..ids.len()).rev() {
        ids.swap(last, random.below(last as u64 + 1) as usize);
    }
    let documents: Vec<Document> = (0..).zip(ids).map(|(n, id)| doc! { "_id": id, "n": n }).collect();
    database.collection("mixed").insert_many(documents).await?;
    // One key, three types: the key keeps its place, the bytes change.
    let retyped = database.collection::<Document>("retyped");
    retyped.insert_many([doc! { "_id": 1, "n": 0 }, doc! { "_id": 2, "n": 0 }, doc! { "_id": 3 }]).await?;
    retyped.replace_one(doc! { "_id": 1 }, doc! { "_id": 1.0, "n": 1 }).await?;
    retyped.replace_one(doc! { "_id": 2 }, doc! { "_id": 2_i64, "n": 2 }).await?;
    Ok(())
}

pub(super) async fn names(client: &Client, database: &Database) -> anyhow::Result<()> {
    let long = format!("long {}", "x".repeat(235 - database.name().len()));
    let collections = [
        "with space",
        "dots.in.the.middle",
        "per%cent%2F",
        "sl/ash\\back",
        "é ü 日本",
        "quote\"s'`",
        "-",
        "line\nbreak",
        "UPPER",
        "upper",
        "system_not",
        "tmp.agg_out",
        "*?<>|:",
        long.as_str(),
    ];
    for (n, name) in (0..).zip(collections) {
        let document =
            doc! { "_id": n, "name": name, "": "empty", "dotted.field": 1, " spaces ": { "": { "": n } } };
        database
            .collection(name)
            .insert_one(document)
            .await
            .with_context(|| format!("insert into {name:?}"))?;
        let indexes = vec![doc! { "key": { "name": 1 }, "name": format!("index on {n} / % é") }];
        database.run_command(doc! { "createIndexes": name, "indexes": indexes }).await?;
    }
    let longest = "d".repeat(63);
    for name in ["with-dash", "percent%41", "#&=+,~", longest.as_str()] {
        client.database(name).collection("c").insert_one(doc! { "_id": name }).await?;
    }
    // User collections of `admin` are backed up too.
    client.database("admin").collection("of the user").insert_one(doc! { "_id": 1 }).await?;
    Ok(())
}

pub(super) async fn large(database: &Database, random: &mut Random) -> anyhow::Result<()> {
    let collection = database.collection::<RawDocumentBuf>("documents");
    for (id, incompressible) in [(1, true), (2, false)] {
        let overhead = RawBuilder::new().int("_id", id).string("text", b"").finish().len();
        let length = DOCUMENT_BYTES_MAX - overhead;
        let text =
            if incompressible { hex::encode(random.bytes(length / 2 + 1)) } else { "x".repeat(length) };
        let raw = RawBuilder::new().int("_id", id).string("text", &text.as_bytes()[..length]).finish();
        ensure!(raw.len() == DOCUMENT_BYTES_MAX, "the document is not of the greatest size");
        collection.insert_one(RawDocumentBuf::from_bytes(raw)?).await?;
    }
    for id in 3..40 {
        let raw = RawBuilder::new().int("_id", id).string("text", random.text(200_000).as_bytes()).finish();
        collection.insert_one(RawDocumentBuf::from_bytes(raw)?).await?;
    }
    Ok(())
}

pub(super) async fn bytes(database: &Database) -> anyhow::Result<()> {
    let mut deep = RawBuilder::new().int("bottom", 1);
    for _ in 0..DEPTH {
        deep = RawBuilder::new().document("d", deep);
    }
    let decimal_nan = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x7c];
    let start = |id| RawBuilder::new().int("_id", id);
    let documents = [
        start(1).int("twice", 1).int("twice", 2).int("", 3).int("", 4),
        start(2).double_bits("quiet", 0x7ff8_0000_dead_beef).double_bits("signalling", 0x7ff0_0000_0000_0001),
        start(3).double_bits("negative zero", 1 << 63).double_bits("negative nan", 0xfff8_0000_0000_0000),
        start(4).element(0x13, b"decimal nan", &decimal_nan).element(0x13, b"coefficient", &[0xff; 16]),
        start(5).element(0x06, b"undefined", b"").element(0x0e, b"symbol", &counted(b"s")),
        start(6).element(0x0c, b"pointer", &[counted(b"db.c"), vec![9; 12]].concat()),
        start(7).string("not utf-8", &[0xff, 0xfe, 0x80, b'a']).element(0x10, &[0xc3, 0x28], &[1, 0, 0, 0]),
        start(8).int("a.b", 1).int("$dollar", 2).document("$set", RawBuilder::new().int("$a.b", 1)),
        start(9).document("nested", RawBuilder::new().timestamp("zero", 0, 0)).document("deep", deep),
        start(10).array("strange array", RawBuilder::new().int("7", 1).int("x", 2).int("", 3)),
        start(11).element(0x0b, b"regex", b"a.*b\0xmi\0").element(
            0x05,
            b"binary 2",
            &[8, 0, 0, 0, 2, 4, 0, 0, 0, 1, 2, 3, 4],
        ),
        start(12)
            .element(0x0f, b"scoped", &code_with_scope())
            .element(0xff, b"min", b"")
            .element(0x7f, b"max", b""),
        start(13).element(0x08, b"true", &[1]).element(0x09, b"date", &i64::MIN.to_le_bytes()),
    ];
    let collection = database.collection::<RawDocumentBuf>("documents");
    for document in documents {
        let raw = RawDocumentBuf::from_bytes(document.finish())?;
        collection
            .insert_one(&raw)
            .await
            .with_context(|| format!("insert {}", hex::encode(raw.as_bytes())))?;
    }
    // At the top level the server replaces Timestamp(0,0) at insert, and keeps it in an update.
    let zero = Timestamp { time: 0, increment: 0 };
    let timestamps = database.collection::<Document>("timestamps");
    timestamps.insert_many([doc! { "_id": 1 }, doc! { "_id": 2, "after": 1 }]).await?;
    timestamps.update_one(doc! { "_id": 1 }, doc! { "$set": { "zero": zero } }).await?;
    timestamps.update_one(doc! { "_id": 2 }, doc! { "$set": { "zero": zero, "zwei": zero } }).await?;
    Ok(())
}

fn code_with_scope() -> Vec<u8> {
    let inner = [counted(b"function () {}"), RawBuilder::new().int("x", 1).finish()].concat();
    let length = u32::try_from(inner.len() + 4).unwrap_or(u32::MAX);
    [&length.to_le_bytes()[..], &inner].concat()
}
