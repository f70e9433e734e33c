//! Compliance policies: what one forbids is refused whatever comes first, and goes on being refused until it is lifted.

use catalog::{Catalog, Conflict, Deployment, Error, PolicySet, ScheduleChange, SnapshotType};
use model::{
    ContinuousBackup, RestoreWindowDays, Retention, RetentionUnit, WallTime,
    compliance::{CompliancePolicy, Email, Forbidden, Person, Shortfall, Unheeded},
    id::PolicyItemId,
    schedule::{
        AutoExport, Frequency, FrequencyType, Policy, PolicyItem, ReferenceTime, RetentionChange, Schedule,
        Step, TakenBy,
    },
};

use crate::support::{self, T0};

const DAY_MS: i64 = 86_400_000;

fn daily(days: u32) -> PolicyItem {
    PolicyItem {
        id: PolicyItemId::from_bytes([1; 12]),
        frequency: Frequency::new(FrequencyType::Daily, 1).unwrap(),
        retention: Retention::new(RetentionUnit::Days, days).unwrap(),
    }
}

pub(crate) fn policy(days: Option<u32>, window: Option<u32>) -> CompliancePolicy {
    CompliancePolicy {
        authorized: Person {
            email: Email::try_from("it@example.com".to_owned()).unwrap(),
            first_name: None,
            last_name: None,
        },
        scheduled: days.map(|days| Policy::new(vec![daily(days)]).unwrap()).unwrap_or_default(),
        on_demand: None,
        continuous: window.map(|days| RestoreWindowDays::new(days).unwrap()),
        encryption_at_rest: false,
        copies_protected: false,
        unheeded: Unheeded::default(),
    }
}

async fn set(catalog: &Catalog, deployment: &Deployment, policy: &CompliancePolicy) -> PolicySet {
    catalog.compliance().set(deployment.project_id, policy, true, T0).await.unwrap()
}

fn change(days: u32, of_revision: Option<i64>) -> ScheduleChange {
    let policy = Policy::new(vec![daily(days)]).unwrap();
    ScheduleChange {
        of_revision,
        schedule: Schedule { reference: ReferenceTime::DEFAULT, policy, ..Schedule::default() },
        auto_export: AutoExport::Unset,
        names_in_exports: false,
        copies: Default::default(),
        delete_copies: vec![],
        restore_window: None,
        retention: vec![],
        delete_of: vec![],
    }
}

