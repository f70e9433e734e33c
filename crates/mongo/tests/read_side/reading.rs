//! Exact reads: every way leads to the same documents.

use std::collections::HashSet;

use bson::{Bson, Document, doc, oid::ObjectId};
use futures::TryStreamExt as _;
use history::SortKey;
use mongo::{
    ClusterTime, CollectionInfo, CollectionKind, Deployment,
    read::{self, DocumentId, Order},
    time,
};
use testbed::load::{Load, LoadOptions};

use crate::support::{connected, decoded, drain, fill, in_key_order, info, natural, on_each_version, sorted};

on_each_version!(
    ids_of_every_type,
    a_read_under_load_is_one_moment,
    stored_in_id_order,
    capped_in_insertion_order,
    capped_as_of_a_time_before_it,
    collated_by_natural_order,
    large_documents
);

/// All documents by every parallel way, as sets of ranges.
async fn read_in_ranges(
    deployment: &Deployment,
    collection: &CollectionInfo,
    at: ClusterTime,
    ranges: usize,
) -> Vec<Vec<u8>> {
    let mut wire = deployment.read_wire().await.unwrap();
    let mut documents = Vec::new();
    let cuts = read::natural_split(&mut wire, collection, at, ranges).await.unwrap();
    assert!(cuts.len() <= ranges);
    for cut in &cuts {
        documents.extend(drain(read::natural(&mut wire, collection, at, cut).await.unwrap()).await.unwrap());
    }
    documents
}

async fn ids_of_every_type(version: &str) {
    let (_server, client, deployment) = connected(version).await;
    let ids: Vec<Bson> = vec![
        Bson::MinKey,
        Bson::Null,
        Bson::Int32(1),
        Bson::Int64(2),
        Bson::Double(2.5),
        Bson::Double(f64::NAN),
        Bson::Decimal128("3.25".parse().unwrap()),
        Bson::String("a".to_owned()),
        Bson::Symbol("b".to_owned()),
        doc! { "a": 1, "b": { "c": [] } }.into(),
        bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![1, 2] }.into(),
        ObjectId::from_bytes([7; 12]).into(),
        Bson::Boolean(false),
        Bson::DateTime(bson::DateTime::from_millis(-5)),
        Bson::Timestamp(ClusterTime { time: 3, increment: 4 }),
        Bson::MaxKey,
    ];
    let collection = client.database("app").collection::<Document>("mixed");
    // Against the order, so that storage order is not `_id` order.
    collection.insert_many(ids.iter().rev().map(|id| doc! { "_id": id.clone(), "x": 1 })).await.unwrap();
    let info = info(&deployment, "app.mixed").await;
    let at = time::majority_now(&deployment).await.unwrap();
    let mut wire = deployment.read_wire().await.unwrap();
    let all = sorted(&mut wire, &info, at).await.unwrap();
    assert_eq!(all.len(), ids.len());
    assert_eq!(all, in_key_order(all.clone()), "the server's order is the order of our keys");
    assert_eq!(decoded(&all[0]).get("_id"), Some(&Bson::MinKey));
    assert_eq!(decoded(all.last().unwrap()).get("_id"), Some(&Bson::MaxKey));
    for (place, document) in all.iter().enumerate() {
        let from = DocumentId::of(document).unwrap();
        let rest = drain(read::sorted(&mut wire, &info, at, Some(&from)).await.unwrap()).await.unwrap();
        assert_eq!(rest, all[place..], "from {:?}", decoded(document).get("_id"));
    }
    assert_eq!(in_key_order(natural(&mut wire, &info, at).await.unwrap()), all);
    for ranges in [1, 2, 5, 16, 64] {
        assert_eq!(in_key_order(read_in_ranges(&deployment, &info, at, ranges).await), all);
        let points = read::split_points(&mut wire, &info, ranges).await.unwrap();
        assert!(points.len() < ranges);
        let keys: Vec<SortKey> =
            points.iter().map(|point| SortKey::of_document(point.as_bytes()).unwrap()).collect();
        assert!(keys.is_sorted());
    }
}

