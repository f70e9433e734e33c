//! The contract, driven over HTTP against the real program and a real mongod: every operation by digest and by OAuth,
//! each answer against the OpenAPI document of Atlas, when that is at hand.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, dead_code)]

mod support;
mod conformance {
    pub mod checker;
    pub mod client;
    pub mod life;
    pub mod refusals;
    pub mod specification;
    pub mod world;
}

use conformance::{life, refusals, world::World};

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_does_what_the_contract_says() {
    let mut world = World::build().await;
    for name in ["digest", "oauth"] {
        life::from_snapshot_to_restore(&mut world, name).await;
        let neglected = world.checker.take_neglected();
        let only_refused = refusals::ONLY_REFUSED;
        let missing: Vec<_> = neglected.iter().filter(|id| !only_refused.contains(id)).collect();
        assert!(missing.is_empty(), "never seen to succeed by {name}: {missing:?}");
        refusals::of_every_operation(&world, name).await;
    }
    let deviations = world.checker.deviations();
    assert!(deviations.is_empty(), "{} answers are wrong:\n{}", deviations.len(), deviations.join("\n\n"));
    world.ebbtide.stop();
    world.check_log();
}
