//! Versions put together to a page: the newest ones of each stretch of the record, each compared with the one before it.

use std::collections::BTreeMap;

use history::{change::Position, raw};
use model::ClusterTime;

use super::{
    to_model,
    versions::{Asked, Operation, Version, Versions, before},
};

/// Documents of one answer, and those of the stretch at hand, hold so many bytes, or one document.
const DOCUMENT_BYTES_MAX: usize = 64 << 20;

/// A version while it is not known which one is before it.
pub(super) struct Item {
    pub(super) wall_ms: Option<i64>,
    pub(super) operation: Operation,
    pub(super) state: Option<Vec<u8>>,
}

/// The last versions of a stretch.
#[derive(Default)]
pub(super) struct Stretch {
    /// Whether the namespace stood for a collection.
    pub(super) has_name: bool,
    /// The state at the beginning, unless that is cut off.
    pub(super) initial: Option<Vec<u8>>,
    items: BTreeMap<Position, Item>,
    bytes: usize,
    /// Whether earlier versions were left out.
    cut: bool,
}

impl Stretch {
    /// None yet.
    pub(super) fn new(has_name: bool) -> Self {
        Self { has_name, ..Self::default() }
    }

    /// Takes one; too many of them push out the oldest.
    pub(super) fn push(&mut self, at: Position, item: Item, limit: usize) {
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

/// The answer, as far as it goes.
pub(super) struct Page {
    limit: usize,
    documents: bool,
    found: Vec<Version>,
    bytes: usize,
    more: bool,
}

impl Page {
    pub(super) fn new(asked: &Asked) -> Self {
        Self { limit: asked.limit, documents: asked.documents, found: Vec::new(), bytes: 0, more: false }
    }

    /// Takes an earlier stretch; `begins` is its beginning if nothing is looked at before that. Whether the answer is full.
    pub(super) fn add(&mut self, stretch: Stretch, begins: Option<ClusterTime>) -> bool {
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

    pub(super) fn finish(self) -> Versions {
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
        let mut stretch = Stretch::new(true);
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
            let mut stretch = Stretch::new(true);
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
