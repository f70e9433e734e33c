#![allow(clippy::unwrap_used)]
use std::collections::VecDeque;

use bson::{Binary, RawArrayBuf, RawDocumentBuf, Timestamp, rawdoc, spec::BinarySubtype};
use proptest::prelude::*;

use super::*;
use crate::{entry::Kind, raw, samples::Random};

fn time(increment: u32) -> ClusterTime {
    ClusterTime { seconds: 1, increment }
}

fn stamp(time: ClusterTime) -> Timestamp {
    Timestamp { time: time.seconds, increment: time.increment }
}

fn session(id: u8) -> RawDocumentBuf {
    rawdoc! { "id": Binary { subtype: BinarySubtype::Uuid, bytes: vec![id; 16] } }
}

fn command(
    at: ClusterTime,
    id: u8,
    number: i64,
    previous: ClusterTime,
    object: RawDocumentBuf,
) -> RawDocumentBuf {
    rawdoc! {
        "lsid": session(id), "txnNumber": number, "op": "c", "ns": "admin.$cmd", "o": object, "ts": stamp(at),
        "t": 1i64, "v": 2i64, "prevOpTime": { "ts": stamp(previous), "t": 1i64 },
    }
}

/// An `applyOps` entry with inserts of these `_id`s.
fn inserts(ids: &[i32], end: &RawDocumentBuf) -> RawDocumentBuf {
    let operations: RawArrayBuf =
        ids.iter().map(|id| rawdoc! { "op": "i", "ns": "a.b", "o": { "_id": *id } }).collect();
    let mut object = rawdoc! { "applyOps": operations };
    for field in end.iter() {
        let (name, value) = field.unwrap();
        object.append(name, value);
    }
    object
}

