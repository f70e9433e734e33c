//! One collection per kind of index, since some kinds exclude each other.

use bson::{Document, doc};
use mongodb::Database;

use super::Random;

const DOCUMENTS: i32 = 60;

pub(super) async fn load(
    database: &Database,
    random: &mut Random,
    version: (i32, i32),
) -> anyhow::Result<()> {
    let mut specs: Vec<(&str, Vec<Document>)> = vec![
        (
            "plain",
            vec![
                doc! { "key": { "a": 1 }, "name": "a_1" },
                doc! { "key": { "a": -1, "b": 1 }, "name": "a_-1_b_1" },
                doc! { "key": { "b": 1.5 }, "name": "float key" },
                doc! { "key": { "nested.x": 1 }, "name": "nested, dotted.name $ and é" },
                doc! { "key": { "tags": 1 }, "name": "multikey" },
                doc! { "key": { "c": 1 }, "name": "old", "v": 1 },
                doc! { "key": { "d": 1 }, "name": "background", "background": true },
            ],
        ),
        ("unique", vec![doc! { "key": { "n": 1 }, "name": "n_1", "unique": true }]),
        (
            "partial",
            vec![
                doc! { "key": { "n": 1 }, "name": "some", "partialFilterExpression": { "n": { "$gt": 5 } } },
                doc! { "key": { "a": 1 }, "name": "all", "partialFilterExpression": {} },
                doc! { "key": { "b": 1 }, "name": "both", "unique": true, "partialFilterExpression": { "b": { "$lt": 0 } } },
            ],
        ),
        ("sparse", vec![doc! { "key": { "absent": 1 }, "name": "sparse", "sparse": true, "unique": true }]),
        (
            "wildcard",
            vec![
                doc! { "key": { "$**": 1 }, "name": "all", "wildcardProjection": { "nested": 1, "_id": 0 } },
                doc! { "key": { "nested.$**": 1 }, "name": "below" },
            ],
        ),
        (
            "text",
            vec![doc! {
                "key": { "a": 1, "words": "text", "more": "text" }, "name": "words", "weights": { "words": 10, "more": 2 },
                "default_language": "german", "language_override": "tongue",
            }],
        ),
        ("old_text", vec![doc! { "key": { "words": "text" }, "name": "words", "textIndexVersion": 2 }]),
        ("older_text", vec![doc! { "key": { "words": "text" }, "name": "words", "textIndexVersion": 1 }]),
        (
            "sphere",
            vec![
                doc! { "key": { "place": "2dsphere", "a": 1 }, "name": "place" },
                doc! { "key": { "place": "2dsphere" }, "name": "old place", "2dsphereIndexVersion": 2 },
                doc! { "key": { "place": "2dsphere", "b": 1 }, "name": "older place", "2dsphereIndexVersion": 1 },
            ],
        ),
        (
            "flat",
            vec![doc! { "key": { "spot": "2d" }, "name": "spot", "min": -200.0, "max": 200.0, "bits": 20 }],
        ),
        (
            "hashed",
            vec![
                doc! { "key": { "_id": "hashed" }, "name": "_id_hashed" },
                doc! { "key": { "a": 1, "b": "hashed" }, "name": "compound hashed" },
            ],
        ),
        ("hidden", vec![doc! { "key": { "a": 1 }, "name": "hidden", "hidden": true }]),
        (
            "collated",
            vec![
                doc! { "key": { "words": 1 }, "name": "de", "collation": { "locale": "de", "strength": 1 } },
                doc! { "key": { "words": 1 }, "name": "simple" },
            ],
        ),
        (
            "engine",
            vec![doc! {
                "key": { "a": 1 }, "name": "engine",
                "storageEngine": { "wiredTiger": { "configString": "prefix_compression=true" } },
            }],
        ),
        ("ttl", vec![doc! { "key": { "never": 1 }, "name": "ttl", "expireAfterSeconds": 1_000_000 }]),
    ];
    if version >= (6, 0) {
        specs.push(("prepared", vec![doc! { "key": { "n": 1 }, "name": "prepared", "prepareUnique": true }]));
    }
    for (name, indexes) in specs {
        let documents: Vec<Document> = (0..DOCUMENTS).map(|number| document(random, number)).collect();
        database.collection(name).insert_many(documents).await?;
        database.run_command(doc! { "createIndexes": name, "indexes": indexes }).await?;
    }
    Ok(())
}

fn document(random: &mut Random, number: i32) -> Document {
    let (a, b) = (random.below(10) as i32, random.below(1000) as i64);
    let (longitude, latitude) = (random.below(360) as f64 - 180.0, random.below(170) as f64 - 85.0);
    doc! {
        "_id": number,
        "n": number,
        "a": a,
        "b": b,
        "c": random.text(12),
        "d": f64::from(number) / 3.0,
        "tags": [a, b, "tag"],
        "nested": { "x": number, "y": { "z": random.text(3) } },
        "words": format!("{} Straße {}", random.text(5), random.text(5)),
        "more": random.text(8),
        "place": { "type": "Point", "coordinates": [longitude, latitude] },
        "spot": [longitude, latitude],
    }
}