async fn a_read_under_load_is_one_moment(version: &str) {
    let (_server, client, deployment) = connected(version).await;
    let options =
        LoadOptions { database: "app".to_owned(), collection: "busy".to_owned(), ..LoadOptions::default() };
    let load = Load::start(&client, &options);
    load.wait_for(1000).await;
    let info = info(&deployment, "app.busy").await;
    let at = time::majority_now(&deployment).await.unwrap();
    let mut wire = deployment.read_wire().await.unwrap();
    let first = sorted(&mut wire, &info, at).await.unwrap();
    assert!(!first.is_empty());
    load.wait_for(500).await;
    // The same moment again, by other ways, while everything moves.
    assert_eq!(sorted(&mut wire, &info, at).await.unwrap(), first);
    assert_eq!(in_key_order(natural(&mut wire, &info, at).await.unwrap()), first);
    assert_eq!(in_key_order(read_in_ranges(&deployment, &info, at, 4).await), first);
    // A natural read that was interrupted goes on where it was.
    let whole = read::NaturalRange::whole();
    let mut cursor = read::natural(&mut wire, &info, at, &whole).await.unwrap();
    let batch = cursor.next().await.unwrap().unwrap();
    let mut resumed: Vec<Vec<u8>> = batch.documents().map(<[u8]>::to_vec).collect();
    let rest = whole.resume(batch.resume_token().unwrap());
    cursor.close().await.unwrap();
    load.wait_for(200).await;
    resumed.extend(drain(read::natural(&mut wire, &info, at, &rest).await.unwrap()).await.unwrap());
    assert_eq!(in_key_order(resumed), first);
    let later = time::majority_now(&deployment).await.unwrap();
    assert_ne!(sorted(&mut wire, &info, later).await.unwrap(), first);
    load.stop().await.unwrap();
}

async fn stored_in_id_order(version: &str) {
    let (_server, client, deployment) = connected(version).await;
    let app = client.database("app");
    app.run_command(doc! { "create": "points", "timeseries": { "timeField": "t", "metaField": "m" } })
        .await
        .unwrap();
    let points = (0..3000).map(
        |n: i32| doc! { "t": bson::DateTime::from_millis(i64::from(n) * 3_600_000), "m": n % 50, "v": n },
    );
    app.collection::<Document>("points").insert_many(points).await.unwrap();
    let mut namespaces = vec!["app.system.buckets.points"];
    if version.starts_with('6') {
        let create =
            doc! { "create": "clustered", "clusteredIndex": { "key": { "_id": 1 }, "unique": true } };
        app.run_command(create).await.unwrap();
        let mixed = (0..500).rev().map(|n: i32| match n % 3 {
            0 => doc! { "_id": n },
            1 => doc! { "_id": f64::from(n) + 0.5 },
            _ => doc! { "_id": format!("s{n}") },
        });
        app.collection::<Document>("clustered").insert_many(mixed).await.unwrap();
        namespaces.push("app.clustered");
    }
    for namespace in namespaces {
        let info = info(&deployment, namespace).await;
        let at = time::majority_now(&deployment).await.unwrap();
        let mut wire = deployment.read_wire().await.unwrap();
        assert_eq!(read::choose_order(&mut wire, &info, 1).await.unwrap().0, Order::StoredSorted);
        let all = sorted(&mut wire, &info, at).await.unwrap();
        assert!(all.len() > 300, "{namespace}: {}", all.len());
        assert_eq!(all, in_key_order(all.clone()), "{namespace}");
        assert_eq!(natural(&mut wire, &info, at).await.unwrap(), all, "{namespace}");
        for place in [0, 1, 150, 299, all.len() - 1] {
            let from = DocumentId::of(&all[place]).unwrap();
            let rest = drain(read::sorted(&mut wire, &info, at, Some(&from)).await.unwrap()).await.unwrap();
            assert_eq!(rest, all[place..], "{namespace} from {place}");
        }
        assert_eq!(read_in_ranges(&deployment, &info, at, 4).await, all);
        // An interrupted natural read goes on, though records have no numbers here.
        let mut cursor = read::natural(&mut wire, &info, at, &read::NaturalRange::whole()).await.unwrap();
        let batch = cursor.next().await.unwrap().unwrap();
        let taken = batch.len();
        let rest = read::NaturalRange::whole().resume(batch.resume_token().unwrap());
        cursor.close().await.unwrap();
        let rest = drain(read::natural(&mut wire, &info, at, &rest).await.unwrap()).await.unwrap();
        assert_eq!(rest, all[taken..], "{namespace}");
    }
}

