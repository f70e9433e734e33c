//! The right to record a deployment: one keeper at a time, and whoever lost it changes nothing.

use catalog::{CaptureLease, Catalog, Deployment, DeploymentFacts, Error, Renewal, Slice, Timeline};
use model::{ClusterTime, ContinuousBackup, WallTime, timeline::TimelineEnd};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{self, LEASE_MS, T0, at};

fn lost<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::LeaseLost { .. })), "{result:?}");
}

pub(crate) async fn one_keeper_at_a_time(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let timelines = catalog.timelines();
    assert_eq!(timelines.wanted().await.unwrap(), []);
    let unwanted = timelines.claim(deployment.id, "k0", T0, LEASE_MS).await.unwrap();
    assert_eq!(unwanted, None, "nobody asked for it");
    assert_eq!(timelines.capture(deployment.id).await.unwrap(), None);

    support::switch_on(&catalog, &deployment).await;
    assert_eq!(timelines.wanted().await.unwrap(), [deployment.id]);
    let first = support::capture(&catalog, &deployment, T0).await;
    for now in [T0, T0.plus_ms(LEASE_MS - 1)] {
        assert_eq!(timelines.claim(deployment.id, "k1", now, LEASE_MS).await.unwrap(), None);
    }
    let status = json!({"lagSeconds": 2});
    assert_eq!(timelines.renew(&first, &status, at(20), LEASE_MS).await.unwrap(), Renewal::Continue);
    assert_eq!(timelines.claim(deployment.id, "k1", at(40), LEASE_MS).await.unwrap(), None);
    let shown = timelines.capture(deployment.id).await.unwrap().unwrap();
    assert_eq!((shown.owner.as_deref(), shown.lease_until), (Some("k0"), at(20).plus_ms(LEASE_MS)));
    assert_eq!((&shown.status, shown.updated_at), (&status, at(20)));

    let second = timelines.claim(deployment.id, "k1", at(50), LEASE_MS).await.unwrap().unwrap();
    assert!(second.epoch > first.epoch);
    assert_eq!(timelines.renew(&first, &json!(null), at(51), LEASE_MS).await.unwrap(), Renewal::Lost);
    lost(timelines.release(&first).await);
    let shown = timelines.capture(deployment.id).await.unwrap().unwrap();
    assert_eq!((shown.owner.as_deref(), shown.status), (Some("k1"), status), "the last status stays");

    timelines.release(&second).await.unwrap();
    // Whoever's clock is behind need not wait either.
    let behind = timelines.claim(deployment.id, "behind", T0, LEASE_MS).await.unwrap().unwrap();
    timelines.release(&behind).await.unwrap();
    lost(timelines.open(&second, support::new_timeline(0), at(52)).await);
    assert_eq!(timelines.renew(&second, &json!(null), at(52), LEASE_MS).await.unwrap(), Renewal::Lost);
    assert_eq!(timelines.capture(deployment.id).await.unwrap().unwrap().owner, None);
    assert!(timelines.claim(deployment.id, "k2", at(52), LEASE_MS).await.unwrap().is_some(), "at once");
}

pub(crate) async fn a_lease_that_is_not_renewed_is_taken_over_whatever_it_says(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    support::switch_on(&catalog, &deployment).await;
    let timelines = catalog.timelines();
    let ahead = T0.plus_ms(8 * 3_600_000);
    let first = support::capture(&catalog, &deployment, ahead).await;
    let seen = timelines.capture(deployment.id).await.unwrap().unwrap();
    timelines.renew(&first, &json!(null), ahead.plus_ms(1), LEASE_MS).await.unwrap();
    assert_eq!(timelines.take_over(&seen, "k", T0, LEASE_MS).await.unwrap(), None, "it lives");
    let seen = timelines.capture(deployment.id).await.unwrap().unwrap();
    let second = timelines.take_over(&seen, "k", T0, LEASE_MS).await.unwrap().unwrap();
    assert!(second.epoch > first.epoch);
    assert_eq!(
        timelines.renew(&first, &json!(null), ahead.plus_ms(2), LEASE_MS).await.unwrap(),
        Renewal::Lost
    );
    let shown = timelines.capture(deployment.id).await.unwrap().unwrap();
    assert_eq!((shown.owner.as_deref(), shown.lease_until), (Some("k"), T0.plus_ms(LEASE_MS)));
}

