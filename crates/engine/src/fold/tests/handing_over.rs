//! How many full segments there are in memory while a fold makes them faster than they are stored.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use vault::{Order, SegmentBuilder};

use super::bench::{BASE_AT, Bench, document};
use crate::pipeline::handover;

/// Long enough for a thread that does not wait to have gone on.
const A_WHILE: Duration = Duration::from_millis(200);
/// Longer than any thread takes to go on, or to end.
const PATIENCE: Duration = Duration::from_secs(60);

fn full(id: i32) -> SegmentBuilder {
    let mut builder = SegmentBuilder::new(Order::Sorted);
    builder.push(&[1], &document(id, 0, 100));
    builder
}

#[tokio::test]
async fn a_segment_waits_for_room_where_it_was_made() {
    let bench = Bench::start().await;
    let rooms = Arc::clone(&bench.store.ctx().services().budget.segments);
    let all = u32::try_from(rooms.available_permits()).unwrap();
    let taken = Arc::clone(&rooms).acquire_many_owned(all).await.unwrap();
    let (giver, mut given) = handover(&bench.store);
    let making = tokio::task::spawn_blocking(move || {
        for id in 1..=3 {
            giver.give(full(id)).unwrap();
        }
    });
    tokio::time::sleep(A_WHILE).await;
    assert!(given.try_recv().is_err(), "a segment lies between the two, and there is no room for it");
    drop(taken);
    let mut names = Vec::new();
    // One is received, one lies between the two, and one has room and waits for the other to be received.
    let mut held = given.recv().await;
    let received = Instant::now();
    while rooms.available_permits() > 0 {
        assert!(received.elapsed() < PATIENCE, "the third is not made while the first is held");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    while let Some(full) = held {
        names.push(bench.store.submit_full(full, BASE_AT).entry().await.unwrap().name);
        held = given.recv().await;
    }
    making.await.unwrap();
    names.dedup();
    assert_eq!(names.len(), 3);
    assert_eq!(rooms.available_permits(), all as usize);
}

#[tokio::test]
async fn a_thread_that_makes_segments_for_nobody_ends() {
    let bench = Bench::start().await;
    let budget = &bench.store.ctx().services().budget;
    for all_are_taken in [false, true] {
        let taken = if all_are_taken { crate::pipeline::SEGMENTS_IN_FLIGHT } else { 0 };
        let taken = Arc::clone(&budget.segments).acquire_many_owned(u32::try_from(taken).unwrap());
        let taken = taken.await.unwrap();
        let (giver, given) = handover(&bench.store);
        let giving = tokio::task::spawn_blocking(move || giver.give(full(1)));
        if all_are_taken {
            tokio::time::sleep(A_WHILE).await;
            assert!(!giving.is_finished());
        }
        drop(given);
        let ended = tokio::time::timeout(PATIENCE, giving).await;
        ended.expect("it waits for room for a segment that nobody wants").unwrap().ok();
        drop(taken);
        // Nothing is kept of what was to be given.
        assert_eq!(budget.segments.available_permits(), crate::pipeline::SEGMENTS_IN_FLIGHT);
    }
}
