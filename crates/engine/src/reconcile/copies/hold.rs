//! The right to work on a place, renewed while work goes on.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use catalog::CopyLease;
use model::copy::RegionName;

use crate::{
    engine::Services,
    lease::{JobError, Moment},
};

/// The right lasts as long as so many leases of a job without being renewed: far longer than a delete in a store takes.
const LEASES: i64 = 8;
/// It is renewed so often in that time.
const RENEWALS: u32 = 12;
/// Work ends after this time, so that what came meanwhile has its turn.
const TURN: Duration = Duration::from_secs(5 * 60);

/// The rights that this process has. When it stops, work ends wherever it is, and what is here then is given back: else nobody
/// could work on those places before they run out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rights(Arc<Mutex<Vec<Arc<Right>>>>);

#[derive(Debug)]
struct Right {
    lease: CopyLease,
    /// Whether deletes may be under way that nobody waits for any more.
    is_deleting: AtomicBool,
}

impl Rights {
    fn locked(&self) -> MutexGuard<'_, Vec<Arc<Right>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives back what is left when nobody works any more.
pub(in crate::reconcile) async fn give_back(services: &Services) {
    let left = mem::take(&mut *services.copy_rights.locked());
    for right in left.iter().filter(|right| !right.is_deleting.load(Ordering::Relaxed)) {
        if let Err(error) = services.catalog.copies().release(&right.lease).await {
            let region = &right.lease.region;
            tracing::warn!(%region, %error, "the right to the copies in {region} could not be given back; it runs out by itself: {error}");
        }
    }
}

/// The right to a place.
pub(super) struct Hold<'a> {
    services: &'a Services,
    pub(super) lease: CopyLease,
    began: Instant,
    right: Arc<Right>,
}

impl<'a> Hold<'a> {
    /// Takes it, unless somebody else has it.
    pub(super) async fn claim(services: &'a Services, region: &RegionName) -> Result<Option<Self>, JobError> {
        let lease = services.catalog.copies().claim(region, services.now(), lease_ms(services)).await?;
        Ok(lease.map(|lease| {
            let right = Arc::new(Right { lease: lease.clone(), is_deleting: AtomicBool::new(false) });
            services.copy_rights.locked().push(Arc::clone(&right));
            Self { services, lease, began: Instant::now(), right }
        }))
    }

    /// Whether somebody else should have a turn.
    pub(super) fn is_over(&self) -> bool {
        self.began.elapsed() >= TURN
    }

    /// Renews it; since when it surely holds.
    pub(super) async fn renewed(&self) -> Result<Moment, JobError> {
        let asking = Moment::now();
        let (now, lease_ms) = (self.services.now(), lease_ms(self.services));
        self.services.catalog.copies().renew(&self.lease, now, lease_ms).await?;
        Ok(asking)
    }

    /// What must not come late begins within this time after the right was renewed, or not at all.
    pub(super) fn within(&self) -> Duration {
        lease(self.services) / 3
    }

    /// Does what must not come late, and remembers if nobody knows how it ended.
    pub(super) async fn deleting<T>(
        &self,
        deletes: impl Future<Output = Result<T, JobError>>,
    ) -> Result<T, JobError> {
        self.right.is_deleting.store(true, Ordering::Relaxed);
        let done = deletes.await?;
        self.right.is_deleting.store(false, Ordering::Relaxed);
        Ok(done)
    }

    /// Works for as long as it can be renewed. Both go on side by side: what works may be what the renewal has to wait for.
    pub(super) async fn while_held<T>(
        &self,
        work: impl Future<Output = Result<T, JobError>>,
    ) -> Result<T, JobError> {
        tokio::select! {
            done = work => done,
            lost = self.renew_until_lost() => Err(lost),
        }
    }

    async fn renew_until_lost(&self) -> JobError {
        let mut held = Moment::now();
        loop {
            tokio::time::sleep(lease(self.services) / RENEWALS).await;
            match self.renewed().await {
                Ok(since) => held = since,
                Err(lost @ JobError::Lost) => return lost,
                // A database that is busy or away for a moment is no loss, as long as the right surely holds.
                Err(error) if held.elapsed() >= self.within() => return error,
                Err(_) => {}
            }
        }
    }

    /// Gives it back, unless something may still be under way: then it runs out.
    pub(super) async fn release(&self) -> Result<(), JobError> {
        self.services.copy_rights.locked().retain(|right| !Arc::ptr_eq(right, &self.right));
        if self.right.is_deleting.load(Ordering::Relaxed) {
            return Ok(());
        }
        Ok(self.services.catalog.copies().release(&self.lease).await?)
    }
}

fn lease_ms(services: &Services) -> i64 {
    services.settings.lease_ms.saturating_mul(LEASES)
}

fn lease(services: &Services) -> Duration {
    Duration::from_millis(lease_ms(services).unsigned_abs())
}
