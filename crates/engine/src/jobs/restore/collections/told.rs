//! What the catalog is told of each collection while it is restored: noted as it happens, written once in a while.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use catalog::RestoredCollection;
use model::collection_restore::CollectionStep;
use tokio::time::Instant;

use super::super::{checkpoint::Checkpoint, source::Item};
use crate::lease::{JobContext, JobError};

/// How often the catalog is told at most while collections are loaded.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// The collections of one job. Nothing is told of jobs that are no collection restores.
#[derive(Debug, Default)]
pub(crate) struct Told {
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    /// In their order in the catalog.
    lines: Vec<RestoredCollection>,
    /// Which line an item of the manifest has.
    of_item: BTreeMap<u64, usize>,
    /// Lines that the catalog does not know as they are, each with the number of its last change.
    changed: BTreeMap<usize, u64>,
    changes: u64,
    last_told: Option<Instant>,
}

impl Told {
    /// Tells the catalog of these lines, each of an item of the manifest or of none, instead of what it was told before.
    pub(super) async fn begin(
        ctx: &JobContext,
        mut lines: Vec<(Option<u64>, RestoredCollection)>,
    ) -> Result<Self, JobError> {
        lines.sort_by(|(_, a), (_, b)| a.source.cmp(&b.source));
        let mut noted = Noted { last_told: Some(Instant::now()), ..Noted::default() };
        for (index, (item, mut line)) in lines.into_iter().enumerate() {
            line.ordinal = index as u64;
            noted.of_item.extend(item.map(|item| (item, index)));
            noted.lines.push(line);
        }
        ctx.catalog().restores().begin_collections(ctx.lease(), &noted.lines).await?;
        Ok(Self { noted: Mutex::new(noted) })
    }

    /// Its documents are loaded from the first one on.
    pub(crate) fn loading(&self, item: &Item) {
        self.note(item, |line| {
            (line.step, line.documents_done, line.error) = (CollectionStep::Loading, 0, None);
        });
    }

    /// So many more documents are loaded.
    pub(crate) fn counted(&self, item: &Item, documents: u64) {
        self.note(item, |line| line.documents_done += documents);
    }

    /// All its documents are loaded: as many as `item` says by now. Its indexes are next, if there are any.
    pub(crate) fn loaded(&self, item: &Item, has_indexes: bool) {
        let documents = item.entry.documents;
        self.note(item, |line| {
            (line.documents_total, line.documents_done) = (documents, documents);
            line.step = if has_indexes { CollectionStep::Indexing } else { CollectionStep::Staged };
        });
    }

    /// It lies ready.
    pub(crate) fn staged(&self, item: &Item) {
        self.note(item, |line| line.step = CollectionStep::Staged);
    }

    /// It has its name.
    pub(crate) fn in_place(&self, item: &Item) {
        self.note(item, |line| line.step = CollectionStep::InPlace);
    }

    /// It could not be loaded, or its indexes could not be built. What stops the whole job is not its own failure.
    pub(crate) fn failed(&self, item: &Item, step: CollectionStep, error: &JobError) {
        if matches!(error, JobError::Failed { .. }) {
            let text = error.full_text();
            self.note(item, |line| (line.step, line.error) = (step, Some(text)));
        }
    }

    /// Everything has its name.
    pub(crate) fn all_in_place(&self, items: &[Item], state: &Checkpoint) {
        if self.noted().lines.is_empty() {
            return;
        }
        for item in state.as_loaded(items) {
            self.loaded(&item, false);
            self.in_place(&item);
        }
    }

    /// Tells the catalog again and again, until the lease is lost. May be broken off at any moment, and begun again.
    pub(crate) async fn keep_telling(&self, ctx: &JobContext) -> JobError {
        loop {
            let last = self.noted().last_told.unwrap_or_else(Instant::now);
            tokio::time::sleep_until(last + TELL_EVERY).await;
            if let Err(lost) = self.try_tell(ctx).await {
                return lost;
            }
        }
    }

    /// The same as [`Self::tell`], but what hinders it is only logged: it is told with what changes next.
    ///
    /// # Errors
    /// [`JobError::Lost`] when the lease is gone.
    pub(crate) async fn try_tell(&self, ctx: &JobContext) -> Result<(), JobError> {
        match self.tell(ctx).await {
            Err(JobError::Lost) => Err(JobError::Lost),
            Err(hindrance) => {
                let hindrance = hindrance.full_text();
                tracing::warn!(
                    error = hindrance,
                    "the catalog cannot be told how far collections are: {hindrance}"
                );
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Tells the catalog what it does not know yet.
    ///
    /// # Errors
    /// [`JobError::Lost`] when the lease is gone, else what the catalog says.
    pub(crate) async fn tell(&self, ctx: &JobContext) -> Result<(), JobError> {
        let (changed, lines) = {
            let mut noted = self.noted();
            noted.last_told = Some(Instant::now());
            let lines: Vec<_> =
                noted.changed.keys().filter_map(|index| noted.lines.get(*index)).cloned().collect();
            (noted.changed.clone(), lines)
        };
        if lines.is_empty() {
            return Ok(());
        }
        ctx.catalog().restores().tell_collections(ctx.lease(), &lines).await?;
        // What has changed again since then is told the next time.
        self.noted().changed.retain(|index, change| changed.get(index) != Some(change));
        Ok(())
    }

    fn note(&self, item: &Item, change: impl FnOnce(&mut RestoredCollection)) {
        let mut noted = self.noted();
        let Some(index) = noted.of_item.get(&item.ordinal).copied() else { return };
        if let Some(line) = noted.lines.get_mut(index) {
            change(line);
            noted.changes += 1;
            let number = noted.changes;
            noted.changed.insert(index, number);
        }
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
