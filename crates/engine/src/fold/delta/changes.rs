//! Changes of sorted collections, sorted: in memory up to a number of bytes, on local disk beyond.

use std::{
    collections::VecDeque,
    mem,
    path::{Path, PathBuf},
    vec,
};

use history::{
    ClusterTime, CollectionId, SortKey,
    change::{self, Change, Coalesced, Defect, MergedRuns, Outcome, Pending, Write},
};

use crate::{
    fold::runs::{Rest, StoredRun, changes_of},
    lease::JobError,
    sort::MERGE_BYTES,
    spill::{Run, RunReader, SpillWriter},
};

/// What a change takes beside the bytes of its key and its document.
const CHANGE_OVERHEAD_BYTES: usize = size_of::<Change<'static>>() + 32;
/// Diffs of one document are kept until they hold this much, and then applied to it.
const PATCH_BYTES_MAX: usize = 1 << 20;

/// Takes changes in any order.
pub(in crate::fold) struct ChangeSorter {
    dir: PathBuf,
    pending: Vec<Change<'static>>,
    bytes: usize,
    writer: Option<SpillWriter>,
    runs: Vec<Run>,
    total_bytes: u64,
}

impl ChangeSorter {
    /// Spills to `dir`.
    pub(in crate::fold) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            pending: Vec::new(),
            bytes: 0,
            writer: None,
            runs: Vec::new(),
            total_bytes: 0,
        }
    }

    /// Takes one.
    pub(in crate::fold) fn push(&mut self, change: Change<'static>) {
        let bytes = change.key.as_bytes().len() + change.write.bytes();
        self.bytes += bytes + CHANGE_OVERHEAD_BYTES;
        self.total_bytes += bytes as u64;
        self.pending.push(change);
    }

    /// Bytes in memory.
    pub(in crate::fold) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Runs on disk.
    #[cfg(test)]
    pub(in crate::fold) fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Writes what is in memory to disk.
    pub(in crate::fold) fn spill(&mut self) -> Result<(), JobError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut pending = mem::take(&mut self.pending);
        self.bytes = 0;
        pending.sort_unstable();
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(SpillWriter::create(&self.dir)?),
        };
        let run = write_run(writer, pending.into_iter().map(Ok))?;
        self.runs.push(run);
        if self.runs.iter().map(Run::reader_bytes).sum::<usize>() > MERGE_BYTES {
            self.merge_runs()?;
        }
        Ok(())
    }

    /// Makes one run of all, in a new file; the old one goes with its last run.
    fn merge_runs(&mut self) -> Result<(), JobError> {
        let mut writer = SpillWriter::create(&self.dir)?;
        let merged = change::merge(mem::take(&mut self.runs).iter().map(Source::spilled));
        self.runs = vec![write_run(&mut writer, merged)?];
        self.writer = Some(writer);
        Ok(())
    }

    /// All of them, sorted. Where there is more than memory holds nothing stays in it: what folds them needs it.
    pub(in crate::fold) fn finish(mut self) -> Result<SortedChanges, JobError> {
        if !self.runs.is_empty() {
            self.spill()?;
        }
        self.pending.sort_unstable();
        let mut sources: Vec<_> = self.runs.iter().map(Source::spilled).collect();
        sources.push(Source::Memory(self.pending.into_iter()));
        SortedChanges::of(sources, self.total_bytes)
    }
}

fn write_run(
    writer: &mut SpillWriter,
    changes: impl Iterator<Item = Result<Change<'static>, JobError>>,
) -> Result<Run, JobError> {
    let mut record = Vec::new();
    for change in changes {
        record.clear();
        change::push_record(&mut record, &change?);
        writer.push(&[], &record)?;
    }
    Ok(writer.end_run()?)
}

/// One sorted run.
enum Source {
    Memory(vec::IntoIter<Change<'static>>),
    Spilled(RunReader),
    Stored(StoredRun),
    Merged(Box<SortedChanges>),
}

impl Source {
    fn spilled(run: &Run) -> Self {
        Self::Spilled(run.reader())
    }
}

impl Iterator for Source {
    type Item = Result<Change<'static>, JobError>;

    fn next(&mut self) -> Option<Self::Item> {
        let reader = match self {
            Self::Memory(changes) => return changes.next().map(Ok),
            Self::Stored(run) => return run.next(),
            Self::Merged(changes) => return changes.advance().transpose(),
            Self::Spilled(reader) => reader,
        };
        match reader.advance() {
            Ok(true) => Some(read_record(reader.value())),
            Ok(false) => None,
            Err(error) => Some(Err(error.into())),
        }
    }
}

fn read_record(record: &[u8]) -> Result<Change<'static>, JobError> {
    match change::split_record(record) {
        Ok(Some((change, []))) => Ok(Change { write: change.write.into_owned(), ..change }),
        _ => Err(JobError::failed("a bug in Ebbtide: a spilled change does not read back as it was written")),
    }
}

