//! From a record of operations to what they change: consumed once, in the order of the oplog, in bounded memory.
//!
//! What counts is what takes effect after the time of the base and not after the time asked for, wherever its entry
//! stands; see "The fold" in `ARCHITECTURE.md`.

mod changes;
mod definitions;
mod evictions;
mod obstacles;
pub(super) mod overlay;
mod read;
#[cfg(test)]
mod tests;
mod trace;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use futures::StreamExt as _;
use history::{
    ClusterTime, CollectionId, SortKey,
    capped::CappedChanges,
    catalog_state::CatalogState,
    change::{Change, Effect, Position, Reason, Unfoldable as Unknown, Write, interpret},
    entry::{Command, Entry, Kind, Operation, TransactionStep},
    skim::Wanted,
    transaction::{Assembler, Step, TransactionError},
};
use mongo::namespace::never_taken_database;
use vault::Hands;

use super::{FoldFailure, Obstacle, base::Base, entries::Record};
use crate::lease::{JobContext, JobError};
pub(super) use changes::{ApplyError, ChangeSorter, SortedChanges};
use evictions::Evictions;
pub(super) use obstacles::Obstacles;
use overlay::{OVERLAY_BYTES_MAX, Overlay, VIEWS, is_overlaid};
use read::{ReadEntry, Reader};
pub(super) use trace::{Binding, Cause, Trace};

/// Blocks that are ready are read together: as many as are read ahead, of about 1 MiB each.
const BLOCKS_AT_A_TIME: usize = 3;
/// Changes and open transactions are held in memory up to this; what is more is sorted and spilled.
pub(super) const DELTA_BYTES_MAX: usize = 64 << 20;
/// No run is shorter than this, however large the open transactions are.
const RUN_BYTES_MIN: usize = DELTA_BYTES_MAX >> 3;
/// Transactions that are open at one time may hold so much, all together. A server of default settings lets one go on
/// for a minute.
const OPEN_BYTES_MAX: usize = 512 << 20;
/// Changes of capped collections are always held in memory, all together up to this.
pub(super) const CAPPED_BYTES_MAX: usize = 64 << 20;

/// What operations change.
pub(super) struct Delta {
    /// The definitions at the time asked for.
    pub(super) catalog: CatalogState,
    /// The changes of sorted collections, those included that are there no more.
    pub(super) changes: SortedChanges,
    /// Those of capped ones.
    pub(super) capped: HashMap<CollectionId, CappedChanges>,
    /// Those of users, roles and definitions of views, by namespace.
    pub(super) overlays: BTreeMap<String, Overlay>,
    /// What cannot be folded.
    pub(super) obstacles: Obstacles,
    /// Entries that were read.
    pub(super) entries: u64,
    /// Writes of documents that count.
    pub(super) writes: u64,
    /// What was to be traced.
    pub(super) trace: Option<Trace>,
}

/// Reads a record as far as it is needed.
pub(super) async fn gather(
    ctx: &JobContext,
    base: &Base,
    record: Record<'_>,
    at: ClusterTime,
) -> Result<Delta, FoldFailure> {
    let mut gathering = Gathering::new(base, at, &ctx.services().settings.spill_dir);
    let (mut blocks, ends) = (record.blocks.ready_chunks(BLOCKS_AT_A_TIME), record.to);
    while !gathering.is_done() {
        let Some(ready) = ctx.or_stop(blocks.next()).await? else { break };
        let (read, failed) = up_to_a_failure(ready);
        // A processor that nobody wants at that moment.
        let second = Arc::clone(&ctx.services().budget.processors).try_acquire_owned();
        gathering = off_the_runtime(move || {
            let mut gathering = gathering;
            gathering.blocks(&read, if second.is_ok() { Hands::Two } else { Hands::One })?;
            Ok(gathering)
        })
        .await?;
        // What cannot be read is told in its turn: everything before it may be all that is needed.
        if let Some(error) = failed.filter(|_| !gathering.is_done()) {
            return Err(error.into());
        }
    }
    off_the_runtime(move || gathering.finish(ends)).await
}

/// What could be read, and why no more could be.
fn up_to_a_failure(ready: Vec<Result<Bytes, JobError>>) -> (Vec<Bytes>, Option<JobError>) {
    let mut read = Vec::with_capacity(ready.len());
    for block in ready {
        match block {
            Ok(block) => read.push(block),
            Err(error) => return (read, Some(error)),
        }
    }
    (read, None)
}

