//! What a record changes of a state, for whoever undoes it: the same gathering as that of a fold, with the changes of
//! sorted collections given out document by document instead of being folded into segments.

use std::{collections::BTreeSet, sync::Arc};

use history::{CollectionId, SortKey, change::Coalesced};
use model::ClusterTime;
use tokio::sync::OwnedSemaphorePermit;
use vault::Manifest;

use super::{
    FoldFailure, Record, Unfoldable,
    base::Base,
    delta::{DELTA_BYTES_MAX, Obstacles, SortedChanges, gather},
    of_model,
};
use crate::lease::{JobContext, JobError};

/// The changes after the time of a manifest, up to another time.
pub(crate) struct Changed {
    /// None while a task reads on in them.
    sorted: Option<SortedChanges>,
    capped: BTreeSet<CollectionId>,
    obstacles: Obstacles,
    /// Entries of the record that were read.
    pub(crate) entries: u64,
    _memory: Memory,
}

/// The memory that changes take, for whoever must not wait for it later.
#[derive(Debug, Clone)]
pub(crate) struct Memory(#[expect(dead_code, reason = "it is held")] Arc<OwnedSemaphorePermit>);

impl Memory {
    /// Waits for it.
    ///
    /// # Errors
    /// As [`JobContext::check`].
    pub(crate) async fn of(ctx: &JobContext) -> Result<Self, JobError> {
        Ok(Self(Arc::new(ctx.sort_memory(DELTA_BYTES_MAX).await?)))
    }
}

/// All changes of one document.
pub(crate) struct ChangedDocument {
    /// Its key.
    pub(crate) key: SortKey,
    /// What they come to.
    pub(crate) changes: Coalesced,
    /// Whether there are more, which [`Changed::go_on`] applies to what these make: a document that is changed a million
    /// times must not hold a million diffs.
    pub(crate) more: bool,
}

/// Reads a record from the time of `manifest` to `until`.
///
/// # Errors
/// [`FoldFailure`], but for single collections that cannot be folded: [`Changed::hindered`] tells of those.
pub(crate) async fn changes(
    ctx: &JobContext,
    manifest: &Manifest,
    record: Record<'_>,
    until: ClusterTime,
    memory: Memory,
) -> Result<Changed, FoldFailure> {
    let until = of_model(until);
    record.check(of_model(manifest.header().cluster_time), until)?;
    let base = Base::read(ctx, manifest).await?;
    let delta = gather(ctx, &base, record, until).await?;
    if let Some(everything) = delta.obstacles.everything() {
        return Err(FoldFailure::Unfoldable(vec![everything]));
    }
    Ok(Changed {
        sorted: Some(delta.changes),
        capped: delta.capped.into_keys().collect(),
        obstacles: delta.obstacles,
        entries: delta.entries,
        _memory: memory,
    })
}

impl Changed {
    /// Why it cannot be told what became of a collection.
    pub(crate) fn hindered(&self, id: CollectionId, namespace: &str) -> Option<Unfoldable> {
        self.obstacles.find(Some(id), namespace)
    }

    /// Whether a capped collection was written to.
    pub(crate) fn touches_capped(&self, id: CollectionId) -> bool {
        self.capped.contains(&id)
    }

    /// The key of the next change, if it is one of this collection.
    pub(crate) fn next_key(&self, id: CollectionId) -> Option<&[u8]> {
        self.sorted.as_ref()?.key_in(id)
    }

    /// Passes over the changes of all collections before this one.
    ///
    /// # Errors
    /// When the spilled changes cannot be read.
    pub(crate) async fn skip_to(&mut self, id: CollectionId) -> Result<(), JobError> {
        self.work(move |sorted| sorted.skip_to(id)).await
    }

    /// Passes over all changes of one collection; tells how many documents they are of.
    ///
    /// # Errors
    /// When the spilled changes cannot be read.
    pub(crate) async fn count(&mut self, id: CollectionId) -> Result<u64, JobError> {
        self.work(move |sorted| {
            let mut documents = 0;
            while sorted.key_in(id).is_some() {
                documents += u64::from(!sorted.take_next()?.is_some_and(|(_, _, more)| more));
            }
            Ok(documents)
        })
        .await
    }

    /// The next changed documents of a collection whose keys are below `bound`, until they hold so many bytes. The last
    /// one may have `more`. None when there are none.
    ///
    /// # Errors
    /// When the spilled changes cannot be read.
    pub(crate) async fn take(
        &mut self,
        id: CollectionId,
        bound: Option<Vec<u8>>,
        bytes_max: usize,
    ) -> Result<Vec<ChangedDocument>, JobError> {
        self.work(move |sorted| {
            let (mut taken, mut bytes) = (Vec::new(), 0);
            while bytes < bytes_max
                && sorted.key_in(id).is_some_and(|key| bound.as_deref().is_none_or(|bound| key < bound))
            {
                let Some((key, changes, more)) = sorted.take_next()? else { break };
                bytes += key.as_bytes().len() + changes.bytes();
                taken.push(ChangedDocument { key, changes, more });
                if more {
                    break;
                }
            }
            Ok(taken)
        })
        .await
    }

    /// Applies the rest of the changes of a document that had `more`.
    ///
    /// # Errors
    /// In the outer result when the spilled changes cannot be read; in the inner one when they contradict the document.
    pub(crate) async fn go_on(
        &mut self,
        document: Option<Vec<u8>>,
    ) -> Result<Result<Option<Vec<u8>>, String>, JobError> {
        use super::delta::ApplyError;
        self.work(move |sorted| match sorted.apply_next(document.as_deref()) {
            Ok(applied) => Ok(Ok(applied.and_then(|(_, after)| after))),
            Err(ApplyError::Defect { defect, .. }) => Ok(Err(defect.to_string())),
            Err(ApplyError::Job(error)) => Err(error),
        })
        .await
    }

    /// It reads from disk.
    async fn work<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut SortedChanges) -> Result<T, JobError> + Send + 'static,
    ) -> Result<T, JobError> {
        let mut sorted = self.sorted.take().ok_or_else(lost)?;
        let worked = tokio::task::spawn_blocking(move || {
            let done = work(&mut sorted);
            (sorted, done)
        });
        let (sorted, done) = worked
            .await
            .map_err(|e| JobError::failed_by("a bug in Ebbtide stopped the reading of changes", e))?;
        self.sorted = Some(sorted);
        done
    }
}

fn lost() -> JobError {
    JobError::failed("a bug in Ebbtide lost the changes of a record")
}
