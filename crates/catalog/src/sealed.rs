//! Texts that must not be shown: sealed with the master key or hashed before they came here.

use std::fmt;

use sqlx::query;

use crate::{Catalog, Error, Result, row::Columns};

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
