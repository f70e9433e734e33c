//! The secrets of a service account: two at most, so that one can take the place of the other without a gap.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{WallTime, id::AccountSecretId};

const HOUR_MS: i64 = 3_600_000;

/// How long a secret works from when it is made. Atlas: 8 hours to 365 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretHours(u16);

impl SecretHours {
    /// The fewest hours.
    pub const MIN: u16 = 8;
    /// The most hours: those of 365 days.
    pub const MAX: u16 = 8_760;

    /// So many hours, if a secret may work for so long.
    pub fn new(hours: i64) -> Option<Self> {
        u16::try_from(hours).ok().filter(|hours| (Self::MIN..=Self::MAX).contains(hours)).map(Self)
    }

    /// In milliseconds.
    pub fn milliseconds(self) -> i64 {
        i64::from(self.0) * HOUR_MS
    }
}

/// SHA-256 of a secret, in hexadecimal. Never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretHash(pub String);

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

/// One secret, without the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountSecret {
    /// Its id.
    pub id: AccountSecretId,
    /// What it is checked against.
    pub sha256: SecretHash,
    /// How it ends, so that people can tell one from the other; empty when that was not kept.
    #[serde(default)]
    pub ending: String,
    /// When it was made.
    pub created_at: WallTime,
    /// From when on it works no more; none for one that works until it is deleted or another one is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<WallTime>,
    /// When a token was last made with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<WallTime>,
}

impl AccountSecret {
    /// Whether tokens are still made with it.
    pub fn works_at(&self, now: WallTime) -> bool {
        self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

/// There are as many secrets already as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the service account has {max} secrets that work; delete the one that is not used any more first",
    max = AccountSecrets::MAX
)]
pub struct TooManySecrets;

/// The secrets of a service account, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountSecrets(Vec<AccountSecret>);

impl AccountSecrets {
    /// Most secrets that work at a time.
    pub const MAX: usize = 2;
    /// How long a secret still works, in milliseconds, once another one is made (Atlas: seven days).
    pub const REPLACED_MS: i64 = 7 * 24 * HOUR_MS;

    /// All of them, those that have expired too.
    pub fn all(&self) -> &[AccountSecret] {
        &self.0
    }

    /// Those that work.
    pub fn working(&self, now: WallTime) -> impl Iterator<Item = &AccountSecret> {
        self.0.iter().filter(move |secret| secret.works_at(now))
    }

    /// With one more. Those that have expired make way; what works goes on for a week at most.
    ///
    /// # Errors
    /// [`TooManySecrets`].
    pub fn with(&self, new: AccountSecret) -> Result<Self, TooManySecrets> {
        let now = new.created_at;
        let latest = now.plus_ms(Self::REPLACED_MS);
        let mut secrets: Vec<AccountSecret> = self.working(now).cloned().collect();
        if secrets.len() >= Self::MAX {
            return Err(TooManySecrets);
        }
        for secret in &mut secrets {
            secret.expires_at = Some(secret.expires_at.map_or(latest, |at| at.min(latest)));
        }
        secrets.push(new);
        Ok(Self(secrets))
    }

    /// Without one; none when it is not there.
    pub fn without(&self, id: AccountSecretId) -> Option<Self> {
        let left: Vec<_> = self.0.iter().filter(|secret| secret.id != id).cloned().collect();
        (left.len() < self.0.len()).then_some(Self(left))
    }

    /// After a token was made with one; none when it is not there or works no more.
    pub fn used(&self, id: AccountSecretId, now: WallTime) -> Option<Self> {
        let mut secrets = self.clone();
        let used = secrets.0.iter_mut().find(|secret| secret.id == id && secret.works_at(now))?;
        used.last_used_at = Some(now);
        Some(secrets)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn secret(number: u8, made_hours: i64, works_hours: Option<i64>) -> AccountSecret {
        let created_at = WallTime(made_hours * HOUR_MS);
        AccountSecret {
            id: AccountSecretId::from_bytes([number; 12]),
            sha256: SecretHash(format!("hash {number}")),
            ending: "abcd".to_owned(),
            created_at,
            expires_at: works_hours.map(|hours| created_at.plus_ms(hours * HOUR_MS)),
            last_used_at: None,
        }
    }

    fn ends(secrets: &AccountSecrets) -> Vec<Option<i64>> {
        secrets.all().iter().map(|secret| secret.expires_at.map(|at| at.0 / HOUR_MS)).collect()
    }

    #[test]
    fn a_new_secret_gives_the_old_one_a_week() {
        for (works, ends_at) in [(None, 268), (Some(8_760), 268), (Some(150), 150)] {
            let one = AccountSecrets::default().with(secret(1, 0, works)).unwrap();
            let two = one.with(secret(2, 100, Some(8_760))).unwrap();
            assert_eq!(ends(&two), [Some(ends_at), Some(8_860)]);
            assert_eq!(two.with(secret(3, 101, Some(8))), Err(TooManySecrets));
            // The first one has expired by then, and is forgotten.
            let three = two.with(secret(3, 300, Some(8))).unwrap();
            assert_eq!(ends(&three), [Some(468), Some(308)]);
        }
    }

    #[test]
    fn a_secret_works_until_it_expires_or_is_deleted() {
        let secrets = AccountSecrets::default().with(secret(1, 0, Some(8))).unwrap();
        let id = secrets.all()[0].id;
        let at = |hours: i64| WallTime(hours * HOUR_MS);
        assert_eq!((secrets.working(at(7)).count(), secrets.working(at(8)).count()), (1, 0));
        assert_eq!(secrets.used(id, at(7)).unwrap().all()[0].last_used_at, Some(at(7)));
        assert_eq!(secrets.used(id, at(8)), None);
        assert_eq!(secrets.used(AccountSecretId::from_bytes([9; 12]), at(7)), None);
        assert_eq!(secrets.without(id), Some(AccountSecrets::default()));
        assert_eq!(secrets.without(AccountSecretId::from_bytes([9; 12])), None);
    }

    #[test]
    fn what_is_kept_of_a_secret_is_read_back_and_not_printed() {
        let secrets = AccountSecrets::default().with(secret(1, 0, None)).unwrap();
        let kept = serde_json::to_string(&secrets).unwrap();
        assert_eq!(serde_json::from_str::<AccountSecrets>(&kept).unwrap(), secrets);
        assert!(!format!("{secrets:?}").contains("hash 1"));
        let of_before = r#"[{"id":"010101010101010101010101","sha256":"aa","createdAt":5}]"#;
        let read: AccountSecrets = serde_json::from_str(of_before).unwrap();
        assert_eq!((read.all()[0].created_at, read.all()[0].expires_at), (WallTime(5), None));
    }

    #[test]
    fn a_secret_works_for_eight_hours_to_a_year() {
        for hours in [8, 24, 8_760] {
            assert_eq!(SecretHours::new(hours).unwrap().milliseconds(), hours * HOUR_MS);
        }
        for hours in [i64::MIN, -8, 0, 7, 8_761, 65_544, i64::MAX] {
            assert_eq!(SecretHours::new(hours), None, "{hours}");
        }
    }
}
