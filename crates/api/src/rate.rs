//! Rate limits: one token bucket per project and endpoint set, told in the headers of every answer; and one per asker of
//! access tokens.

use std::{collections::HashMap, net::IpAddr, sync::Mutex};

use http::{HeaderMap, HeaderName, HeaderValue, header::RETRY_AFTER};
use model::WallTime;
use serde::{Deserialize, Serialize};

use crate::error::{Answer, Code, Problem};

/// Buckets remembered; the fullest are forgotten first, since a new bucket is a full one.
const BUCKETS_MAX: usize = 10_000;

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");

/// Size and refill of one kind of bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bucket {
    /// Requests that a full bucket allows at once.
    pub capacity: u32,
    /// Requests regained per period.
    pub refill: u32,
    /// The period in seconds.
    pub period_seconds: u32,
}

impl Bucket {
    /// A bucket that is refilled by the minute, as those of Atlas are.
    pub const fn per_minute(capacity: u32, refill: u32) -> Self {
        Self { capacity, refill, period_seconds: 60 }
    }
}

/// The limits that Atlas documents, per project, and that of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RateLimits {
    /// Snapshots and restore jobs.
    pub backups: Bucket,
    /// Everything else.
    pub clusters: Bucket,
    /// Requests for access tokens, and to revoke one: per service account, and per address for whoever is none.
    pub tokens: Bucket,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            backups: Bucket::per_minute(1_200, 500),
            clusters: Bucket::per_minute(10_000, 5_000),
            tokens: Bucket::per_minute(60, 60),
        }
    }
}

/// Which bucket an operation draws from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Set {
    Backups,
    Clusters,
    Tokens,
}

/// Whose bucket it is. A stranger to a project draws from a bucket of its own, so that nobody can use up
/// the allowance of a project that it has no role in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    Project(model::id::ProjectId),
    Credential(model::id::CredentialId),
    /// Somebody who did not prove to be anybody.
    Address(IpAddr),
}

/// All buckets of this process.
pub(crate) struct Limiter {
    limits: RateLimits,
    levels: Mutex<HashMap<(Set, Owner), Level>>,
}

#[derive(Clone, Copy)]
struct Level {
    tokens: f64,
    at: WallTime,
}

/// What is left after a request was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowance {
    capacity: u32,
    remaining: u32,
}

impl Allowance {
    /// Tells it in headers.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(LIMIT, HeaderValue::from(self.capacity));
        headers.insert(REMAINING, HeaderValue::from(self.remaining));
    }
}

impl Limiter {
    pub(crate) fn new(limits: RateLimits) -> Self {
        Self { limits, levels: Mutex::new(HashMap::new()) }
    }

    /// Takes one token, or answers 429.
    pub(crate) fn take(&self, set: Set, owner: Owner, path: &str, now: WallTime) -> Answer<Allowance> {
        let bucket = match set {
            Set::Backups => self.limits.backups,
            Set::Clusters => self.limits.clusters,
            Set::Tokens => self.limits.tokens,
        };
        let mut levels = self.levels.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if levels.len() >= BUCKETS_MAX {
            shrink(&mut levels);
        }
        let full = Level { tokens: f64::from(bucket.capacity), at: now };
        let level = levels.entry((set, owner)).or_insert(full);
        let rate = f64::from(bucket.refill) / f64::from(bucket.period_seconds.max(1));
        let elapsed = (now.0 - level.at.0).max(0) as f64 / 1000.0;
        level.tokens = (level.tokens + elapsed * rate).min(f64::from(bucket.capacity));
        level.at = now;
        if level.tokens >= 1.0 {
            level.tokens -= 1.0;
            return Ok(Allowance { capacity: bucket.capacity, remaining: level.tokens as u32 });
        }
        let wait_seconds = if rate > 0.0 { ((1.0 - level.tokens) / rate).ceil() as u32 } else { u32::MAX };
        Err(refuse(bucket, wait_seconds.max(1), path))
    }
}

fn refuse(bucket: Bucket, wait_seconds: u32, path: &str) -> Problem {
    Problem::new(Code::RateLimited)
        .with(path.trim_start_matches('/'))
        .with(wait_seconds)
        .with(bucket.capacity)
        .with(bucket.refill)
        .with(bucket.period_seconds)
        .header(RETRY_AFTER, HeaderValue::from(wait_seconds))
        .header(LIMIT, HeaderValue::from(bucket.capacity))
        .header(REMAINING, HeaderValue::from(0))
}

/// Forgets the fuller half: to forget a bucket is to fill it.
fn shrink(levels: &mut HashMap<(Set, Owner), Level>) {
    let mut tokens: Vec<f64> = levels.values().map(|level| level.tokens).collect();
    tokens.sort_by(f64::total_cmp);
    let median = tokens[tokens.len() / 2];
    levels.retain(|_, level| level.tokens < median);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use model::id::ProjectId;

    fn owner(n: u8) -> Owner {
        Owner::Project(ProjectId::from_parts(0, [n; 8]))
    }

    fn limiter() -> Limiter {
        let bucket = Bucket::per_minute(10, 5);
        Limiter::new(RateLimits { backups: bucket, clusters: bucket, tokens: bucket })
    }

    #[test]
    fn the_429_is_the_recorded_one() {
        let limiter = limiter();
        for left in (0..10).rev() {
            let allowance = limiter.take(Set::Backups, owner(1), "/api/atlas/v2/orgs", WallTime(0)).unwrap();
            assert_eq!(allowance, Allowance { capacity: 10, remaining: left });
        }
        let problem = limiter.take(Set::Backups, owner(1), "/api/atlas/v2/orgs", WallTime(0)).unwrap_err();
        assert_eq!(
            problem.detail(),
            "Rate limit exceeded for api/atlas/v2/orgs. Please retry after 12 seconds. Request capacity: 10. Refill rate: 5 per 60 seconds."
        );
        assert_eq!(problem.body()["parameters"], serde_json::json!(["api/atlas/v2/orgs", 12, 10, 5, 60]));
        let told: HeaderMap = problem.headers().iter().cloned().collect();
        assert_eq!(
            (&told["retry-after"], &told["ratelimit-remaining"]),
            (&"12".parse().unwrap(), &"0".parse().unwrap())
        );
    }

    #[test]
    fn a_bucket_fills_again_and_others_are_untouched() {
        let limiter = limiter();
        for _ in 0..10 {
            limiter.take(Set::Backups, owner(1), "", WallTime(0)).unwrap();
        }
        assert!(limiter.take(Set::Backups, owner(2), "", WallTime(0)).is_ok());
        assert!(limiter.take(Set::Clusters, owner(1), "", WallTime(0)).is_ok());
        assert!(limiter.take(Set::Backups, owner(1), "", WallTime(11_000)).is_err());
        assert!(limiter.take(Set::Backups, owner(1), "", WallTime(13_000)).is_ok());
        assert!(limiter.take(Set::Backups, owner(1), "", WallTime(13_001)).is_err());
    }

    #[test]
    fn the_table_stays_bounded() {
        let limiter = limiter();
        for n in 0..BUCKETS_MAX as u64 * 2 {
            let id = ProjectId::from_parts(0, n.to_be_bytes());
            limiter.take(Set::Backups, Owner::Project(id), "", WallTime(0)).unwrap();
        }
        assert!(limiter.levels.lock().unwrap().len() <= BUCKETS_MAX);
    }
}
