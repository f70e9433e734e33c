//! Who waits for the record to reach a time: snapshots of captured deployments.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use model::{ClusterTime, id::DeploymentId};
use tokio::sync::watch;

/// What is waited for, by deployment. Only between parts of one process: a keeper elsewhere is not told and closes its
/// slice in its own time, which is a few seconds.
#[derive(Debug, Clone, Default)]
pub struct Waiters {
    wanted: Arc<Mutex<HashMap<DeploymentId, watch::Sender<ClusterTime>>>>,
}

impl Waiters {
    /// Lets whoever captures the deployment know that somebody waits for everything up to `time` to be in the vault.
    pub fn want(&self, deployment: DeploymentId, time: ClusterTime) {
        self.with(deployment, |sender| {
            sender.send_if_modified(|wanted| {
                let later = *wanted < time;
                *wanted = time.max(*wanted);
                later
            })
        });
    }

    /// What is wanted of one deployment, now and from now on.
    pub(super) fn of(&self, deployment: DeploymentId) -> watch::Receiver<ClusterTime> {
        self.with(deployment, watch::Sender::subscribe)
    }

    fn with<T>(&self, deployment: DeploymentId, work: impl FnOnce(&watch::Sender<ClusterTime>) -> T) -> T {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        work(wanted.entry(deployment).or_insert_with(|| watch::Sender::new(ClusterTime::default())))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_latest_time_counts_and_an_earlier_one_wakes_nobody() {
        let (waiters, id) = (Waiters::default(), DeploymentId::from_bytes([1; 12]));
        let mut wanted = waiters.of(id);
        let at = |seconds| ClusterTime { seconds, increment: 1 };
        waiters.want(id, at(5));
        assert!(wanted.has_changed().unwrap());
        assert_eq!(*wanted.borrow_and_update(), at(5));
        waiters.want(id, at(4));
        assert!(!wanted.has_changed().unwrap());
        waiters.want(DeploymentId::from_bytes([2; 12]), at(9));
        assert!(!wanted.has_changed().unwrap());
        assert_eq!(*waiters.of(id).borrow(), at(5), "whoever comes later is told too");
    }
}