pub(crate) async fn many_keepers_claim_a_capture_once(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    support::switch_on(&catalog, &deployment).await;
    let mut epochs = Vec::new();
    // The first round makes the row, the others take it over.
    for round in 0..12 {
        let now = at(1_000 * round);
        let mut keepers = JoinSet::new();
        for keeper in 0..8 {
            let catalog = catalog.clone();
            keepers.spawn(async move {
                let name = format!("k{keeper}");
                catalog.timelines().claim(deployment.id, &name, now, LEASE_MS).await.unwrap()
            });
        }
        let claimed: Vec<CaptureLease> = keepers.join_all().await.into_iter().flatten().collect();
        assert_eq!(claimed.len(), 1, "round {round}");
        epochs.extend(claimed.into_iter().map(|lease| lease.epoch));
    }
    assert!(epochs.is_sorted_by(|a, b| a < b), "{epochs:?}");
}

pub(crate) async fn what_is_switched_off_is_finished_first(catalog: Catalog) {
    let (deployment, lease, timeline) = support::recorded(&catalog).await;
    let timelines = catalog.timelines();
    let slice = support::next_slice(&timeline, 5);
    timelines.append(&lease, timeline.id, &slice).await.unwrap();
    timelines.set_continuous_backup(deployment.id, ContinuousBackup::default()).await.unwrap();
    assert_eq!(timelines.wanted().await.unwrap(), []);
    assert_eq!(timelines.unfinished().await.unwrap(), [deployment.id]);
    assert_eq!(timelines.renew(&lease, &json!(null), at(6), LEASE_MS).await.unwrap(), Renewal::NotWanted);

    // Its keeper dies; the next one finishes.
    let later = at(6).plus_ms(LEASE_MS);
    let lease = timelines.claim(deployment.id, "k1", later, LEASE_MS).await.unwrap().unwrap();
    let ended = timelines.end(&lease, timeline.id, TimelineEnd::SwitchedOff, "as was asked for", later).await;
    assert_eq!(ended.unwrap().ended.unwrap().reason, TimelineEnd::SwitchedOff);
    let again = timelines.end(&lease, timeline.id, TimelineEnd::Damaged, "", later.plus_ms(1)).await.unwrap();
    let ended = again.ended.unwrap();
    assert_eq!(
        (ended.reason, ended.detail.as_str(), ended.at),
        (TimelineEnd::SwitchedOff, "as was asked for", later)
    );
    assert!(matches!(timelines.open(&lease, support::new_timeline(9), later).await, Err(Error::Illegal(_))));
    assert_eq!(timelines.unfinished().await.unwrap(), [deployment.id], "a slice is on a disk only");
    let stored = timelines.mark_stored(&lease, &slice.name).await.unwrap();
    assert_eq!(stored.durable, slice.span.last, "what was recorded counts");
    assert_eq!(timelines.unfinished().await.unwrap(), []);
    timelines.release(&lease).await.unwrap();
    assert_eq!(timelines.claim(deployment.id, "k2", later, LEASE_MS).await.unwrap(), None);
}

pub(crate) async fn what_is_written_to_a_replica_set_is_followed_under_all_its_names(catalog: Catalog) {
    let (deployment, lease, timeline) = support::recorded(&catalog).await;
    let (timelines, deployments) = (catalog.timelines(), catalog.deployments());
    let project = catalog.projects().get(deployment.project_id).await.unwrap().unwrap();
    let other = deployments.add(support::new_deployment(&project, "other"), T0).await.unwrap();
    let set =
        |id: &str| DeploymentFacts { replica_set_id: Some(id.to_owned()), ..DeploymentFacts::default() };
    deployments.update_facts(deployment.id, &set("one")).await.unwrap();
    deployments.update_facts(other.id, &set("two")).await.unwrap();
    assert_eq!(timelines.followed(deployment.id).await.unwrap().as_slice(), std::slice::from_ref(&timeline));
    assert_eq!(timelines.followed(other.id).await.unwrap(), []);
    deployments.update_facts(other.id, &set("one")).await.unwrap();
    assert_eq!(timelines.followed(other.id).await.unwrap().as_slice(), std::slice::from_ref(&timeline));

    // Nobody has brought it to its end yet, and nobody wants more of it.
    timelines.set_continuous_backup(deployment.id, ContinuousBackup::default()).await.unwrap();
    assert_eq!(timelines.followed(other.id).await.unwrap(), []);
    support::switch_on(&catalog, &deployment).await;
    assert_eq!(timelines.followed(other.id).await.unwrap().len(), 1);
    timelines.end(&lease, timeline.id, TimelineEnd::RolledOver, "too late", at(1)).await.unwrap();
    assert_eq!(timelines.followed(deployment.id).await.unwrap(), []);
}

