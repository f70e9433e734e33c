//! Transactions that a restore with a selection tears: they wrote to what went back in time, and to what did not.
//!
//! Told of the transactions that were committed after the time of the restored state and before the cut-over, when a
//! deployment is restored into itself: of those that wrote to something that was put in its own place and to something
//! else too, one half is undone and the other stays. The record of operations tells them; where there is none, nobody can.

use std::collections::BTreeSet;

use futures::TryStreamExt as _;
use history::{
    entry::{Entry, Kind, TransactionStep},
    raw,
    transaction::{Assembler, Committed, Step, TransactionError},
};
use model::ClusterTime;
use mongo::Namespace;
use serde_json::{Value, json};

use super::{checkpoint::Checkpoint, plan::Way, source::Restore};
use crate::{
    lease::{JobContext, JobError},
    timeline,
};

/// Torn transactions that are described one by one; the rest is only counted.
const DESCRIBED_MAX: usize = 10;
/// Namespaces that the description of one names on either side.
const NAMED_MAX: usize = 10;
/// Transactions that are open at one time may hold so much.
const OPEN_BYTES_MAX: usize = 64 << 20;
/// A longer record takes longer to read than the answer is worth.
const RECORD_BYTES_MAX: u64 = 16 << 30;

/// What is torn, as the receipt tells it: `told`, `none` or `unknown`, and why. Nothing that goes wrong here fails a restore
/// that is in its place.
///
/// # Errors
/// When the job must stop.
pub(crate) async fn told(ctx: &JobContext, job: &Restore, state: &Checkpoint) -> Result<Value, JobError> {
    ctx.progress().message("looking for transactions that the selection tears");
    let without = |state: &str, reason: &str| json!({"state": state, "reason": reason});
    let undone = undone(job);
    if undone.is_empty() {
        return Ok(without("none", "nothing was put in its own place, so nothing is undone"));
    }
    Ok(match look(ctx, job, state, undone).await {
        Ok(Answer::Told(torn)) => torn.to_json(),
        Ok(Answer::None(reason)) => without("none", &reason),
        Ok(Answer::Unknown(reason)) => without("unknown", &reason),
        Err(error @ (JobError::Failed { .. } | JobError::Retry { .. })) => {
            let reason = error.full_text();
            tracing::warn!(error = reason, "nobody can tell which transactions are torn: {reason}");
            without("unknown", &reason)
        }
        Err(stop) => return Err(stop),
    })
}

enum Answer {
    Told(Torn),
    None(String),
    Unknown(String),
}

/// What went back in time under its own name.
fn undone(job: &Restore) -> BTreeSet<String> {
    let back = |way| matches!(way, Way::Renamed | Way::Buckets | Way::Functions);
    let items = job.items.iter().filter(|item| item.ns == item.from && back(item.way));
    items.map(|item| item.ns.to_string()).collect()
}

async fn look(
    ctx: &JobContext,
    job: &Restore,
    state: &Checkpoint,
    undone: BTreeSet<String>,
) -> Result<Answer, JobError> {
    let after = job.manifest.header().cluster_time;
    let Some(until) = state.cut_over_since.map(ClusterTime::from_u64) else {
        return Ok(Answer::Unknown("the time of the cut-over is not known".to_owned()));
    };
    let timelines = ctx.catalog().timelines();
    let current = timelines.current(job.row.deployment_id).await?;
    if job.target.id != job.row.deployment_id {
        let same = match current.as_ref().and_then(|current| current.replica_set_id.as_ref()) {
            // One replica set may be registered under several names.
            Some(id) => {
                job.deployment.facts().await.is_ok_and(|facts| facts.replica_set_id.as_ref() == Some(id))
            }
            None => false,
        };
        if !same {
            let reason = "it was restored into another deployment than the one that it is of, whose transactions are others";
            return Ok(Answer::None(reason.to_owned()));
        }
    }
    let Some(current) = current else {
        let reason = format!("no operations of {} are recorded", job.row.deployment_name);
        return Ok(Answer::Unknown(reason));
    };
    if !is_on(ctx, job, &current).await? {
        let reason = format!(
            "the state of {after} is not on the record of operations, which begins at {}",
            current.start.time
        );
        return Ok(Answer::Unknown(reason));
    }
    let current = match timeline::reach(ctx, &current, until).await? {
        Ok(current) => current,
        Err(reason) => return Ok(Answer::Unknown(reason)),
    };
    let Some(record) = timeline::record_between(ctx.services(), &current, after, until).await? else {
        return Ok(Answer::Unknown(format!("the operations after {after} are not recorded any more")));
    };
    if record.bytes > RECORD_BYTES_MAX {
        let reason = format!(
            "{} bytes of operations were recorded since {after}, too many to look through",
            record.bytes
        );
        return Ok(Answer::Unknown(reason));
    }
    let _memory = ctx.sort_memory(OPEN_BYTES_MAX).await?;
    let mut search = Search::new(undone, after, until);
    let mut blocks = record.blocks;
    while search.answer.is_none() {
        let Some(block) = ctx.or_stop(blocks.try_next()).await?? else { break };
        let searched = tokio::task::spawn_blocking(move || {
            search.block(&block);
            search
        });
        search = searched.await.map_err(|e| JobError::failed_by("a bug in Ebbtide stopped the search", e))?;
    }
    Ok(search.answer.unwrap_or(Answer::Told(search.torn)))
}

