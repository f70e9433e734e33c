//! Texts that must not be shown: sealed with the master key or hashed before they came here.

use std::fmt;

use serde_json::Value;
use sqlx::{Any, Transaction, query};

use crate::{
    Catalog, Error, Result,
    row::{Columns, to_json},
};

/// Where an archive's record keeps the sealed token of its link.
const TOKEN: &str = "tokenSealed";

/// A sealed or hashed secret. Opaque here; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(pub String);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(…)")
    }
}

/// What a sealed value of the catalog is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SealedKind {
    /// A deployment's connection string; the id is the deployment's.
    DeploymentUri,
    /// An API key's HA1; the id is the credential's.
    ApiKeyHa1,
    /// The token of a download's link; the id is the restore job's.
    DownloadToken,
}

/// One value that is sealed with the master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedValue {
    /// What it is.
    pub kind: SealedKind,
    /// Whose it is, as text.
    pub id: String,
    /// The sealed text.
    pub sealed: Sealed,
}

impl Catalog {
    /// Everything that is sealed with the master key, for its rotation.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn sealed_values(&self) -> Result<Vec<SealedValue>> {
        let mut values = Vec::new();
        for (kind, select) in [
            (
                SealedKind::DeploymentUri,
                "SELECT id, uri_sealed AS sealed FROM deployments WHERE uri_sealed <> ''",
            ),
            (SealedKind::ApiKeyHa1, "SELECT id, secret AS sealed FROM credentials WHERE kind = 'apiKey'"),
        ] {
            for row in query(select).fetch_all(self.database.reader()).await? {
                values.push(SealedValue { kind, id: row.text("id")?, sealed: Sealed(row.text("sealed")?) });
            }
        }
        let archives = query("SELECT id, archive FROM restore_jobs WHERE archive IS NOT NULL ORDER BY id");
        for row in archives.fetch_all(self.database.reader()).await? {
            if let Some(token) = row.json::<Value>("archive")?[TOKEN].as_str() {
                let sealed = Sealed(token.to_owned());
                values.push(SealedValue { kind: SealedKind::DownloadToken, id: row.text("id")?, sealed });
            }
        }
        Ok(values)
    }

    /// Replaces sealed values (`(old, new)` pairs) in one transaction: all or, when one of them has changed in
    /// the meantime, none.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] when a value is no longer what `old` says; begin again.
    pub async fn replace_sealed(&self, changes: &[(SealedValue, Sealed)]) -> Result<()> {
        let mut transaction = self.database.begin().await?;
        for (old, new) in changes {
            let (what, update) = match old.kind {
                SealedKind::DeploymentUri => {
                    ("deployment", "UPDATE deployments SET uri_sealed = $3 WHERE id = $1 AND uri_sealed = $2")
                }
                SealedKind::ApiKeyHa1 => (
                    "API key",
                    "UPDATE credentials SET secret = $3 WHERE id = $1 AND kind = 'apiKey' AND secret = $2",
                ),
                SealedKind::DownloadToken => {
                    replace_token(&mut transaction, old, new).await?;
                    continue;
                }
            };
            let done = query(update)
                .bind(&old.id)
                .bind(&old.sealed.0)
                .bind(&new.0)
                .execute(&mut *transaction)
                .await?;
            if done.rows_affected() == 0 {
                return Err(Error::not_found(what, &old.id));
            }
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// The token lies inside the archive's record, which no SQL of both databases reaches into.
async fn replace_token(
    transaction: &mut Transaction<'_, Any>,
    old: &SealedValue,
    new: &Sealed,
) -> Result<()> {
    let gone = || Error::not_found("download link", &old.id);
    let row = query("SELECT archive FROM restore_jobs WHERE id = $1 AND archive IS NOT NULL")
        .bind(&old.id)
        .fetch_optional(&mut **transaction)
        .await?;
    let mut archive: Value = row.ok_or_else(gone)?.json("archive")?;
    if archive[TOKEN].as_str() != Some(&old.sealed.0) {
        return Err(gone());
    }
    archive[TOKEN] = new.0.as_str().into();
    query("UPDATE restore_jobs SET archive = $2 WHERE id = $1")
        .bind(&old.id)
        .bind(to_json(&archive))
        .execute(&mut **transaction)
        .await?;
    Ok(())
}
