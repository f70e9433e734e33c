//! Snapshots: what was asked for, and what became of it.

use std::{collections::HashMap, str::FromStr};

use model::{
    ClusterTime, WallTime,
    chain::Base,
    compliance::Forbidden,
    id::{DeploymentId, PolicyItemId, ProjectId, SnapshotId},
    job::Work,
    schedule::Frequency,
    snapshot::{SnapshotEvent, SnapshotState},
};
use serde_json::Value;
use sqlx::{Any, Transaction, any::AnyRow, query};

use crate::{
    Catalog, Conflict, Error, Listing, Page, Result, compliance, deployments,
    error::is_duplicate,
    jobs, new_id,
    row::{Columns, bulk, placeholders, plain, statement, to_json},
    transition,
};

/// How many rows a reconciler takes at a time.
const BATCH: i64 = 200;
/// How many ids one statement names.
const IDS_MAX: usize = 500;

pub(crate) const COLUMNS: &str = "id, project_id, deployment_id, state, snapshot_type, description, retention_days, \
    requested_at, completed_at, expires_at, deleted_at, cluster_seconds, cluster_increment, \
    last_as_of_seconds, last_as_of_increment, manifest, mongod_version, fcv, replica_set_name, collections, documents, \
    logical_bytes, stored_bytes, added_bytes, error, notes, amid_restore, \
    frequency, policy_items, due_at, do_not_delete";

/// Why a snapshot was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SnapshotType {
    /// Somebody asked for it.
    OnDemand,
    /// A schedule did.
    Scheduled,
}

impl SnapshotType {
    /// The word on the wire and in the catalog.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OnDemand => "onDemand",
            Self::Scheduled => "scheduled",
        }
    }
}

impl FromStr for SnapshotType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "onDemand" => Ok(Self::OnDemand),
            "scheduled" => Ok(Self::Scheduled),
            other => Err(format!("unknown snapshot type {other:?}")),
        }
    }
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Its project.
    pub project_id: ProjectId,
    /// What it is a snapshot of.
    pub deployment_id: DeploymentId,
    /// Where it stands.
    pub state: SnapshotState,
    /// Why it was taken.
    pub snapshot_type: SnapshotType,
    /// What people call it.
    pub description: Option<String>,
    /// How long it was asked to be kept.
    pub retention_days: Option<u32>,
    /// Which schedule's times it stands for; nothing of those on demand and of bases of timelines.
    pub policy: Option<SnapshotPolicy>,
    /// When it was asked for.
    pub requested_at: WallTime,
    /// When it was completed; the API's `createdAt`.
    pub completed_at: Option<WallTime>,
    /// When it will be deleted.
    pub expires_at: Option<WallTime>,
    /// Whether nobody may delete it, and no time does, until somebody takes that back.
    pub do_not_delete: bool,
    /// When it was deleted.
    pub deleted_at: Option<WallTime>,
    /// The time of the data.
    pub cluster_time: Option<ClusterTime>,
    /// The latest time that any of its collections is as of: capped ones are read later than the rest. Not known of
    /// snapshots of older versions.
    pub last_as_of: Option<ClusterTime>,
    /// Whether a restore had staged collections in the deployment at that time: they are in no snapshot, so nothing can be
    /// folded from this one.
    pub amid_restore: bool,
    /// Name of the manifest in the vault; forgotten once a deleted snapshot's manifest is collected.
    pub manifest: Option<String>,
    /// Version of mongod that it was read from.
    pub mongod_version: Option<String>,
    /// Feature compatibility version then.
    pub fcv: Option<String>,
    /// Name of the replica set then.
    pub replica_set_name: Option<String>,
    /// Collections in it.
    pub collections: u64,
    /// Documents in it.
    pub documents: u64,
    /// Bytes of BSON in it.
    pub logical_bytes: u64,
    /// Bytes in the vault of all that it names.
    pub stored_bytes: u64,
    /// Bytes that it added to the vault.
    pub added_bytes: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// What is worth knowing: times of capped collections, excluded namespaces.
    pub notes: Value,
}

impl Snapshot {
    /// What it is to folds, once it is completed.
    pub fn base(&self) -> Option<Base> {
        let at = self.cluster_time?;
        Some(Base { at, complete_at: self.last_as_of.unwrap_or(at) })
    }
}

