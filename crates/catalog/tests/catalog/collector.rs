//! Garbage collection beside running jobs.

use std::collections::{BTreeSet, HashSet};

use catalog::{Catalog, Cycle, Deployment, Error, Lease, Snapshot};
use model::WallTime;
use sqlx::Connection;

use crate::{
    objects::stored,
    support::{self, T0, at, names},
};

const CYCLE_MS: i64 = 1_000_000;

/// A collector over a vault that is a set of names; `"m-x"` is the manifest that reaches `"x"`.
#[derive(Default)]
struct World {
    vault: BTreeSet<String>,
    cycle: Option<Cycle>,
    reachable: HashSet<String>,
    granted: Vec<String>,
}

/// The steps of one cycle, each an instant at which others may come in between.
const CYCLE_STEPS: usize = 5;

impl World {
    async fn collect(&mut self, catalog: &Catalog, step: usize) {
        let collector = catalog.collector();
        match (step % CYCLE_STEPS, self.cycle.clone()) {
            (0, _) => self.cycle = collector.begin_cycle(T0, CYCLE_MS).await.unwrap(),
            (1, Some(_)) => {
                let roots = catalog.snapshots().live_manifests().await.unwrap();
                self.reachable =
                    roots.into_iter().map(|(_, manifest)| manifest.replacen("m-", "", 1)).collect();
            }
            (2, Some(cycle)) => {
                let all = collector.candidates(None, 10_000).await.unwrap();
                let (reachable, unreachable): (Vec<_>, Vec<_>) = all
                    .into_iter()
                    .map(|row| row.object.name)
                    .partition(|name| self.reachable.contains(name));
                collector.unmark(&cycle, &reachable).await.unwrap();
                collector.mark(&cycle, &unreachable).await.unwrap();
                self.granted = collector.begin_delete(&cycle, &unreachable).await.unwrap();
            }
            (3, Some(_)) => self.granted.iter().for_each(|name| {
                self.vault.remove(name);
            }),
            (4, Some(cycle)) => {
                collector.finish_delete(&cycle, &self.granted).await.unwrap();
                collector.end_cycle(&cycle).await.unwrap();
                self.granted.clear();
                self.cycle = None;
            }
            (_, None) => panic!("no cycle was begun"),
            (5.., _) => unreachable!(),
        }
    }

    async fn whole_cycle(&mut self, catalog: &Catalog) {
        for step in 0..CYCLE_STEPS {
            self.collect(catalog, step).await;
        }
    }

    /// Promise 1: what a completed snapshot names is there.
    async fn check(&self, catalog: &Catalog, when: &str) {
        for (_, manifest) in catalog.snapshots().live_manifests().await.unwrap() {
            let name = manifest.replacen("m-", "", 1);
            assert!(self.vault.contains(&name), "{name} is missing from the vault: {when}");
        }
    }
}

/// A snapshot job as the engine runs it: claim, pin, upload unless it is there, complete.
struct Reuser {
    name: String,
    lease: Option<Lease>,
    step: usize,
}

const JOB_STEPS: usize = 4;

impl Reuser {
    /// `false`: it has to wait for the collector.
    async fn advance(&mut self, catalog: &Catalog, world: &mut World) -> bool {
        let wanted = names(&[&self.name]);
        match (self.step, self.lease.clone()) {
            (0, _) => self.lease = Some(support::claim(catalog, "w", T0).await),
            (1, Some(lease)) => {
                catalog.objects().pin(&lease, &wanted).await.unwrap();
            }
            (2, Some(lease)) => {
                let report = catalog.objects().pin(&lease, &wanted).await.unwrap();
                if report.deleting.contains(&self.name) {
                    return false;
                }
                if !report.stored.contains(&self.name) {
                    world.vault.insert(self.name.clone());
                    catalog.objects().stored(&lease, &[stored(&self.name)]).await.unwrap();
                }
            }
            (3, Some(lease)) => {
                let manifest = format!("m-{}", self.name);
                catalog.jobs().finish(&lease, support::completion(&manifest), T0).await.unwrap();
            }
            _ => panic!("out of step"),
        }
        self.step += 1;
        true
    }
}

