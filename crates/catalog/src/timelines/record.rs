//! What the holder of a capture writes.

use model::{
    IllegalTransition, OplogPosition, WallTime,
    id::{DeploymentId, TimelineId},
    timeline::TimelineEnd,
};
use sqlx::{Any, Transaction, query};

use super::{
    COLUMNS, CaptureLease, NewSlice, NewTimeline, SLICE_COLUMNS, Slice, SliceState, Timeline, Timelines,
    capture::fence, slice, timeline,
};
use crate::{
    Error, Result, deployments,
    error::is_duplicate,
    new_id,
    row::{Columns, placeholders, plain, statement, stored},
};

type Tx = Transaction<'static, Any>;

impl Timelines<'_> {
    /// Opens a timeline of the lease's deployment.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`]; [`crate::Error::Illegal`] when another one is open or the deployment is not to be
    /// recorded; [`crate::Error::NotFound`] when it was removed.
    pub async fn open(&self, lease: &CaptureLease, new: NewTimeline, now: WallTime) -> Result<Timeline> {
        let mut transaction = self.0.database.begin().await?;
        let project = deployments::lock(&mut transaction, lease.deployment_id).await?.project_id;
        fence(&mut transaction, lease).await?;
        let wanted = query("SELECT pit_enabled FROM deployments WHERE id = $1")
            .bind(lease.deployment_id.to_string())
            .fetch_one(&mut *transaction)
            .await?;
        if !wanted.flag("pit_enabled")? {
            return Err(illegal("continuous backup", "switched off", "a new timeline"));
        }
        let opened = Timeline {
            id: new_id(now),
            project_id: project,
            deployment_id: lease.deployment_id,
            replica_set_id: new.replica_set_id.as_deref().map(plain),
            replica_set_name: plain(&new.replica_set_name),
            start: new.start,
            first_sequence: 0,
            end: new.start,
            next_sequence: 0,
            last_slice: None,
            read_from: new.start.time,
            recorded_at: now,
            durable: new.start,
            durable_sequence: 0,
            started_at: now,
            ended: None,
        };
        match insert_timeline(&mut transaction, &opened).await {
            Err(error) if is_duplicate(&error) => {
                return Err(illegal("timeline", "open", "another one beside it"));
            }
            other => other?,
        }
        transaction.commit().await?;
        Ok(opened)
    }

    /// Appends a slice that its recorder has durably on its own disk. Doing it again does no harm.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`]; [`crate::Error::Illegal`] when it does not continue the timeline, or this has ended;
    /// [`crate::Error::NotFound`] when the deployment has no such timeline.
    pub async fn append(&self, lease: &CaptureLease, id: TimelineId, new: &NewSlice) -> Result<Timeline> {
        let mut transaction = self.0.database.begin().await?;
        fence(&mut transaction, lease).await?;
        let appended = match find_slice(&mut transaction, &new.name).await? {
            Some(known) if is_same(&known, id, new) => of_lease(&mut transaction, lease, id).await?,
            Some(known) => {
                let state = format!("slice {} of timeline {}", known.sequence, known.timeline_id);
                return Err(illegal("slice", &state, "another place"));
            }
            None => {
                if let Some(what) = new.span.contradiction() {
                    return Err(illegal("timeline", "open", &format!("slice {}: {what}", new.sequence)));
                }
                let appended = extend(&mut transaction, lease, id, new).await?;
                insert_slice(&mut transaction, id, new, SliceState::Spooled).await?;
                appended
            }
        };
        transaction.commit().await?;
        Ok(appended)
    }

    /// Notes that a slice is in the vault, and moves the durable end of its timeline up to the first slice that is not.
    /// Slices may arrive in any order, also after the timeline's end. Doing it again does no harm.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`]; [`crate::Error::NotFound`] when no timeline of the deployment has such a slice.
    pub async fn mark_stored(&self, lease: &CaptureLease, name: &str) -> Result<Timeline> {
        let mut transaction = self.0.database.begin().await?;
        fence(&mut transaction, lease).await?;
        let missing = || Error::not_found("slice", name);
        let found = find_slice(&mut transaction, name).await?.ok_or_else(missing)?;
        let before =
            of_lease(&mut transaction, lease, found.timeline_id).await.map_err(|error| match error {
                Error::NotFound { .. } => missing(),
                other => other,
            })?;
        query("UPDATE slices SET state = 'stored' WHERE name = $1")
            .bind(name)
            .execute(&mut *transaction)
            .await?;
        let after = advance(&mut transaction, before).await?;
        transaction.commit().await?;
        Ok(after)
    }

    /// Takes back what was recorded and is not in the vault, because it is on a disk that is lost or somebody else's. The
    /// timeline ends at its durable end again, and its holder goes on from there.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`]; [`crate::Error::Illegal`] when the timeline has ended; [`crate::Error::NotFound`].
    pub async fn rewind(&self, lease: &CaptureLease, id: TimelineId) -> Result<Timeline> {
        let mut transaction = self.0.database.begin().await?;
        fence(&mut transaction, lease).await?;
        let mut rewound = of_lease(&mut transaction, lease, id).await?;
        if rewound.ended.is_some() {
            return Err(illegal("timeline", &told(&rewound), "a new beginning at its durable end"));
        }
        query("DELETE FROM slices WHERE timeline_id = $1 AND sequence >= $2")
            .bind(id.to_string())
            .bind(stored(rewound.durable_sequence))
            .execute(&mut *transaction)
            .await?;
        let last = match rewound.durable_sequence.checked_sub(1) {
            None => None,
            Some(sequence) => Some(slice_at(&mut transaction, id, sequence).await?),
        };
        rewound.end = rewound.durable;
        rewound.next_sequence = rewound.durable_sequence;
        rewound.read_from = last.as_ref().map_or(rewound.start.time, |last| last.span.read_from);
        rewound.recorded_at = last.as_ref().map_or(rewound.started_at, |last| last.created_at);
        rewound.last_slice = last.map(|last| last.name);
        query(
            "UPDATE timelines SET end_seconds = durable_seconds, end_increment = durable_increment, \
             end_term = durable_term, next_sequence = durable_sequence, last_slice = $2, read_from_seconds = $3, \
             read_from_increment = $4, recorded_at = $5 WHERE id = $1",
        )
        .bind(id.to_string())
        .bind(rewound.last_slice.as_deref())
        .bind(i64::from(rewound.read_from.seconds))
        .bind(i64::from(rewound.read_from.increment))
        .bind(rewound.recorded_at.0)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(rewound)
    }

    /// Ends a timeline; what it has stays restorable. One that has ended keeps its reason. What is spooled can still be
    /// brought into the vault.
    ///
    /// # Errors
    /// [`crate::Error::LeaseLost`]; [`crate::Error::NotFound`] when the deployment has no such timeline.
    pub async fn end(
        &self,
        lease: &CaptureLease,
        id: TimelineId,
        reason: TimelineEnd,
        detail: &str,
        now: WallTime,
    ) -> Result<Timeline> {
        let mut transaction = self.0.database.begin().await?;
        fence(&mut transaction, lease).await?;
        query(
            "UPDATE timelines SET ended_at = $3, end_reason = $4, end_detail = $5 \
             WHERE id = $1 AND deployment_id = $2 AND ended_at IS NULL",
        )
        .bind(id.to_string())
        .bind(lease.deployment_id.to_string())
        .bind(now.0)
        .bind(reason.as_str())
        .bind(plain(detail))
        .execute(&mut *transaction)
        .await?;
        let ended = of_lease(&mut transaction, lease, id).await?;
        transaction.commit().await?;
        Ok(ended)
    }
}