/// What a snapshot is to the schedule that took it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// The frequency of the item that decided how long it is kept.
    pub frequency: Frequency,
    /// The items that wanted it, that one first.
    pub items: Vec<PolicyItemId>,
    /// When it was due.
    pub due_at: WallTime,
}

/// What is needed to ask for a snapshot.
#[derive(Debug, Clone)]
pub struct NewSnapshot {
    /// What to take it of.
    pub deployment_id: DeploymentId,
    /// Why.
    pub snapshot_type: SnapshotType,
    /// What people call it.
    pub description: Option<String>,
    /// How long to keep it, from its completion on.
    pub retention_days: Option<u32>,
}

/// Whether a snapshot may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Nobody may, and it does not expire.
    On,
    /// Whoever has the right may.
    Off {
        /// When it expires; as before when it is absent.
        expires_at: Option<WallTime>,
    },
}

/// Which snapshots a list is about. Deleted ones are never listed.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotFilter {
    /// Of one deployment.
    pub deployment_id: DeploymentId,
    /// Only completed ones, or only those that are not.
    pub completed: Option<bool>,
    /// Only completed ones whose data is not newer than this.
    pub not_after: Option<ClusterTime>,
}

impl SnapshotFilter {
    /// All snapshots of a deployment.
    pub const fn of(deployment_id: DeploymentId) -> Self {
        Self { deployment_id, completed: None, not_after: None }
    }
}

/// Operations on snapshots.
#[derive(Debug, Clone, Copy)]
pub struct Snapshots<'a>(pub(crate) &'a Catalog);

