//! The right to work on a place, renewed while work goes on.

use std::{
    sync::atomic::{AtomicBool, Ordering},
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

/// The right to a place.
pub(super) struct Hold<'a> {
    services: &'a Services,
    pub(super) lease: CopyLease,
    began: Instant,
    /// Whether deletes may be under way that nobody waits for any more.
    is_deleting: AtomicBool,
}

impl<'a> Hold<'a> {
    /// Takes it, unless somebody else has it.
    pub(super) async fn claim(services: &'a Services, region: &RegionName) -> Result<Option<Self>, JobError> {
        let lease = services.catalog.copies().claim(region, services.now(), lease_ms(services)).await?;
        Ok(lease.map(|lease| Self {
            services,
            lease,
            began: Instant::now(),
            is_deleting: AtomicBool::new(false),
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
        self.is_deleting.store(true, Ordering::Relaxed);
        let done = deletes.await?;
        self.is_deleting.store(false, Ordering::Relaxed);
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
        if self.is_deleting.load(Ordering::Relaxed) {
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
