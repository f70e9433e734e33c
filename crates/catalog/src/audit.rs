//! The audit log: who did what to what, from where, and how it ended. Never a secret, never a read.
//!
//! A line is begun before the change that it tells of, and concluded after it. Whatever happens in between, no change is made
//! that the log says nothing about: at worst it says that it does not know how the change ended.

use std::str::FromStr;

use model::{Id, WallTime, id::ProjectId};
use serde_json::Value;
use sqlx::{any::AnyRow, query};

use crate::{
    Catalog, Listing, Page, Result, new_id,
    row::{Columns, plain, statement, to_json},
};

const COLUMNS: &str = "id, at, who, origin, operation, resource, project_id, action, subject, outcome, status, error_code, detail";

/// How what a line tells of ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditOutcome {
    /// It was begun, and nobody could tell any more how it ended.
    Unknown,
    /// The change was made.
    Ok,
    /// It was let in, and there was nothing to change.
    Unchanged,
    /// It was not let in, and nothing was changed.
    Refused,
    /// It could not be done.
    Failed,
}

impl AuditOutcome {
    const ALL: [Self; 5] = [Self::Unknown, Self::Ok, Self::Unchanged, Self::Refused, Self::Failed];

    /// In a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ok => "ok",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl FromStr for AuditOutcome {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|outcome| outcome.as_str() == text);
        found.ok_or_else(|| format!("unknown outcome {text:?}"))
    }
}

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// Its own id.
    pub id: Id<Self>,
    /// When it was asked for.
    pub at: WallTime,
    /// Who: a credential's public name, or `admin` with the account of the system that ran a command on the data directory.
    pub who: String,
    /// From where: an address, or the name of the machine that the command ran on.
    pub origin: String,
    /// Which operation of the API, or which command.
    pub operation: String,
    /// What was addressed: the path of the request.
    pub resource: String,
    /// The project that it concerns.
    pub project: Option<ProjectId>,
    /// What was done, such as `restore.create`; empty when nothing was.
    pub action: String,
    /// To what, such as an id; empty when nothing was done.
    pub subject: String,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// The HTTP status of the answer.
    pub status: Option<u16>,
    /// The `errorCode` of the answer.
    pub error_code: Option<String>,
    /// Whatever else is worth keeping.
    pub detail: Value,
}

impl AuditEntry {
    /// A line about something that is about to be done.
    pub fn begun(at: WallTime, who: &str, origin: &str, operation: &str) -> Self {
        Self {
            id: new_id(at),
            at,
            who: who.to_owned(),
            origin: origin.to_owned(),
            operation: operation.to_owned(),
            resource: String::new(),
            project: None,
            action: String::new(),
            subject: String::new(),
            outcome: AuditOutcome::Unknown,
            status: None,
            error_code: None,
            detail: Value::Object(serde_json::Map::new()),
        }
    }
}

/// Which lines are wanted.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Those that concern this project.
    pub project: Option<ProjectId>,
    /// Those of this operation.
    pub operation: Option<String>,
    /// Not before this time.
    pub from: Option<WallTime>,
    /// Before this time.
    pub until: Option<WallTime>,
}

/// Operations on the audit log.
#[derive(Debug, Clone, Copy)]
pub struct Audit<'a>(pub(crate) &'a Catalog);