/// Makes a completed snapshot that reaches one object.
async fn seed(catalog: &Catalog, world: &mut World, deployment: &Deployment, name: &str) -> Snapshot {
    let snapshot = support::request_snapshot(catalog, deployment, T0).await;
    let mut job = Reuser { name: name.to_owned(), lease: None, step: 0 };
    while job.step < JOB_STEPS {
        assert!(job.advance(catalog, world).await);
    }
    snapshot
}

/// All ways to put `ones` ones among `length` places.
fn interleavings(length: usize, ones: usize) -> Vec<Vec<bool>> {
    if ones > length {
        return Vec::new();
    }
    if length == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for first in [true, false] {
        let rest = if first { ones.checked_sub(1) } else { Some(ones) };
        for mut tail in rest.map(|ones| interleavings(length - 1, ones)).unwrap_or_default() {
            tail.insert(0, first);
            all.push(tail);
        }
    }
    all
}

pub(crate) async fn every_interleaving_of_reuse_and_collection(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let collector_steps = 2 * CYCLE_STEPS;
    let all = interleavings(JOB_STEPS + collector_steps, JOB_STEPS);
    assert_eq!(all.len(), 1001);
    // Each interleaving is the same on both databases; the slower one takes a sample.
    let stride = if format!("{catalog:?}").contains("Sqlite") { 1 } else { 9 };
    for (number, order) in all.iter().enumerate().step_by(stride) {
        let mut world = World::default();
        let name = format!("x{number}");
        let old = seed(&catalog, &mut world, &deployment, &name).await;
        let new = support::request_snapshot(&catalog, &deployment, T0).await;
        // The old snapshot is deleted at one of several moments before, between and after.
        let deletion = number % (order.len() + 1);
        let mut job = Reuser { name: name.clone(), lease: None, step: 0 };
        let mut collected = 0;
        for (moment, jobs_turn) in order.iter().enumerate() {
            if moment == deletion {
                catalog.snapshots().delete(old.id, T0).await.unwrap();
            }
            if *jobs_turn && job.advance(&catalog, &mut world).await {
                world.check(&catalog, &format!("{number}, moment {moment}, {order:?}")).await;
            } else if collected < collector_steps {
                world.collect(&catalog, collected).await;
                collected += 1;
                world.check(&catalog, &format!("{number}, moment {moment}, {order:?}")).await;
            }
        }
        if deletion == order.len() {
            catalog.snapshots().delete(old.id, T0).await.unwrap();
        }
        while collected < collector_steps {
            world.collect(&catalog, collected).await;
            collected += 1;
        }
        while job.step < JOB_STEPS {
            assert!(job.advance(&catalog, &mut world).await, "nobody deletes any more");
        }
        world.whole_cycle(&catalog).await;
        world.whole_cycle(&catalog).await;
        world.check(&catalog, &format!("{number}, at the end, {order:?}")).await;
        catalog.snapshots().delete(new.id, T0).await.unwrap();
        world.whole_cycle(&catalog).await;
        world.whole_cycle(&catalog).await;
        assert!(world.vault.is_empty(), "garbage stays: {:?}", world.vault);
        for (id, _) in catalog.snapshots().dead_manifests().await.unwrap() {
            catalog.snapshots().forget_manifest(id).await.unwrap();
        }
    }
}