/// Cluster times of two histories may overlap: the record has to be of the history that the snapshot is of.
async fn is_on(ctx: &JobContext, job: &Restore, timeline: &catalog::Timeline) -> Result<bool, JobError> {
    let Some(snapshot) = ctx.catalog().snapshots().get(job.row.snapshot_id).await? else { return Ok(false) };
    let complete_at = snapshot.last_as_of.or(snapshot.cluster_time).unwrap_or_default();
    let found = ctx.catalog().timelines().base_for(job.row.deployment_id, complete_at).await?;
    Ok(found.is_some_and(|(of, _)| of.id == timeline.id))
}

/// What was found.
#[derive(Debug)]
struct Torn {
    after: ClusterTime,
    until: ClusterTime,
    count: u64,
    first: Vec<Value>,
}

impl Torn {
    fn to_json(&self) -> Value {
        json!({
            "state": "told",
            "after": self.after.to_string(),
            "until": self.until.to_string(),
            "count": self.count,
            "first": self.first,
        })
    }
}

/// The search through the record, in its order.
struct Search {
    undone: BTreeSet<String>,
    assembler: Assembler,
    torn: Torn,
    /// Set when nothing more is to be read.
    answer: Option<Answer>,
}

impl Search {
    fn new(undone: BTreeSet<String>, after: ClusterTime, until: ClusterTime) -> Self {
        let torn = Torn { after, until, count: 0, first: Vec::new() };
        Self { undone, assembler: Assembler::new(), torn, answer: None }
    }

    fn block(&mut self, block: &[u8]) {
        for entry in raw::documents(block) {
            if self.answer.is_some() {
                return;
            }
            match entry.and_then(Entry::read) {
                Ok(entry) => self.entry(&entry),
                Err(error) => self.give_up(&error),
            }
        }
    }

    fn entry(&mut self, entry: &Entry<'_>) {
        if of_history(entry.time) > self.torn.until {
            let torn = Torn { first: std::mem::take(&mut self.torn.first), ..self.torn };
            self.answer = Some(Answer::Told(torn));
            return;
        }
        match self.assembler.feed(entry) {
            Ok(Step::Committed(committed)) => {
                let at = of_history(committed.time);
                if self.torn.after < at && at <= self.torn.until {
                    self.transaction(at, &committed);
                }
            }
            Ok(_) => {}
            // It took effect before the state that was restored, or its end will be found to lack its beginning.
            Err(TransactionError::BeginningMissing { .. }) if !self.is_of_concern(entry) => {}
            Err(error) => self.give_up(&error),
        }
        if self.assembler.bytes() > OPEN_BYTES_MAX {
            let what = format!("transactions that were open at {} hold too much", of_history(entry.time));
            self.answer = Some(Answer::Unknown(what));
        }
    }

    fn is_of_concern(&self, entry: &Entry<'_>) -> bool {
        match entry.transaction().map(|part| part.step) {
            Some(TransactionStep::Commit { commit_time }) => of_history(commit_time) > self.torn.after,
            _ => of_history(entry.time) > self.torn.after,
        }
    }

    fn transaction(&mut self, at: ClusterTime, committed: &Committed<'_>) {
        let (mut selected, mut others) = (BTreeSet::new(), BTreeSet::new());
        for operation in committed.operations() {
            let operation = match operation {
                Ok(operation) => operation,
                Err(error) => return self.give_up(&error),
            };
            let writes =
                matches!(operation.kind, Kind::Insert { .. } | Kind::Update { .. } | Kind::Delete { .. });
            let taken = Namespace::parse(operation.namespace).is_some_and(|ns| ns.never_taken().is_none());
            if !writes || !taken {
                continue;
            }
            let side = if self.undone.contains(operation.namespace) { &mut selected } else { &mut others };
            if side.len() < NAMED_MAX {
                side.insert(operation.namespace.to_owned());
            }
        }
        if selected.is_empty() || others.is_empty() {
            return;
        }
        self.torn.count += 1;
        if self.torn.first.len() < DESCRIBED_MAX {
            self.torn.first.push(json!({"at": at.to_string(), "undone": selected, "kept": others}));
        }
    }

    fn give_up(&mut self, error: &dyn std::fmt::Display) {
        self.answer = Some(Answer::Unknown(format!("the record of operations cannot be read: {error}")));
    }
}

const fn of_history(time: history::ClusterTime) -> ClusterTime {
    ClusterTime { seconds: time.seconds, increment: time.increment }
}
