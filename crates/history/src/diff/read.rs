//! Reading one level of a diff.

use super::DiffError;
use crate::raw::{self, Element, Elements, kind};

/// What happens to one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change<'a> {
    Delete,
    /// Set where it stands, or appended.
    Set(Element<'a>),
    /// Removed where it stands, appended.
    Append(Element<'a>),
    /// Changed inside by the diff.
    Inside(Inner<'a>),
}

/// A diff inside a diff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inner<'a> {
    Document(&'a [u8]),
    Array(&'a [u8]),
}

impl<'a> Inner<'a> {
    fn read(element: &Element<'a>) -> Result<Self, DiffError> {
        let diff = element.document().ok_or(DiffError::NotUnderstood("an inner diff that is no document"))?;
        let first = raw::elements(diff).next().ok_or(DiffError::NotUnderstood("an empty diff"))??;
        Ok(if first.name == b"a" { Self::Array(diff) } else { Self::Document(diff) })
    }
}

/// One level of a document diff.
pub(super) struct DocumentDiff<'a> {
    /// In the order in which what is new is appended.
    pub(super) changes: Vec<(&'a [u8], Change<'a>)>,
    /// Positions in `changes`, by name.
    sorted: Vec<usize>,
}

impl<'a> DocumentDiff<'a> {
    pub(super) fn read(diff: &'a [u8]) -> Result<Self, DiffError> {
        let mut changes = Vec::new();
        let mut section_before = 0;
        for section in raw::elements(diff) {
            let section = section?;
            let order = match section.name {
                b"d" => 1,
                b"u" => 2,
                b"i" => 3,
                [b's', ..] => 4,
                _ => return Err(DiffError::NotUnderstood("an unknown section")),
            };
            // There may be many sections of inner diffs, and one of each other kind.
            if order < section_before || (order == section_before && order != 4) {
                return Err(DiffError::NotUnderstood("sections out of order"));
            }
            section_before = order;
            if let ([b's', name @ ..], 4) = (section.name, order) {
                changes.push((name, Change::Inside(Inner::read(&section)?)));
                continue;
            }
            let fields =
                section.document().ok_or(DiffError::NotUnderstood("a section that is no document"))?;
            for field in raw::elements(fields) {
                let field = field?;
                let change = match order {
                    1 => Change::Delete,
                    2 => Change::Set(field),
                    _ => Change::Append(field),
                };
                changes.push((field.name, change));
            }
        }
        if section_before == 0 {
            return Err(DiffError::NotUnderstood("an empty diff"));
        }
        Self::index(changes)
    }

    fn index(changes: Vec<(&'a [u8], Change<'a>)>) -> Result<Self, DiffError> {
        let mut sorted: Vec<usize> = (0..changes.len()).collect();
        sorted.sort_unstable_by_key(|&at| changes[at].0);
        if sorted.windows(2).any(|pair| changes[pair[0]].0 == changes[pair[1]].0) {
            return Err(DiffError::NotUnderstood("a field changed twice"));
        }
        Ok(Self { changes, sorted })
    }

    /// Where in `changes` the field called `name` is.
    pub(super) fn find(&self, name: &[u8]) -> Option<usize> {
        let at = self.sorted.binary_search_by_key(&name, |&at| self.changes[at].0).ok()?;
        self.sorted.get(at).copied()
    }
}

/// What happens to one element of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ElementChange<'a> {
    Set(Element<'a>),
    Inside(Inner<'a>),
}

/// One level of an array diff; iterates over the changes by ascending position.
pub(super) struct ArrayDiff<'a> {
    /// The length that the array gets.
    pub(super) resize: Option<usize>,
    rest: Elements<'a>,
    next_at: usize,
}

impl<'a> ArrayDiff<'a> {
    pub(super) fn read(diff: &'a [u8]) -> Result<Self, DiffError> {
        let mut rest = raw::elements(diff);
        let header = rest.next().ok_or(DiffError::NotUnderstood("an empty diff"))??;
        if header.name != b"a" || header.boolean() != Some(true) {
            return Err(DiffError::NotUnderstood("an array diff without its header"));
        }
        let mut resize = None;
        let mut after = rest.clone();
        if let Some(length) = after.next().transpose()?.filter(|element| element.name == b"l") {
            if length.kind != kind::INT32 {
                return Err(DiffError::NotUnderstood("an array length that is no integer"));
            }
            let length = length.integer().and_then(|length| usize::try_from(length).ok());
            resize = Some(length.ok_or(DiffError::NotUnderstood("a negative array length"))?);
            rest = after;
        }
        Ok(Self { resize, rest, next_at: 0 })
    }

    pub(super) fn next(&mut self) -> Result<Option<(usize, ElementChange<'a>)>, DiffError> {
        let Some(element) = self.rest.next().transpose()? else { return Ok(None) };
        let (first, digits) =
            element.name.split_first().ok_or(DiffError::NotUnderstood("an array change without a name"))?;
        let at = position(digits).ok_or(DiffError::NotUnderstood("an array position"))?;
        if at < self.next_at {
            return Err(DiffError::NotUnderstood("array positions out of order"));
        }
        // The server would fall over such a diff.
        if self.resize.is_some_and(|length| at >= length) {
            return Err(DiffError::NotUnderstood("an array change past the end"));
        }
        self.next_at = at + 1;
        Ok(Some((
            at,
            match first {
                b'u' => ElementChange::Set(element),
                b's' => ElementChange::Inside(Inner::read(&element)?),
                _ => return Err(DiffError::NotUnderstood("an unknown array change")),
            },
        )))
    }
}

/// A position as servers write it: decimal, without leading zeros.
fn position(digits: &[u8]) -> Option<usize> {
    let canonical = digits == b"0" || digits.first().is_some_and(|digit| (b'1'..=b'9').contains(digit));
    if !canonical || !digits.iter().all(u8::is_ascii_digit) || digits.len() > 9 {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}
