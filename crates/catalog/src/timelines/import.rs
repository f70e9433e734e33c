//! Timelines out of what the vault tells.

use model::{
    IllegalTransition,
    id::{DeploymentId, ProjectId, TimelineId},
};
use sqlx::{Any, Transaction, query};

use super::{
    COLUMNS, Ended, NewSlice, SliceState, Timeline,
    record::{insert_slice, insert_timeline},
    timeline,
};
use crate::{
    Catalog, Error, Result,
    error::is_duplicate,
    row::{plain, statement, stored},
};

type Tx = Transaction<'static, Any>;

/// A timeline as the slices in the vault tell it.
#[derive(Debug, Clone)]
pub struct ImportedTimeline {
    /// Its id.
    pub id: TimelineId,
    /// The deployment's project.
    pub project_id: ProjectId,
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// Name of the replica set.
    pub replica_set_name: String,
    /// When and why it ended. The newest one of its deployment has not: whoever records the deployment next goes on with it,
    /// or finds out why it cannot.
    pub ended: Option<Ended>,
    /// What is said of the end where nothing tells of it: of this one if the catalog has a later one open, else of the one that
    /// the catalog has open and that this one follows.
    pub unknown_end: Ended,
    /// Its slices in order, the first one that there still is at the front. They are in the vault.
    pub slices: Vec<NewSlice>,
}

impl Catalog {
    /// Enters a timeline with its slices; how many of these were not known. Enter its deployment before, as one that is to be
    /// recorded if the timeline is open. Of the open ones of a deployment only the one that ends last stays open. One that is
    /// known goes on with the slices that follow its last one, unless one that it has waits in a spool.
    ///
    /// # Errors
    /// [`crate::Error::Illegal`] when the slices are no chain; [`crate::Error::AlreadyExists`] when one of the slices is on
    /// another timeline.
    pub async fn import_timeline(&self, found: &ImportedTimeline) -> Result<u64> {
        let Some(mut new) = timeline_of(found)? else { return Ok(0) };
        let mut transaction = self.database.begin().await?;
        let added = match self.read_locked(&mut transaction, "id = $1", new.id.to_string()).await? {
            Some(known) => go_on(&mut transaction, &known, &found.slices).await?,
            None => {
                if new.ended.is_none() {
                    new.ended = self.make_room(&mut transaction, &new, &found.unknown_end).await?;
                }
                entered(
                    insert_timeline(&mut transaction, &new).await,
                    "open timeline of deployment",
                    || new.deployment_id.to_string(),
                )?;
                enter_slices(&mut transaction, new.id, &found.slices).await?
            }
        };
        transaction.commit().await?;
        Ok(added)
    }

    /// The timeline for which the condition on the text `$1` holds, locked.
    async fn read_locked(
        &self,
        transaction: &mut Tx,
        condition: &str,
        text: String,
    ) -> Result<Option<Timeline>> {
        let lock = self.database.locked();
        let row = statement(format!("SELECT {COLUMNS} FROM timelines WHERE {condition}{lock}"))
            .bind(text)
            .fetch_optional(&mut **transaction)
            .await?;
        row.as_ref().map(timeline).transpose()
    }

    /// Ends what the deployment has open if the new one follows it; if it is the other way round, the end of the new one.
    async fn make_room(
        &self,
        transaction: &mut Tx,
        new: &Timeline,
        unknown_end: &Ended,
    ) -> Result<Option<Ended>> {
        let open = "deployment_id = $1 AND ended_at IS NULL";
        let open = self.read_locked(transaction, open, new.deployment_id.to_string()).await?;
        let Some(open) = open else { return Ok(None) };
        if open.end.time >= new.end.time {
            return Ok(Some(unknown_end.clone()));
        }
        query("UPDATE timelines SET ended_at = $2, end_reason = $3, end_detail = $4 WHERE id = $1")
            .bind(open.id.to_string())
            .bind(unknown_end.at.0)
            .bind(unknown_end.reason.as_str())
            .bind(plain(&unknown_end.detail))
            .execute(&mut **transaction)
            .await?;
        Ok(None)
    }
}