impl Snapshots<'_> {
    /// Asks for a snapshot: its row and its work item, in one transaction.
    ///
    /// # Errors
    /// [`crate::Conflict::OnDemandUnfinished`]; [`crate::Conflict::Forbidden`] when it would be kept shorter than a compliance
    /// policy says; [`crate::Error::NotFound`] when the deployment is not there or removed.
    pub async fn request(&self, new: NewSnapshot, now: WallTime) -> Result<Snapshot> {
        let mut transaction = self.0.database.begin().await?;
        let project = deployments::lock(&mut transaction, new.deployment_id).await?.project_id;
        compliance::check_on_demand(&mut transaction, project, &new, now).await?;
        let snapshot = insert(&mut transaction, project, new, None, now).await?;
        transaction.commit().await?;
        Ok(snapshot)
    }

    /// The snapshot of that id; deleted ones too, as tombstones.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn get(&self, id: SnapshotId) -> Result<Option<Snapshot>> {
        let row = statement(format!("SELECT {COLUMNS} FROM snapshots WHERE id = $1"))
            .bind(id.to_string())
            .fetch_optional(self.0.database.reader())
            .await?;
        row.as_ref().map(snapshot).transpose()
    }

    /// Snapshots, newest first: those that were asked for last, or, with a time that they are not to be newer than, those whose
    /// data is.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn list(&self, filter: SnapshotFilter, page: Page) -> Result<Listing<Snapshot>> {
        const WANTED: &str = "FROM snapshots WHERE deployment_id = $1 AND state <> 'deleted' \
             AND ($2 IS NULL OR $2 = CASE state WHEN 'completed' THEN 1 ELSE 0 END) \
             AND ($3 IS NULL OR (cluster_seconds, cluster_increment) <= ($3, $4) AND state = 'completed')";
        let deployment = filter.deployment_id.to_string();
        let completed = filter.completed.map(i64::from);
        let (seconds, increment) = (
            filter.not_after.map(|t| i64::from(t.seconds)),
            filter.not_after.map(|t| i64::from(t.increment)),
        );
        let order = match filter.not_after {
            None => "requested_at DESC, id DESC",
            Some(_) => "cluster_seconds DESC, cluster_increment DESC, id DESC",
        };
        let rows = statement(format!("SELECT {COLUMNS} {WANTED} ORDER BY {order} LIMIT $5 OFFSET $6"))
            .bind(&deployment)
            .bind(completed)
            .bind(seconds)
            .bind(increment)
            .bind(page.limit())
            .bind(page.offset())
            .fetch_all(self.0.database.reader())
            .await?;
        let count = statement(format!("SELECT COUNT(*) AS total {WANTED}"))
            .bind(&deployment)
            .bind(completed)
            .bind(seconds)
            .bind(increment);
        let total = self.0.total(page, count).await?;
        Ok(Listing { items: rows.iter().map(snapshot).collect::<Result<_>>()?, total })
    }

    /// The times of the data of those among these snapshots that were ever completed, deleted ones too.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn cluster_times(&self, ids: &[SnapshotId]) -> Result<HashMap<SnapshotId, ClusterTime>> {
        let mut times = HashMap::new();
        for some in ids.chunks(IDS_MAX) {
            let mut asked = bulk(format!(
                "SELECT id, cluster_seconds, cluster_increment FROM snapshots WHERE id IN ({})",
                placeholders(1, some.len())
            ));
            for id in some {
                asked = asked.bind(id.to_string());
            }
            for row in asked.fetch_all(self.0.database.reader()).await? {
                if let Some(time) = row.maybe_cluster_time("cluster_seconds", "cluster_increment")? {
                    times.insert(row.parsed("id")?, time);
                }
            }
        }
        Ok(times)
    }

    /// Changes when a completed snapshot expires.
    ///
    /// # Errors
    /// [`crate::Error::Illegal`] unless it is completed, [`crate::Conflict::SnapshotKept`] when it is not to be deleted,
    /// [`crate::Conflict::Forbidden`] when a compliance policy has it kept until later, [`crate::Error::NotFound`].
    pub async fn update_retention(&self, id: SnapshotId, expires_at: WallTime) -> Result<Snapshot> {
        let condition = format!("AND do_not_delete = 0 AND {}", not_shorter());
        self.keep(id, "expires_at = $2", Some(expires_at), &condition).await
    }

    /// Changes whether a completed snapshot may be deleted. One that may not has no expiry any more, and gets none by
    /// being let go: without `expires_at` it stays as if for ever, until somebody deletes it or gives it one.
    ///
    /// # Errors
    /// [`crate::Error::Illegal`] unless it is completed, [`crate::Conflict::Forbidden`] when a compliance policy has it kept until
    /// later than the expiry that it is to get, [`crate::Error::NotFound`].
    pub async fn protect(&self, id: SnapshotId, protection: Protection) -> Result<Snapshot> {
        match protection {
            Protection::On => self.keep(id, "do_not_delete = 1, expires_at = $2", None, "").await,
            Protection::Off { expires_at } => {
                let sets = "do_not_delete = 0, expires_at = COALESCE($2, expires_at)";
                let condition = expires_at.map(|_| format!("AND {}", not_shorter())).unwrap_or_default();
                self.keep(id, sets, expires_at, &condition).await
            }
        }
    }

    async fn keep(
        &self,
        id: SnapshotId,
        sets: &'static str,
        expires_at: Option<WallTime>,
        condition: &str,
    ) -> Result<Snapshot> {
        let row = statement(format!(
            "UPDATE snapshots SET {sets} WHERE id = $1 AND state = 'completed' {condition} RETURNING {COLUMNS}"
        ))
        .bind(id.to_string())
        .bind(expires_at.map(|time| time.0))
        .fetch_optional(self.0.database.writer())
        .await?;
        match row {
            Some(row) => snapshot(&row),
            None => Err(self.refusal(id, "a change of its retention", Forbidden::ShorterRetention).await?),
        }
    }

    /// Deletes a snapshot: only a tombstone stays. Restores that run from it go on to their end.
    ///
    /// # Errors
    /// [`crate::Conflict::Forbidden`] when a compliance policy has it kept until its time is over,
    /// [`crate::Error::Illegal`] while it is queued or in progress or when it is deleted already,
    /// [`crate::Conflict::SnapshotKept`] when it is not to be deleted, [`crate::Error::NotFound`].
    pub async fn delete(&self, id: SnapshotId, now: WallTime) -> Result<()> {
        let moves = transition::snapshot(SnapshotEvent::Deleted);
        let done = statement(format!(
            "UPDATE snapshots SET state = {}, deleted_at = $2 WHERE id = $1 AND do_not_delete = 0 AND state IN {} \
             AND (state <> 'completed' OR expires_at <= $2 OR NOT {})",
            moves.next,
            moves.from,
            compliance::GUARDED
        ))
        .bind(id.to_string())
        .bind(now.0)
        .execute(self.0.database.writer())
        .await?;
        if done.rows_affected() == 0 {
            return Err(self.refusal(id, "its deletion", Forbidden::Deletion).await?);
        }
        Ok(())
    }

    /// Deletes a snapshot if its time is over: whoever has it kept for longer meanwhile is obeyed. Tells whether it was.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn expire(&self, id: SnapshotId, now: WallTime) -> Result<bool> {
        let moves = transition::snapshot(SnapshotEvent::Deleted);
        let done = statement(format!(
            "UPDATE snapshots SET state = {}, deleted_at = $2 WHERE id = $1 AND do_not_delete = 0 \
             AND expires_at <= $2 AND state IN {}",
            moves.next, moves.from
        ))
        .bind(id.to_string())
        .bind(now.0)
        .execute(self.0.database.writer())
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Snapshots whose time is over, a bounded number, oldest expiry first: completed ones, and failed ones of a schedule,
    /// which nobody asked for by name and would pile up while a deployment is away.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn expired(&self, now: WallTime) -> Result<Vec<Snapshot>> {
        let rows = statement(format!(
            "SELECT {COLUMNS} FROM snapshots WHERE (state = 'completed' AND do_not_delete = 0 AND expires_at <= $1) \
             OR (state = 'failed' AND due_at IS NOT NULL AND expires_at <= $1) ORDER BY expires_at, id LIMIT $2"
        ))
        .bind(now.0)
        .bind(BATCH)
        .fetch_all(self.0.database.reader())
        .await?;
        rows.iter().map(snapshot).collect()
    }

    /// Manifests that are roots for the garbage collection: of completed snapshots, and of deleted ones that an
    /// unfinished restore still reads.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn live_manifests(&self) -> Result<Vec<(SnapshotId, String)>> {
        self.manifests(&format!("state = 'completed' OR {READ}")).await
    }

    /// Deleted snapshots whose manifest may go now: no unfinished restore reads it.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn dead_manifests(&self) -> Result<Vec<(SnapshotId, String)>> {
        self.manifests(&format!("state = 'deleted' AND NOT {READ}")).await
    }

    /// Forgets the manifest of a deleted snapshot, after it was deleted from the vault.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn forget_manifest(&self, id: SnapshotId) -> Result<()> {
        query("UPDATE snapshots SET manifest = NULL WHERE id = $1 AND state = 'deleted'")
            .bind(id.to_string())
            .execute(self.0.database.writer())
            .await?;
        Ok(())
    }

    async fn manifests(&self, which: &str) -> Result<Vec<(SnapshotId, String)>> {
        // Read where it is written: a replica or an older view of the file must not decide what is garbage.
        let rows = statement(format!(
            "SELECT id, manifest FROM snapshots WHERE manifest IS NOT NULL AND ({which}) ORDER BY id"
        ))
        .fetch_all(self.0.database.writer())
        .await?;
        rows.iter().map(|row| Ok((row.parsed("id")?, row.text("manifest")?))).collect()
    }

    /// Why a conditional update of this snapshot found no row; of a completed one that may be deleted, a compliance policy forbade it.
    async fn refusal(&self, id: SnapshotId, event: &str, forbidden: Forbidden) -> Result<Error> {
        let row = query("SELECT state, do_not_delete FROM snapshots WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(self.0.database.writer())
            .await?;
        Ok(match row {
            None => Error::not_found("snapshot", id),
            Some(row) if row.flag("do_not_delete")? && row.text("state")? == "completed" => {
                Conflict::SnapshotKept.into()
            }
            Some(row) if row.text("state")? == SnapshotState::Completed.as_str() => forbidden.into(),
            Some(row) => {
                let (state, event) = (row.text("state")?, event.to_owned());
                Error::Illegal(model::IllegalTransition { machine: "snapshot", state, event })
            }
        })
    }
}