/// Changes by collection, then by key, then in the order in which they take effect. Reads from disk.
pub(in crate::fold) struct SortedChanges {
    merged: MergedRuns<Source, JobError>,
    head: Option<Change<'static>>,
    /// What was taken and put back, behind the head.
    ahead: VecDeque<Change<'static>>,
    total_bytes: u64,
}

/// A key, and the document that is there now, if one is.
pub(in crate::fold) type Applied = (SortKey, Option<Vec<u8>>);

/// Why the changes of one document do not give a document.
pub(in crate::fold) enum ApplyError {
    /// They contradict it.
    Defect { key: SortKey, defect: Defect },
    /// They cannot be read.
    Job(JobError),
}

impl From<JobError> for ApplyError {
    fn from(error: JobError) -> Self {
        Self::Job(error)
    }
}

impl SortedChanges {
    fn of(sources: Vec<Source>, total_bytes: u64) -> Result<Self, JobError> {
        let mut sorted =
            Self { merged: change::merge(sources), head: None, ahead: VecDeque::new(), total_bytes };
        sorted.advance()?;
        Ok(sorted)
    }

    /// Together with older changes out of the vault.
    pub(in crate::fold) fn with_runs(self, runs: Vec<StoredRun>) -> Result<Self, JobError> {
        if runs.is_empty() {
            return Ok(self);
        }
        let total_bytes = self.total_bytes;
        let own = Source::Merged(Box::new(self));
        Self::of(runs.into_iter().map(Source::Stored).chain([own]).collect(), total_bytes)
    }