/// Enters the slices that follow the last one of a timeline that is known; how many. None while one of its slices waits in a
/// spool: whoever has that goes on from there.
async fn go_on(transaction: &mut Tx, known: &Timeline, found: &[NewSlice]) -> Result<u64> {
    if known.durable_sequence != known.next_sequence {
        return Ok(0);
    }
    let follows = |slice: &NewSlice| {
        slice.sequence == known.next_sequence
            && slice.previous == known.last_slice
            && slice.span.after == known.end
    };
    let is_behind = found.last().is_none_or(|last| last.sequence < known.next_sequence);
    let added = match found.iter().position(follows) {
        Some(from) => &found[from..],
        None if is_behind => return Ok(0),
        None => return Err(does_not_follow(known, found)),
    };
    let Some(last) = added.last() else { return Ok(0) };
    let entered = enter_slices(transaction, known.id, added).await?;
    query(
        "UPDATE timelines SET end_seconds = $2, end_increment = $3, end_term = $4, durable_seconds = $2, \
         durable_increment = $3, durable_term = $4, next_sequence = $5, durable_sequence = $5, last_slice = $6, \
         read_from_seconds = $7, read_from_increment = $8, recorded_at = $9 WHERE id = $1",
    )
    .bind(known.id.to_string())
    .bind(i64::from(last.span.last.time.seconds))
    .bind(i64::from(last.span.last.time.increment))
    .bind(last.span.last.term)
    .bind(stored(last.sequence.saturating_add(1)))
    .bind(&last.name)
    .bind(i64::from(last.span.read_from.seconds))
    .bind(i64::from(last.span.read_from.increment))
    .bind(last.created_at.0)
    .execute(&mut **transaction)
    .await?;
    Ok(entered)
}

/// Said of slices that lie behind the end of a known timeline, and of which none follows it.
fn does_not_follow(known: &Timeline, found: &[NewSlice]) -> Error {
    let begins = found.first().map_or(0, |first| first.sequence);
    let event = format!(
        "slices from {begins} on, while the catalog has it up to {}: what lies between is not in the vault; a rebuild into an \
         empty catalog enters what comes later",
        known.next_sequence
    );
    IllegalTransition { machine: "timeline", state: "known".to_owned(), event }.into()
}

/// Enters slices that are in the vault; how many.
async fn enter_slices(transaction: &mut Tx, id: TimelineId, slices: &[NewSlice]) -> Result<u64> {
    for slice in slices {
        let inserted = insert_slice(transaction, id, slice, SliceState::Stored).await;
        entered(inserted, "slice", || slice.name.clone())?;
    }
    Ok(slices.len() as u64)
}

fn entered(inserted: sqlx::Result<()>, what: &'static str, name: impl Fn() -> String) -> Result<()> {
    match inserted {
        Err(error) if is_duplicate(&error) => Err(Error::AlreadyExists { what, name: name() }),
        other => Ok(other?),
    }
}

/// The row that follows from the slices.
fn timeline_of(found: &ImportedTimeline) -> Result<Option<Timeline>> {
    let (Some(first), Some(last)) = (found.slices.first(), found.slices.last()) else { return Ok(None) };
    let no_chain = |sequence: u64, what: &str| {
        let (state, event) = ("imported".to_owned(), format!("slice {sequence}: {what}"));
        Error::from(IllegalTransition { machine: "timeline", state, event })
    };
    for slice in &found.slices {
        if let Some(what) = slice.span.contradiction() {
            return Err(no_chain(slice.sequence, what));
        }
    }
    for (slice, next) in found.slices.iter().zip(found.slices.iter().skip(1)) {
        let follows = slice.sequence.checked_add(1) == Some(next.sequence)
            && next.previous.as_ref() == Some(&slice.name)
            && next.span.after == slice.span.last;
        if !follows {
            return Err(no_chain(next.sequence, &format!("it does not follow slice {}", slice.sequence)));
        }
    }
    Ok(Some(Timeline {
        id: found.id,
        project_id: found.project_id,
        deployment_id: found.deployment_id,
        replica_set_id: None,
        replica_set_name: plain(&found.replica_set_name),
        start: first.span.after,
        first_sequence: first.sequence,
        end: last.span.last,
        next_sequence: last.sequence.saturating_add(1),
        last_slice: Some(last.name.clone()),
        read_from: last.span.read_from,
        recorded_at: last.created_at,
        durable: last.span.last,
        durable_sequence: last.sequence.saturating_add(1),
        // Nothing tells when it was opened; its first slice is not much younger.
        started_at: first.created_at,
        ended: found.ended.clone(),
    }))
}