/// One day.
pub(crate) const DAY_MS: i64 = 86_400_000;

/// Whether an unfinished restore or export reads the snapshot.
const READ: &str = "(EXISTS (SELECT 1 FROM restore_jobs r WHERE r.snapshot_id = snapshots.id \
                    AND r.state IN ('queued', 'running', 'cancelling', 'cutOver')) \
                    OR EXISTS (SELECT 1 FROM export_jobs e WHERE e.snapshot_id = snapshots.id \
                    AND e.state IN ('queued', 'inProgress', 'cancelling')))";

/// Enters a snapshot of a deployment that is locked, and its work item.
pub(crate) async fn insert(
    transaction: &mut Transaction<'static, Any>,
    project: ProjectId,
    new: NewSnapshot,
    policy: Option<&SnapshotPolicy>,
    now: WallTime,
) -> Result<Snapshot> {
    let id: SnapshotId = new_id(now);
    let row = statement(format!(
        "INSERT INTO snapshots (id, project_id, deployment_id, state, snapshot_type, description, retention_days, \
         requested_at, expires_at, frequency, policy_items, due_at, collections, documents, logical_bytes, stored_bytes, \
         added_bytes, notes) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, 0, 0, 0, 0, 'null') RETURNING {COLUMNS}"
    ))
    .bind(id.to_string())
    .bind(project.to_string())
    .bind(new.deployment_id.to_string())
    .bind(SnapshotState::Queued.as_str())
    .bind(new.snapshot_type.as_str())
    .bind(new.description.as_deref().map(plain))
    .bind(new.retention_days.map(i64::from))
    .bind(now.0)
    .bind(new.retention_days.map(|days| now.plus_ms(i64::from(days) * DAY_MS).0))
    .bind(policy.map(|policy| policy.frequency.to_string()))
    .bind(policy.map(|policy| to_json(&policy.items)))
    .bind(policy.map(|policy| policy.due_at.0))
    .fetch_one(&mut **transaction)
    .await;
    let snapshot = match row {
        Err(error) if is_duplicate(&error) => return Err(Conflict::OnDemandUnfinished.into()),
        other => snapshot(&other?)?,
    };
    jobs::insert(transaction, Work::Snapshot { snapshot_id: id }, &id.to_string(), now).await?;
    Ok(snapshot)
}