    /// About how many bytes of new changes there are, those included that are there no more.
    pub(in crate::fold) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Passes over changes of documents of a collection below `bound` that took effect at `through` or before, up to the first
    /// that did not.
    pub(in crate::fold) fn pass(
        &mut self,
        collection: CollectionId,
        bound: Option<&[u8]>,
        through: ClusterTime,
    ) -> Result<(), JobError> {
        let is_passed = |head: &Change<'_>| {
            head.collection == collection
                && head.position.time <= through
                && bound.is_none_or(|bound| head.key.as_bytes() < bound)
        };
        while self.head.as_ref().is_some_and(is_passed) {
            self.advance()?;
        }
        Ok(())
    }

    /// Takes the changes of documents of a collection below `bound` that took effect after `through`, as long as they hold no
    /// more than so many bytes; none, and nothing is taken, when they hold more.
    pub(in crate::fold) fn take_few(
        &mut self,
        collection: CollectionId,
        bound: Option<&[u8]>,
        through: ClusterTime,
        bytes_max: u64,
    ) -> Result<Option<Vec<Rest>>, ApplyError> {
        let (mut taken, mut bytes): (Vec<Rest>, u64) = (Vec::new(), 0);
        loop {
            self.pass(collection, bound, through)?;
            if self.key_in(collection).is_none_or(|key| bound.is_some_and(|bound| key >= bound)) {
                return Ok(Some(taken));
            }
            let Some((key, coalesced, _)) = self.take_next()? else { return Ok(Some(taken)) };
            if let Some(defect) = coalesced.defect {
                return Err(ApplyError::Defect { key, defect });
            }
            bytes += (key.as_bytes().len() + coalesced.bytes()) as u64;
            taken.push((key, coalesced));
            if bytes > bytes_max {
                self.put_back(collection, taken);
                return Ok(None);
            }
        }
    }

    /// Puts back what was taken, of documents before the next change.
    pub(in crate::fold) fn put_back(&mut self, collection: CollectionId, taken: Vec<Rest>) {
        let changes = taken.into_iter().flat_map(|(key, coalesced)| changes_of(collection, &key, coalesced));
        self.put_before(changes);
    }

    fn put_before(&mut self, changes: impl IntoIterator<Item = Change<'static>>) {
        let mut ahead: VecDeque<_> = changes.into_iter().chain(self.head.take()).collect();
        ahead.append(&mut self.ahead);
        self.head = ahead.pop_front();
        self.ahead = ahead;
    }

    /// Whether the document of this key is the next that has changed, and its changes end with a deletion. Where there is more of
    /// them than is held it is said to be so.
    pub(in crate::fold) fn deletes(
        &mut self,
        collection: CollectionId,
        key: &[u8],
    ) -> Result<bool, JobError> {
        let (mut seen, mut held): (Vec<Change<'static>>, usize) = (Vec::new(), 0);
        while self.key_in(collection) == Some(key) && held <= PATCH_BYTES_MAX {
            let Some(change) = self.advance()? else { break };
            held += change.write.bytes() + CHANGE_OVERHEAD_BYTES;
            seen.push(change);
        }
        let ends = seen.last().is_some_and(|last| last.write == Write::Delete);
        let deletes = ends || self.key_in(collection) == Some(key);
        self.put_before(seen);
        Ok(deletes)
    }

    /// The key of the next change, if it is one of this collection.
    pub(in crate::fold) fn key_in(&self, collection: CollectionId) -> Option<&[u8]> {
        self.head.as_ref().filter(|head| head.collection == collection).map(|head| head.key.as_bytes())
    }

    /// Takes the changes of the document at hand, unapplied, until they hold more than a limit; whether there are more.
    pub(in crate::fold) fn take_next(&mut self) -> Result<Option<(SortKey, Coalesced, bool)>, JobError> {
        let Some(first) = self.advance()? else { return Ok(None) };
        let (collection, key) = (first.collection, first.key);
        let mut held = first.write.bytes();
        let mut coalesced = Coalesced::new(first.write, first.position);
        loop {
            if !self.head.as_ref().is_some_and(|next| next.collection == collection && next.key == key) {
                return Ok(Some((key, coalesced, false)));
            }
            if held > PATCH_BYTES_MAX && matches!(coalesced.pending, Pending::Patches(_)) {
                return Ok(Some((key, coalesced, true)));
            }
            let Some(next) = self.advance()? else { return Ok(Some((key, coalesced, false))) };
            held += next.write.bytes();
            coalesced.then(next.write, next.position);
        }
    }

    /// Takes the next change, if it is one of this collection.
    pub(in crate::fold) fn take_in(
        &mut self,
        collection: CollectionId,
    ) -> Result<Option<Change<'static>>, JobError> {
        match self.key_in(collection) {
            Some(_) => self.advance(),
            None => Ok(None),
        }
    }

    /// Passes over the changes of all collections before this one.
    pub(in crate::fold) fn skip_to(&mut self, collection: CollectionId) -> Result<(), JobError> {
        while self.head.as_ref().is_some_and(|head| head.collection < collection) {
            self.advance()?;
        }
        Ok(())
    }

    /// Whether the next change is of a collection before this one.
    pub(in crate::fold) fn is_before(&self, collection: CollectionId) -> bool {
        self.head.as_ref().is_some_and(|head| head.collection < collection)
    }

    /// Takes all changes of the document at hand, and gives its key and what they make of `base`.
    pub(in crate::fold) fn apply_next(&mut self, base: Option<&[u8]>) -> Result<Option<Applied>, ApplyError> {
        let Some(first) = self.advance()? else { return Ok(None) };
        let (collection, key) = (first.collection, first.key);
        let mut held = first.write.bytes();
        let mut coalesced = Coalesced::new(first.write, first.position);
        while self.head.as_ref().is_some_and(|next| next.collection == collection && next.key == key) {
            let Some(next) = self.advance()? else { break };
            held += next.write.bytes();
            coalesced.then(next.write, next.position);
            // A document that is changed a million times must not hold a million diffs.
            if held > PATCH_BYTES_MAX {
                held = 0;
                let mut settled = Vec::new();
                match coalesced.onto(base, &mut settled) {
                    Ok(Outcome::Document) => {
                        coalesced = Coalesced::new(Write::Replace(settled.into()), coalesced.last);
                    }
                    Ok(Outcome::Absent) => {}
                    Err(defect) => return Err(ApplyError::Defect { key, defect }),
                }
            }
        }
        let mut after = Vec::new();
        match coalesced.onto(base, &mut after) {
            Ok(Outcome::Document) => Ok(Some((key, Some(after)))),
            Ok(Outcome::Absent) => Ok(Some((key, None))),
            Err(defect) => Err(ApplyError::Defect { key, defect }),
        }
    }

    /// Moves on; gives the change that was at hand.
    fn advance(&mut self) -> Result<Option<Change<'static>>, JobError> {
        let next = match self.ahead.pop_front() {
            Some(next) => Some(next),
            None => self.merged.next().transpose()?,
        };
        Ok(mem::replace(&mut self.head, next))
    }
}
