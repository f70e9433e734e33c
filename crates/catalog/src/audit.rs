//! The audit log: who did what to what, and how it ended. Never a secret, never a read.

use model::WallTime;
use serde_json::Value;
use sqlx::{any::AnyRow, query};

use crate::{
    Catalog, Listing, Page, Result, new_id,
    row::{Columns, plain, to_json},
};

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// When.
    pub at: WallTime,
    /// Who: a credential's public name, or `admin` for the command line on the data directory.
    pub who: String,
    /// What was done, such as `restore.create`.
    pub action: String,
    /// To what, such as an id.
    pub subject: String,
    /// How it ended: `ok` or an error code.
    pub outcome: String,
    /// Whatever else is worth keeping.
    pub detail: Value,
}

/// Operations on the audit log.
#[derive(Debug, Clone, Copy)]
pub struct Audit<'a>(pub(crate) &'a Catalog);

impl Audit<'_> {
    /// Appends an entry.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn append(&self, entry: &AuditEntry) -> Result<()> {
        query(
            "INSERT INTO audit (id, at, who, action, subject, outcome, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(new_id::<AuditEntry>(entry.at).to_string())
        .bind(entry.at.0)
        .bind(plain(&entry.who))
        .bind(plain(&entry.action))
        .bind(plain(&entry.subject))
        .bind(plain(&entry.outcome))
        .bind(to_json(&entry.detail))
        .execute(self.0.database.writer())
        .await?;
        Ok(())
    }

    /// The log, newest first.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn list(&self, page: Page) -> Result<Listing<AuditEntry>> {
        let rows = query(
            "SELECT at, who, action, subject, outcome, detail FROM audit ORDER BY at DESC, id DESC LIMIT $1 OFFSET $2",
        )
        .bind(page.limit())
        .bind(page.offset())
        .fetch_all(self.0.database.reader())
        .await?;
        let total = self.0.total(page, query("SELECT COUNT(*) AS total FROM audit")).await?;
        Ok(Listing { items: rows.iter().map(entry).collect::<Result<_>>()?, total })
    }
}

fn entry(row: &AnyRow) -> Result<AuditEntry> {
    Ok(AuditEntry {
        at: row.time("at")?,
        who: row.text("who")?,
        action: row.text("action")?,
        subject: row.text("subject")?,
        outcome: row.text("outcome")?,
        detail: row.json("detail")?,
    })
}
