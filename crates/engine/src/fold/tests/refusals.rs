//! What cannot be folded is refused by name and with its reason, and what can is folded beside all that is odd.

use bson::{Binary, RawDocumentBuf, Timestamp, rawdoc, spec::BinarySubtype};
use futures::TryStreamExt as _;
use history::{ClusterTime, change::Reason};
use vault::CollectionKind;

use super::bench::{AT, BASE_AT, Bench, ID, document, meta};
use crate::fold::{FoldFailure, Folded, Obstacle, Only, Record, Unfoldable, Wish, fold_manifest};

const NAMESPACE: &str = "app.c";

fn uuid(byte: u8) -> Binary {
    Binary { subtype: BinarySubtype::Uuid, bytes: vec![byte; 16] }
}

fn entry(seconds: u32, operation: &RawDocumentBuf) -> Vec<u8> {
    let mut entry = rawdoc! { "ts": Timestamp { time: seconds, increment: 1 }, "t": 1_i64, "v": 2_i64 };
    for field in operation.iter() {
        let (name, value) = field.unwrap();
        entry.append(name, value);
    }
    entry.into_bytes()
}

fn on(kind: &str, object: RawDocumentBuf, id: Option<i32>) -> RawDocumentBuf {
    let mut operation = rawdoc! { "op": kind, "ns": NAMESPACE, "ui": uuid(ID.0[0]), "o": object };
    if let Some(id) = id {
        operation.append(bson::raw::cstr!("o2"), rawdoc! { "_id": id });
    }
    operation
}

fn set(id: i32, value: i32) -> RawDocumentBuf {
    on("u", rawdoc! { "$v": 2, "diff": { "u": { "v": value } } }, Some(id))
}

fn command(id: u8, body: RawDocumentBuf) -> RawDocumentBuf {
    rawdoc! { "op": "c", "ns": "app.$cmd", "ui": uuid(id), "o": body }
}

fn transaction(number: i64, previous: u32, body: RawDocumentBuf) -> RawDocumentBuf {
    let previous = Timestamp { time: previous, increment: u32::from(previous > 0) };
    rawdoc! {
        "op": "c", "ns": "admin.$cmd", "lsid": { "id": uuid(9) }, "txnNumber": number,
        "prevOpTime": { "ts": previous, "t": 1_i64 }, "o": body,
    }
}

fn time(seconds: u32) -> ClusterTime {
    ClusterTime { seconds, increment: 0 }
}

/// Folds entries into a base with the documents 1 and 2.
async fn folded(bench: &Bench, entries: Vec<Vec<u8>>) -> Result<Folded, FoldFailure> {
    let base = bench.base(meta(CollectionKind::Plain), &[document(1, 0, 10), document(2, 0, 10)]).await;
    let record = Record::of_entries(time(50), time(300), entries);
    fold_manifest(&bench.store, &base, record, AT, Bench::header(AT), Wish::WHOLE).await
}

async fn refused(entries: Vec<Vec<u8>>) -> FoldFailure {
    match folded(&Bench::start().await, entries).await {
        Ok(_) => panic!("nothing is refused"),
        Err(failure) => failure,
    }
}

async fn unfoldable(entries: Vec<Vec<u8>>) -> Vec<Unfoldable> {
    match refused(entries).await {
        FoldFailure::Unfoldable(unfoldable) => unfoldable,
        other => panic!("{other}"),
    }
}

