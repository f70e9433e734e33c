//! Looks behind every read for DDL that may have falsified it.
//!
//! A collection that was dropped or renamed after the time of a snapshot reads back **empty, without an error**. So a
//! read counts only once the oplog between the snapshot's time and a time after the end of the read shows no such
//! DDL on the collection's identity. What happens to the collection after its own read does not matter.

use std::time::{Duration, Instant};

use mongo::{ClusterTime, DdlEvent, DdlKind, Deployment, Namespace};

/// Reads that are not urgent are looked behind together, to spare the deployment a note in its oplog for each.
pub(super) const TOGETHER: usize = 64;
/// And none waits for longer than this.
pub(super) const WAIT_MAX: Duration = Duration::from_millis(250);

/// A collection whose read has ended, or has gone so far as is to be looked behind.
#[derive(Debug, Clone)]
pub(super) struct Read {
    pub(super) namespace: Namespace,
    pub(super) uuid: Option<[u8; 16]>,
}

/// A read that does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) namespace: Namespace,
    pub(super) cause: String,
    /// The deployment is in trouble, and needs a while.
    pub(super) needs_time: bool,
}

/// Looks behind the reads of one attempt.
pub(super) struct Guard {
    deployment: Deployment,
    term: i64,
    searched_to: ClusterTime,
    events: Vec<DdlEvent>,
    waiting: Vec<Read>,
    since: Option<Instant>,
    /// So many of the reads that it took, from the first on, are known to count.
    proven: usize,
}

impl Guard {
    /// A guard for reads at cluster time `at`, which was taken in this term of the primary.
    pub(super) fn new(deployment: &Deployment, term: i64, at: ClusterTime) -> Self {
        Self {
            deployment: deployment.clone(),
            term,
            searched_to: at,
            events: vec![],
            waiting: vec![],
            since: None,
            proven: 0,
        }
    }

    /// Takes a read that has ended. Urgent ones, of collections that were hit before, are looked behind at once:
    /// the next DDL on them is not far.
    pub(super) async fn ended(&mut self, read: Read, urgent: bool) -> Result<Option<Hit>, mongo::Error> {
        self.waiting.push(read);
        let since = *self.since.get_or_insert_with(Instant::now);
        if urgent || self.waiting.len() >= TOGETHER || since.elapsed() >= WAIT_MAX {
            self.look().await
        } else {
            Ok(None)
        }
    }

    /// Looks behind all reads that wait. The first hit, if any.
    pub(super) async fn look(&mut self) -> Result<Option<Hit>, mongo::Error> {
        if self.waiting.is_empty() {
            return Ok(None);
        }
        let waiting = std::mem::take(&mut self.waiting);
        self.since = None;
        let hit = self.judge(&waiting).await?.into_iter().flatten().next();
        if hit.is_none() {
            self.proven += waiting.len();
        }
        Ok(hit)
    }

    /// How many of the reads that were taken are known to count: the first ones.
    pub(super) fn proven(&self) -> usize {
        self.proven
    }

    /// Looks behind these reads, which need not have been taken: what is known against each.
    pub(super) async fn judge(&mut self, reads: &[Read]) -> Result<Vec<Option<Hit>>, mongo::Error> {
        let now = mongo::time::majority_now(&self.deployment).await?;
        // In an unchanged term everything that any member has shown is in the oplog that is searched. After an election
        // it may have been undone: then the old primary showed a collection as dropped that was not.
        let term = self.deployment.term().await?;
        if term != self.term {
            let cause = "there was an election while it was read";
            let hit = |read: &Read| Hit {
                namespace: read.namespace.clone(),
                cause: cause.to_owned(),
                needs_time: true,
            };
            return Ok(reads.iter().map(|read| Some(hit(read))).collect());
        }
        self.events.extend(mongo::ddl::between(&self.deployment, self.searched_to, now).await?);
        self.searched_to = now;
        let hit = |read: &Read| {
            let event = self.events.iter().find(|event| falsifies(event, read))?;
            Some(Hit { cause: describe(event), namespace: read.namespace.clone(), needs_time: false })
        };
        Ok(reads.iter().map(hit).collect())
    }
}

/// Whether an event may have falsified a read.
fn falsifies(event: &DdlEvent, read: &Read) -> bool {
    match &read.uuid {
        Some(uuid) => event.disturbs(uuid),
        // Whatever has documents has an identity; should one be missing, the name decides.
        None => {
            event.db == read.namespace.db
                && event.collection.as_ref().is_none_or(|name| *name == read.namespace.collection)
        }
    }
}

fn describe(event: &DdlEvent) -> String {
    let what = match &event.kind {
        DdlKind::Drop => "it was dropped".to_owned(),
        DdlKind::DropDatabase => "its database was dropped".to_owned(),
        DdlKind::Rename { to, .. } => format!("it was renamed or replaced by a rename to {to}"),
        other => format!("it was changed ({other:?})"),
    };
    format!("{what} at {},{} while it was read", event.at.time, event.at.increment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: DdlKind, uuid: Option<[u8; 16]>, collection: Option<&str>) -> DdlEvent {
        DdlEvent {
            at: ClusterTime { time: 1, increment: 1 },
            uuid,
            db: "app".to_owned(),
            collection: collection.map(str::to_owned),
            kind,
        }
    }

    #[test]
    fn only_what_hides_documents_falsifies_a_read() {
        let read = Read { namespace: Namespace::new("app", "x"), uuid: Some([1; 16]) };
        let hit = |kind, uuid, collection| falsifies(&event(kind, uuid, collection), &read);
        assert!(hit(DdlKind::Drop, Some([1; 16]), Some("x")));
        // The collection was renamed before; its identity counts, not its name.
        assert!(hit(DdlKind::Drop, Some([1; 16]), Some("y")));
        assert!(!hit(DdlKind::Drop, Some([2; 16]), Some("x")), "another collection of that name");
        let onto = |dropped| DdlKind::Rename { to: "app.x".to_owned(), dropped };
        assert!(hit(onto(Some([1; 16])), Some([9; 16]), Some("tmp")));
        assert!(!hit(onto(Some([3; 16])), Some([9; 16]), Some("tmp")));
        assert!(hit(onto(None), Some([1; 16]), Some("x")));
        for kind in [
            DdlKind::Create,
            DdlKind::CollMod,
            DdlKind::IndexesCreated,
            DdlKind::IndexesDropped,
            DdlKind::ViewWrite,
        ] {
            assert!(!hit(kind, Some([1; 16]), Some("x")));
        }
    }
}