pub(crate) async fn a_keeper_does_not_stand_in_the_way_of_a_removal(catalog: Catalog) {
    let (deployment, lease, timeline) = support::recorded(&catalog).await;
    let timelines = catalog.timelines();
    let timeline = support::record(&catalog, &lease, &timeline, 5).await;
    let slice = support::next_slice(&timeline, 6);
    timelines.append(&lease, timeline.id, &slice).await.unwrap();
    catalog.deployments().remove(deployment.id, at(7)).await.unwrap();

    assert_eq!(timelines.current(deployment.id).await.unwrap(), None);
    let ended = timelines.get(timeline.id).await.unwrap().unwrap();
    let why = ended.ended.clone().unwrap();
    assert_eq!((why.reason, why.at), (TimelineEnd::SwitchedOff, at(7)));
    assert_eq!(timelines.renew(&lease, &json!(null), at(8), LEASE_MS).await.unwrap(), Renewal::NotWanted);
    let more = support::next_slice(&ended, 9);
    assert!(matches!(timelines.append(&lease, timeline.id, &more).await, Err(Error::Illegal(_))));
    let gone = timelines.open(&lease, support::new_timeline(9), at(9)).await;
    assert!(matches!(gone, Err(Error::NotFound { what: "deployment", .. })), "{gone:?}");
    assert_eq!(timelines.unfinished().await.unwrap(), [deployment.id]);
    timelines.mark_stored(&lease, &slice.name).await.unwrap();
    assert_eq!(timelines.unfinished().await.unwrap(), []);
    let refused = timelines.set_continuous_backup(deployment.id, ContinuousBackup::default()).await;
    assert!(matches!(refused, Err(Error::NotFound { .. })));
}

/// Something that happens.
#[derive(Debug, Clone, Copy)]
enum Event {
    Claim(usize),
    Renew(usize),
    Release(usize),
    Open(usize),
    Append(usize),
    Store(usize),
    Rewind(usize),
    End(usize),
    LeaseRunsOut,
}

fn event() -> impl Strategy<Value = Event> {
    let keeper = 0..2_usize;
    prop_oneof![
        4 => keeper.clone().prop_map(Event::Claim),
        1 => keeper.clone().prop_map(Event::Renew),
        1 => keeper.clone().prop_map(Event::Release),
        3 => keeper.clone().prop_map(Event::Open),
        5 => keeper.clone().prop_map(Event::Append),
        3 => keeper.clone().prop_map(Event::Store),
        1 => keeper.clone().prop_map(Event::Rewind),
        1 => keeper.prop_map(Event::End),
        3 => Just(Event::LeaseRunsOut),
    ]
}

/// A deployment and two keepers, each with the last lease that it got.
struct World {
    catalog: Catalog,
    deployment: Deployment,
    leases: [Option<CaptureLease>; 2],
    holder: Option<usize>,
    last: i64,
    now: WallTime,
}

/// All that a keeper could change.
type Rows = (Vec<Timeline>, Vec<Slice>, Option<catalog::Capture>);

impl World {
    async fn rows(&self) -> Rows {
        let timelines = self.catalog.timelines();
        let list = timelines.list(self.deployment.id, catalog::Page::default()).await.unwrap().items;
        let mut slices = Vec::new();
        for timeline in &list {
            let all = (ClusterTime::default(), ClusterTime::from_u64(u64::MAX));
            slices.extend(timelines.slices(timeline.id, all.0, all.1).await.unwrap());
        }
        (list, slices, timelines.capture(self.deployment.id).await.unwrap())
    }

