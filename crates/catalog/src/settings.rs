//! Facts about this server that outlive its process.

use sqlx::query;

use crate::{Catalog, Result, row::Columns};

/// Operations on settings.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a>(pub(crate) &'a Catalog);

impl Settings<'_> {
    /// The value of a key.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn get(&self, key: &str) -> Result<Option<String>> {
        let row = query("SELECT value FROM settings WHERE key = $1")
            .bind(key)
            .fetch_optional(self.0.database.reader())
            .await?;
        row.map(|row| row.text("value")).transpose()
    }

    /// Sets a key.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn set(&self, key: &str, value: &str) -> Result<()> {
        query("INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
            .bind(key)
            .bind(value)
            .execute(self.0.database.writer())
            .await?;
        Ok(())
    }

    /// Sets a key unless it is set, and returns what it is set to: whoever comes first decides. Should the key be removed
    /// meanwhile, that is `value`.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn get_or_set(&self, key: &str, value: &str) -> Result<String> {
        query("INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING")
            .bind(key)
            .bind(value)
            .execute(self.0.database.writer())
            .await?;
        Ok(self.get(key).await?.unwrap_or_else(|| value.to_owned()))
    }

    /// Sets a key that is set to `old`; nothing happens otherwise.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn replace(&self, key: &str, old: &str, new: &str) -> Result<()> {
        query("UPDATE settings SET value = $3 WHERE key = $1 AND value = $2")
            .bind(key)
            .bind(old)
            .bind(new)
            .execute(self.0.database.writer())
            .await?;
        Ok(())
    }

    /// Forgets a key; it may be unset already.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn remove(&self, key: &str) -> Result<()> {
        query("DELETE FROM settings WHERE key = $1").bind(key).execute(self.0.database.writer()).await?;
        Ok(())
    }
}
