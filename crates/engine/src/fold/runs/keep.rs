//! Where changes go that are not applied.

use std::collections::{BTreeMap, VecDeque};

use futures::TryStreamExt as _;
use history::{
    ClusterTime, CollectionId, Cut, Cutter, SortKey,
    change::{self, Change, Coalesced, Write, record_bytes},
};
use vault::{DeltaBuilder, DeltaEntry, DeltaList, DeltaRun, Manifest, ManifestWriter};

use super::{RUNS_MAX, StoredRun};
use crate::{
    fold::{FoldFailure, lister::pin_all},
    lease::JobError,
    pipeline::{Pending, SegmentStore},
};

/// Objects are pinned so many at a time.
const PIN_AT_A_TIME: usize = 256;

/// A run of the base that stays as it is.
struct Standing {
    run: DeltaRun,
    /// Bytes of its changes that are needed.
    live: u64,
}

/// The runs of a snapshot in the making.
pub(in crate::fold) struct Keeping<'a> {
    store: &'a SegmentStore,
    base: Manifest,
    standing: Vec<Standing>,
    /// What took effect up to then is in runs that stay.
    standing_through: ClusterTime,
    list: DeltaList,
    builder: DeltaBuilder,
    /// In the order of the list.
    on_their_way: VecDeque<Pending<DeltaEntry>>,
    cutter: Cutter,
    last: Option<(CollectionId, SortKey)>,
    documents: BTreeMap<CollectionId, i64>,
}

/// The changes of one document, as they are kept.
pub(in crate::fold) type Rest = (SortKey, Coalesced);

impl<'a> Keeping<'a> {
    /// Decides which runs of the base stay, now that so many bytes of changes come.
    pub(in crate::fold) fn begin(
        store: &'a SegmentStore,
        writer: &ManifestWriter,
        base: &Manifest,
        new_bytes: u64,
    ) -> Self {
        let runs = base.delta_runs();
        let stays = staying(runs, new_bytes);
        let standing: Vec<_> =
            runs[..stays].iter().map(|run| Standing { run: run.clone(), live: 0 }).collect();
        let standing_through =
            standing.last().map_or(ClusterTime::NONE, |last| crate::fold::of_model(last.run.through));
        Self {
            store,
            base: base.clone(),
            standing,
            standing_through,
            list: writer.delta_list(),
            builder: DeltaBuilder::new(),
            on_their_way: VecDeque::new(),
            cutter: Cutter::new(),
            last: None,
            documents: BTreeMap::new(),
        }
    }

    /// Keeps what has changed in one segment. Collections and keys ascend from call to call.
    pub(in crate::fold) async fn keep(&mut self, id: CollectionId, kept: Vec<Rest>) -> Result<(), JobError> {
        for (key, coalesced) in kept {
            *self.documents.entry(id).or_default() += net(&coalesced);
            // What came and went again leaves nothing, unless a run that stays has that it came.
            let is_nothing = coalesced.is_new && matches!(coalesced.pending, change::Pending::Delete);
            let came = coalesced.first.time;
            if is_nothing && came > self.standing_through {
                continue;
            }
            // Whoever finds a later change of it has to find that it came: as long as a run that stays tells that, it is not
            // let go.
            if coalesced.is_new {
                self.account(came, 1);
            }
            for change in changes_of(id, &key, coalesced) {
                if change.position.time > self.standing_through {
                    self.write(&change).await?;
                } else {
                    self.account(change.position.time, record_bytes(&change) as u64);
                }
            }
        }
        Ok(())
    }

    /// So many bytes of what a run that stays has of that time are needed.
    fn account(&mut self, time: ClusterTime, bytes: u64) {
        let run =
            self.standing.iter_mut().find(|standing| crate::fold::of_model(standing.run.through) >= time);
        if let Some(standing) = run {
            standing.live += bytes;
        }
    }

    async fn write(&mut self, change: &Change<'_>) -> Result<(), JobError> {
        let is_same =
            self.last.as_ref().is_some_and(|(id, key)| *id == change.collection && *key == change.key);
        if !is_same {
            // Where nothing has changed, the same deltas come out again.
            let mut place = change.collection.0.to_vec();
            place.extend_from_slice(change.key.as_bytes());
            if self.cutter.offer(&place, record_bytes(change)) != Cut::Stay {
                self.seal().await?;
            }
            self.last = Some((change.collection, change.key.clone()));
        }
        Ok(self.builder.push(change)?)
    }

    /// Stores what was gathered.
    async fn seal(&mut self) -> Result<(), JobError> {
        if self.builder.is_empty() {
            return Ok(());
        }
        let builder = std::mem::take(&mut self.builder);
        // Those on their way are few: whoever hands one over waits for room.
        let pending = self.store.submit_delta(builder).await?;
        self.on_their_way.push_back(pending);
        while self.on_their_way.front().is_some_and(Pending::is_done) {
            self.list_first().await?;
        }
        Ok(())
    }

    /// Lists the first delta that is on its way, once it is durable.
    async fn list_first(&mut self) -> Result<(), JobError> {
        let Some(first) = self.on_their_way.pop_front() else { return Ok(()) };
        Ok(self.list.push(&first.entry().await?).await?)
    }

