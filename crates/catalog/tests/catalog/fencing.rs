//! Two workers, one job, any order of events: whoever lost the lease changes nothing.

use catalog::{Catalog, Error, Job, Lease, Outcome, RestoreJob, Result, StoredObject};
use model::{WallTime, job::Directive};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::json;

use crate::support::{self, LEASE_MS, T0};

/// Something that happens.
#[derive(Debug, Clone, Copy)]
enum Event {
    Claim(usize),
    Heartbeat(usize, u8),
    CutOver(usize),
    Finish(usize),
    Fail(usize),
    Acknowledge(usize),
    Release(usize),
    Retry(usize),
    Pin(usize),
    Oblige(usize),
    Cancel,
    LeaseRunsOut,
}

fn event() -> impl Strategy<Value = Event> {
    let worker = 0..2_usize;
    prop_oneof![
        4 => worker.clone().prop_map(Event::Claim),
        2 => (worker.clone(), any::<u8>()).prop_map(|(w, n)| Event::Heartbeat(w, n)),
        1 => worker.clone().prop_map(Event::CutOver),
        1 => worker.clone().prop_map(Event::Finish),
        1 => worker.clone().prop_map(Event::Fail),
        1 => worker.clone().prop_map(Event::Acknowledge),
        1 => worker.clone().prop_map(Event::Release),
        1 => worker.clone().prop_map(Event::Retry),
        1 => worker.clone().prop_map(Event::Pin),
        1 => worker.prop_map(Event::Oblige),
        1 => Just(Event::Cancel),
        3 => Just(Event::LeaseRunsOut),
    ]
}

/// The job and two workers, each with the last lease that it got.
struct World {
    catalog: Catalog,
    restore: RestoreJob,
    job: Job,
    leases: [Option<Lease>; 2],
    holder: Option<usize>,
    now: WallTime,
}

/// All that a worker could change.
type Rows = (RestoreJob, Job, u64);

impl World {
    async fn rows(&self) -> Rows {
        let restore = support::restore(&self.catalog, &self.restore).await;
        let job = self.catalog.jobs().get(self.job.id).await.unwrap().unwrap();
        let obligations = self.catalog.obligations().of_job(self.job.id).await.unwrap().len() as u64;
        (restore, job, obligations + self.catalog.objects().stats().await.unwrap().objects)
    }

    async fn step(&mut self, event: Event) {
        let worker = match event {
            Event::Cancel => {
                let _ = self.catalog.restores().request_cancel(self.restore.id, self.now).await.unwrap();
                return;
            }
            Event::LeaseRunsOut => {
                self.now = self.now.plus_ms(2 * LEASE_MS);
                return;
            }
            Event::Claim(worker) => {
                let name = format!("w{worker}");
                if let Some(lease) = self.catalog.jobs().claim(&name, &[], self.now, LEASE_MS).await.unwrap()
                {
                    self.leases[worker] = Some(lease);
                    self.holder = Some(worker);
                }
                return;
            }
            Event::Heartbeat(w, _)
            | Event::CutOver(w)
            | Event::Finish(w)
            | Event::Fail(w)
            | Event::Acknowledge(w)
            | Event::Release(w)
            | Event::Retry(w)
            | Event::Pin(w)
            | Event::Oblige(w) => w,
        };
        let Some(lease) = self.leases[worker].clone() else { return };
        let before = self.rows().await;
        let ended = before.1.ended_at.is_some();
        let lost = match self.act(event, &lease).await {
            Err(Error::LeaseLost { .. }) => true,
            Err(Error::Illegal(_)) => {
                assert_eq!(self.rows().await, before, "{event:?} was refused and yet changed something");
                false
            }
            other => {
                other.unwrap();
                false
            }
        };
        let held = self.holder == Some(worker) && !ended;
        assert_eq!(lost, !held, "{event:?} by {worker}, the holder is {:?}", self.holder);
        if lost {
            assert_eq!(self.rows().await, before, "{event:?} without a lease changed something");
        }
        if held && matches!(event, Event::Release(_) | Event::Retry(_)) {
            self.holder = None;
        }
    }

    async fn act(&self, event: Event, lease: &Lease) -> Result<()> {
        let (catalog, now) = (&self.catalog, self.now);
        match event {
            Event::Heartbeat(_, n) => {
                let checkpoint = json!({ "n": n });
                match catalog.jobs().heartbeat(lease, now, LEASE_MS, None, Some(&checkpoint)).await? {
                    Directive::Lost => Err(Error::LeaseLost { what: String::new() }),
                    Directive::Continue | Directive::Cancel => Ok(()),
                }
            }
            Event::CutOver(_) => catalog.restores().begin_cut_over(lease, now).await.map(drop),
            Event::Finish(_) => catalog.jobs().finish(lease, support::receipt(), now).await,
            Event::Fail(_) => catalog.jobs().finish(lease, support::failed("x"), now).await,
            Event::Acknowledge(_) => catalog.jobs().finish(lease, Outcome::Cancelled, now).await,
            Event::Release(_) => catalog.jobs().release(lease).await,
            Event::Retry(_) => catalog.jobs().retry_at(lease, now, "x").await,
            Event::Pin(_) => {
                let name = format!("object of {}", self.job.id);
                catalog.objects().pin(lease, std::slice::from_ref(&name)).await?;
                let object = StoredObject { name, kind: "segment".to_owned(), stored_bytes: 1 };
                catalog.objects().stored(lease, &[object]).await
            }
            Event::Oblige(_) => {
                let target = self.restore.deployment_id;
                catalog.obligations().record(lease, target, "writeBlock", &json!(0), now).await.map(drop)
            }
            Event::Claim(_) | Event::Cancel | Event::LeaseRunsOut => Ok(()),
        }
    }
}

pub(crate) async fn who_lost_the_lease_changes_nothing(catalog: Catalog) {
    let (project, deployment) = support::source(&catalog).await;
    let snapshot = support::snapshot(&catalog, &deployment, "m", T0).await;
    let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    let outcome = tokio::task::block_in_place(|| {
        runner.run(&prop::collection::vec(event(), 1..40), |events| {
            tokio::runtime::Handle::current().block_on(async {
                // A target of its own, so that what an earlier round left is not in the way.
                let name = format!("T{}", catalog::new_id::<()>(T0));
                let target = support::deployment(&catalog, &project, &name).await;
                let delivery = catalog::Delivery::Automated { target: target.id };
                let new = support::new_restore(&snapshot, delivery);
                let restore = catalog.restores().request(new, T0).await.unwrap();
                let job = catalog.jobs().of_subject(&restore.id.to_string()).await.unwrap().unwrap();
                let world_catalog = catalog.clone();
                let mut world = World {
                    catalog: world_catalog,
                    restore,
                    job,
                    leases: [None, None],
                    holder: None,
                    now: T0,
                };
                for event in events {
                    world.step(event).await;
                }
                put_away(&catalog).await;
            });
            Ok(())
        })
    });
    outcome.unwrap();
}

/// Ends whatever is left, so that the next round finds only its own job.
async fn put_away(catalog: &Catalog) {
    let mut now = WallTime(i64::MAX / 2);
    // On PostgreSQL a transaction that was given up lives on for a moment, and what it has locked cannot be claimed.
    while catalog.jobs().next_wakeup(&[]).await.unwrap().is_some() {
        let Some(lease) = catalog.jobs().claim("end", &[], now, 0).await.unwrap() else { continue };
        catalog.jobs().finish(&lease, support::failed("the round is over"), now).await.unwrap();
        now = now.plus_ms(1);
    }
}
