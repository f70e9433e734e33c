//! All flights that left New York in 2013: five collections, with everything around them that has to come back.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::Context;
use bson::{Bson, Document, Timestamp, doc};
use mongodb::{Client, Collection, Database};

use crate::screen::Bar;

/// The database.
pub(crate) const DATABASE: &str = "nyc";
const BATCH_DOCUMENTS: usize = 2000;

/// Loads everything; returns the number of flights.
pub(crate) async fn load(client: &Client, directory: &Path) -> anyhow::Result<u64> {
    let database = client.database(DATABASE);
    create_collections(&database).await?;
    let mut flights = 0;
    for (file, key) in [
        ("airlines", Some("carrier")),
        ("airports", Some("faa")),
        ("planes", Some("tailnum")),
        ("weather", None),
        ("flights", None),
    ] {
        let path = directory.join(format!("{file}.csv"));
        let collection = database.collection(file);
        flights =
            load_file(&collection, &path, key).await.with_context(|| format!("load {}", path.display()))?;
    }
    create_indexes(&database).await?;
    create_principals(client, &database).await?;
    Ok(flights)
}

async fn create_collections(database: &Database) -> anyhow::Result<()> {
    let validator = doc! { "$jsonSchema": {
        "bsonType": "object",
        "required": ["type", "seats"],
        "properties": { "seats": { "bsonType": "int", "minimum": 1 }, "year": { "bsonType": "int" } },
    } };
    let late = vec![
        doc! { "$match": { "dep_delay": { "$gt": 60 } } },
        doc! { "$lookup": { "from": "airlines", "localField": "carrier", "foreignField": "_id", "as": "airline" } },
        doc! { "$project": { "airline": { "$first": "$airline.name" }, "flight": 1, "dest": 1, "dep_delay": 1 } },
    ];
    for command in [
        doc! { "create": "planes", "validator": validator, "validationLevel": "moderate" },
        doc! { "create": "weather", "timeseries": {
            "timeField": "time_hour", "metaField": "origin", "granularity": "hours",
        } },
        doc! { "create": "late_flights", "viewOn": "flights", "pipeline": late },
    ] {
        database.run_command(command).await.context("create the collections")?;
    }
    Ok(())
}

async fn load_file(collection: &Collection<Document>, path: &Path, key: Option<&str>) -> anyhow::Result<u64> {
    let file = File::open(path)?;
    let bytes_total = file.metadata()?.len();
    let mut lines = BufReader::new(file).lines();
    let header = lines.next().context("the file is empty")??;
    let columns: Vec<String> = crate::csv::fields(&header);
    let mut bar = Bar::new(collection.name());
    let (mut bytes, mut documents, mut batch) =
        (header.len() as u64, 0_u64, Vec::with_capacity(BATCH_DOCUMENTS));
    for line in lines {
        let line = line?;
        bytes += line.len() as u64 + 1;
        batch.push(shaped(crate::csv::document(&columns, &line), key));
        if batch.len() == BATCH_DOCUMENTS {
            documents += batch.len() as u64;
            collection.insert_many(std::mem::take(&mut batch)).ordered(false).await?;
            bar.show(bytes, bytes_total, &format!("{documents} documents"));
        }
    }
    documents += batch.len() as u64;
    if !batch.is_empty() {
        collection.insert_many(batch).ordered(false).await?;
    }
    bar.finish(&format!("{documents} documents"));
    Ok(documents)
}

/// The natural key becomes `_id`, coordinates become a place.
fn shaped(mut document: Document, key: Option<&str>) -> Document {
    let mut shaped = Document::new();
    if let Some(id) = key.and_then(|key| document.remove(key)) {
        shaped.insert("_id", id);
    }
    let number = |value: Option<Bson>| match value {
        Some(Bson::Double(number)) => Some(number),
        Some(Bson::Int32(number)) => Some(f64::from(number)),
        _ => None,
    };
    if let (Some(latitude), Some(longitude)) =
        (number(document.remove("lat")), number(document.remove("lon")))
    {
        document.insert("place", doc! { "type": "Point", "coordinates": [longitude, latitude] });
    }
    shaped.extend(document);
    shaped
}

