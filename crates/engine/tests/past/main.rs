//! Questions about the past, held against what a real server answered at the time.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;
mod workload;

use std::collections::BTreeSet;

use bson::{Bson, doc};
use model::ClusterTime;
use support::engine::past::{
    Asked, Definition, Difference, DocumentId, Operation, Origin, Past, PastError, Version,
};
use workload::{Random, Recorded, STEPS, Step, id_of};

/// As people type it. The order of fields is part of an id, and a general JSON value would lose it.
fn document_id(id: &Bson) -> DocumentId {
    let json = |value: &Bson| value.clone().into_canonical_extjson().to_string();
    let text = match id {
        Bson::Document(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|(name, value)| format!("{name:?}:{}", json(value))).collect();
            format!("{{{}}}", fields.join(","))
        }
        other => json(other),
    };
    DocumentId::parse(&text).unwrap()
}

fn before(time: ClusterTime) -> ClusterTime {
    ClusterTime::from_u64(time.as_u64() - 1)
}

async fn origin(recorded: &Recorded, at: ClusterTime) -> Origin {
    let timelines = recorded.bench.catalog.timelines();
    let (timeline, snapshot) = timelines.base_for(recorded.bench.deployment, at).await.unwrap().unwrap();
    Origin { timeline, snapshot }
}

async fn show(recorded: &Recorded, id: &Bson, at: ClusterTime) -> Result<Vec<u8>, PastError> {
    let origin = origin(recorded, at).await;
    let shown = recorded.past().show(&origin, "app.things", &document_id(id), at).await;
    shown.map(|shown| shown.document)
}

/// Every document that a step touches, and some that it does not.
async fn shows_what_was_there(recorded: &Recorded, random: &mut Random) {
    let mut asked = 0;
    for (n, step) in recorded.steps.iter().enumerate() {
        let mut numbers: BTreeSet<u64> = (0..3).map(|_| random.below(workload::IDS)).collect();
        numbers.extend(step.touched.iter().take(4));
        for number in numbers {
            let id = id_of(number);
            let shown = show(recorded, &id, step.at).await;
            let about = format!("step {n} at {}: {id}", step.at);
            match (step.document(number), shown) {
                (Some(expected), Ok(shown)) => assert!(*expected == shown, "{about}: another document"),
                (None, Err(PastError::NoCollection)) => assert!(step.state.is_none(), "{about}"),
                (None, Err(PastError::NoDocument)) => assert!(step.state.is_some(), "{about}"),
                (expected, shown) => panic!("{about}: {shown:?} for {expected:?}"),
            }
            asked += 1;
        }
    }
    println!("{asked} documents were shown");
}

/// The states of a document one after the other, each with the times between which it began.
fn expected_versions(steps: &[Step], number: u64) -> Vec<(ClusterTime, ClusterTime, Option<Vec<u8>>)> {
    let pairs = steps.iter().zip(steps.iter().skip(1));
    pairs
        .filter(|(before, after)| before.document(number) != after.document(number))
        .map(|(before, after)| (before.at, after.at, after.document(number).cloned()))
        .collect()
}

async fn asked(recorded: &Recorded, namespace: &str, id: DocumentId) -> Asked {
    let bench = &recorded.bench;
    Asked {
        deployment: bench.deployment,
        ranges: bench.catalog.timelines().ranges(bench.deployment).await.unwrap(),
        namespace: namespace.to_owned(),
        id,
        limit: 10_000,
        documents: true,
    }
}

async fn versions(past: &Past, asked: &Asked) -> Vec<Version> {
    let found = past.versions(asked.clone()).await.unwrap();
    assert_eq!(found.more_until, None);
    found.versions
}