    async fn step(&mut self, event: Event) {
        let timelines = self.catalog.timelines();
        let keeper = match event {
            Event::LeaseRunsOut => {
                self.now = self.now.plus_ms(2 * LEASE_MS);
                return;
            }
            Event::Claim(keeper) => {
                let name = format!("k{keeper}");
                if let Some(lease) =
                    timelines.claim(self.deployment.id, &name, self.now, LEASE_MS).await.unwrap()
                {
                    self.leases[keeper] = Some(lease);
                    self.holder = Some(keeper);
                }
                return;
            }
            Event::Renew(k)
            | Event::Release(k)
            | Event::Open(k)
            | Event::Append(k)
            | Event::Store(k)
            | Event::Rewind(k)
            | Event::End(k) => k,
        };
        let Some(lease) = self.leases[keeper].clone() else { return };
        let before = self.rows().await;
        let outcome = self.act(event, &lease, &before).await;
        let held = self.holder == Some(keeper);
        match outcome {
            None => return,
            Some(Err(Error::LeaseLost { .. })) => {
                assert!(!held, "{event:?} by {keeper}, who holds the lease");
                assert_eq!(self.rows().await, before, "{event:?} without a lease changed something");
            }
            Some(Err(Error::Illegal(_))) => {
                assert!(held, "{event:?} by {keeper} was looked at, and the holder is {:?}", self.holder);
                assert_eq!(self.rows().await, before, "{event:?} was refused and yet changed something");
            }
            Some(other) => {
                other.unwrap();
                assert!(held, "{event:?} by {keeper}, the holder is {:?}", self.holder);
            }
        }
        if held && matches!(event, Event::Release(_)) {
            self.holder = None;
        }
    }

    /// Nothing, when there is nothing that could be done.
    async fn act(&mut self, event: Event, lease: &CaptureLease, rows: &Rows) -> Option<Result<(), Error>> {
        let timelines = self.catalog.timelines();
        let newest = rows.0.first();
        Some(match event {
            Event::Renew(_) => match timelines.renew(lease, &json!(self.now.0), self.now, LEASE_MS).await {
                Ok(Renewal::Lost) => Err(Error::LeaseLost { what: String::new() }),
                other => other.map(drop),
            },
            Event::Release(_) => timelines.release(lease).await,
            Event::Open(_) => {
                self.now = self.now.plus_ms(1);
                timelines.open(lease, support::new_timeline(self.last), self.now).await.map(drop)
            }
            Event::Append(_) => {
                self.last += 1;
                let slice = support::next_slice(newest?, self.last);
                timelines.append(lease, newest?.id, &slice).await.map(drop)
            }
            Event::Store(_) => {
                let spooled =
                    rows.1.iter().rev().find(|slice| slice.state == catalog::SliceState::Spooled)?;
                timelines.mark_stored(lease, &spooled.name).await.map(drop)
            }
            Event::Rewind(_) => timelines.rewind(lease, newest?.id).await.map(drop),
            Event::End(_) => {
                timelines.end(lease, newest?.id, TimelineEnd::RolledOver, "", self.now).await.map(drop)
            }
            Event::Claim(_) | Event::LeaseRunsOut => return None,
        })
    }
}

pub(crate) async fn who_lost_the_capture_changes_nothing(catalog: Catalog) {
    let project = support::project(&catalog).await;
    let mut runner = TestRunner::new(Config { cases: 32, failure_persistence: None, ..Config::default() });
    let outcome = tokio::task::block_in_place(|| {
        runner.run(&prop::collection::vec(event(), 1..40), |events| {
            tokio::runtime::Handle::current().block_on(async {
                let name = format!("T{}", catalog::new_id::<()>(T0));
                let deployment = support::deployment(&catalog, &project, &name).await;
                support::switch_on(&catalog, &deployment).await;
                let (catalog, leases) = (catalog.clone(), [None, None]);
                let mut world = World { catalog, deployment, leases, holder: None, last: 1, now: T0 };
                for event in events {
                    world.step(event).await;
                }
            });
            Ok(())
        })
    });
    outcome.unwrap();
}
