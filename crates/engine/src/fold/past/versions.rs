//! All versions of a document, newest first.
//!
//! What a version is, is defined by [`Past::show`]: a time at which it begins to show something else for a namespace and an
//! id. So a collection that is dropped, renamed away or renamed in makes versions of its documents.
//!
//! The record is read backwards in stretches, each from a snapshot to the one behind it, until there are as many versions as
//! are asked for.

use std::collections::{BTreeMap, BTreeSet};

use catalog::Timeline;
use history::{
    CollectionId,
    change::{Coalesced, Outcome, Position, Write},
    raw,
    skim::Wanted,
};
use model::{ClusterTime, id::DeploymentId, timeline::RestorableRange};
use mongo::Namespace;

use super::{
    DocumentId, Origin, Past, PastError, base::Lookup, of_model, place, sift::off_the_runtime, to_model,
};
use crate::{
    fold::{
        Obstacle,
        base::Base,
        definitions::unfoldable,
        delta::{Binding, Cause, Delta, SortedChanges, Trace},
    },
    lease::JobError,
};

/// Documents of one answer, and those of the stretch at hand, hold so many bytes, or one document.
const DOCUMENT_BYTES_MAX: usize = 64 << 20;

/// What made a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// The document was inserted.
    Insert,
    /// Some of its fields were changed.
    Update,
    /// It was replaced as a whole.
    Replace,
    /// It was deleted.
    Delete,
    /// Its collection was created; the document came with the same transaction.
    Create,
    /// Its collection was dropped.
    Drop,
    /// A collection was given the name, or lost it.
    Rename,
    /// It was there where the record, or the time that is looked at, begins.
    Present,
}

impl Operation {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::Create => "create",
            Self::Drop => "drop",
            Self::Rename => "rename",
            Self::Present => "present",
        }
    }
}

/// One version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// From when on.
    pub at: ClusterTime,
    /// What o'clock it was at the primary, in milliseconds since 1970, where that is known.
    pub wall_ms: Option<i64>,
    /// What made it.
    pub operation: Operation,
    /// Names of the top-level fields that differ from the version before; none where there is no document on one side.
    pub changed_fields: Vec<String>,
    /// The document, if there is one then; only where documents were asked for.
    pub document: Option<Vec<u8>>,
    /// Whether there is one.
    pub exists: bool,
}

/// Versions of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    /// Newest first.
    pub versions: Vec<Version>,
    /// There are earlier ones: those up to this time.
    pub more_until: Option<ClusterTime>,
}

/// What versions are asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The times that are looked at, each on the timeline that has them, oldest first.
    pub ranges: Vec<(Timeline, RestorableRange)>,
    /// The namespace.
    pub namespace: String,
    /// The document.
    pub id: DocumentId,
    /// At most so many versions.
    pub limit: usize,
    /// Whether the documents themselves are wanted.
    pub documents: bool,
}