async fn lists_every_version(recorded: &Recorded) {
    let bench = &recorded.bench;
    let ranges = bench.catalog.timelines().ranges(bench.deployment).await.unwrap();
    assert_eq!(ranges.len(), 1);
    let past = recorded.past();
    let mut told = 0;
    for number in (0..workload::IDS).step_by(3) {
        let id = id_of(number);
        let asked = asked(recorded, "app.things", document_id(&id)).await;
        let initial = recorded.steps[0].document(number);
        let expected = expected_versions(&recorded.steps, number);
        if initial.is_none() && expected.is_empty() {
            assert!(matches!(past.versions(asked).await, Err(PastError::NoDocument)), "{id}");
            continue;
        }
        let mut found = versions(&past, &asked).await;
        let newest_first = found.clone();
        found.reverse();
        if let Some(initial) = initial {
            let first = found.remove(0);
            assert_eq!((first.operation, first.at), (Operation::Present, ranges[0].1.from), "{id}");
            assert_eq!(first.document.as_ref(), Some(initial), "{id}");
        }
        let about = |n: usize| format!("{id}, version {n} of {}", expected.len());
        assert_eq!(found.len(), expected.len(), "{id}: {found:#?}");
        for (n, (version, (after, until, document))) in found.iter().zip(&expected).enumerate() {
            assert!(*after < version.at && version.at <= *until, "{}: {version:?}", about(n));
            assert!(version.document == *document, "{}: another document", about(n));
            assert_eq!(version.exists, document.is_some(), "{}", about(n));
            let gone = matches!(
                version.operation,
                Operation::Delete | Operation::Drop | Operation::Rename | Operation::Create
            );
            assert!(gone || version.exists, "{}: {:?}", about(n), version.operation);
            assert!(version.wall_ms.is_some(), "{}", about(n));
        }
        // It is a version exactly because `show` shows something else from there on.
        if let Some(version) = found.last() {
            let then = show(recorded, &id, version.at).await.ok();
            let earlier = show(recorded, &id, before(version.at)).await.ok();
            assert!(then == version.document && earlier != version.document, "{id}");
        }
        from_the_middle(recorded, &past, &asked, number).await;
        // Page by page it is the same.
        let (mut pages, mut range) = (Vec::new(), asked.ranges.clone());
        loop {
            let asked = Asked { ranges: range.clone(), limit: 2, ..asked.clone() };
            let page = past.versions(asked).await.unwrap();
            assert!(page.versions.len() <= 2);
            pages.extend(page.versions);
            let Some(until) = page.more_until else { break };
            range[0].1.to = until;
        }
        assert!(pages == newest_first, "{id}: pages {pages:#?} of {newest_first:#?}");
        told += newest_first.len();
    }
    println!("{told} versions were told");
}

/// What there is to be told of a document where one begins to look after the name has changed hands, and while nobody has it.
async fn from_the_middle(recorded: &Recorded, past: &Past, asked: &Asked, number: u64) {
    for first in [32, 62, 85] {
        let steps = &recorded.steps[first..];
        let mut asked = asked.clone();
        asked.ranges[0].1.from = steps[0].at;
        let present = steps[0].document(number).map(|document| (Operation::Present, Some(document.clone())));
        let later = expected_versions(steps, number);
        let found = match past.versions(asked).await {
            Ok(found) => found.versions,
            Err(PastError::NoDocument) => Vec::new(),
            Err(error) => panic!("{number} from step {first}: {error:?}"),
        };
        let about = format!("{} from step {first}: {found:#?}", id_of(number));
        assert_eq!(found.len(), later.len() + usize::from(present.is_some()), "{about}");
        let mut found = found.into_iter().rev();
        if let Some(expected) = present {
            let first = found.next().unwrap();
            assert!((first.operation, first.document) == expected && first.at == steps[0].at, "{about}");
        }
        assert!(found.zip(later).all(|(version, (.., document))| version.document == document), "{about}");
    }
}

async fn difference(
    recorded: &Recorded,
    from: &Step,
    to: &Step,
    limit: usize,
) -> Result<Difference, PastError> {
    let origin = origin(recorded, from.at).await;
    recorded.past().difference(&origin, "app.things", from.at, to.at, limit).await
}

