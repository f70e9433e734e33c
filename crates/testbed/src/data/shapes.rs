//! Kinds of collections: views, validators, collations, capped, clustered, time series, TTL, functions, empty ones.

use bson::{Binary, Bson, DateTime, Document, doc, spec::BinarySubtype};
use mongodb::Database;

use super::Random;

/// 2040-01-01: what expires then does not expire during a test.
const FAR_FUTURE_MILLIS: i64 = 2_208_988_800_000;

async fn create(database: &Database, name: &str, options: Document) -> anyhow::Result<()> {
    let mut command = doc! { "create": name };
    command.extend(options);
    database.run_command(command).await?;
    Ok(())
}

async fn insert(database: &Database, name: &str, documents: Vec<Document>) -> anyhow::Result<()> {
    database.collection(name).insert_many(documents).await?;
    Ok(())
}

pub(super) async fn views(database: &Database) -> anyhow::Result<()> {
    insert(
        database,
        "base",
        (0..20).map(|n| doc! { "_id": n, "a": n % 3, "name": format!("N{n}") }).collect(),
    )
    .await?;
    // Made in an order that is neither alphabetical nor that of the dependencies.
    create(database, "m_first", doc! { "viewOn": "base", "pipeline": [{ "$match": { "a": { "$gt": 0 } } }] })
        .await?;
    create(database, "a_second", doc! {
        "viewOn": "m_first", "pipeline": [{ "$project": { "z": "$a", "name": 1, "a": 1 } }, { "$sort": { "name": 1 } }],
    })
    .await?;
    create(database, "z_third", doc! {
        "viewOn": "a_second",
        "pipeline": [{ "$lookup": { "from": "m_first", "localField": "z", "foreignField": "a", "as": "all" } }],
    })
    .await?;
    create(database, "on_nothing", doc! { "viewOn": "no such collection", "pipeline": [] }).await?;
    let collation = doc! { "locale": "fr", "strength": 2 };
    create(database, "collated", doc! { "viewOn": "base", "pipeline": [], "collation": collation }).await
}

pub(super) async fn validators(database: &Database) -> anyhow::Result<()> {
    let schema = doc! { "$jsonSchema": {
        "bsonType": "object", "required": ["name"], "properties": { "name": { "bsonType": "string", "minLength": 2 } },
    } };
    insert(database, "strict", vec![doc! { "_id": "violates" }, doc! { "_id": "obeys", "name": "long" }])
        .await?;
    database.run_command(doc! { "collMod": "strict", "validator": schema.clone() }).await?;
    create(
        database,
        "moderate",
        doc! { "validator": schema, "validationLevel": "moderate", "validationAction": "warn" },
    )
    .await?;
    insert(database, "moderate", vec![doc! { "_id": 1 }]).await?;
    create(database, "query", doc! { "validator": { "$or": [{ "a": { "$exists": true } }, { "b": 1 }] } })
        .await?;
    insert(database, "query", vec![doc! { "_id": 1, "a": Bson::Null }]).await
}

pub(super) async fn collations(database: &Database) -> anyhow::Result<()> {
    let strings = ["b", "A", "a1", "B2", "é", "e", "z", "Z9", "ä"];
    for (name, collation) in [
        ("german", doc! { "locale": "de" }),
        ("insensitive", doc! { "locale": "en", "strength": 2, "numericOrdering": true }),
        ("upper", doc! { "locale": "en_US", "caseLevel": true, "caseFirst": "upper", "backwards": false }),
    ] {
        create(database, name, doc! { "collation": collation }).await?;
        insert(
            database,
            name,
            strings.iter().map(|text| doc! { "_id": text, "n": text.len() as i32 }).collect(),
        )
        .await?;
        let indexes = vec![
            doc! { "key": { "n": 1 }, "name": "inherits" },
            doc! { "key": { "n": 1 }, "name": "simple", "collation": { "locale": "simple" } },
        ];
        database.run_command(doc! { "createIndexes": name, "indexes": indexes }).await?;
    }
    Ok(())
}

pub(super) async fn capped(database: &Database, random: &mut Random) -> anyhow::Result<()> {
    create(database, "by_size", doc! { "capped": true, "size": 8192 }).await?;
    create(database, "by_number", doc! { "capped": true, "size": 1 << 20, "max": 25 }).await?;
    create(database, "never_full", doc! { "capped": true, "size": 1 << 20 }).await?;
    for name in ["by_size", "by_number", "never_full"] {
        // `_id`s in no order at all, so that natural order is nothing but itself.
        for _ in 0..80 {
            let document = doc! { "_id": random.number() as i64, "text": random.text(90) };
            database.collection(name).insert_one(document).await?;
        }
    }
    Ok(())
}

