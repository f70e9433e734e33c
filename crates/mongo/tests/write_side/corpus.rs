//! Documents that tools damage.

use bson::{Document, doc};
use bytes::Bytes;
use mongo::{
    Deployment, Namespace,
    write::{LoadOptions, Loader, collections},
};
use testbed::data::RawBuilder;

use crate::{documents, on_versions, start};

const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Every document has a value at the top level that the server would change, next to whatever makes mending hard.
fn corpus() -> Vec<Vec<u8>> {
    let start = |id| RawBuilder::new().int("_id", id);
    let mut deep = RawBuilder::new().timestamp("zero", 0, 0);
    for _ in 0..150 {
        deep = RawBuilder::new().document("d", deep);
    }
    let padding = start(20).timestamp("z", 0, 0).string("p", b"").finish().len();
    let large = "x".repeat(DOCUMENT_BYTES_MAX - padding);
    [
        start(1).int("before", 1).timestamp("zero", 0, 0).int("after", 1),
        start(2).timestamp("a", 0, 0).timestamp("a", 0, 0).timestamp("b", 0, 0),
        start(3).int("a", 1).timestamp("a", 0, 0).int("a", 2),
        start(4).timestamp("a.b", 0, 0).int("x", 1),
        start(5).timestamp("$a", 0, 0).timestamp("$set", 0, 0),
        start(6).timestamp("", 0, 0),
        RawBuilder::new().int("_id", 7).element(0x11, &[0xff, 0xfe], &[0; 8]).string("s", &[0xff, 0x80]),
        start(8).timestamp("0", 0, 0).int("$ref", 1).int("$id", 2).int("$db", 3),
        start(9)
            .timestamp("z", 0, 0)
            .element(0x06, b"undefined", b"")
            .double_bits("nan", 0x7ff0_0000_0000_0001),
        start(10).timestamp("z", 0, 0).document("deep", deep),
        start(11).document("only inside", RawBuilder::new().timestamp("z", 0, 0).timestamp("z", 0, 0)),
        RawBuilder::new().timestamp("_id", 0, 0).int("x", 1),
        RawBuilder::new().document("_id", RawBuilder::new().timestamp("z", 0, 0)).timestamp("z", 0, 0),
        start(12).timestamp("nearly", 0, 1).int("x", 1),
        start(13).int("twice", 1).int("twice", 2),
        start(20).timestamp("z", 0, 0).string("p", large.as_bytes()),
        start(21).int("x", 1),
    ]
    .map(RawBuilder::finish)
    .to_vec()
}

async fn arrives(deployment: &Deployment, name: &str, options: Document, order: bool, mark: bool) {
    let namespace = Namespace::new("app", name);
    let options = bson::RawDocumentBuf::try_from(options).unwrap();
    collections::create(deployment, "app", name, options.as_bytes(), None).await.unwrap();
    let options = LoadOptions {
        insertion_order: order,
        mark_as: mark.then(|| "job".to_owned()),
        ..LoadOptions::default()
    };
    let mut loader = Loader::open(deployment, &namespace, options).await.unwrap();
    let mut wanted = corpus();
    loader.insert(Bytes::from(wanted.concat())).await.unwrap();
    let report = loader.finish().await.unwrap();
    assert_eq!((report.documents, report.mended), (17, 12));
    assert!(report.durable_at.is_some());
    let mut found = documents(deployment, &namespace).await;
    if !order {
        wanted.sort();
        found.sort();
    }
    for (wanted, found) in wanted.iter().zip(&found) {
        assert!(
            wanted == found,
            "{name}: {:x?} became {:x?}",
            &wanted[..wanted.len().min(200)],
            &found[..found.len().min(200)]
        );
    }
    assert_eq!(found.len(), wanted.len());
}

async fn the_corpus_arrives_in_every_kind_of_collection(version: &str) {
    let (_server, deployment) = start(version).await;
    arrives(&deployment, "plain", doc! {}, false, false).await;
    arrives(&deployment, "marked", doc! {}, false, true).await;
    arrives(&deployment, "capped", doc! { "capped": true, "size": 64 << 20 }, true, false).await;
    let validator = doc! { "nobody has this": 1 };
    arrives(
        &deployment,
        "refusing",
        doc! { "validator": validator, "collation": { "locale": "de" } },
        false,
        false,
    )
    .await;
    if deployment.version() >= (6, 0, 0) {
        let clustered = doc! { "clusteredIndex": { "key": { "_id": 1 }, "unique": true } };
        arrives(&deployment, "clustered", clustered, false, false).await;
    }
}
on_versions!(the_corpus_arrives_in_every_kind_of_collection);