pub(crate) async fn garbage_goes_after_two_cycles(catalog: Catalog) {
    let (project, deployment) = support::source(&catalog).await;
    let mut world = World::default();
    let doomed = seed(&catalog, &mut world, &deployment, "doomed").await;
    let kept = seed(&catalog, &mut world, &deployment, "kept").await;
    world.vault.insert("orphan".to_owned());
    world.whole_cycle(&catalog).await;
    catalog.snapshots().delete(doomed.id, at(1)).await.unwrap();
    world.whole_cycle(&catalog).await;
    assert!(world.vault.contains("doomed"), "only marked");
    assert_eq!(catalog.objects().stats().await.unwrap().marked, 1);

    // A snapshot job that was alive at the mark and has not looked since holds everything up; one that looks does not.
    let second = support::deployment(&catalog, &project, "Cluster1").await;
    let third = support::deployment(&catalog, &project, "Cluster2").await;
    support::request_snapshot(&catalog, &second, at(2)).await;
    let asleep = support::claim(&catalog, "w", at(3)).await;
    world.whole_cycle(&catalog).await;
    assert!(world.vault.contains("doomed"), "claimed in the cycle of the mark");
    catalog.objects().pin(&asleep, &names(&["other"])).await.unwrap();
    support::request_snapshot(&catalog, &third, at(4)).await;
    support::claim(&catalog, "w", at(5)).await;
    world.whole_cycle(&catalog).await;
    assert_eq!(world.vault, BTreeSet::from(["kept".to_owned(), "orphan".to_owned()]));
    assert_eq!(catalog.objects().known(&names(&["doomed"])).await.unwrap(), HashSet::new());

    // What lies in the vault unknown is adopted, and goes the same way.
    let collector = catalog.collector();
    let cycle = collector.begin_cycle(T0, CYCLE_MS).await.unwrap().unwrap();
    collector.adopt(&cycle, &[stored("orphan"), stored("kept")]).await.unwrap();
    collector.end_cycle(&cycle).await.unwrap();
    for lease in [asleep] {
        catalog.jobs().finish(&lease, support::failed("x"), at(6)).await.unwrap();
    }
    for _ in 0..2 {
        world.whole_cycle(&catalog).await;
    }
    assert!(world.vault.contains("kept"));
    catalog.snapshots().delete(kept.id, at(7)).await.unwrap();
}

pub(crate) async fn a_pin_and_a_mark_at_the_same_time(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let collector = catalog.collector();
    let (mut reused, mut deleted) = (0, 0);
    const NAMES: usize = 200;
    for round in 0..40 {
        let wanted: Vec<String> = (0..NAMES).map(|n| format!("r{round}-{n}")).collect();
        let now = at(10_000 * round);
        support::request_snapshot(&catalog, &deployment, now).await;
        let cycle = collector.begin_cycle(now, CYCLE_MS).await.unwrap().unwrap();
        collector.adopt(&cycle, &wanted.iter().map(|name| stored(name)).collect::<Vec<_>>()).await.unwrap();
        assert_eq!(collector.mark(&cycle, &wanted).await.unwrap(), NAMES as u64);
        collector.end_cycle(&cycle).await.unwrap();
        let cycle = collector.begin_cycle(now, CYCLE_MS).await.unwrap().unwrap();
        let lease = support::claim(&catalog, "w", now).await;

        let backwards: Vec<String> = wanted.iter().rev().cloned().collect();
        let pin = {
            let (catalog, lease) = (catalog.clone(), lease.clone());
            async move { catalog.objects().pin(&lease, &backwards).await.unwrap() }
        };
        let delete = {
            let (catalog, cycle, wanted) = (catalog.clone(), cycle.clone(), wanted.clone());
            async move {
                catalog.collector().mark(&cycle, &wanted).await.unwrap();
                catalog.collector().begin_delete(&cycle, &wanted).await.unwrap()
            }
        };
        // Both start at once, in the one order and in the other.
        let (report, granted) = if round % 2 == 0 {
            let (pin, delete) = (tokio::spawn(pin), tokio::spawn(delete));
            (pin.await.unwrap(), delete.await.unwrap())
        } else {
            let (delete, pin) = (tokio::spawn(delete), tokio::spawn(pin));
            (pin.await.unwrap(), delete.await.unwrap())
        };
        assert_eq!(report.stored.len() + report.deleting.len(), NAMES);
        for name in &granted {
            assert!(
                !report.stored.contains(name),
                "{name} was promised to the job and granted to the collector"
            );
        }
        for row in collector.candidates(Some(&format!("r{round}-")), 1000).await.unwrap() {
            let promised = report.stored.contains(&row.object.name);
            assert!(!(promised && row.marked), "{} is marked although it is pinned", row.object.name);
        }
        reused += report.stored.len();
        deleted += granted.len();
        collector.finish_delete(&cycle, &granted).await.unwrap();
        let report = catalog.objects().pin(&lease, &wanted).await.unwrap();
        assert!(report.deleting.is_empty() && report.stored.len() + granted.len() == NAMES);
        collector.end_cycle(&cycle).await.unwrap();
        catalog.jobs().finish(&lease, support::failed("x"), now).await.unwrap();
    }
    println!("{reused} reused, {deleted} deleted");
}