async fn create_indexes(database: &Database) -> anyhow::Result<()> {
    for (collection, indexes) in [
        (
            "flights",
            vec![
                doc! { "key": { "carrier": 1, "flight": 1 }, "name": "carrier_flight" },
                doc! { "key": { "origin": 1, "dest": 1, "time_hour": -1 }, "name": "route_time" },
                doc! { "key": { "tailnum": 1 }, "name": "tailnum", "sparse": true },
                doc! { "key": { "dep_delay": -1 }, "name": "late", "partialFilterExpression": { "dep_delay": { "$gt": 60 } } },
            ],
        ),
        ("airports", vec![doc! { "key": { "place": "2dsphere" }, "name": "place" }]),
        (
            "planes",
            vec![doc! {
                "key": { "manufacturer": "text", "model": "text" }, "name": "words", "weights": { "model": 5 },
            }],
        ),
        ("weather", vec![doc! { "key": { "origin": 1, "time_hour": -1 }, "name": "origin_time" }]),
    ] {
        let command = doc! { "createIndexes": collection, "indexes": indexes };
        database.run_command(command).await.with_context(|| format!("index {collection}"))?;
    }
    Ok(())
}

async fn create_principals(client: &Client, database: &Database) -> anyhow::Result<()> {
    let role = doc! {
        "createRole": "flightReader",
        "privileges": [{ "resource": { "db": DATABASE, "collection": "flights" }, "actions": ["find"] }],
        "roles": [],
    };
    database.run_command(role).await.context("create a role")?;
    let user = doc! {
        "createUser": "analyst", "pwd": "a demonstration",
        "roles": [{ "role": "flightReader", "db": DATABASE }, { "role": "read", "db": DATABASE }],
    };
    client.database("admin").run_command(user).await.context("create a user")?;
    Ok(())
}

/// What the accident took.
pub(crate) struct Damage {
    /// Flights that were deleted.
    pub(crate) flights: u64,
}

/// Drops a collection and deletes about a tenth of the flights.
pub(crate) async fn stage_accident(client: &Client) -> anyhow::Result<Damage> {
    let database = client.database(DATABASE);
    database.collection::<Document>("airports").drop().await.context("drop the airports")?;
    let tenth =
        doc! { "$expr": { "$eq": [{ "$mod": [{ "$add": ["$flight", "$day", "$minute"] }, 10] }, 3] } };
    let deleted =
        database.collection::<Document>("flights").delete_many(tenth).await.context("delete flights")?;
    Ok(Damage { flights: deleted.deleted_count })
}

/// The time of the last operation that there was: a note that says nothing.
pub(crate) async fn last_operation(client: &Client) -> anyhow::Result<Timestamp> {
    let note = doc! {
        "appendOplogNote": 1, "data": { "msg": "before the update" }, "writeConcern": { "w": "majority" },
    };
    let reply =
        client.database("admin").run_command(note).await.context("mark the time before the update")?;
    reply.get_timestamp("operationTime").context("the server tells no time")
}

/// The `_id` of one of the flights of the bad update, as extended JSON.
pub(crate) async fn one_of_them(client: &Client) -> anyhow::Result<String> {
    let flights = client.database(DATABASE).collection::<Document>("flights");
    let found = flights.find_one(doc! { "dest": "HNL" }).await.context("look for a flight to Honolulu")?;
    let id = found.as_ref().and_then(|flight| flight.get("_id")).context("a flight to Honolulu")?;
    Ok(id.clone().into_canonical_extjson().to_string())
}

/// The filter of the bad update.
pub(crate) const BAD_FILTER: &str = "{dest: \"HNL\"}";

/// An update that should have been another; how many documents it changed.
pub(crate) async fn stage_bad_update(client: &Client) -> anyhow::Result<u64> {
    let flights = client.database(DATABASE).collection::<Document>("flights");
    let done = flights.update_many(doc! { "dest": "HNL" }, doc! { "$set": { "arr_delay": 0 } }).await;
    Ok(done.context("update the flights to Honolulu")?.modified_count)
}
