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
    change::{Coalesced, Outcome, Write},
    skim::Wanted,
};
use model::{ClusterTime, id::DeploymentId, timeline::RestorableRange};
use mongo::Namespace;

use super::{
    DocumentId, Origin, Past, PastError,
    base::Lookup,
    of_model,
    page::{Item, Page, Stretch},
    place,
    sift::off_the_runtime,
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
            states.insert(collection, Lookup::new(self, base, collection).await?.find(id.key()).await?);
        }
        Ok(states)
    }
}

/// The last moment before a time.
pub(super) fn before(time: ClusterTime) -> ClusterTime {
    ClusterTime::from_u64(time.as_u64().saturating_sub(1))
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
        Self { trace, lower, in_force, limit, stretch: Stretch::new(has_name) }
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