fn policy(row: &AnyRow) -> Result<Option<SnapshotPolicy>> {
    let Some(due_at) = row.maybe_time("due_at")? else { return Ok(None) };
    let (frequency, items) = (row.parsed("frequency")?, row.json("policy_items")?);
    Ok(Some(SnapshotPolicy { frequency, items, due_at }))
}

/// Whether an expiry ($2) is none that a compliance policy forbids, in a statement on snapshots.
fn not_shorter() -> String {
    format!("(expires_at <= $2 OR NOT {})", compliance::GUARDED)
}

fn snapshot(row: &AnyRow) -> Result<Snapshot> {
    Ok(Snapshot {
        id: row.parsed("id")?,
        project_id: row.parsed("project_id")?,
        deployment_id: row.parsed("deployment_id")?,
        state: row.parsed("state")?,
        snapshot_type: row.parsed("snapshot_type")?,
        description: row.maybe_text("description")?,
        retention_days: row.maybe_int("retention_days")?.and_then(|days| u32::try_from(days).ok()),
        policy: policy(row)?,
        requested_at: row.time("requested_at")?,
        completed_at: row.maybe_time("completed_at")?,
        expires_at: row.maybe_time("expires_at")?,
        do_not_delete: row.flag("do_not_delete")?,
        deleted_at: row.maybe_time("deleted_at")?,
        cluster_time: row.maybe_cluster_time("cluster_seconds", "cluster_increment")?,
        last_as_of: row.maybe_cluster_time("last_as_of_seconds", "last_as_of_increment")?,
        amid_restore: row.flag("amid_restore")?,
        manifest: row.maybe_text("manifest")?,
        mongod_version: row.maybe_text("mongod_version")?,
        fcv: row.maybe_text("fcv")?,
        replica_set_name: row.maybe_text("replica_set_name")?,
        collections: row.count("collections")?,
        documents: row.count("documents")?,
        logical_bytes: row.count("logical_bytes")?,
        stored_bytes: row.count("stored_bytes")?,
        added_bytes: row.count("added_bytes")?,
        error: row.maybe_text("error")?,
        notes: row.json("notes")?,
    })
}