pub(super) async fn clustered(database: &Database, random: &mut Random) -> anyhow::Result<()> {
    let index = doc! { "key": { "_id": 1 }, "unique": true };
    create(database, "plain", doc! { "clusteredIndex": index.clone() }).await?;
    create(
        database,
        "named",
        doc! { "clusteredIndex": { "key": { "_id": 1 }, "unique": true, "name": "my key" } },
    )
    .await?;
    create(database, "expiring", doc! { "clusteredIndex": index, "expireAfterSeconds": 3_600_000_i64 })
        .await?;
    for name in ["plain", "named"] {
        let documents = (0..200).map(|n| doc! { "_id": random.text(12), "n": n }).collect();
        insert(database, name, documents).await?;
        let indexes = vec![doc! { "key": { "n": -1 }, "name": "n" }];
        database.run_command(doc! { "createIndexes": name, "indexes": indexes }).await?;
    }
    let date = |n: i64| DateTime::from_millis(FAR_FUTURE_MILLIS + n);
    insert(database, "expiring", (0..50).map(|n| doc! { "_id": date(n) }).collect()).await
}

pub(super) async fn time_series(database: &Database, random: &mut Random) -> anyhow::Result<()> {
    create(
        database,
        "weather",
        doc! {
            "timeseries": { "timeField": "at", "metaField": "station", "granularity": "minutes" },
        },
    )
    .await?;
    create(database, "bare", doc! { "timeseries": { "timeField": "at" } }).await?;
    create(
        database,
        "expiring",
        doc! {
            "timeseries": { "timeField": "at", "metaField": "m" }, "expireAfterSeconds": 3_600_000_i64,
        },
    )
    .await?;
    for name in ["weather", "bare", "expiring"] {
        let documents = (0..300_i64)
            .map(|n| {
                let at = DateTime::from_millis(FAR_FUTURE_MILLIS + n * 60_000);
                let station = random.below(4) as i32;
                // The same field with several types: the mixed-schema buckets of 5.2 and later.
                let value: Bson = if n % 7 == 0 { random.text(5).into() } else { (n as f64 / 7.0).into() };
                doc! { "at": at, "station": station, "m": { "id": station }, "value": value, "n": n }
            })
            .collect();
        insert(database, name, documents).await?;
    }
    let indexes = vec![
        doc! { "key": { "station": 1, "at": -1 }, "name": "station_at" },
        doc! { "key": { "station": 1 }, "name": "station" },
    ];
    database.run_command(doc! { "createIndexes": "weather", "indexes": indexes }).await?;
    Ok(())
}

pub(super) async fn ttl(database: &Database) -> anyhow::Result<()> {
    let date = DateTime::from_millis(FAR_FUTURE_MILLIS);
    insert(database, "sessions", (0..30).map(|n| doc! { "_id": n, "at": date }).collect()).await?;
    let indexes = vec![
        doc! { "key": { "at": 1 }, "name": "at", "expireAfterSeconds": 0 },
        doc! { "key": { "seen": 1 }, "name": "seen", "expireAfterSeconds": 86_400.5 },
    ];
    database.run_command(doc! { "createIndexes": "sessions", "indexes": indexes }).await?;
    Ok(())
}

pub(super) async fn system_js(database: &Database) -> anyhow::Result<()> {
    let code = |text: &str| Bson::JavaScriptCode(text.to_owned());
    insert(
        database,
        "system.js",
        vec![
            doc! { "_id": "add", "value": code("function (a, b) { return a + b }") },
            doc! { "_id": "name with space", "value": code("function () { return 'é' }") },
        ],
    )
    .await
}

pub(super) async fn empty(database: &Database) -> anyhow::Result<()> {
    create(database, "nothing", doc! {}).await?;
    create(
        database,
        "compressed",
        doc! {
            "storageEngine": { "wiredTiger": { "configString": "block_compressor=zstd" } },
        },
    )
    .await?;
    create(database, "defaults", doc! {
        "indexOptionDefaults": { "storageEngine": { "wiredTiger": { "configString": "prefix_compression=false" } } },
    })
    .await?;
    create(database, "indexed", doc! {}).await?;
    let indexes = vec![doc! { "key": { "a": 1 }, "name": "a", "unique": true }];
    database.run_command(doc! { "createIndexes": "indexed", "indexes": indexes }).await?;
    create(database, "emptied", doc! {}).await?;
    let bytes = Binary { subtype: BinarySubtype::Generic, bytes: vec![1, 2, 3] };
    insert(database, "emptied", vec![doc! { "_id": bytes }]).await?;
    database.collection::<Document>("emptied").delete_many(doc! {}).await?;
    Ok(())
}