impl Audit<'_> {
    /// Appends a line.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn append(&self, entry: &AuditEntry) -> Result<()> {
        statement(format!(
            "INSERT INTO audit ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
        ))
        .bind(entry.id.to_string())
        .bind(entry.at.0)
        .bind(plain(&entry.who))
        .bind(plain(&entry.origin))
        .bind(plain(&entry.operation))
        .bind(plain(&entry.resource))
        .bind(entry.project.map(|id| id.to_string()).unwrap_or_default())
        .bind(plain(&entry.action))
        .bind(plain(&entry.subject))
        .bind(entry.outcome.as_str())
        .bind(i64::from(entry.status.unwrap_or_default()))
        .bind(plain(entry.error_code.as_deref().unwrap_or_default()))
        .bind(to_json(&entry.detail))
        .execute(self.0.database.writer())
        .await?;
        Ok(())
    }

    /// Writes how a line ended. What it said of who, when and from where stays.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn conclude(&self, entry: &AuditEntry) -> Result<()> {
        query(
            "UPDATE audit SET project_id = $2, action = $3, subject = $4, outcome = $5, status = $6, error_code = $7, \
             detail = $8 WHERE id = $1",
        )
        .bind(entry.id.to_string())
        .bind(entry.project.map(|id| id.to_string()).unwrap_or_default())
        .bind(plain(&entry.action))
        .bind(plain(&entry.subject))
        .bind(entry.outcome.as_str())
        .bind(i64::from(entry.status.unwrap_or_default()))
        .bind(plain(entry.error_code.as_deref().unwrap_or_default()))
        .bind(to_json(&entry.detail))
        .execute(self.0.database.writer())
        .await?;
        Ok(())
    }

    /// Takes a line back that was begun, when nothing was done that has to be told.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn withdraw(&self, id: Id<AuditEntry>) -> Result<()> {
        query("DELETE FROM audit WHERE id = $1 AND outcome = 'unknown'")
            .bind(id.to_string())
            .execute(self.0.database.writer())
            .await?;
        Ok(())
    }

    /// The log, newest first.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn list(&self, filter: &AuditFilter, page: Page) -> Result<Listing<AuditEntry>> {
        let mut wanted = String::from("FROM audit WHERE at >= $1 AND at < $2");
        let texts = [
            ("project_id", filter.project.map(|id| id.to_string())),
            ("operation", filter.operation.as_deref().map(plain)),
        ];
        let texts = texts.into_iter().filter_map(|(column, text)| Some((column, text?)));
        let (columns, values): (Vec<&str>, Vec<String>) = texts.unzip();
        for (number, column) in columns.iter().enumerate() {
            wanted.push_str(&format!(" AND {column} = ${}", number + 3));
        }
        let (from, until) =
            (filter.from.unwrap_or(WallTime(i64::MIN)), filter.until.unwrap_or(WallTime(i64::MAX)));
        let bound = |sql: String| {
            let times = statement(sql).bind(from.0).bind(until.0);
            values.iter().fold(times, |statement, value| statement.bind(value.clone()))
        };
        let place = values.len() + 3;
        let rows = bound(format!(
            "SELECT {COLUMNS} {wanted} ORDER BY at DESC, id DESC LIMIT ${place} OFFSET ${}",
            place + 1
        ))
        .bind(page.limit())
        .bind(page.offset())
        .fetch_all(self.0.database.reader())
        .await?;
        let total = self.0.total(page, bound(format!("SELECT COUNT(*) AS total {wanted}"))).await?;
        Ok(Listing { items: rows.iter().map(entry).collect::<Result<_>>()?, total })
    }

    /// Forgets lines from before a time, so many at most; how many that were.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn forget_before(&self, time: WallTime, most: u32) -> Result<u64> {
        let done =
            query("DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < $1 ORDER BY at LIMIT $2)")
                .bind(time.0)
                .bind(i64::from(most))
                .execute(self.0.database.writer())
                .await?;
        Ok(done.rows_affected())
    }
}

fn entry(row: &AnyRow) -> Result<AuditEntry> {
    let said = |column: &str| Ok::<_, crate::Error>(Some(row.text(column)?).filter(|text| !text.is_empty()));
    let project = said("project_id")?.map(|_| row.parsed("project_id")).transpose()?;
    let status = u16::try_from(row.int("status")?).ok().filter(|status| *status > 0);
    Ok(AuditEntry {
        id: row.parsed("id")?,
        at: row.time("at")?,
        who: row.text("who")?,
        origin: row.text("origin")?,
        operation: row.text("operation")?,
        resource: row.text("resource")?,
        project,
        action: row.text("action")?,
        subject: row.text("subject")?,
        outcome: row.parsed("outcome")?,
        status,
        error_code: said("error_code")?,
        detail: row.json("detail")?,
    })
}
