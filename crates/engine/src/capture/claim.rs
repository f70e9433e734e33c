//! Claiming what nobody captures.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use catalog::{Capture, CaptureLease};
use model::{WallTime, id::DeploymentId};

use crate::engine::Services;

/// Leases that end later than their holder could have meant by our clock, as they were seen first. Whoever wrote one and has died had
/// a clock that was ahead, and would keep everybody waiting until ours is there.
#[derive(Debug, Default)]
pub(super) struct Claims {
    ahead: HashMap<DeploymentId, (WallTime, Instant)>,
}

impl Claims {
    /// Claims a capture that nobody holds.
    pub(super) async fn claim(&mut self, services: &Services, id: DeploymentId) -> Option<CaptureLease> {
        let claimed = self.try_claim(services, id).await;
        claimed.unwrap_or_else(|error| {
            tracing::warn!(deployment.id = %id, error = %error, "the capture of {id} cannot be claimed: {error}");
            None
        })
    }

    async fn try_claim(
        &mut self,
        services: &Services,
        id: DeploymentId,
    ) -> catalog::Result<Option<CaptureLease>> {
        let (timelines, settings) = (services.catalog.timelines(), &services.settings);
        let (owner, lease_ms) = (&settings.worker_name, settings.lease_ms);
        if let Some(lease) = timelines.claim(id, owner, services.now(), lease_ms).await? {
            self.ahead.remove(&id);
            return Ok(Some(lease));
        }
        let Some(capture) = timelines.capture(id).await? else { return Ok(None) };
        if !self.is_abandoned(&capture, services.now(), lease_ms, Instant::now()) {
            return Ok(None);
        }
        let taken = timelines.take_over(&capture, owner, services.now(), lease_ms).await?;
        if taken.is_some() {
            self.ahead.remove(&id);
            tracing::warn!(deployment.id = %id, "the capture of {id} is taken over: nobody has renewed its lease, which was given by a clock that was ahead");
        }
        Ok(taken)
    }

    /// Whether a lease that ends far ahead of our clock has not been renewed for as long as two of ours last.
    fn is_abandoned(&mut self, capture: &Capture, now: WallTime, lease_ms: i64, at: Instant) -> bool {
        let (id, until) = (capture.deployment_id, capture.lease_until);
        let patience_ms = lease_ms.saturating_mul(2);
        if until <= now.plus_ms(patience_ms) {
            self.ahead.remove(&id);
            return false;
        }
        let seen = self.ahead.entry(id).or_insert((until, at));
        if seen.0 != until {
            *seen = (until, at);
        }
        at.duration_since(seen.1) > Duration::from_millis(patience_ms.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const NOW: WallTime = WallTime(1_763_769_600_000);
    const LEASE_MS: i64 = 30_000;
    const HOUR_MS: i64 = 3_600_000;

    fn held_until(until: WallTime) -> Capture {
        Capture {
            deployment_id: DeploymentId::from_bytes([1; 12]),
            owner: Some("other".to_owned()),
            lease_until: until,
            status: Value::Null,
            updated_at: NOW,
        }
    }

    #[test]
    fn only_what_nobody_renews_is_abandoned() {
        let (mut claims, start) = (Claims::default(), Instant::now());
        let mut look = |until: WallTime, seconds: u64| {
            let now = NOW.plus_ms(1000 * i64::try_from(seconds).unwrap_or_default());
            claims.is_abandoned(&held_until(until), now, LEASE_MS, start + Duration::from_secs(seconds))
        };
        let ahead = NOW.plus_ms(8 * HOUR_MS);
        // Somebody with a clock that is ahead, and who lives.
        for seconds in (0..600).step_by(10) {
            assert!(!look(ahead.plus_ms(1000 * i64::try_from(seconds).unwrap_or_default()), seconds));
        }
        // And who died then.
        assert!(!look(ahead, 600) && !look(ahead, 660) && look(ahead, 661));
        // One that runs out is waited for.
        let soon = NOW.plus_ms(700_000 + LEASE_MS);
        assert!(!look(soon, 700) && !look(soon, 765));
    }
}
