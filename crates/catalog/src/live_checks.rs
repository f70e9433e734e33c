//! Live checks: how far a deployment is compared with what is recorded of it, and who is at it.
//!
//! A deployment is compared in rounds, each from its first collection to its last, in the order of their identities. The
//! holder of the lease ([`LiveChecks::claim`]) tells after each range what comes next, so whoever comes after goes on there.

use std::{fmt, str::FromStr};

use model::{CollectionUuid, WallTime, id::DeploymentId};
use sqlx::{any::AnyRow, query};

use crate::{
    Catalog, Error, Result,
    row::{Columns, plain, stored},
};

/// What is compared next: everything from a key of a collection on, and all collections after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivePlace {
    /// The collection.
    pub collection: CollectionUuid,
    /// The key; none at the beginning of the collection.
    pub key: Option<Vec<u8>>,
}

impl fmt::Display for LivePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.collection)?;
        if let Some(key) = &self.key {
            f.write_str(":")?;
            key.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        Ok(())
    }
}

impl FromStr for LivePlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (collection, key) = match text.split_once(':') {
            Some((collection, key)) => (collection, Some(key)),
            None => (text, None),
        };
        let refused = || format!("{text:?} is no place in a deployment");
        let collection = collection.parse().map_err(|_| refused())?;
        let key = key.map(|key| bytes(key).ok_or_else(refused)).transpose()?;
        Ok(Self { collection, key })
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    if !hex.is_ascii() || !hex.len().is_multiple_of(2) {
        return None;
    }
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect()
}

/// How the comparison of a deployment stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveRound {
    /// When the round began.
    pub began_at: WallTime,
    /// What is compared next; none when the round is through.
    pub next: Option<LivePlace>,
    /// Documents that were compared in it.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the last round that went through did.
    pub completed_at: Option<WallTime>,
}

impl LiveRound {
    /// A round that begins.
    pub const fn begin(now: WallTime, completed_at: Option<WallTime>) -> Self {
        let next = Some(LivePlace { collection: CollectionUuid::FIRST, key: None });
        Self { began_at: now, next, documents: 0, bytes: 0, completed_at }
    }
}

/// The right to compare a deployment: one holder at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveLease {
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// The fencing token: every write carries it.
    pub epoch: i64,
}

/// Operations on live checks.
#[derive(Debug, Clone, Copy)]
pub struct LiveChecks<'a>(pub(crate) &'a Catalog);

impl LiveChecks<'_> {
    /// How the comparison of a deployment stands; nothing when it never began.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn of(&self, deployment: DeploymentId) -> Result<Option<LiveRound>> {
        let row = query(
            "SELECT round_began_at, next_place, documents, bytes, completed_at FROM live_checks WHERE deployment_id = $1",
        )
        .bind(deployment.to_string())
        .fetch_optional(self.0.database.reader())
        .await?;
        row.as_ref().map(round).transpose()
    }

    /// Claims the comparison of a deployment if nobody holds it, together with how it stands. What never began begins.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn claim(
        &self,
        deployment: DeploymentId,
        owner: &str,
        now: WallTime,
        lease_ms: i64,
    ) -> Result<Option<(LiveLease, LiveRound)>> {
        let first = LiveRound::begin(now, None);
        let row = query(
            "INSERT INTO live_checks (deployment_id, lease_owner, lease_until, lease_epoch, round_began_at, next_place, \
             documents, bytes) VALUES ($1, $2, $3, 1, $4, $5, 0, 0) \
             ON CONFLICT (deployment_id) DO UPDATE SET lease_owner = excluded.lease_owner, \
             lease_until = excluded.lease_until, lease_epoch = live_checks.lease_epoch + 1 \
             WHERE live_checks.lease_until <= $4 \
             RETURNING lease_epoch, round_began_at, next_place, documents, bytes, completed_at",
        )
        .bind(deployment.to_string())
        .bind(plain(owner))
        .bind(now.plus_ms(lease_ms).0)
        .bind(now.0)
        .bind(first.next.as_ref().map(ToString::to_string))
        .fetch_optional(self.0.database.writer())
        .await?;
        row.map(|row| {
            Ok((LiveLease { deployment_id: deployment, epoch: row.int("lease_epoch")? }, round(&row)?))
        })
        .transpose()
    }

    /// Tells how the comparison stands, and renews the lease.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    pub async fn save(
        &self,
        lease: &LiveLease,
        round: &LiveRound,
        now: WallTime,
        lease_ms: i64,
    ) -> Result<()> {
        let done = query(
            "UPDATE live_checks SET lease_until = $3, round_began_at = $4, next_place = $5, documents = $6, bytes = $7, \
             completed_at = $8 WHERE deployment_id = $1 AND lease_epoch = $2 AND lease_owner IS NOT NULL",
        )
        .bind(lease.deployment_id.to_string())
        .bind(lease.epoch)
        .bind(now.plus_ms(lease_ms).0)
        .bind(round.began_at.0)
        .bind(round.next.as_ref().map(ToString::to_string))
        .bind(stored(round.documents))
        .bind(stored(round.bytes))
        .bind(round.completed_at.map(|at| at.0))
        .execute(self.0.database.writer())
        .await?;
        held(lease, done.rows_affected())
    }

    /// Renews the lease.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    pub async fn renew(&self, lease: &LiveLease, now: WallTime, lease_ms: i64) -> Result<()> {
        let done = query(
            "UPDATE live_checks SET lease_until = $3 WHERE deployment_id = $1 AND lease_epoch = $2 \
             AND lease_owner IS NOT NULL",
        )
        .bind(lease.deployment_id.to_string())
        .bind(lease.epoch)
        .bind(now.plus_ms(lease_ms).0)
        .execute(self.0.database.writer())
        .await?;
        held(lease, done.rows_affected())
    }

    /// Gives the lease back: it can be claimed at once.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    pub async fn release(&self, lease: &LiveLease) -> Result<()> {
        // The epoch moves on, so that whoever gave it back cannot write by mistake before somebody else takes it.
        // No time of ours is written: where our clock is ahead of others', they would wait for it.
        let done = query(
            "UPDATE live_checks SET lease_owner = NULL, lease_until = 0, lease_epoch = lease_epoch + 1 \
             WHERE deployment_id = $1 AND lease_epoch = $2",
        )
        .bind(lease.deployment_id.to_string())
        .bind(lease.epoch)
        .execute(self.0.database.writer())
        .await?;
        held(lease, done.rows_affected())
    }
}

fn held(lease: &LiveLease, rows: u64) -> Result<()> {
    if rows == 0 {
        Err(Error::LeaseLost { what: format!("the live check of deployment {}", lease.deployment_id) })
    } else {
        Ok(())
    }
}

fn round(row: &AnyRow) -> Result<LiveRound> {
    Ok(LiveRound {
        began_at: row.time("round_began_at")?,
        next: row.maybe_parsed("next_place")?,
        documents: row.count("documents")?,
        bytes: row.count("bytes")?,
        completed_at: row.maybe_time("completed_at")?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        for key in [None, Some(vec![]), Some(vec![0, 0x7F, 0xFF])] {
            let place = LivePlace { collection: CollectionUuid([0xA5; 16]), key };
            assert_eq!(place.to_string().parse::<LivePlace>().unwrap(), place);
        }
        for wrong in [
            "",
            ":",
            "a5",
            "zz",
            &format!("{}:0", CollectionUuid([1; 16])),
            &format!("{}:é", CollectionUuid([1; 16])),
        ] {
            assert!(wrong.parse::<LivePlace>().is_err(), "{wrong}");
        }
    }
}