/// Parsing, sorting and spilling would hold up other tasks.
async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FoldFailure> + Send + 'static,
) -> Result<T, FoldFailure> {
    let worked = tokio::task::spawn_blocking(work).await;
    worked.map_err(|e| JobError::failed_by("a bug in Ebbtide stopped the reading of entries", e))?
}

/// Which namespaces are followed: all whose collections may come to be in a manifest, staging names included.
fn is_recorded(namespace: &str) -> bool {
    let database = namespace.split_once('.').map_or(namespace, |(database, _)| database);
    !never_taken_database(database)
}

/// A record that is being read.
pub(super) struct Gathering {
    base: ClusterTime,
    at: ClusterTime,
    wanted: Wanted,
    trace: Option<Trace>,
    /// Collections whose documents in the base are of a later time than everything else in it.
    later: HashMap<CollectionId, ClusterTime>,
    assembler: Assembler,
    catalog: CatalogState,
    /// Until when collections of the base were read that were not read at one time.
    read_through: HashMap<CollectionId, ClusterTime>,
    /// Every collection that was ever there since the base, and in it.
    known: HashSet<CollectionId>,
    changes: ChangeSorter,
    capped: HashMap<CollectionId, CappedChanges>,
    capped_bytes: usize,
    evictions: Evictions,
    overlays: BTreeMap<String, Overlay>,
    obstacles: Obstacles,
    last: ClusterTime,
    wall_ms: Option<i64>,
    order: u64,
    entries: u64,
    writes: u64,
    done: bool,
}

impl Gathering {
    pub(super) fn new(base: &Base, at: ClusterTime, spill_dir: &Path) -> Self {
        Self {
            base: base.at,
            at,
            wanted: Wanted::All,
            trace: None,
            later: base.later(),
            read_through: base.read_through(),
            assembler: Assembler::new(),
            catalog: base.catalog(),
            known: base.collections.keys().copied().collect(),
            changes: ChangeSorter::new(spill_dir),
            capped: HashMap::new(),
            capped_bytes: 0,
            evictions: Evictions::under(&base.manifest.header().fcv),
            overlays: BTreeMap::new(),
            obstacles: Obstacles::default(),
            last: ClusterTime::NONE,
            wall_ms: None,
            order: 0,
            entries: 0,
            writes: 0,
            // A base is the state at its own time.
            done: base.at == at,
        }
    }

    /// The same for what is asked for, with a trace of what a namespace stands for.
    pub(super) fn of(
        base: &Base,
        at: ClusterTime,
        spill_dir: &Path,
        wanted: Wanted,
        namespace: &str,
    ) -> Self {
        let mut gathering = Self::new(base, at, spill_dir);
        gathering.wanted = wanted;
        gathering.trace = Some(Trace::new(namespace, &gathering.catalog));
        gathering
    }

    /// Whether no more entries are needed, now that every entry up to `time` was given or passed over.
    pub(super) fn passed(&mut self, time: ClusterTime) -> bool {
        self.done |= time > self.at && self.assembler.undecided_at(self.at).is_none();
        self.done
    }

    /// Whether no more entries are needed.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Takes the next entries: blocks of whole ones, back to back.
    pub(super) fn blocks(&mut self, blocks: &[Bytes], hands: Hands) -> Result<(), FoldFailure> {
        let wanted = self.wanted.clone();
        let reader = Reader { after: self.base, through: self.at, wanted: &wanted };
        reader.read(blocks, hands, |part| {
            let mut effects = part.effects.into_iter();
            for entry in part.entries {
                let entry = entry.map_err(|error| broken(self.last, format!("after this entry: {error}")))?;
                self.entry(entry, &mut effects)?;
                if self.done {
                    break;
                }
            }
            Ok(!self.done)
        })
    }

