//! OAuth access tokens. Only their hashes are here.

use model::{
    WallTime,
    id::{AccountSecretId, CredentialId},
};

use sqlx::query;

use crate::{
    Catalog, Credential, Error, Result,
    credentials::{COLUMNS, WITH_GRANTS, credentials, secrets_held, set_secrets},
    row::statement,
};

/// A token to remember.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// SHA-256 of the token, in hexadecimal.
    pub sha256: String,
    /// Whose it is.
    pub credential_id: CredentialId,
    /// With which of its secrets it was made; it ends with it.
    pub secret_id: AccountSecretId,
    /// When it stops working.
    pub expires_at: WallTime,
}

/// Operations on tokens.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a>(pub(crate) &'a Catalog);

impl Tokens<'_> {
    /// Remembers a token, and when its secret was used, and forgets tokens that have expired.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] when the service account is gone, or its secret is gone or works no more.
    pub async fn insert(&self, new: &NewToken, now: WallTime) -> Result<()> {
        let mut transaction = self.0.database.begin().await?;
        let secrets = secrets_held(&mut transaction, new.credential_id).await?;
        let secrets = secrets.used(new.secret_id, now);
        let secrets = secrets.ok_or_else(|| Error::not_found("secret", new.secret_id))?;
        set_secrets(&mut transaction, new.credential_id, &secrets).await?;
        query("INSERT INTO tokens (sha256, credential_id, secret_id, expires_at) VALUES ($1, $2, $3, $4)")
            .bind(&new.sha256)
            .bind(new.credential_id.to_string())
            .bind(new.secret_id.to_string())
            .bind(new.expires_at.0)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        self.delete_expired(now).await?;
        Ok(())
    }

    /// Whose token this is, with the roles, unless it is unknown, revoked or expired. One statement.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn credential(&self, sha256: &str, now: WallTime) -> Result<Option<Credential>> {
        let rows = statement(format!(
            "SELECT {COLUMNS} FROM {WITH_GRANTS} JOIN tokens t ON t.credential_id = c.id \
             WHERE t.sha256 = $1 AND t.expires_at > $2"
        ))
        .bind(sha256)
        .bind(now.0)
        .fetch_all(self.0.database.reader())
        .await?;
        Ok(credentials(&rows)?.pop())
    }

    /// Revokes a token of that credential; `false` when there is none.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn revoke(&self, sha256: &str, credential: CredentialId) -> Result<bool> {
        let done = query("DELETE FROM tokens WHERE sha256 = $1 AND credential_id = $2")
            .bind(sha256)
            .bind(credential.to_string())
            .execute(self.0.database.writer())
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Forgets expired tokens; how many.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn delete_expired(&self, now: WallTime) -> Result<u64> {
        let done = query("DELETE FROM tokens WHERE expires_at <= $1")
            .bind(now.0)
            .execute(self.0.database.writer())
            .await?;
        Ok(done.rows_affected())
    }
}
