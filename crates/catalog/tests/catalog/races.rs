//! Many at once: the database decides, and decides the same for everybody.

use std::collections::HashSet;

use catalog::{Catalog, Conflict, Delivery, Error, PROJECT_DOWNLOADS_MAX};
use model::restore::{CancelRefusal, RestoreState};
use tokio::task::JoinSet;

use crate::{
    compliance,
    support::{self, LEASE_MS, T0, at},
};

const ROUNDS: i64 = 40;

pub(crate) async fn cancel_against_cut_over(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let snapshot = support::snapshot(&catalog, &deployment, "m", T0).await;
    let (mut cancels, mut cut_overs) = (0, 0);
    for round in 0..ROUNDS {
        let now = at(1000 * round);
        let job = support::request_restore(&catalog, &snapshot, now).await;
        let lease = support::claim(&catalog, "w", now).await;
        let mut tasks: JoinSet<bool> = JoinSet::new();
        for canceller in 0..6 {
            let (catalog, lease) = (catalog.clone(), lease.clone());
            tasks.spawn(async move {
                // `true`: a cancel was granted.
                if canceller % 2 == round.rem_euclid(2) || canceller > 1 {
                    match catalog.restores().request_cancel(job.id, now).await.unwrap() {
                        Ok(RestoreState::Cancelling) => true,
                        Err(CancelRefusal::TooLate) => false,
                        other => panic!("{other:?}"),
                    }
                } else {
                    !catalog.restores().begin_cut_over(&lease, now).await.unwrap()
                }
            });
        }
        let answers: HashSet<bool> = tasks.join_all().await.into_iter().collect();
        assert_eq!(answers.len(), 1, "everybody is told the same winner");
        let state = support::restore(&catalog, &job).await.state;
        if answers.contains(&true) {
            cancels += 1;
            assert_eq!(state, RestoreState::Cancelling);
            catalog.jobs().finish(&lease, catalog::Outcome::Cancelled, now).await.unwrap();
        } else {
            cut_overs += 1;
            assert_eq!(state, RestoreState::CutOver);
            catalog.jobs().finish(&lease, support::receipt(), now).await.unwrap();
        }
    }
    println!("cancel won {cancels} times, the cut-over {cut_overs} times");
}

pub(crate) async fn many_workers_claim_each_item_once(catalog: Catalog) {
    const ITEMS: usize = 40;
    let project = support::project(&catalog).await;
    for number in 0..ITEMS {
        let deployment = support::deployment(&catalog, &project, &format!("C{number}")).await;
        support::request_snapshot(&catalog, &deployment, at(1)).await;
    }
    let mut workers = JoinSet::new();
    for worker in 0..6 {
        let catalog = catalog.clone();
        workers.spawn(async move {
            let mut claimed = Vec::new();
            let name = format!("w{worker}");
            // On PostgreSQL a worker may find that all that is left is locked by others, and comes back.
            while catalog.jobs().next_wakeup(&[]).await.unwrap().is_some_and(|next| next <= at(2)) {
                let Some(lease) = catalog.jobs().claim(&name, &[], at(2), LEASE_MS).await.unwrap() else {
                    continue;
                };
                catalog.jobs().finish(&lease, support::completion("m"), at(2)).await.unwrap();
                claimed.push(lease.job_id);
            }
            claimed
        });
    }
    let claimed: Vec<_> = workers.join_all().await.into_iter().flatten().collect();
    assert_eq!(claimed.len(), ITEMS);
    assert_eq!(claimed.iter().collect::<HashSet<_>>().len(), ITEMS, "no item twice");
}

pub(crate) async fn many_requests_for_one_target(catalog: Catalog) {
    let (_, deployment) = support::source(&catalog).await;
    let snapshot = support::snapshot(&catalog, &deployment, "m", T0).await;
    let mut tasks = JoinSet::new();
    for _ in 0..12 {
        let (catalog, snapshot) = (catalog.clone(), snapshot.clone());
        tasks.spawn(async move {
            let delivery = Delivery::Automated { target: snapshot.deployment_id };
            match catalog.restores().request(support::new_restore(&snapshot, delivery), at(1)).await {
                Ok(_) => true,
                Err(Error::Conflict(Conflict::TargetBusy)) => false,
                Err(other) => panic!("{other:?}"),
            }
        });
    }
    let granted = tasks.join_all().await.into_iter().filter(|granted| *granted).count();
    assert_eq!(granted, 1);
    assert_eq!(catalog.jobs().active().await.unwrap().len(), 1);
}

pub(crate) async fn a_download_too_many_is_never_granted(catalog: Catalog) {
    let project = support::project(&catalog).await;
    let mut tasks = JoinSet::new();
    let mut snapshots = Vec::new();
    for number in 0..PROJECT_DOWNLOADS_MAX + 8 {
        let deployment = support::deployment(&catalog, &project, &format!("C{number}")).await;
        snapshots.push(support::snapshot(&catalog, &deployment, "m", T0).await);
    }
    for snapshot in snapshots {
        let catalog = catalog.clone();
        tasks.spawn(async move {
            match catalog.restores().request(support::new_restore(&snapshot, support::DOWNLOAD), at(1)).await
            {
                Ok(_) => true,
                Err(Error::Conflict(Conflict::TooManyDownloads { .. })) => false,
                Err(other) => panic!("{other:?}"),
            }
        });
    }
    let granted = tasks.join_all().await.into_iter().filter(|granted| *granted).count();
    assert_eq!(granted, PROJECT_DOWNLOADS_MAX as usize);
}

/// Each of them locks two of project, deployment and snapshot, one after the other.
pub(crate) async fn a_policy_a_trim_and_a_download_never_wait_in_a_circle(catalog: Catalog) {
    let (project, deployment) = support::source(&catalog).await;
    let snapshot = support::snapshot(&catalog, &deployment, "m", T0).await;
    let mut tasks = JoinSet::new();
    let (one, id, policy) = (catalog.clone(), project.id, compliance::policy(None, None));
    tasks.spawn(async move {
        for _ in 0..ROUNDS {
            one.compliance().set(id, &policy, true, T0).await.unwrap();
        }
    });
    let (one, id) = (catalog.clone(), deployment.id);
    tasks.spawn(async move {
        for _ in 0..ROUNDS {
            one.timelines().forget(id, &[], T0).await.unwrap();
        }
    });
    tasks.spawn(async move {
        for _ in 0..ROUNDS {
            match catalog.restores().request(support::new_restore(&snapshot, support::DOWNLOAD), at(1)).await
            {
                Ok(_) | Err(Error::Conflict(Conflict::SnapshotDownloading)) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    });
    tasks.join_all().await;
}