async fn capped_in_insertion_order(version: &str) {
    let (_server, client, deployment) = connected(version).await;
    let app = client.database("app");
    app.run_command(doc! { "create": "log", "capped": true, "size": 100_000 }).await.unwrap();
    let empty = info(&deployment, "app.log").await;
    assert_eq!(empty.kind, CollectionKind::Capped);
    let mut wire = deployment.read_wire().await.unwrap();
    let now = time::majority_now(&deployment).await.unwrap();
    let nothing = read::capped(&mut wire, &empty, now).await.unwrap();
    assert!(nothing.as_of >= now);
    assert!(drain(nothing.cursor).await.unwrap().is_empty());
    // More than fits, and `_id`s that do not follow the order of insertion.
    for n in 0..3000_i32 {
        app.collection::<Document>("log")
            .insert_one(doc! { "_id": (n * 7919) % 3001, "n": n, "x": "y".repeat(60) })
            .await
            .unwrap();
    }
    let before = time::majority_now(&deployment).await.unwrap();
    let read = read::capped(&mut wire, &empty, before).await.unwrap();
    assert!(read.as_of >= before);
    // Written after the read began; must not be in it, however slow the reader.
    app.collection::<Document>("log").insert_one(doc! { "_id": -1, "n": 3000 }).await.unwrap();
    let documents = drain(read.cursor).await.unwrap();
    let numbers: Vec<i32> =
        documents.iter().map(|document| decoded(document).get_i32("n").unwrap()).collect();
    assert!(numbers.len() > 101 && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
    assert_eq!(numbers.last(), Some(&2999));
}

/// Whatever was inserted up to the time that is told is read, however busy the collection is.
async fn capped_as_of_a_time_before_it(version: &str) {
    const ROUNDS: usize = 30;
    let (_server, client, deployment) = connected(version).await;
    let app = client.database("app");
    app.run_command(doc! { "create": "log", "capped": true, "size": 1 << 20 }).await.unwrap();
    let log = info(&deployment, "app.log").await;
    let writers: Vec<_> = (0..2_i32)
        .map(|writer| {
            let log = app.collection::<Document>("log");
            tokio::spawn(async move {
                for n in 0.. {
                    log.insert_one(doc! { "_id": format!("{writer} {n}") }).await.unwrap();
                }
            })
        })
        .collect();
    let mut wire = deployment.read_wire().await.unwrap();
    let begun = time::majority_now(&deployment).await.unwrap();
    let mut reads = vec![];
    while reads.len() < ROUNDS {
        let read = read::capped(&mut wire, &log, begun).await.unwrap();
        let as_of = read.as_of;
        let documents = drain(read.cursor).await.unwrap();
        let ids = documents.iter().map(|document| decoded(document).get_str("_id").unwrap().to_owned());
        reads.push((as_of, ids.collect::<HashSet<_>>(), read::capped_seen(&mut wire, &log).await.unwrap()));
    }
    writers.iter().for_each(tokio::task::JoinHandle::abort);
    let oplog = client.database("local").collection::<Document>("oplog.rs");
    let inserts = oplog.find(doc! { "ns": "app.log", "op": "i" }).await.unwrap();
    let inserts: Vec<Document> = inserts.try_collect().await.unwrap();
    let at = |entry: &Document| entry.get_timestamp("ts").unwrap();
    let of = |entry: &Document| entry.get_document("o").unwrap().get_str("_id").unwrap().to_owned();
    for (as_of, ids, seen) in reads {
        assert!(as_of <= seen);
        let missing =
            inserts.iter().filter(|entry| at(entry) <= as_of).find(|entry| !ids.contains(&of(entry)));
        assert_eq!(missing, None, "as of {as_of}");
        let early = inserts.iter().filter(|entry| at(entry) > seen).find(|entry| ids.contains(&of(entry)));
        assert_eq!(early, None, "seen until {seen}");
    }
}

async fn collated_by_natural_order(version: &str) {
    let (_server, client, deployment) = connected(version).await;
    let create = doc! { "create": "names", "collation": { "locale": "en", "strength": 2 } };
    client.database("app").run_command(create).await.unwrap();
    let ids = (0..400).map(|n| if n % 2 == 0 { format!("B{n:03}") } else { format!("a{n:03}") });
    client
        .database("app")
        .collection::<Document>("names")
        .insert_many(ids.map(|id| doc! { "_id": id }))
        .await
        .unwrap();
    let info = info(&deployment, "app.names").await;
    let at = time::majority_now(&deployment).await.unwrap();
    let mut wire = deployment.read_wire().await.unwrap();
    assert_eq!(read::choose_order(&mut wire, &info, u64::MAX).await.unwrap().0, Order::NaturalThenSort);
    let by_index = sorted(&mut wire, &info, at).await.unwrap();
    let by_key = in_key_order(natural(&mut wire, &info, at).await.unwrap());
    assert_eq!(by_key.len(), 400);
    // Why this order is never chosen.
    assert_ne!(by_index, by_key);
    assert_eq!(in_key_order(read_in_ranges(&deployment, &info, at, 4).await), by_key);
    assert!(read::split_points(&mut wire, &info, 4).await.unwrap().is_empty());
}

async fn large_documents(version: &str) {
    let (_server, client, deployment) = connected(version).await;
    let collection = client.database("app").collection::<Document>("large");
    let sizes = [10, 16_000_000, 10, 3_000_000, 16_700_000, 5];
    for (id, size) in sizes.iter().enumerate() {
        let id = i32::try_from(id).unwrap();
        collection.insert_one(doc! { "_id": id, "x": "z".repeat(*size) }).await.unwrap();
    }
    fill(&client, "app.small", 20_000, 100).await;
    let at = time::majority_now(&deployment).await.unwrap();
    let mut wire = deployment.read_wire().await.unwrap();
    let large = info(&deployment, "app.large").await;
    let documents = sorted(&mut wire, &large, at).await.unwrap();
    assert!(documents.iter().map(|document| decoded(document).get_str("x").unwrap().len()).eq(sizes));

    // Batches of about a megabyte, whatever the documents.
    let small = info(&deployment, "app.small").await;
    let mut cursor = read::sorted(&mut wire, &small, at, None).await.unwrap();
    let (mut count, mut batches) = (0, 0);
    while let Some(batch) = cursor.next().await.unwrap() {
        assert!(batch.bytes() <= 1_200_000);
        (count, batches) = (count + batch.len(), batches + 1);
        cursor.recycle(batch);
    }
    assert_eq!(count, 20_000);
    assert!(batches <= 6, "{batches}");
}

#[tokio::test]
async fn the_order_is_chosen_by_what_is_measured() {
    let (_server, client, deployment) = connected("6.0.5").await;
    fill(&client, "app.increasing", 3000, 6000).await;
    let collection = client.database("app").collection::<Document>("random");
    let ids = (0..10_000_u64).map(
        |n| doc! { "_id": format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)), "x": "y".repeat(6000) },
    );
    collection.insert_many(ids).await.unwrap();
    let mut wire = deployment.read_wire().await.unwrap();
    let increasing = info(&deployment, "app.increasing").await;
    let random = info(&deployment, "app.random").await;
    let mut choose =
        async |info: &CollectionInfo, cache: u64| read::choose_order(&mut wire, info, cache).await.unwrap();
    for cache in [1000, 1 << 30] {
        let (order, why) = choose(&increasing, cache).await;
        assert!(matches!(order, Order::NaturalNearlySorted { .. }), "{why}");
    }
    let (order, why) = choose(&random, 1000).await;
    assert_eq!(order, Order::NaturalThenSort, "{why}");
    let (order, why) = choose(&random, 1 << 30).await;
    assert_eq!(order, Order::SortedRanges, "{why}");
    fill(&client, "app.small", 3000, 100).await;
    let small = info(&deployment, "app.small").await;
    let (order, why) = read::choose_order(&mut wire, &small, 1000).await.unwrap();
    assert_eq!(order, Order::SortedRanges, "{why}");
}