    /// The runs of the snapshot as of `at`, everything in them durable and pinned.
    pub(in crate::fold) async fn finish(mut self, at: model::ClusterTime) -> Result<Kept, FoldFailure> {
        self.seal().await?;
        while !self.on_their_way.is_empty() {
            self.list_first().await?;
        }
        let mut runs = Vec::new();
        for Standing { run, live } in self.standing {
            if live == 0 {
                continue;
            }
            let pages: Vec<_> = run.pages.iter().map(|page| page.name).collect();
            pin_all(self.store, &pages).await?;
            let ctx = self.store.ctx();
            let mut deltas = self.base.deltas(&run).map_ok(|entry| entry.name).try_chunks(PIN_AT_A_TIME);
            loop {
                match ctx.or_stop(deltas.try_next()).await? {
                    Ok(Some(names)) => pin_all(self.store, &names).await?,
                    Ok(None) => break,
                    Err(error) => return Err(FoldFailure::of_base(ctx, error.1).await),
                }
            }
            runs.push(DeltaRun { live_bytes: live.min(run.bytes), ..run });
        }
        runs.extend(self.list.finish(at).await.map_err(JobError::from)?);
        Ok(Kept { runs, documents: self.documents })
    }
}

/// What is kept beside the segments of a state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// The runs, from the oldest to the newest.
    pub runs: Vec<DeltaRun>,
    /// By how much they make the documents of each collection more, or fewer, than those in its segments.
    pub documents: BTreeMap<CollectionId, i64>,
}

impl Kept {
    /// Says that a collection is not taken from here after all: what is kept of it has been outlived.
    pub(crate) fn forget(&mut self, uuid: [u8; 16]) {
        self.documents.remove(&CollectionId(uuid));
    }

    /// Hands it to the manifest.
    ///
    /// # Errors
    /// As [`ManifestWriter::push_delta_run`].
    pub fn put(self, manifest: &mut ManifestWriter) -> vault::Result<()> {
        manifest.count_beside(self.documents.values().sum());
        self.runs.into_iter().try_for_each(|run| manifest.push_delta_run(run))
    }
}

/// How many runs stay, from the oldest on; the others are written anew together with the new changes.
fn staying(runs: &[DeltaRun], new_bytes: u64) -> usize {
    let mut stays = runs.len();
    let mut written = new_bytes;
    while let Some(last) = stays.checked_sub(1).map(|at| &runs[at])
        && (last.live_bytes <= written.saturating_mul(2) || stays >= RUNS_MAX)
    {
        stays -= 1;
        written = written.saturating_add(last.live_bytes);
    }
    let outlived = runs[..stays].iter().position(|run| run.live_bytes < run.bytes / 2);
    outlived.unwrap_or(stays)
}

/// All runs of a manifest.
pub(in crate::fold) fn stored(ctx: &crate::lease::JobContext, manifest: &Manifest) -> Vec<StoredRun> {
    manifest.delta_runs().iter().map(|run| StoredRun::begin(ctx, manifest, run)).collect()
}

/// By how much changes make the documents more, or fewer.
fn net(coalesced: &Coalesced) -> i64 {
    let is_there = !matches!(coalesced.pending, change::Pending::Delete);
    i64::from(is_there) - i64::from(!coalesced.is_new)
}

/// What coalesced changes are, one by one.
pub(in crate::fold) fn changes_of(
    collection: CollectionId,
    key: &SortKey,
    coalesced: Coalesced,
) -> Vec<Change<'static>> {
    let Coalesced { pending, is_new, last, .. } = coalesced;
    let one = |position, write| Change { collection, key: key.clone(), position, write };
    match pending {
        change::Pending::Put(document) if is_new => vec![one(last, Write::Insert(document.into()))],
        change::Pending::Put(document) => vec![one(last, Write::Replace(document.into()))],
        change::Pending::Delete => vec![one(last, Write::Delete)],
        change::Pending::Patches(patches) => patches
            .into_iter()
            .map(|patch| {
                let write = match patch.new {
                    Some(new) => Write::Reapply { new: new.into(), diff: patch.diff.into() },
                    None => Write::Patch(patch.diff.into()),
                };
                one(patch.at, write)
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(bytes: u64, live_bytes: u64) -> DeltaRun {
        DeltaRun {
            through: model::ClusterTime::default(),
            deltas: 1,
            bytes,
            live_bytes,
            stored_bytes: bytes,
            pages: vec![],
        }
    }

    #[test]
    fn runs_are_written_anew_with_their_like() {
        let runs = [run(1000, 1000), run(100, 100), run(10, 10)];
        assert_eq!(staying(&runs, 1), 3);
        assert_eq!(staying(&runs, 5), 2);
        assert_eq!(staying(&runs, 40), 1, "10 and 40 together are half of 100");
        assert_eq!(staying(&runs, 460), 0);
        assert_eq!(staying(&[], 7), 0);
    }

    #[test]
    fn what_was_outlived_goes() {
        let runs = [run(1000, 1000), run(100, 49), run(10, 10)];
        assert_eq!(staying(&runs, 1), 1);
    }

    /// However many snapshots there are, and however little changes in each.
    #[test]
    fn there_are_never_many_and_little_is_written_again() {
        let (mut runs, mut written, mut most): (Vec<DeltaRun>, u64, usize) = (vec![], 0, 0);
        for _ in 0..4096 {
            let stays = staying(&runs, 1);
            let new = 1 + runs[stays..].iter().map(|run| run.bytes).sum::<u64>();
            runs.truncate(stays);
            runs.push(run(new, new));
            written += new;
            most = most.max(runs.len());
        }
        assert!(most <= RUNS_MAX, "{most} runs");
        assert!(written < 4096 * 60, "{written} written for 4096");
    }
}
