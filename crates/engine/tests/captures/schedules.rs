//! Schedules on a real deployment: what is due is taken, what was missed is taken once, what is deleted is not taken.
#![allow(clippy::unwrap_used)]

use crate::capture_support;
use crate::support;

use bson::Bson;
use capture_support::{Running, until};
use catalog::{Page, ScheduleChange, Snapshot, SnapshotFilter, SnapshotType};
use ebbtide_engine::{Engine, Settings, engine::wall_clock};
use model::{
    Retention, RetentionUnit, WallTime,
    id::PolicyItemId,
    schedule::{Frequency, FrequencyType, Policy, PolicyItem, ReferenceTime, Schedule},
    snapshot::SnapshotState,
};
use serde_json::Value;
use std::time::Duration;
use support::{Bench, documents};
use testbed::Options;

const DAY_MS: i64 = 86_400_000;

/// Twice a day, of which one counts as the daily one; neither within hours of now, so that no test runs into it.
fn schedule(minute: i64) -> Schedule {
    let item = |number, kind, interval, days| PolicyItem {
        id: PolicyItemId::from_bytes([number; 12]),
        frequency: Frequency::new(kind, interval).unwrap(),
        retention: Retention::new(RetentionUnit::Days, days).unwrap(),
    };
    let hour = wall_clock().seconds() / 3600 + 6;
    let items = vec![item(1, FrequencyType::Hourly, 12, 2), item(2, FrequencyType::Daily, 1, 7)];
    Schedule {
        reference: ReferenceTime::new(hour % 24, minute).unwrap(),
        policy: Policy::new(items).unwrap(),
        ..Schedule::default()
    }
}

/// Sets the schedule as if that had been some days ago, and nobody had looked since.
async fn set_days_ago(bench: &Bench, schedule: Schedule, days: i64) {
    let schedules = bench.catalog.schedules();
    let before = schedules.get(bench.deployment).await.unwrap();
    let before_export = before.as_ref().map(|before| before.auto_export).unwrap_or_default();
    let change = ScheduleChange {
        of_revision: before.map(|before| before.revision),
        schedule,
        auto_export: before_export,
        names_in_exports: false,
        copies: Default::default(),
        delete_copies: vec![],
        restore_window: None,
        retention: vec![],
        delete_of: vec![],
    };
    schedules.change(bench.deployment, &change, wall_clock().plus_ms(-days * DAY_MS)).await.unwrap();
}

async fn snapshots(bench: &Bench) -> Vec<Snapshot> {
    let of = SnapshotFilter::of(bench.deployment);
    bench.catalog.snapshots().list(of, Page::default()).await.unwrap().items
}

async fn look(engine: &Engine) -> Value {
    engine.reconcilers().activate("schedule").await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_missed_is_taken_once_and_what_is_deleted_is_not() {
    let bench = Bench::start(Options::default()).await;
    bench.fill("app", "things", documents(500, 100, |n| Bson::Int64(n as i64))).await;
    let idle = bench.engine(bench.settings());
    assert_eq!(look(&idle).await["schedules"], 0, "a deployment has none by itself");
    let new = catalog::NewDeployment {
        project_id: bench.project,
        name: "flexible".parse().unwrap(),
        kind: model::DeploymentKind::Flex,
        uri_sealed: catalog::Sealed(String::new()),
        options: Value::Null,
        facts: catalog::DeploymentFacts::default(),
        continuous: None,
    };
    let flex = bench.catalog.deployments().add(new, wall_clock()).await.unwrap();
    for given in [1, 0] {
        let did = look(&idle).await;
        assert_eq!((&did["given"], &did["schedules"]), (&given.into(), &1.into()), "but for flex clusters");
    }
    bench.catalog.deployments().remove(flex.id, wall_clock()).await.unwrap();
    assert_eq!(look(&idle).await["schedules"], 0);
    set_days_ago(&bench, schedule(7), 3).await;

    // Two servers come back at once.
    let settings = || Settings { reconcile_every: Duration::from_millis(100), ..bench.settings() };
    let servers = [(); 2].map(|()| Running::start(bench.engine(settings())));
    let taken = until(&bench, "the snapshot is taken", || async {
        snapshots(&bench).await.into_iter().find(|snapshot| snapshot.state == SnapshotState::Completed)
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for server in servers {
        server.stop().await;
    }
    assert_eq!(snapshots(&bench).await.len(), 1, "six were missed, and one is taken");
    assert_eq!(taken.snapshot_type, SnapshotType::Scheduled);
    let policy = taken.policy.clone().unwrap();
    assert_eq!(policy.frequency.kind(), FrequencyType::Daily, "it stands for the rarest of them");
    assert_eq!(policy.items, [2, 1].map(|number| PolicyItemId::from_bytes([number; 12])));
    assert!(policy.due_at <= taken.requested_at);
    assert_eq!(taken.retention_days, Some(7));
    assert_eq!(taken.expires_at, Some(taken.completed_at.unwrap().plus_ms(7 * DAY_MS)));
    bench.assert_exact(&taken, "app.things").await;
    bench.assert_verifies(&taken).await;

    // A clock that goes back comes by the same time again.
    let seen = bench.catalog.schedules().get(bench.deployment).await.unwrap().unwrap();
    assert!(
        bench.catalog.schedules().turn_back(&seen, WallTime(seen.handled_until.0 - DAY_MS)).await.unwrap()
    );
    assert_eq!(look(&idle).await["requested"], 0);
    let seen = bench.catalog.schedules().get(bench.deployment).await.unwrap().unwrap();
    assert_eq!(seen.handled_until, policy.due_at);
    // And one that was ahead does not silence it.
    assert!(bench.catalog.schedules().turn_back(&seen, wall_clock().plus_ms(900 * DAY_MS)).await.unwrap());
    assert_eq!(look(&idle).await["turnedBack"], 1);
    let seen = bench.catalog.schedules().get(bench.deployment).await.unwrap().unwrap();
    assert!(seen.handled_until <= wall_clock());

    // Deleted, it takes nothing; set again, it does.
    set_days_ago(&bench, schedule(8), 3).await;
    assert!(bench.catalog.schedules().delete(bench.deployment).await.unwrap());
    let did = look(&idle).await;
    assert_eq!((&did["schedules"], &did["requested"]), (&0.into(), &0.into()));
    set_days_ago(&bench, schedule(8), 3).await;
    assert_eq!(look(&idle).await["requested"], 1);
    let all = snapshots(&bench).await;
    assert_eq!((all.len(), all[0].state), (2, SnapshotState::Queued));

    // While that one waits, the next daily one is put off, an hourly one is left out, and one on demand is not in the way.
    set_days_ago(&bench, schedule(9), 3).await;
    assert_eq!(look(&idle).await["putOff"], 1);
    let daily = schedule(9);
    let hourly = Policy::new(vec![daily.policy.items()[0]]).unwrap();
    set_days_ago(&bench, Schedule { policy: hourly, ..daily }, 3).await;
    assert_eq!(look(&idle).await["skipped"], 1);
    let own = bench.request().await;
    let own = bench.finish(own, bench.settings(), None).await;
    assert_eq!((own.state, own.policy), (SnapshotState::Completed, None));
    bench.finish(all[0].id, bench.settings(), None).await;

    // A deployment that is gone has no schedule, and stops nobody.
    set_days_ago(&bench, schedule(10), 3).await;
    bench.catalog.deployments().remove(bench.deployment, wall_clock()).await.unwrap();
    let did = look(&idle).await;
    assert_eq!((&did["schedules"], &did["requested"]), (&0.into(), &0.into()));
}