async fn tells_what_differs(recorded: &Recorded, random: &mut Random) {
    let (mut compared, mut documents) = (0, 0);
    for round in 0..60 {
        let mut pair = [random.below(STEPS) as usize, random.below(STEPS) as usize];
        pair.sort_unstable();
        if round % 2 == 0 {
            pair[1] = (pair[0] + 3).min(recorded.steps.len() - 1);
        }
        let [from, to] = pair.map(|n| &recorded.steps[n]);
        if from.at == to.at {
            continue;
        }
        let about = format!("from step {} to {}", pair[0], pair[1]);
        let found = difference(recorded, from, to, usize::MAX).await;
        let (Some(before), Some(after)) = (&from.state, &to.state) else {
            match (&from.state, &to.state, found) {
                (None, None, Err(PastError::NoCollection)) => {}
                (None, Some(_), Ok(found)) => assert_eq!(found.definition, [Definition::Created], "{about}"),
                (Some(_), None, Ok(found)) => assert!(
                    found.definition == [Definition::Dropped]
                        || found.definition == [Definition::RenamedTo("app.kept".to_owned())],
                    "{about}: {:?}",
                    found.definition
                ),
                (_, _, found) => panic!("{about}: {found:?}"),
            }
            continue;
        };
        let found = found.unwrap();
        if from.identity != to.identity {
            assert_eq!(
                found,
                Difference { definition: vec![Definition::Replaced], documents: None },
                "{about}"
            );
            continue;
        }
        let listed = found.documents.unwrap();
        let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let differing: Vec<_> = keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).collect();
        let count = |what: fn(bool, bool) -> bool| {
            let is = |key: &&&Vec<u8>| what(before.contains_key(**key), after.contains_key(**key));
            differing.iter().filter(is).count() as u64
        };
        assert_eq!(listed.added, count(|before, after| !before && after), "{about}");
        assert_eq!(listed.removed, count(|before, after| before && !after), "{about}");
        assert_eq!(listed.changed, count(|before, after| before && after), "{about}");
        assert_eq!(listed.shown.len(), differing.len(), "{about}");
        for change in &listed.shown {
            let key = workload::key_of(change.after.as_ref().or(change.before.as_ref()).unwrap());
            assert!(change.before.as_ref() == before.get(&key), "{about}: another document before");
            assert!(change.after.as_ref() == after.get(&key), "{about}: another document after");
        }
        if !differing.is_empty() {
            let few = difference(recorded, from, to, 1).await.unwrap().documents.unwrap();
            assert_eq!((few.shown.len(), few.added + few.removed + few.changed), (1, differing.len() as u64));
        }
        (compared, documents) = (compared + 1, documents + differing.len());
    }
    println!("{documents} documents of {compared} pairs of times differ");
    assert!(compared > 10 && documents > 50);
    let (from, to) = (&recorded.steps[workload::REDEFINED - 1], &recorded.steps[workload::REDEFINED]);
    let found = difference(recorded, from, to, 10).await.unwrap().definition;
    assert!(matches!(found[..], [Definition::Options { .. }, Definition::IndexAdded(_)]), "{found:?}");
}

async fn on(version: &str, seed: u64) {
    let recorded = workload::run(version, seed).await;
    let mut random = Random(seed);
    shows_what_was_there(&recorded, &mut random).await;
    lists_every_version(&recorded).await;
    tells_what_differs(&recorded, &mut random).await;
    what_cannot_be_looked_up_is_told(&recorded).await;
    recorded.stop().await;
}

async fn what_cannot_be_looked_up_is_told(recorded: &Recorded) {
    let at = recorded.steps.last().unwrap().at;
    let origin = origin(recorded, at).await;
    let past = recorded.past();
    let id = document_id(&Bson::Int32(1));
    for (namespace, why) in [
        ("app.ring", "is capped"),
        ("app.seen", "is a view"),
        ("app.measured", "is a time series"),
        ("app.system.buckets.measured", "buckets"),
        ("app.system.views", "kept apart"),
        ("local.oplog.rs", "never backed up"),
    ] {
        let found = past.show(&origin, namespace, &id, at).await;
        assert!(
            matches!(&found, Err(PastError::NotSearchable(told)) if told.contains(why)),
            "{namespace}: {found:?}"
        );
        let found = past.difference(&origin, namespace, recorded.steps[0].at, at, 1).await;
        let asked = asked(recorded, namespace, id.clone()).await;
        let versions = past.versions(asked).await;
        assert!(matches!(&versions, Err(PastError::NotSearchable(_))), "{namespace}: {versions:?}");
        // A collection that came later is told as that.
        assert!(matches!(&found, Err(PastError::NotSearchable(_))), "{namespace}: {found:?}");
    }
    assert!(matches!(past.show(&origin, "app.nothing", &id, at).await, Err(PastError::NoCollection)));
    assert!(matches!(past.show(&origin, "nothing", &id, at).await, Err(PastError::Namespace(_))));
    // An operation that no fold knows: from there on there is no answer, and before it there is.
    let bench = &recorded.bench;
    let operation = doc! {
        "op": "i", "ns": "app.things", "o": { "_id": "odd", "t": bson::Timestamp { time: 0, increment: 0 } },
    };
    bench.server.admin(doc! { "applyOps": [operation] }).await.unwrap();
    let after = recorded.now().await;
    recorded.reach(after).await;
    let found = show(recorded, &id_of(0), after).await;
    assert!(matches!(&found, Err(PastError::Unknown(why)) if why.contains("Timestamp(0,0)")), "{found:?}");
    let last = recorded.steps.last().unwrap();
    assert_eq!(show(recorded, &id_of(0), at).await.ok().as_ref(), last.document(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_past_is_what_the_server_had_on_6_0() {
    on("6.0.5", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_past_is_what_the_server_had_on_5_0() {
    on("5.0.4", 2).await;
}