impl Past {
    /// The versions of a document, newest first.
    ///
    /// # Errors
    /// [`PastError`]. [`PastError::NoDocument`] when it never was there in these times.
    pub async fn versions(&self, asked: Asked) -> Result<Versions, PastError> {
        let namespace = place::parse(&asked.namespace)?;
        let _permit = self.permit().await?;
        let (mut page, mut has_name, mut newer) = (Page::new(&asked), false, None);
        'ranges: for (timeline, range) in asked.ranges.iter().rev() {
            // Where cluster times of two timelines overlap, the newer one answers.
            let mut upper = newer.map_or(range.to, |newer: ClusterTime| range.to.min(before(newer)));
            let mut asked_at = upper;
            while range.from <= upper {
                let timelines = self.services.catalog.timelines();
                let found = timelines.base_for(asked.deployment, asked_at).await?;
                let Some((on, snapshot)) = found.filter(|(on, _)| on.id == timeline.id) else { break };
                let origin = Origin { timeline: on, snapshot };
                let lower = origin.complete_at().max(range.from);
                let stretch = self.stretch(&origin, &namespace, &asked.id, lower, upper, asked.limit).await?;
                has_name |= stretch.has_name;
                let begins = (lower == range.from).then_some(lower);
                if page.add(stretch, begins) {
                    break 'ranges;
                }
                if begins.is_some() {
                    break;
                }
                (upper, asked_at) = (lower, before(lower));
            }
            newer = Some(range.from);
        }
        match page.finish() {
            found if !found.versions.is_empty() => Ok(found),
            _ if has_name => Err(PastError::NoDocument),
            _ => Err(PastError::NoCollection),
        }
    }

    /// The versions after `lower` and up to `upper`, from one snapshot on.
    async fn stretch(
        &self,
        origin: &Origin,
        namespace: &Namespace,
        id: &DocumentId,
        lower: ClusterTime,
        upper: ClusterTime,
        limit: usize,
    ) -> Result<Stretch, PastError> {
        let base = self.open(&origin.snapshot).await?;
        let wanted = Wanted::Key(id.key().clone());
        let [mut delta] = self.gather(origin, &base, &wanted, &namespace.to_string(), [upper]).await?;
        place::check_everything(&delta)?;
        let trace = delta.trace.take();
        let trace = trace.ok_or_else(|| JobError::failed("a bug in Ebbtide lost a trace"))?;
        let mut bound = BTreeSet::new();
        for binding in trace.bindings() {
            let Some(to) = binding.bound else { continue };
            place::searchable_bound(&delta, to.id, to.capped, namespace)?;
            bound.insert(to.id);
        }
        if bound.is_empty() {
            // Says so if it is a view, or cannot be told.
            match place::find(&base, &delta, namespace, upper) {
                Err(PastError::NoCollection) => return Ok(Stretch::default()),
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        let states = self.states(&base, bound, id).await?;
        let name = namespace.to_string();
        off_the_runtime(move || {
            let replay = Replay::new(trace, of_model(lower), limit);
            replay.run(delta, states, &name)
        })
        .await
    }

    /// The document in each of these collections as the base has it.
    async fn states(
        &self,
        base: &Base,
        collections: BTreeSet<CollectionId>,
        id: &DocumentId,
    ) -> Result<BTreeMap<CollectionId, Option<Vec<u8>>>, PastError> {
        let mut states = BTreeMap::new();
        for collection in collections {
            states.insert(collection, Lookup::new(self, base, collection).find(id.key()).await?);
        }
        Ok(states)
    }
}

/// The last moment before a time.
fn before(time: ClusterTime) -> ClusterTime {
    ClusterTime::from_u64(time.as_u64().saturating_sub(1))
}

/// A version while it is not known which one is before it.
struct Item {
    wall_ms: Option<i64>,
    operation: Operation,
    state: Option<Vec<u8>>,
}

/// The last versions of a stretch.
#[derive(Default)]
struct Stretch {
    /// Whether the namespace stood for a collection.
    has_name: bool,
    /// The state at the beginning, unless that is cut off.
    initial: Option<Vec<u8>>,
    items: BTreeMap<Position, Item>,
    bytes: usize,
    /// Whether earlier versions were left out.
    cut: bool,
}

impl Stretch {
    fn push(&mut self, at: Position, item: Item, limit: usize) {
        self.bytes += item.state.as_ref().map_or(0, Vec::len);
        self.items.insert(at, item);
        // One more than is shown tells what the last one shown has changed; one more again, whether there is more.
        while self.items.len() > limit.saturating_add(2)
            || (self.bytes > DOCUMENT_BYTES_MAX && self.items.len() > 2)
        {
            let Some((_, oldest)) = self.items.pop_first() else { return };
            self.bytes -= oldest.state.map_or(0, |state| state.len());
            self.cut = true;
        }
    }
}

/// The folding of one document, change by change.
struct Replay {
    trace: Trace,
    lower: history::ClusterTime,
    /// Which of the bindings is in force at `lower`.
    in_force: usize,
    limit: usize,
    stretch: Stretch,
}

impl Replay {
    fn new(trace: Trace, lower: history::ClusterTime, limit: usize) -> Self {
        let bindings = trace.bindings();
        let has_name = bindings.iter().any(|binding| binding.bound.is_some());
        // The first one is in force from the base on.
        let in_force = bindings.iter().rposition(|binding| binding.since.time <= lower).unwrap_or(0);
        Self { trace, lower, in_force, limit, stretch: Stretch { has_name, ..Stretch::default() } }
    }

    fn run(
        mut self,
        delta: Delta,
        states: BTreeMap<CollectionId, Option<Vec<u8>>>,
        namespace: &str,
    ) -> Result<Stretch, PastError> {
        let bindings = self.trace.bindings().to_vec();
        for (at, binding) in bindings.iter().enumerate() {
            if binding.bound.is_none() {
                self.bind(at, binding, None);
            }
        }
        let mut changes = delta.changes;
        for (id, state) in states {
            changes.skip_to(id)?;
            self.collection(id, state, &bindings, &mut changes, namespace)?;
        }
        Ok(self.stretch)
    }

    /// All that happens to the document in one collection, which has the name for some of the time.
    fn collection(
        &mut self,
        id: CollectionId,
        mut state: Option<Vec<u8>>,
        bindings: &[Binding],
        changes: &mut SortedChanges,
        namespace: &str,
    ) -> Result<(), PastError> {
        let mut next = 0;
        let mut named = false;
        loop {
            let change = changes.take_in(id)?;
            let until = change.as_ref().map(|change| change.position);
            while let Some(binding) = bindings.get(next)
                && until.is_none_or(|until| binding.since < until)
            {
                named = binding.bound.is_some_and(|to| to.id == id);
                if named {
                    self.bind(next, binding, state.clone());
                }
                next += 1;
            }
            let Some(change) = change else { return Ok(()) };
            let operation = match &change.write {
                Write::Insert(_) => Operation::Insert,
                Write::Replace(_) => Operation::Replace,
                Write::Patch(_) | Write::Reapply { .. } => Operation::Update,
                Write::Delete => Operation::Delete,
            };
            let (key, position) = (change.key, change.position);
            let mut after = Vec::new();
            state = match Coalesced::new(change.write, position).onto(state.as_deref(), &mut after) {
                Ok(Outcome::Document) => Some(after),
                Ok(Outcome::Absent) => None,
                Err(defect) => {
                    return Err(unfoldable(namespace, None, Obstacle::Document { key, defect }).into());
                }
            };
            if !named {
                continue;
            }
            if position.time <= self.lower {
                if next == self.in_force + 1 {
                    self.stretch.initial.clone_from(&state);
                }
            } else {
                let wall_ms = self.trace.wall_ms(position.time);
                let item = Item { wall_ms, operation, state: state.clone() };
                self.stretch.push(position, item, self.limit);
            }
        }
    }

    /// The namespace begins to stand for something, in which the document is like that.
    fn bind(&mut self, at: usize, binding: &Binding, state: Option<Vec<u8>>) {
        if binding.since.time <= self.lower {
            if at == self.in_force {
                self.stretch.initial = state;
            }
            return;
        }
        let operation = match binding.cause {
            Cause::Base => Operation::Present,
            Cause::Create => Operation::Create,
            Cause::Drop => Operation::Drop,
            Cause::Rename => Operation::Rename,
        };
        self.stretch.push(binding.since, Item { wall_ms: binding.wall_ms, operation, state }, self.limit);
    }
}

/// The answer, as far as it goes.
struct Page {
    limit: usize,
    documents: bool,
    found: Vec<Version>,
    bytes: usize,
    more: bool,
}

impl Page {
    fn new(asked: &Asked) -> Self {
        Self { limit: asked.limit, documents: asked.documents, found: Vec::new(), bytes: 0, more: false }
    }

    /// Takes an earlier stretch; `begins` is its beginning if nothing is looked at before that. Whether the answer is full.
    fn add(&mut self, stretch: Stretch, begins: Option<ClusterTime>) -> bool {
        let Stretch { initial, items, cut, .. } = stretch;
        let present = begins.filter(|_| !cut && initial.is_some()).map(|at| Version {
            at,
            wall_ms: None,
            operation: Operation::Present,
            changed_fields: Vec::new(),
            document: initial.clone(),
            exists: true,
        });
        // What one transaction does to a document shows as one version, and what changes nothing as none.
        let mut items = items.into_iter().peekable();
        let mut before = if cut { items.next().and_then(|(_, oldest)| oldest.state) } else { initial };
        let mut versions: Vec<Version> = present.into_iter().collect();
        while let Some((at, mut item)) = items.next() {
            while let Some((_, later)) = items.next_if(|(later, _)| later.time == at.time) {
                item = Item { operation: together(&item, &later), ..later };
            }
            if item.state == before {
                continue;
            }
            versions.push(Version {
                at: to_model(at.time),
                wall_ms: item.wall_ms,
                operation: item.operation,
                changed_fields: changed(before.as_deref(), item.state.as_deref()),
                exists: item.state.is_some(),
                document: item.state.clone(),
            });
            before = item.state;
        }
        for version in versions.into_iter().rev() {
            if self.is_full() {
                self.more = true;
                return true;
            }
            self.bytes += version.document.as_ref().filter(|_| self.documents).map_or(0, Vec::len);
            let document = version.document.filter(|_| self.documents);
            self.found.push(Version { document, ..version });
        }
        self.more |= cut;
        self.more
    }

    fn is_full(&self) -> bool {
        self.found.len() >= self.limit || self.bytes > DOCUMENT_BYTES_MAX
    }

    fn finish(self) -> Versions {
        let more_until = self.found.last().filter(|_| self.more).map(|oldest| before(oldest.at));
        Versions { versions: self.found, more_until }
    }
}

/// What two things that happen at one time come to.
fn together(first: &Item, second: &Item) -> Operation {
    match (first.operation, second.operation) {
        (Operation::Update, Operation::Update) => Operation::Update,
        (Operation::Insert, Operation::Update | Operation::Replace) => Operation::Insert,
        (Operation::Delete, Operation::Insert) | (Operation::Replace, Operation::Update) => {
            Operation::Replace
        }
        (_, second) => second,
    }
}

/// The names of the top-level fields that are not the same, in the order in which they stand.
fn changed(before: Option<&[u8]>, after: Option<&[u8]>) -> Vec<String> {
    let (Some(before), Some(after)) = (before, after) else { return Vec::new() };
    let fields =
        |document| -> Vec<raw::Element<'_>> { raw::elements(document).map_while(Result::ok).collect() };
    let (before, after) = (fields(before), fields(after));
    let differs = |field: &&raw::Element<'_>, others: &[raw::Element<'_>]| {
        !others
            .iter()
            .any(|other| (other.name, other.kind, other.value) == (field.name, field.kind, field.value))
    };
    let gone = before.iter().filter(|field| differs(field, &after));
    let new = after.iter().filter(|field| differs(field, &before));
    let mut names: Vec<String> = Vec::new();
    for field in gone.chain(new) {
        let name = String::from_utf8_lossy(field.name).into_owned();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::rawdoc;

    use super::*;

    #[test]
    fn fields_that_differ_are_named_once() {
        let before = rawdoc! { "_id": 1, "same": [1], "typed": 1, "gone": true };
        let after = rawdoc! { "_id": 1, "same": [1], "typed": 1_i64, "new": "x" };
        let names = changed(Some(before.as_bytes()), Some(after.as_bytes()));
        assert_eq!(names, ["typed", "gone", "new"]);
        assert_eq!(changed(None, Some(after.as_bytes())), Vec::<String>::new());
    }

    fn at(increment: u32, order: u64) -> Position {
        Position { time: history::ClusterTime { seconds: 1, increment }, order }
    }

    fn item(operation: Operation, value: Option<i32>) -> Item {
        let state = value.map(|value| rawdoc! { "_id": 1, "v": value }.into_bytes());
        Item { wall_ms: None, operation, state }
    }

    fn page(limit: usize) -> Page {
        Page { limit, documents: false, found: Vec::new(), bytes: 0, more: false }
    }

    #[test]
    fn what_takes_effect_together_is_one_version_and_what_changes_nothing_is_none() {
        let mut stretch = Stretch { has_name: true, ..Stretch::default() };
        for (position, one) in [
            (at(1, 1), item(Operation::Insert, Some(1))),
            (at(2, 2), item(Operation::Delete, None)),
            (at(2, 3), item(Operation::Insert, Some(1))),
            (at(3, 4), item(Operation::Delete, None)),
            (at(3, 5), item(Operation::Insert, Some(2))),
            (at(4, 6), item(Operation::Create, None)),
        ] {
            stretch.push(position, one, 10);
        }
        let mut page = page(10);
        assert!(!page.add(stretch, Some(ClusterTime { seconds: 1, increment: 0 })));
        let found = page.finish();
        let told: Vec<_> = found.versions.iter().map(|v| (v.at.increment, v.operation, v.exists)).collect();
        assert_eq!(
            told,
            [(4, Operation::Create, false), (3, Operation::Replace, true), (1, Operation::Insert, true)]
        );
        assert_eq!(found.more_until, None);
        assert_eq!(found.versions[1].changed_fields, ["v"]);
    }

    #[test]
    fn a_page_tells_where_the_next_one_begins() {
        let stretch = |limit| {
            let mut stretch = Stretch { has_name: true, ..Stretch::default() };
            for n in 1..=20 {
                stretch.push(at(n, u64::from(n)), item(Operation::Update, Some(n as i32)), limit);
            }
            stretch
        };
        for (limit, first, more) in [(5, 16, Some(15)), (19, 2, Some(1)), (20, 1, None)] {
            let mut page = page(limit);
            page.add(stretch(limit), Some(ClusterTime { seconds: 1, increment: 0 }));
            let found = page.finish();
            assert_eq!(found.versions.len(), limit);
            assert_eq!(found.versions.last().unwrap().at.increment, first, "{limit}");
            assert_eq!(found.more_until.map(|until| until.increment), more, "{limit}");
            assert!(found.versions.iter().take(limit - 1).all(|version| version.changed_fields == ["v"]));
        }
    }
}