/// The documents of the collection after the fold.
async fn documents(entries: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let bench = Bench::start().await;
    let folded = folded(&bench, entries).await.unwrap_or_else(|failure| panic!("{failure}"));
    let written = folded.write(&bench.store).await.unwrap();
    let manifest = vault::Manifest::open(&bench.vault, &written.name).await.unwrap();
    assert_eq!(manifest.header().cluster_time, AT);
    let mut found = vec![];
    for collection in manifest.collections().try_collect::<Vec<_>>().await.unwrap() {
        for entry in manifest.segments(&collection).try_collect::<Vec<_>>().await.unwrap() {
            let segment = bench.vault.read_segment(&entry).await.unwrap();
            found.extend(segment.documents().map(<[u8]>::to_vec));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diff_that_does_not_fit_is_refused_by_name() {
    let misfit = on("u", rawdoc! { "$v": 2, "diff": { "d": { "nothing": false } } }, Some(1));
    let [found] = &unfoldable(vec![entry(150, &misfit)]).await[..] else { panic!("one collection") };
    assert_eq!(found.namespace.as_deref(), Some(NAMESPACE));
    let Obstacle::Document { defect, .. } = &found.obstacle else { panic!("{found}") };
    assert!(matches!(defect.reason, Reason::Misfit(_)), "{found}");
    assert!(found.to_string().contains("a diff does not fit the document"), "{found}");

    let [found] = &unfoldable(vec![entry(150, &set(3, 1))]).await[..] else { panic!("one collection") };
    let Obstacle::Document { defect, .. } = &found.obstacle else { panic!("{found}") };
    assert_eq!(defect.reason, Reason::MissingDocument);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_again_under_the_same_identity_is_refused() {
    let create = rawdoc! { "create": "c", "idIndex": { "v": 2, "key": { "_id": 1 }, "name": "_id_" } };
    for drop in [
        command(ID.0[0], rawdoc! { "drop": "c" }),
        rawdoc! { "op": "c", "ns": "app.$cmd", "o": { "dropDatabase": 1 } },
    ] {
        let insert = on("i", rawdoc! { "_id": 9 }, None);
        let entries =
            vec![entry(150, &drop), entry(151, &command(ID.0[0], create.clone())), entry(152, &insert)];
        let [found] = &unfoldable(entries).await[..] else { panic!("one collection") };
        assert_eq!(found.namespace.as_deref(), Some(NAMESPACE));
        assert!(found.to_string().contains("made again under the same identity"), "{found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_is_refused_with_its_reason() {
    let shiny =
        rawdoc! { "op": "u", "ns": NAMESPACE, "ui": uuid(7), "o": {}, "o2": { "_id": 1 }, "shiny": 1 };
    let found = unfoldable(vec![entry(150, &shiny)]).await;
    assert_eq!(
        found[0].to_string(),
        format!("{NAMESPACE} since 150,1: the field shiny is not known"),
        "{found:?}"
    );
    let found = unfoldable(vec![entry(150, &command(7, rawdoc! { "collMod": "c", "shuffle": true }))]).await;
    assert_eq!(
        found[0].to_string(),
        format!("{NAMESPACE} since 150,1: its definition is not known: collMod of shuffle")
    );
    let everything = rawdoc! { "op": "c", "ns": "app.$cmd", "o": { "unheardOf": 1 } };
    let found = unfoldable(vec![entry(150, &everything)]).await;
    assert_eq!(found[0].namespace, None);
    assert_eq!(found[0].to_string(), "all collections since 150,1: the command unheardOf is not known");
    // A temporary collection of before the base, or one that was being restored.
    let arrives = command(8, rawdoc! { "renameCollection": "app.tmp", "to": "app.new", "stayTemp": false });
    let found = unfoldable(vec![entry(150, &arrives)]).await;
    assert_eq!(found[0].obstacle, Obstacle::NotInBase("app.tmp".to_owned()));
    assert_eq!(found[0].namespace.as_deref(), Some("app.new"));
    // Users are told apart as well.
    let user = rawdoc! { "op": "u", "ns": "admin.system.users", "ui": uuid(3), "o": { "$v": 2, "diff": {} }, "o2": { "_id": "x" } };
    let found = unfoldable(vec![entry(150, &user)]).await;
    assert_eq!(found[0].namespace.as_deref(), Some("admin.system.users"));
    // Where a user's `applyOps` writes to them as well.
    for namespace in ["admin.system.users", "admin.system.roles", "app.system.views"] {
        let set = rawdoc! { "op": "u", "ns": namespace, "ui": uuid(3), "o": { "$set": { "v": 1 } }, "o2": { "_id": "x" } };
        let found = unfoldable(vec![entry(150, &command(0, rawdoc! { "applyOps": [set] }))]).await;
        assert_eq!(found[0].namespace.as_deref(), Some(namespace), "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_at_the_time_stands_in_nobodys_way() {
    let shiny =
        rawdoc! { "op": "u", "ns": NAMESPACE, "ui": uuid(7), "o": {}, "o2": { "_id": 1 }, "shiny": 1 };
    let drop = command(7, rawdoc! { "drop": "c" });
    assert_eq!(documents(vec![entry(150, &shiny), entry(160, &drop)]).await, Vec::<Vec<u8>>::new());
    // Nor what takes effect at another time.
    let early = vec![entry(60, &set(1, 5)), entry(199, &set(1, 6)), entry(201, &shiny)];
    assert_eq!(documents(early).await, [document(1, 6, 10), document(2, 0, 10)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_count_when_they_take_effect() {
    let operations = |value| bson::RawArrayBuf::from_iter([set(1, value)]);
    let commit =
        |at| rawdoc! { "commitTransaction": 1, "commitTimestamp": Timestamp { time: at, increment: 1 } };
    // Prepared before the base, taking effect after it.
    let prepare = |number, at, value| {
        entry(at, &transaction(number, 0, rawdoc! { "applyOps": operations(value), "prepare": true }))
    };
    let committed = |number, at, prepared, effect| entry(at, &transaction(number, prepared, commit(effect)));
    assert_eq!(
        documents(vec![prepare(1, 60, 5), committed(1, 150, 60, 120)]).await,
        [document(1, 5, 10), document(2, 0, 10)]
    );
    // Committed after the time by its entry, and before it by its effect.
    let late = vec![entry(150, &set(2, 9)), prepare(1, 180, 6), committed(1, 250, 180, 190)];
    assert_eq!(documents(late).await, [document(1, 6, 10), document(2, 9, 10)]);
    // In the base already.
    assert_eq!(documents(vec![committed(1, 110, 40, 90)]).await, [document(1, 0, 10), document(2, 0, 10)]);
    // Not decided where the record ends.
    let failure = refused(vec![prepare(1, 180, 6), entry(250, &set(1, 1))]).await;
    let FoldFailure::Undecided { prepared, .. } = failure else { panic!("{failure}") };
    assert_eq!(prepared, ClusterTime { seconds: 180, increment: 1 });
    // Its beginning is missing.
    let failure = refused(vec![committed(1, 150, 40, 140)]).await;
    assert!(matches!(failure, FoldFailure::BrokenRecord { .. }), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_does_not_reach_is_refused() {
    let failure = refused(vec![entry(150, &set(1, 1)), entry(150, &set(1, 2))]).await;
    assert!(matches!(failure, FoldFailure::BrokenRecord { .. }), "{failure}");
    let failure = refused(vec![vec![1, 2, 3]]).await;
    assert!(matches!(failure, FoldFailure::BrokenRecord { .. }), "{failure}");

    let bench = Bench::start().await;
    let base = bench.base(meta(CollectionKind::Plain), &[document(1, 0, 10)]).await;
    for (from, to, at) in [(101, 300, 200), (50, 199, 200), (50, 300, 99)] {
        let at = model::ClusterTime { seconds: at, increment: 0 };
        let record = Record::of_entries(time(from), time(to), vec![]);
        let ended = fold_manifest(&bench.store, &base, record, at, Bench::header(at), Wish::WHOLE).await;
        let Err(FoldFailure::OutOfRecord { .. }) = ended else { panic!("{from} to {to} is enough for {at}") };
    }
    // At the time of the base nothing is needed.
    let record = Record::of_entries(time(0), time(0), vec![]);
    let folded =
        fold_manifest(&bench.store, &base, record, BASE_AT, Bench::header(BASE_AT), Wish::WHOLE).await;
    assert_eq!(folded.unwrap_or_else(|failure| panic!("{failure}")).collections.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_base_is_told_by_its_object() {
    let bench = Bench::start().await;
    let base = bench.base(meta(CollectionKind::Plain), &[document(1, 0, 10), document(2, 0, 10)]).await;
    let entry_of = base.collections().try_next().await.unwrap().unwrap();
    let segment = base.segments(&entry_of).try_next().await.unwrap().unwrap();
    bench.vault.delete(&segment.name).await.unwrap();
    let record = || Record::of_entries(time(50), time(300), vec![entry(150, &set(1, 1))]);
    let ended = fold_manifest(&bench.store, &base, record(), AT, Bench::header(AT), Wish::WHOLE).await;
    let Err(FoldFailure::DamagedBase { object, .. }) = ended else { panic!("a missing segment was folded") };
    assert_eq!(object, segment.name);
    // It is known as damaged from now on, so it is not kept by reference either.
    let record = Record::of_entries(time(50), time(300), vec![]);
    let ended = fold_manifest(&bench.store, &base, record, AT, Bench::header(AT), Wish::WHOLE).await;
    let Err(FoldFailure::DamagedBase { object, .. }) = ended else { panic!("a missing segment was kept") };
    assert_eq!(object, segment.name);
}

/// One collection that cannot be folded, beside one that can.
#[tokio::test]
async fn what_is_not_wanted_is_in_nobodys_way() {
    let other = |operation: RawDocumentBuf| {
        let mut other = rawdoc! { "op": operation.get_str("op").unwrap(), "ns": "app.d", "ui": uuid(8) };
        other.append(bson::raw::cstr!("o"), operation.get_document("o").unwrap().to_owned());
        other
    };
    let id_index = rawdoc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" };
    let entries = || {
        vec![
            entry(110, &command(8, rawdoc! { "create": "temporary", "idIndex": id_index.clone() })),
            entry(120, &other(on("i", rawdoc! { "_id": 1 }, None))),
            entry(130, &on("u", rawdoc! { "$v": 1, "$set": { "v": 1 } }, Some(1))),
            entry(140, &command(8, rawdoc! { "renameCollection": "app.temporary", "to": "app.d" })),
        ]
    };
    let bench = Bench::start().await;
    let base = bench.base(meta(CollectionKind::Plain), &[document(1, 0, 10)]).await;
    let selection = |namespace: &str| -> model::Selection {
        serde_json::from_value(serde_json::json!({ "namespaces": [namespace] })).unwrap()
    };
    let fold = async |selection: &model::Selection| {
        let record = Record::of_entries(time(50), time(300), entries());
        let wish = Wish { only: Only::Selected(selection), ..Wish::WHOLE };
        fold_manifest(&bench.store, &base, record, AT, Bench::header(AT), wish).await
    };
    let folded = fold(&selection("app.d")).await.unwrap_or_else(|failure| panic!("{failure}"));
    let [only] = &folded.collections[..] else { panic!("{:?}", folded.collections) };
    assert_eq!(
        (only.meta.name.as_str(), only.pages.content.documents),
        ("d", 1),
        "under the name that it has then"
    );
    assert!(folded.principals.is_none());
    for wanted in ["app.c", "app"] {
        let Err(FoldFailure::Unfoldable(unfoldable)) = fold(&selection(wanted)).await else {
            panic!("{wanted}")
        };
        assert_eq!(unfoldable[0].namespace.as_deref(), Some(NAMESPACE));
    }
}

/// Changes of capped collections share one bound; the large one goes, whoever comes last.
#[tokio::test]
async fn a_large_capped_collection_is_in_its_own_way_only() {
    const LARGE: usize = (16 << 20) - (100 << 10);
    let insert = |seconds, namespace: &str, id: u8, number: i32, bytes| {
        let document = rawdoc! { "_id": number, "text": "x".repeat(bytes) };
        entry(seconds, &rawdoc! { "op": "i", "ns": namespace, "ui": uuid(id), "o": document })
    };
    let id_index = rawdoc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" };
    let options = rawdoc! { "create": "d", "capped": true, "size": 1_i64 << 30, "idIndex": id_index };
    let mut entries = vec![entry(110, &command(8, options))];
    entries.extend((0..4).map(|n| insert(120 + n, "app.d", 8, n as i32, LARGE)));
    entries.push(insert(130, NAMESPACE, ID.0[0], 7, 500 << 10));
    let bench = Bench::start().await;
    let ring = vault::CollectionMeta {
        order: vault::Order::Natural,
        options: rawdoc! { "capped": true, "size": 1_i64 << 30 }.into_bytes(),
        ..meta(CollectionKind::Capped)
    };
    let base = bench.base(ring, &[]).await;
    let fold = async |wanted: &str| {
        let wanted: model::Selection =
            serde_json::from_value(serde_json::json!({ "namespaces": [wanted] })).unwrap();
        let record = Record::of_entries(time(50), time(300), entries.clone());
        let wish = Wish { only: Only::Selected(&wanted), ..Wish::WHOLE };
        fold_manifest(&bench.store, &base, record, AT, Bench::header(AT), wish).await
    };
    let folded = fold(NAMESPACE).await.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(folded.collections[0].pages.content.documents, 1);
    let Err(FoldFailure::Unfoldable(unfoldable)) = fold("app.d").await else { panic!("it is too large") };
    assert!(matches!(unfoldable[0].obstacle, Obstacle::TooMuch(_)), "{unfoldable:?}");
}

/// Measured on 5.0.4: below 5.0 servers remove what is too much by themselves, and the oplog has no word of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_capped_collection_loses_unlogged_is_not_guessed() {
    let version = |seconds, document: RawDocumentBuf| {
        let o2 = rawdoc! { "_id": "featureCompatibilityVersion" };
        let operation =
            rawdoc! { "op": "u", "ns": "admin.system.version", "ui": uuid(5), "o": document, "o2": o2 };
        entry(seconds, &operation)
    };
    let lowered = rawdoc! { "_id": "featureCompatibilityVersion", "version": "4.4" };
    let raised = rawdoc! { "_id": "featureCompatibilityVersion", "version": "5.0" };
    let insert = |seconds: u32| entry(seconds, &on("i", rawdoc! { "_id": seconds as i32 }, None));
    let bench = Bench::start().await;
    let ring = vault::CollectionMeta {
        order: vault::Order::Natural,
        options: rawdoc! { "capped": true, "size": 4096_i64 }.into_bytes(),
        ..meta(CollectionKind::Capped)
    };
    let base = bench.base(ring, &[]).await;
    let fold = async |entries| {
        let record = Record::of_entries(time(50), time(300), entries);
        fold_manifest(&bench.store, &base, record, AT, Bench::header(AT), Wish::WHOLE).await
    };
    let refused = fold(vec![version(110, lowered.clone()), insert(120), version(130, raised.clone())]).await;
    let Err(FoldFailure::Unfoldable(refused)) = refused else { panic!("it is folded") };
    assert_eq!(refused[0].obstacle, Obstacle::UnloggedEvictions);
    assert_eq!(refused[0].namespace.as_deref(), Some(NAMESPACE));
    let folded = fold(vec![insert(110), version(120, lowered), version(130, raised), insert(140)]).await;
    let folded = folded.unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(folded.collections[0].pages.content.documents, 2);
}

/// Measured on 6.0.5 and 5.0.4: what a user gives to `applyOps` is looked for in the collation of the collection, so the `_id` in the
/// entry need not be that of the document.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_writes_where_other_strings_are_equal_is_refused() {
    let bench = Bench::start().await;
    let mut alike = meta(CollectionKind::Plain);
    alike.options = rawdoc! { "collation": { "locale": "en", "strength": 2 } }.into_bytes();
    let base = bench.base(alike, &[document(1, 0, 10)]).await;
    let delete = on("d", rawdoc! { "_id": "A" }, None);
    let fold = async |operation: RawDocumentBuf| {
        let record = Record::of_entries(time(50), time(300), vec![entry(150, &operation)]);
        fold_manifest(&bench.store, &base, record, AT, Bench::header(AT), Wish::WHOLE).await
    };
    let by_user = command(0, rawdoc! { "applyOps": [delete.clone()] });
    let Err(FoldFailure::Unfoldable(refused)) = fold(by_user).await else { panic!("it is folded") };
    assert_eq!(refused[0].obstacle, Obstacle::Operation(Reason::FoundInCollation));
    assert_eq!(refused[0].namespace.as_deref(), Some(NAMESPACE));
    // What the server itself logs names the document that it was, and what is no text is equal to itself alone.
    assert!(fold(delete).await.is_ok());
    let number = on("d", rawdoc! { "_id": 1 }, None);
    assert!(fold(command(0, rawdoc! { "applyOps": [number] })).await.is_ok());
}
