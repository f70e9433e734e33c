//! Timelines out of what the vault tells.

use model::{
    IllegalTransition,
    id::{DeploymentId, ProjectId, TimelineId},
};
use sqlx::query;

use super::{
    Ended, NewSlice, SliceState, Timeline,
    record::{insert_slice, insert_timeline},
};
use crate::{Catalog, Error, Result, error::is_duplicate, row::plain};

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
    /// Its slices in order, the first one that there still is at the front. They are in the vault.
    pub slices: Vec<NewSlice>,
}

impl Catalog {
    /// Enters a timeline with its slices; `false` when it is known already, or has no slices. Enter its deployment before,
    /// as one that is to be recorded if the timeline is open.
    ///
    /// # Errors
    /// [`crate::Error::Illegal`] when the slices are no chain; [`crate::Error::AlreadyExists`] when another open timeline of
    /// the deployment, or one of the slices on another timeline, is there.
    pub async fn import_timeline(&self, found: &ImportedTimeline) -> Result<bool> {
        let Some(timeline) = timeline_of(found)? else { return Ok(false) };
        let mut transaction = self.database.begin().await?;
        let known = query("SELECT id FROM timelines WHERE id = $1")
            .bind(found.id.to_string())
            .fetch_optional(&mut *transaction)
            .await?;
        if known.is_some() {
            return Ok(false);
        }
        entered(insert_timeline(&mut transaction, &timeline).await, "open timeline of deployment", || {
            found.deployment_id.to_string()
        })?;
        for slice in &found.slices {
            let inserted = insert_slice(&mut transaction, found.id, slice, SliceState::Stored).await;
            entered(inserted, "slice", || slice.name.clone())?;
        }
        transaction.commit().await?;
        Ok(true)
    }
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