fn forbidden<T: std::fmt::Debug>(done: Result<T, Error>) -> Forbidden {
    match done {
        Err(Error::Conflict(Conflict::Forbidden(forbidden))) => forbidden,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_policy_guards_snapshots_until_their_time_is_over(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let (_, other) = {
        let project = catalog.projects().create("another", T0).await.unwrap();
        let other = support::deployment(&catalog, &project, "Other").await;
        (project, other)
    };
    let snapshot = support::snapshot(&catalog, &deployment, "m", T0).await;
    let elsewhere = support::snapshot(&catalog, &other, "n", T0).await;
    set(&catalog, &deployment, &policy(None, None)).await;
    let expires = snapshot.expires_at.unwrap();
    let just_before = WallTime(expires.0 - 1);
    let snapshots = catalog.snapshots();
    assert_eq!(forbidden(snapshots.delete(snapshot.id, just_before).await), Forbidden::Deletion);
    let shorter = snapshots.update_retention(snapshot.id, just_before).await;
    assert_eq!(forbidden(shorter), Forbidden::ShorterRetention);
    assert_eq!(snapshots.update_retention(snapshot.id, expires).await.unwrap().expires_at, Some(expires));
    // The policy of one project is none of another's business.
    snapshots.update_retention(elsewhere.id, just_before).await.unwrap();
    snapshots.delete(elsewhere.id, T0).await.unwrap();
    snapshots.delete(snapshot.id, expires).await.unwrap();
    let again = snapshots.delete(snapshot.id, expires).await;
    assert!(matches!(again, Err(Error::Illegal(_))), "{again:?}");

    // What nobody said an end of is never over.
    let mut new = support::new_snapshot(&deployment, SnapshotType::OnDemand);
    new.retention_days = None;
    let endless = snapshots.request(new, T0).await.unwrap();
    let lease = support::claim(&catalog, "w", T0).await;
    catalog.jobs().finish(&lease, support::completion("o"), T0).await.unwrap();
    assert_eq!(forbidden(snapshots.delete(endless.id, expires).await), Forbidden::Deletion);
    assert_eq!(forbidden(snapshots.update_retention(endless.id, expires).await), Forbidden::ShorterRetention);
}

pub(crate) async fn a_schedule_is_held_to_the_policy(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let schedules = catalog.schedules();
    let begun = schedules.change(deployment.id, &change(5, None), T0).await.unwrap().schedule.revision;
    let refused = catalog.compliance().set(deployment.project_id, &policy(Some(7), None), false, T0).await;
    assert!(matches!(forbidden(refused), Forbidden::Unmet(unmet) if unmet.len() == 1));
    assert_eq!(catalog.compliance().get(deployment.project_id).await.unwrap(), None);
    assert_eq!(set(&catalog, &deployment, &policy(Some(7), None)).await.changed, ["Cluster0"]);
    let kept = schedules.get(deployment.id).await.unwrap().unwrap();
    assert_eq!(kept.schedule.policy, Policy::new(vec![daily(7)]).unwrap());
    assert!(kept.revision > begun, "whoever is about to change it reads it again");
    assert_eq!(set(&catalog, &deployment, &policy(Some(7), None)).await.changed, [""; 0]);
    let short = schedules.change(deployment.id, &change(6, Some(kept.revision)), T0).await;
    assert!(matches!(forbidden(short), Forbidden::Schedule(missing) if missing.len() == 1));
    assert!(matches!(forbidden(schedules.delete(deployment.id).await), Forbidden::Schedule(_)));

    // What is about to be due is not put off by naming another time.
    let mut later = change(7, Some(kept.revision));
    later.schedule.reference = ReferenceTime::new(3, 0).unwrap();
    let moved = schedules.change(deployment.id, &later, WallTime(T0.0 + 60_000)).await.unwrap().schedule;
    assert_eq!(moved.handled_until, kept.handled_until);
    let kept = moved;

    // What was taken is kept as long as it is, even by a schedule that meets the policy.
    schedules.change(deployment.id, &change(9, Some(kept.revision)), T0).await.unwrap();
    let seen = schedules.get(deployment.id).await.unwrap().unwrap();
    let now = WallTime(T0.0 + 2 * DAY_MS);
    let Step::Take(due) = seen.schedule.step(seen.handled_until, now) else { panic!("nothing is due") };
    schedules.take(&seen, &due, now).await.unwrap();
    let mut shorter = change(8, Some(seen.revision));
    let taken_by = TakenBy { id: daily(1).id, frequency: daily(1).frequency };
    shorter.retention =
        vec![RetentionChange { taken_by, retention: daily(8).retention, extra_days: 0, is_longer: false }];
    assert_eq!(forbidden(schedules.change(deployment.id, &shorter, now).await), Forbidden::ShorterRetention);
    let mut deletion = change(9, Some(seen.revision));
    deletion.delete_of = vec![taken_by];
    assert_eq!(forbidden(schedules.change(deployment.id, &deletion, now).await), Forbidden::Deletion);
    let mut longer = change(10, Some(seen.revision));
    longer.retention =
        vec![RetentionChange { taken_by, retention: daily(10).retention, extra_days: 0, is_longer: false }];
    let applied = schedules.change(deployment.id, &longer, now).await.unwrap();
    assert_eq!(applied.snapshots_kept_anew, 1);

    // What somebody has kept for longer than the schedule says stays so, and is in nobody's way.
    let lease = support::claim(&catalog, "w", now).await;
    catalog.jobs().finish(&lease, support::completion("s"), now).await.unwrap();
    let far = WallTime(now.0 + 90 * DAY_MS);
    let prolonged = catalog.snapshots().expired(WallTime(now.0 + 11 * DAY_MS)).await.unwrap().remove(0).id;
    catalog.snapshots().update_retention(prolonged, far).await.unwrap();
    let mut longer = change(11, Some(applied.schedule.revision));
    longer.retention =
        vec![RetentionChange { taken_by, retention: daily(11).retention, extra_days: 0, is_longer: false }];
    assert_eq!(schedules.change(deployment.id, &longer, now).await.unwrap().snapshots_kept_anew, 0);
    // Whoever found it expired is told that it is not any more.
    assert!(!catalog.snapshots().expire(prolonged, WallTime(far.0 - 1)).await.unwrap());
    assert!(catalog.snapshots().expire(prolonged, far).await.unwrap());
    assert!(!catalog.snapshots().expire(prolonged, far).await.unwrap());
}

pub(crate) async fn a_policy_is_made_weaker_or_lifted_only_after_it_was_released(catalog: Catalog) {
    let (project, deployment) = support::source(&catalog).await;
    let compliance = catalog.compliance();
    assert!(matches!(compliance.release(project.id).await, Err(Error::NotFound { .. })));
    assert!(!compliance.lift(project.id).await.unwrap());
    let unmet = compliance.set(project.id, &policy(None, Some(3)), true, T0).await;
    assert!(matches!(forbidden(unmet), Forbidden::Unmet(_)), "it is not recorded");
    support::switch_on(&catalog, &deployment).await;
    set(&catalog, &deployment, &policy(None, Some(30))).await;
    let found = catalog.deployments().get(deployment.id).await.unwrap().unwrap();
    assert_eq!(found.continuous.restore_window_days.days(), 30);
    let window = |days: u32, pit_enabled: bool| ContinuousBackup {
        pit_enabled,
        restore_window_days: RestoreWindowDays::new(days).unwrap(),
    };
    let timelines = catalog.timelines();
    let off = timelines.set_continuous_backup(deployment.id, window(30, false)).await;
    assert_eq!(forbidden(off), Forbidden::NotRecorded);
    let short = timelines.set_continuous_backup(deployment.id, window(29, true)).await;
    assert!(matches!(forbidden(short), Forbidden::Window(_)));
    let uri = catalog::Sealed("another".to_owned());
    let both = Some((&uri, &deployment.facts));
    let both = catalog.deployments().update(deployment.id, both, Some(window(30, false))).await;
    assert_eq!(forbidden(both), Forbidden::NotRecorded);
    let kept = catalog.deployments().get(deployment.id).await.unwrap();
    assert_eq!(kept, Some(found), "the connection string is the old one");
    let weaker = compliance.set(project.id, &policy(None, Some(29)), true, T0).await;
    assert!(
        matches!(forbidden(weaker), Forbidden::Weaker(missing) if matches!(missing[..], [Shortfall::Window(_)]))
    );
    assert_eq!(forbidden(compliance.lift(project.id).await), Forbidden::NotReleased);

    // A deployment comes into the project as the policy wants it, or not at all.
    let new = support::new_deployment(&project, "Later");
    let unmet = forbidden(catalog.deployments().add(new.clone(), T0).await);
    assert!(matches!(unmet, Forbidden::Unmet(why) if why[0].contains("Later") && why[0].contains("--pit")));
    assert_eq!(catalog.deployments().by_name(project.id, "Later").await.unwrap(), None);
    let recorded = catalog::NewDeployment { continuous: Some(window(1, true)), ..new };
    let added = catalog.deployments().add(recorded, T0).await.unwrap();
    assert_eq!(added.continuous.restore_window_days.days(), 30);
    assert_eq!(catalog.deployments().get(added.id).await.unwrap(), Some(added));

    compliance.release(project.id).await.unwrap();
    let kept = compliance.set(project.id, &policy(None, Some(29)), true, T0).await.unwrap();
    assert!(!kept.policy.released, "that was for once");
    assert_eq!(forbidden(compliance.lift(project.id).await), Forbidden::NotReleased);
    compliance.release(project.id).await.unwrap();
    assert!(compliance.lift(project.id).await.unwrap());
    assert_eq!(compliance.get(project.id).await.unwrap(), None);
    timelines.set_continuous_backup(deployment.id, window(1, false)).await.unwrap();
}