/// Ends what is open of a deployment that is being removed. Nobody who records it is asked: a slice more or less is no
/// reason to keep a connection string.
pub(crate) async fn end_of_removed(
    transaction: &mut Tx,
    deployment: DeploymentId,
    now: WallTime,
) -> Result<()> {
    query(
        "UPDATE timelines SET ended_at = $2, end_reason = $3, end_detail = 'the deployment was removed' \
         WHERE deployment_id = $1 AND ended_at IS NULL",
    )
    .bind(deployment.to_string())
    .bind(now.0)
    .bind(TimelineEnd::SwitchedOff.as_str())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Moves the end of an open timeline over a slice that continues it.
async fn extend(
    transaction: &mut Tx,
    lease: &CaptureLease,
    id: TimelineId,
    new: &NewSlice,
) -> Result<Timeline> {
    let row = statement(format!(
        "UPDATE timelines SET end_seconds = $3, end_increment = $4, end_term = $5, next_sequence = next_sequence + 1, \
         last_slice = $6, read_from_seconds = $7, read_from_increment = $8, recorded_at = $9 \
         WHERE id = $1 AND deployment_id = $2 AND ended_at IS NULL AND next_sequence = $10 \
         AND COALESCE(last_slice, '') = $11 AND end_seconds = $12 AND end_increment = $13 AND end_term = $14 \
         RETURNING {COLUMNS}"
    ))
    .bind(id.to_string())
    .bind(lease.deployment_id.to_string())
    .bind(i64::from(new.span.last.time.seconds))
    .bind(i64::from(new.span.last.time.increment))
    .bind(new.span.last.term)
    .bind(&new.name)
    .bind(i64::from(new.span.read_from.seconds))
    .bind(i64::from(new.span.read_from.increment))
    .bind(new.created_at.0)
    .bind(stored(new.sequence))
    .bind(new.previous.as_deref().unwrap_or(""))
    .bind(i64::from(new.span.after.time.seconds))
    .bind(i64::from(new.span.after.time.increment))
    .bind(new.span.after.term)
    .fetch_optional(&mut **transaction)
    .await?;
    if let Some(row) = row {
        return timeline(&row);
    }
    let standing = of_lease(transaction, lease, id).await?;
    let event = format!("slice {} behind the entry at {}", new.sequence, new.span.after);
    Err(illegal("timeline", &told(&standing), &event))
}

/// Moves the durable end up to the first slice that is not in the vault.
async fn advance(transaction: &mut Tx, mut timeline: Timeline) -> Result<Timeline> {
    let row =
        query("SELECT MIN(sequence) AS spooled FROM slices WHERE timeline_id = $1 AND state = 'spooled'")
            .bind(timeline.id.to_string())
            .fetch_one(&mut **transaction)
            .await?;
    let spooled = row.maybe_int("spooled")?.and_then(|sequence| u64::try_from(sequence).ok());
    let durable = spooled.unwrap_or(timeline.next_sequence);
    if durable <= timeline.durable_sequence {
        return Ok(timeline);
    }
    let last = slice_at(transaction, timeline.id, durable - 1).await?.span.last;
    query(
        "UPDATE timelines SET durable_seconds = $2, durable_increment = $3, durable_term = $4, durable_sequence = $5 \
         WHERE id = $1",
    )
    .bind(timeline.id.to_string())
    .bind(i64::from(last.time.seconds))
    .bind(i64::from(last.time.increment))
    .bind(last.term)
    .bind(stored(durable))
    .execute(&mut **transaction)
    .await?;
    timeline.durable = last;
    timeline.durable_sequence = durable;
    Ok(timeline)
}

/// The timeline, locked, if it is one of the lease's deployment.
async fn of_lease(transaction: &mut Tx, lease: &CaptureLease, id: TimelineId) -> Result<Timeline> {
    let row = statement(format!(
        "UPDATE timelines SET ended_at = ended_at WHERE id = $1 AND deployment_id = $2 RETURNING {COLUMNS}"
    ))
    .bind(id.to_string())
    .bind(lease.deployment_id.to_string())
    .fetch_optional(&mut **transaction)
    .await?
    .ok_or_else(|| Error::not_found("timeline", id))?;
    timeline(&row)
}

async fn find_slice(transaction: &mut Tx, name: &str) -> Result<Option<Slice>> {
    let row = statement(format!("SELECT {SLICE_COLUMNS} FROM slices WHERE name = $1"))
        .bind(name)
        .fetch_optional(&mut **transaction)
        .await?;
    row.as_ref().map(slice).transpose()
}

async fn slice_at(transaction: &mut Tx, timeline: TimelineId, sequence: u64) -> Result<Slice> {
    let row =
        statement(format!("SELECT {SLICE_COLUMNS} FROM slices WHERE timeline_id = $1 AND sequence = $2"))
            .bind(timeline.to_string())
            .bind(stored(sequence))
            .fetch_optional(&mut **transaction)
            .await?;
    let hole =
        || Error::corrupt(format!("timeline {timeline} has no slice {sequence} where it has later ones"));
    slice(&row.ok_or_else(hole)?)
}

fn is_same(known: &Slice, timeline: TimelineId, new: &NewSlice) -> bool {
    (known.timeline_id, known.sequence, known.span) == (timeline, new.sequence, new.span)
}

pub(super) async fn insert_timeline(transaction: &mut Tx, new: &Timeline) -> sqlx::Result<()> {
    let numbers = [new.start, new.end, new.durable].map(numbers);
    let ended = new.ended.as_ref();
    let mut insert = statement(format!(
        "INSERT INTO timelines (id, project_id, deployment_id, replica_set_id, replica_set_name, start_seconds, \
         start_increment, start_term, end_seconds, end_increment, end_term, durable_seconds, durable_increment, \
         durable_term, first_sequence, next_sequence, durable_sequence, last_slice, read_from_seconds, \
         read_from_increment, recorded_at, started_at, ended_at, end_reason, end_detail) VALUES ({})",
        placeholders(1, 25)
    ))
    .bind(new.id.to_string())
    .bind(new.project_id.to_string())
    .bind(new.deployment_id.to_string())
    .bind(new.replica_set_id.as_deref())
    .bind(&new.replica_set_name);
    for number in numbers.into_iter().flatten() {
        insert = insert.bind(number);
    }
    insert
        .bind(stored(new.first_sequence))
        .bind(stored(new.next_sequence))
        .bind(stored(new.durable_sequence))
        .bind(new.last_slice.as_deref())
        .bind(i64::from(new.read_from.seconds))
        .bind(i64::from(new.read_from.increment))
        .bind(new.recorded_at.0)
        .bind(new.started_at.0)
        .bind(ended.map(|ended| ended.at.0))
        .bind(ended.map(|ended| ended.reason.as_str()))
        .bind(ended.map(|ended| plain(&ended.detail)))
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

pub(super) async fn insert_slice(
    transaction: &mut Tx,
    timeline: TimelineId,
    new: &NewSlice,
    state: SliceState,
) -> sqlx::Result<()> {
    let span = new.span;
    let mut insert =
        statement(format!("INSERT INTO slices ({SLICE_COLUMNS}) VALUES ({})", placeholders(1, 19)))
            .bind(&new.name)
            .bind(timeline.to_string())
            .bind(stored(new.sequence));
    for number in [span.after, span.first, span.last].map(numbers).into_iter().flatten() {
        insert = insert.bind(number);
    }
    insert
        .bind(i64::from(span.read_from.seconds))
        .bind(i64::from(span.read_from.increment))
        .bind(stored(new.entries))
        .bind(stored(new.bytes))
        .bind(stored(new.stored_bytes))
        .bind(state.as_str())
        .bind(new.created_at.0)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

fn numbers(position: OplogPosition) -> [i64; 3] {
    [i64::from(position.time.seconds), i64::from(position.time.increment), position.term]
}

/// The state of a timeline, for whoever wanted to change it in a way that does not fit.
fn told(timeline: &Timeline) -> String {
    match &timeline.ended {
        Some(ended) => format!("ended ({})", ended.reason.as_str()),
        None => format!("open at slice {} behind the entry at {}", timeline.next_sequence, timeline.end),
    }
}

fn illegal(machine: &'static str, state: &str, event: &str) -> Error {
    IllegalTransition { machine, state: state.to_owned(), event: event.to_owned() }.into()
}
