//! Pins.

use catalog::{Catalog, Error, ObjectStats, StoredObject};
use std::collections::HashSet;

use crate::support::{self, at, names};

pub(crate) fn stored(name: &str) -> StoredObject {
    StoredObject { name: name.to_owned(), kind: "segment".to_owned(), stored_bytes: 100 }
}

pub(crate) async fn pins_hold_and_end_with_the_job(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    support::request_snapshot(&catalog, &deployment, at(1)).await;
    let first = support::claim(&catalog, "w1", at(2)).await;
    let objects = catalog.objects();
    // More than one batch, some of them twice.
    let many: Vec<String> = (0..1000).map(|n| format!("object-{:04}", n % 900)).collect();
    let report = objects.pin(&first, &many).await.unwrap();
    assert!(report.stored.is_empty() && report.deleting.is_empty());
    objects.stored(&first, &many[..500].iter().map(|name| stored(name)).collect::<Vec<_>>()).await.unwrap();
    let report = objects.pin(&first, &many).await.unwrap();
    assert_eq!(report.stored, many[..500].iter().cloned().collect::<HashSet<_>>());
    assert_eq!(objects.known(&many).await.unwrap(), report.stored);
    assert_eq!(
        objects.stats().await.unwrap(),
        ObjectStats { objects: 500, stored_bytes: 50_000, ..ObjectStats::default() }
    );
    assert!(objects.pin(&first, &[]).await.unwrap().stored.is_empty());

    let collector = catalog.collector();
    let cycle = collector.begin_cycle(at(3), 1000).await.unwrap().unwrap();
    assert_eq!(collector.mark(&cycle, &many).await.unwrap(), 0, "pinned");
    let second = support::claim(&catalog, "w2", at(100)).await;
    assert_eq!(collector.mark(&cycle, &many).await.unwrap(), 0, "the pins are the job's, not the worker's");
    for lost in [
        objects.pin(&first, &names(&["x"])).await.map(drop),
        objects.stored(&first, &[stored("x")]).await,
        catalog
            .obligations()
            .record(&first, deployment.id, "k", &serde_json::json!(1), at(101))
            .await
            .map(drop),
    ] {
        assert!(matches!(lost, Err(Error::LeaseLost { .. })), "{lost:?}");
    }
    catalog.jobs().finish(&second, support::failed("x"), at(102)).await.unwrap();
    assert_eq!(collector.mark(&cycle, &many).await.unwrap(), 500, "pins end with the job");
    assert_eq!(objects.stats().await.unwrap().marked, 500);
}

pub(crate) async fn what_is_damaged_counts_as_not_stored(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    support::request_snapshot(&catalog, &deployment, at(1)).await;
    let lease = support::claim(&catalog, "w1", at(2)).await;
    let objects = catalog.objects();
    let both = names(&["good", "rotten"]);
    objects.pin(&lease, &both).await.unwrap();
    objects.stored(&lease, &[stored("good"), stored("rotten")]).await.unwrap();
    assert_eq!(objects.report_damage(&names(&["rotten", "unknown"])).await.unwrap(), 1);
    assert_eq!(objects.report_damage(&names(&["rotten"])).await.unwrap(), 0, "known already");
    assert_eq!(objects.report_damage(&[]).await.unwrap(), 0);
    let found = objects.pin(&lease, &both).await.unwrap();
    assert_eq!(found.stored, HashSet::from(["good".to_owned()]));
    assert_eq!(objects.stats().await.unwrap().damaged, 1);
    // Neither the collector nor a search of the store makes it good again.
    let collector = catalog.collector();
    let cycle = collector.begin_cycle(at(3), 1000).await.unwrap().unwrap();
    collector.adopt(&cycle, &[stored("rotten")]).await.unwrap();
    assert_eq!(collector.candidates(None, 10).await.unwrap().len(), 2);
    assert!(!objects.pin(&lease, &both).await.unwrap().stored.contains("rotten"));

    objects.stored(&lease, &[stored("rotten")]).await.unwrap();
    assert_eq!(objects.pin(&lease, &both).await.unwrap().stored.len(), 2, "stored anew");
    assert_eq!(objects.stats().await.unwrap().damaged, 0);
}

/// Workers run on any thread. What does not fit there is refused by the compiler, here and not in the engine.
#[tokio::test]
async fn futures_can_be_sent_between_threads() {
    fn sendable<F: Future + Send>(future: F) {
        drop(future);
    }
    let (catalog, _directory) = support::sqlite().await;
    let (_, deployment) = support::source(&catalog).await;
    support::request_snapshot(&catalog, &deployment, at(1)).await;
    let lease = support::claim(&catalog, "w", at(2)).await;
    let cycle = catalog.collector().begin_cycle(at(3), 1000).await.unwrap().unwrap();
    let (objects, collector) = (catalog.objects(), catalog.collector());
    sendable(catalog::Catalog::open("x"));
    sendable(catalog.jobs().finish(&lease, support::failed("x"), at(4)));
    sendable(objects.pin(&lease, &[]));
    sendable(objects.stored(&lease, &[]));
    sendable(objects.report_damage(&[]));
    sendable(collector.mark(&cycle, &[]));
    sendable(collector.begin_delete(&cycle, &[]));
    sendable(collector.finish_delete(&cycle, &[]));
    sendable(collector.adopt(&cycle, &[]));
}