    fn entry<'a>(
        &mut self,
        read: ReadEntry<'a>,
        effects: &mut impl Iterator<Item = Effect<'a>>,
    ) -> Result<(), FoldFailure> {
        let entry = &read.entry;
        if entry.time <= self.last {
            return Err(broken(entry.time, format!("the entry stands behind that of {}", self.last)));
        }
        self.last = entry.time;
        self.wall_ms = entry.wall_ms;
        if entry.time > self.at && self.assembler.undecided_at(self.at).is_none() {
            self.done = true;
            return Ok(());
        }
        self.entries += 1;
        match self.assembler.feed(entry) {
            Ok(Step::Plain) if self.counts(entry.time) => {
                let count = read.effects.map_err(|error| broken(entry.time, error.to_string()))?;
                for effect in effects.take(count) {
                    self.effect(effect, entry.time)?;
                }
            }
            Ok(Step::Committed(committed)) if self.counts(committed.time) => {
                for operation in committed.operations() {
                    let operation = operation.map_err(|error| broken(entry.time, error.to_string()))?;
                    self.operation(&operation, committed.time)?;
                }
            }
            Ok(_) => {}
            Err(TransactionError::BeginningMissing { .. }) if self.is_of_base(entry) => {}
            Err(error) => return Err(broken(entry.time, error.to_string())),
        }
        // No later entry is looked at that is not needed: it may be damaged.
        self.done |= entry.time == self.at && self.assembler.undecided_at(self.at).is_none();
        self.keep_small(entry.time)
    }

    fn counts(&self, time: ClusterTime) -> bool {
        self.base < time && time <= self.at
    }

    /// Whether an entry belongs to a transaction that the base has, or that will be committed by an entry that is yet to
    /// come and then found to lack its beginning.
    fn is_of_base(&self, entry: &Entry<'_>) -> bool {
        match entry.transaction().map(|part| part.step) {
            Some(TransactionStep::Commit { commit_time }) => commit_time <= self.base,
            _ => entry.time <= self.base,
        }
    }

    fn keep_small(&mut self, at: ClusterTime) -> Result<(), FoldFailure> {
        let open = self.assembler.bytes();
        if open > OPEN_BYTES_MAX {
            return Err(FoldFailure::LargeTransactions { at, bytes: open, bytes_max: OPEN_BYTES_MAX });
        }
        let pending = self.changes.bytes();
        if pending + open > DELTA_BYTES_MAX && pending > RUN_BYTES_MIN {
            self.changes.spill()?;
        }
        Ok(())
    }

    /// One of a transaction.
    fn operation(&mut self, operation: &Operation<'_>, time: ClusterTime) -> Result<(), FoldFailure> {
        let mut effects = Vec::new();
        interpret(operation, &is_recorded, &mut |effect| effects.push(effect))
            .map_err(|error| broken(time, error.to_string()))?;
        effects.into_iter().try_for_each(|effect| self.effect(effect, time))
    }

    /// What an operation does.
    fn effect(&mut self, effect: Effect<'_>, time: ClusterTime) -> Result<(), FoldFailure> {
        self.order += 1;
        let position = Position { time, order: self.order };
        match effect {
            Effect::Write { namespace, collection, key, write, by_user } => {
                let write = if by_user { self.by_user(collection, &key, write, time) } else { write };
                self.write(namespace, collection, key, write, position);
                // The operations of one transaction may be more than what may be held.
                if self.changes.bytes() > DELTA_BYTES_MAX {
                    self.changes.spill()?;
                }
            }
            Effect::Emptied(collection) => self.empty(collection, time),
            Effect::Definition(operation) => self.definition(&operation, position)?,
            Effect::Unfoldable { namespace, unknown: Unknown { scope, reason } } => {
                let obstacle = Obstacle::Operation(reason);
                self.obstacles.of_scope(scope, namespace, &self.catalog, time, obstacle);
            }
        }
        Ok(())
    }

    /// A write of a user's `applyOps`, as it is to be taken.
    fn by_user<'w>(
        &mut self,
        id: CollectionId,
        key: &SortKey,
        write: Write<'w>,
        time: ClusterTime,
    ) -> Write<'w> {
        let Some(collection) = self.catalog.get(id) else { return write };
        // Of a capped one, where the order counts, it is refused later that a document is inserted that is there.
        let is_capped = collection.is_capped();
        if collection.has_collation() && key.is_collated() && !self.is_in_base(id, time) {
            let obstacle = Obstacle::Operation(Reason::FoundInCollation);
            self.obstacles.of_collection(id, time, obstacle);
        }
        if is_capped { write } else { write.whatever_was() }
    }

    fn write(
        &mut self,
        namespace: &str,
        id: CollectionId,
        key: SortKey,
        write: Write<'_>,
        position: Position,
    ) {
        self.evictions.see(namespace, &key, &write);
        if is_overlaid(namespace) {
            self.write_overlay(namespace, key.clone(), write.clone(), position);
        }
        if !self.wanted.includes(id, &key) {
            return;
        }
        // What the base does not know, and nobody has made since, is temporary or the server's own.
        let Some(collection) = self.catalog.get(id) else { return };
        if self.obstacles.has(id) || self.is_in_base(id, position.time) {
            return;
        }
        self.writes += 1;
        if let Some(trace) = &mut self.trace {
            trace.wrote(position.time, self.wall_ms);
        }
        if !collection.is_capped() {
            let write = write.into_owned();
            return self.changes.push(Change { collection: id, key, position, write });
        }
        if !self.evictions.are_logged() {
            self.obstacles.of_collection(id, position.time, Obstacle::UnloggedEvictions);
            return self.forget_capped(id);
        }
        let capped = self.capped_changes(id);
        let before = capped.bytes();
        capped.write(key, write, position);
        let after = capped.bytes();
        self.capped_bytes = (self.capped_bytes + after).saturating_sub(before);
        if self.capped_bytes > CAPPED_BYTES_MAX {
            // Not whoever was last: a small one must not be in the way of a restore because of a large one.
            let largest =
                self.capped.iter().max_by_key(|(_, capped)| capped.bytes()).map_or(id, |(&id, _)| id);
            let obstacle = Obstacle::TooMuch(CAPPED_BYTES_MAX);
            self.obstacles.of_collection(largest, position.time, obstacle);
            self.forget_capped(largest);
        }
    }

    fn capped_changes(&mut self, id: CollectionId) -> &mut CappedChanges {
        let read_through = self.read_through.get(&id).copied().unwrap_or(ClusterTime::NONE);
        self.capped.entry(id).or_insert_with(|| CappedChanges::of_base_read_through(read_through))
    }

    fn forget_capped(&mut self, id: CollectionId) {
        let bytes = self.capped.remove(&id).map_or(0, |capped| capped.bytes());
        self.capped_bytes = self.capped_bytes.saturating_sub(bytes);
    }

    fn write_overlay(&mut self, namespace: &str, key: SortKey, write: Write<'_>, position: Position) {
        let overlay = self.overlays.entry(namespace.to_owned()).or_default();
        if overlay.bytes() > OVERLAY_BYTES_MAX {
            let obstacle = Obstacle::TooMuch(OVERLAY_BYTES_MAX);
            return self.obstacles.of_name(namespace, position.time, obstacle);
        }
        overlay.write(key, write, position);
    }

    /// Whether the base has what took effect then.
    fn is_in_base(&self, id: CollectionId, time: ClusterTime) -> bool {
        self.later.get(&id).is_some_and(|&later| time <= later)
    }

    fn empty(&mut self, id: CollectionId, time: ClusterTime) {
        let Some(collection) = self.catalog.get(id) else { return };
        if self.is_in_base(id, time) {
            return;
        }
        if collection.is_capped() {
            self.forget_capped(id);
            self.capped_changes(id).empty();
        } else {
            let obstacle = Obstacle::Definition("it was emptied as only capped collections are".to_owned());
            self.obstacles.of_collection(id, time, obstacle);
        }
    }

    fn definition(&mut self, operation: &Operation<'_>, position: Position) -> Result<(), FoldFailure> {
        let database = operation.database();
        match operation.kind {
            Kind::Command(Command::Drop { collection }) => {
                let namespace = format!("{database}.{collection}");
                if is_overlaid(&namespace) {
                    self.overlays.entry(namespace).or_default().empty();
                }
            }
            Kind::Command(Command::DropDatabase) => {
                self.overlays.entry(format!("{database}.{VIEWS}")).or_default().empty();
            }
            // As `mongorestore --preserveUUID` does: what it held before has gone without an entry of its own.
            Kind::Command(Command::Create { .. }) => {
                if let Some(id) = operation.collection.filter(|&id| !self.known.insert(id)) {
                    let what = "it was dropped and made again under the same identity".to_owned();
                    self.obstacles.of_collection(id, position.time, Obstacle::Definition(what));
                }
            }
            _ => {}
        }
        definitions::apply(&mut self.catalog, &mut self.obstacles, operation, position.time)?;
        if let Some(trace) = &mut self.trace {
            trace.defined(&self.catalog, operation, position, self.wall_ms);
        }
        Ok(())
    }

    /// What was changed, if the record that ends there tells the state.
    pub(super) fn finish(self, record_ends: ClusterTime) -> Result<Delta, FoldFailure> {
        if let Some(prepared) = self.assembler.undecided_at(self.at) {
            return Err(FoldFailure::Undecided { at: self.at, prepared, record_ends });
        }
        Ok(Delta {
            catalog: self.catalog,
            changes: self.changes.finish()?,
            capped: self.capped,
            overlays: self.overlays,
            obstacles: self.obstacles,
            entries: self.entries,
            writes: self.writes,
            trace: self.trace,
        })
    }
}

fn broken(at: ClusterTime, what: String) -> FoldFailure {
    FoldFailure::BrokenRecord { at, what }
}