fn ids(committed: &Committed<'_>) -> Vec<i32> {
    committed
        .operations()
        .map(|operation| match operation.unwrap().kind {
            Kind::Insert { document } => {
                raw::field(document, "_id").unwrap().unwrap().integer().unwrap() as i32
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

fn feed<'a>(assembler: &mut Assembler, entry: &'a RawDocumentBuf) -> Result<Step<'a>, TransactionError> {
    assembler.feed(&Entry::read(entry.as_bytes()).unwrap())
}

fn commit(at: u32, previous: u32, commit_time: u32) -> RawDocumentBuf {
    let object = rawdoc! { "commitTransaction": 1, "commitTimestamp": stamp(time(commit_time)) };
    command(time(at), 1, 1, time(previous), object)
}

#[test]
fn a_prepared_transaction_takes_effect_at_its_commit_time() {
    let mut assembler = Assembler::new();
    let prepare = command(time(5), 1, 1, ClusterTime::NONE, inserts(&[1, 2], &rawdoc! { "prepare": true }));
    assert_eq!(feed(&mut assembler, &prepare).unwrap(), Step::Kept);
    assert_eq!(assembler.oldest_start(), Some(time(5)));
    assert_eq!((assembler.undecided_at(time(4)), assembler.undecided_at(time(9))), (None, Some(time(5))));
    assert!(assembler.bytes() > 0);
    let commit = commit(9, 5, 6);
    let Step::Committed(committed) = feed(&mut assembler, &commit).unwrap() else { panic!() };
    assert_eq!((committed.time, ids(&committed)), (time(6), vec![1, 2]));
    assert_eq!(assembler, Assembler::new());
}

#[test]
fn a_chain_without_its_beginning_is_refused() {
    let mut assembler = Assembler::new();
    let last = command(time(5), 1, 1, time(4), inserts(&[1], &rawdoc! { "count": 3 }));
    assert_eq!(feed(&mut assembler, &last), Err(TransactionError::BeginningMissing { at: time(5) }));
    assert_eq!(
        feed(&mut assembler, &commit(9, 5, 6)),
        Err(TransactionError::BeginningMissing { at: time(9) })
    );
    let abort = command(time(5), 1, 1, time(4), rawdoc! { "abortTransaction": 1 });
    assert_eq!(feed(&mut assembler, &abort), Ok(Step::Aborted));
}

#[test]
fn a_hole_in_a_chain_is_seen() {
    let partial = rawdoc! { "partialTxn": true };
    let first = command(time(2), 1, 1, ClusterTime::NONE, inserts(&[1], &partial));
    let second = command(time(3), 1, 1, time(2), inserts(&[2], &partial));
    let last = command(time(4), 1, 1, time(3), inserts(&[3], &rawdoc! { "count": 3 }));
    let mut assembler = Assembler::new();
    feed(&mut assembler, &first).unwrap();
    assert_eq!(
        feed(&mut assembler, &last),
        Err(TransactionError::Broken { at: time(4), expected: time(3), seen: time(2) })
    );
    feed(&mut assembler, &second).unwrap();
    let wrong = command(time(4), 1, 1, time(3), inserts(&[3], &rawdoc! { "count": 4 }));
    assert_eq!(
        feed(&mut assembler, &wrong),
        Err(TransactionError::Count { at: time(4), expected: 4, seen: 3 })
    );
    let Step::Committed(committed) = feed(&mut assembler, &last).unwrap() else { panic!() };
    assert_eq!(ids(&committed), [1, 2, 3]);
}

#[test]
fn a_commit_needs_a_prepared_transaction() {
    let first = command(time(2), 1, 1, ClusterTime::NONE, inserts(&[1], &rawdoc! { "partialTxn": true }));
    let mut assembler = Assembler::new();
    feed(&mut assembler, &first).unwrap();
    assert_eq!(feed(&mut assembler, &commit(4, 2, 3)), Err(TransactionError::OutOfPlace { at: time(4) }));
    let prepare = command(time(3), 1, 1, time(2), inserts(&[2], &rawdoc! { "prepare": true, "count": 2 }));
    feed(&mut assembler, &prepare).unwrap();
    for (at, commit_time) in [(5, 2), (5, 6)] {
        assert_eq!(
            feed(&mut assembler, &commit(at, 3, commit_time)),
            Err(TransactionError::OutOfPlace { at: time(at) })
        );
    }
}

#[test]
fn a_session_that_goes_on_drops_what_it_left() {
    let partial = rawdoc! { "partialTxn": true };
    let left = command(time(2), 1, 1, ClusterTime::NONE, inserts(&[1], &partial));
    let next = command(time(3), 1, 2, ClusterTime::NONE, inserts(&[2], &rawdoc! {}));
    let other = command(time(4), 2, 1, ClusterTime::NONE, inserts(&[3], &partial));
    let mut assembler = Assembler::new();
    feed(&mut assembler, &left).unwrap();
    feed(&mut assembler, &other).unwrap();
    assert!(matches!(feed(&mut assembler, &next), Ok(Step::Committed(_))));
    assert_eq!(assembler.oldest_start(), Some(time(4)));
}

/// A transaction of the model: its entries, and what it does when.
struct Planned {
    entries: VecDeque<(u8, i64, RawDocumentBuf, bool)>,
    ids: Vec<i32>,
    commits: bool,
    prepared: bool,
}

fn plan(random: &mut Random, id: u8, number: i64, next_id: &mut i32) -> Planned {
    let mut chunks: Vec<Vec<i32>> = Vec::new();
    for _ in 0..1 + random.below(4) {
        chunks.push(
            (0..random.below(4))
                .map(|_| {
                    *next_id += 1;
                    *next_id
                })
                .collect(),
        );
    }
    let ids = chunks.concat();
    let (prepared, commits) = (random.chance(40), random.chance(75));
    let mut entries = VecDeque::new();
    let last = chunks.len() - 1;
    for (at, chunk) in chunks.iter().enumerate() {
        let mut end = RawDocumentBuf::new();
        if at < last {
            end.append(bson::raw::cstr!("partialTxn"), true);
        } else {
            if prepared {
                end.append(bson::raw::cstr!("prepare"), true);
            }
            if last > 0 {
                end.append(bson::raw::cstr!("count"), ids.len() as i64);
            }
        }
        // An unprepared transaction that aborts never writes its last entry.
        if at < last || prepared || commits {
            entries.push_back((id, number, inserts(chunk, &end), false));
        }
    }
    if prepared || (!commits && last > 0) {
        entries.push_back((id, number, rawdoc! { "abortTransaction": 1 }, true));
    }
    Planned { entries, ids, commits, prepared }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Interleaved transactions of all forms, the state serialised at random, give what each was planned to do.
    #[test]
    fn interleaved_transactions_take_effect_as_planned(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let (mut next_id, mut clock) = (0, 1u32);
        let mut sessions: Vec<(i64, Option<Planned>, ClusterTime, ClusterTime)> =
            (0..4).map(|_| (0, None, ClusterTime::NONE, ClusterTime::NONE)).collect();
        let (mut assembler, mut open) = (Assembler::new(), OpenTransactions::new());
        let (mut expected, mut effects) = (Vec::new(), Vec::new());
        for _ in 0..60 {
            clock += 1 + random.below(3) as u32;
            let at = time(clock);
            let which = random.below(sessions.len());
            let (number, planned, previous, prepared_at) = &mut sessions[which];
            if planned.as_ref().is_none_or(|planned| planned.entries.is_empty()) {
                *number += 1;
                *previous = ClusterTime::NONE;
                *planned = Some(plan(&mut random, which as u8, *number, &mut next_id));
            }
            let planned = planned.as_mut().unwrap();
            let Some((id, number, mut object, ends)) = planned.entries.pop_front() else { continue };
            let mut effect = None;
            if ends && planned.prepared && planned.commits {
                let span = (clock - prepared_at.increment) as usize;
                let commit_time = time(prepared_at.increment + random.below(span + 1) as u32);
                object = rawdoc! { "commitTransaction": 1, "commitTimestamp": stamp(commit_time) };
                effect = Some(commit_time);
            } else if !ends && planned.entries.is_empty() && planned.commits && !planned.prepared {
                effect = Some(at);
            }
            let entry = command(at, id, number, *previous, object);
            (*previous, *prepared_at) = (at, at);
            if let Some(effect) = effect {
                expected.push((effect, planned.ids.clone()));
            }
            match feed(&mut assembler, &entry).unwrap() {
                Step::Committed(committed) => effects.push((committed.time, ids(&committed))),
                Step::Plain => prop_assert!(false),
                Step::Kept | Step::Aborted => {}
            }
            open.feed(&Entry::read(entry.as_bytes()).unwrap());
            prop_assert_eq!(open.oldest_start(), assembler.oldest_start());
            if random.chance(20) {
                let text = serde_json::to_string(&assembler).unwrap();
                let again: Assembler = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(&again, &assembler);
                assembler = again;
            }
        }
        prop_assert_eq!(effects, expected);
        prop_assert_eq!(assembler.bytes() == 0, assembler.open.values().all(|open| open.parts.is_empty()));
    }
}