pub(crate) async fn collectors_take_turns(catalog: Catalog) {
    let collector = catalog.collector();
    let first = collector.begin_cycle(at(0), 10_000).await.unwrap().unwrap();
    assert_eq!(collector.begin_cycle(at(9), 10_000).await.unwrap(), None);
    collector.renew(&first, at(9), 10_000).await.unwrap();
    assert_eq!(collector.begin_cycle(at(18), 10_000).await.unwrap(), None);
    let wanted = names(&["a", "b"]);
    collector.adopt(&first, &[stored("a"), stored("b")]).await.unwrap();
    collector.mark(&first, &wanted).await.unwrap();
    let second = collector.begin_cycle(at(19), 10_000).await.unwrap().unwrap();
    assert_eq!(collector.begin_delete(&second, &wanted).await.unwrap().len(), 2);

    let lost =
        |result: Result<(), Error>| assert!(matches!(result, Err(Error::LeaseLost { .. })), "{result:?}");
    lost(collector.renew(&first, at(19), 10_000).await);
    lost(collector.adopt(&first, &[stored("c")]).await);
    lost(collector.mark(&first, &wanted).await.map(drop));
    lost(collector.unmark(&first, &wanted).await.map(drop));
    lost(collector.begin_delete(&first, &wanted).await.map(drop));
    lost(collector.finish_delete(&first, &wanted).await);
    lost(collector.unfinished_deletes(&first).await.map(drop));
    collector.end_cycle(&first).await.unwrap();
    assert_eq!(collector.begin_cycle(at(20), 10_000).await.unwrap(), None, "only its own cycle is ended");

    // The second one dies between the vault and the catalog; the third one finishes.
    let third = collector.begin_cycle(WallTime(at(19).0 + 10_000), 10_000).await.unwrap().unwrap();
    assert_eq!(collector.candidates(None, 10).await.unwrap(), []);
    assert_eq!(collector.unfinished_deletes(&third).await.unwrap(), [stored("a"), stored("b")]);
    collector.finish_delete(&third, &wanted).await.unwrap();
    assert_eq!(collector.unfinished_deletes(&third).await.unwrap(), []);
    assert_eq!(catalog.objects().stats().await.unwrap().objects, 0);
}

/// The decisive moment of [`a_pin_and_a_mark_at_the_same_time`], held still: the pin is written but not yet committed
/// when the mark comes. It has to wait, and then to see the pin.
pub(crate) async fn a_mark_waits_for_an_unfinished_pin(catalog: Catalog, location: &str) {
    let (_, deployment) = support::source(&catalog).await;
    support::request_snapshot(&catalog, &deployment, T0).await;
    let lease = support::claim(&catalog, "w", T0).await;
    let cycle = catalog.collector().begin_cycle(T0, CYCLE_MS).await.unwrap().unwrap();
    catalog.collector().adopt(&cycle, &[stored("x")]).await.unwrap();

    let mut pinner = sqlx::AnyConnection::connect(location).await.unwrap();
    let mut pin = pinner.begin().await.unwrap();
    sqlx::query("INSERT INTO job_objects (job_id, name) VALUES ($1, 'x')")
        .bind(lease.job_id.to_string())
        .execute(&mut *pin)
        .await
        .unwrap();
    sqlx::query("UPDATE objects SET state = 'live' WHERE name = 'x'").execute(&mut *pin).await.unwrap();
    let mark = tokio::spawn({
        let (catalog, cycle) = (catalog.clone(), cycle.clone());
        async move { catalog.collector().mark(&cycle, &names(&["x"])).await.unwrap() }
    });
    // Time for the mark to come to the lock; a machine too slow for it makes this case weaker, never wrong.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    pin.commit().await.unwrap();
    assert_eq!(mark.await.unwrap(), 0, "it decided by what it saw before it waited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_waits_for_an_unfinished_pin_on_sqlite() {
    let directory = support::directory();
    let path = directory.path().join("catalog.db").to_str().unwrap().to_owned();
    let catalog = Catalog::open(&path).await.unwrap();
    a_mark_waits_for_an_unfinished_pin(catalog, &format!("sqlite://{path}")).await;
}
