//! Applying a diff.

use super::{
    DiffError, Fit, Mismatch,
    read::{ArrayDiff, Change, DocumentDiff, ElementChange, Inner},
};
use crate::{
    Malformed,
    raw::{self, DOCUMENT_BYTES_MAX, Element, kind, write},
};

/// Nesting that the server itself refuses to store.
const DEPTH_MAX: usize = 250;

/// Appends to `out` what `diff` makes of `document`, and tells whether the diff fitted.
///
/// `diff` is the document under the name `diff` in an update entry with `$v: 2`. Names that stand in the document more
/// than once, values of any type and invalid text are kept as they are.
///
/// # Errors
/// [`DiffError`], and then `out` is as before.
pub fn apply(document: &[u8], diff: &[u8], out: &mut Vec<u8>) -> Result<Fit, DiffError> {
    let start = out.len();
    let mut applier = Applier { out, fit: Fit::Exact, bytes_max: start + DOCUMENT_BYTES_MAX };
    match applier.document(document, diff, 0) {
        Ok(()) => Ok(applier.fit),
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

struct Applier<'o> {
    out: &'o mut Vec<u8>,
    fit: Fit,
    /// Length of `out` that is not passed.
    bytes_max: usize,
}

impl Applier<'_> {
    fn document(&mut self, before: &[u8], diff: &[u8], depth: usize) -> Result<(), DiffError> {
        check_depth(depth)?;
        let diff = DocumentDiff::read(diff)?;
        let mut met = vec![0u32; diff.changes.len()];
        let start = write::open(self.out);
        let mut elements = raw::elements(before);
        // What is not changed is copied in as long pieces as there are.
        let mut unchanged = elements.remaining();
        loop {
            let from_here = elements.remaining();
            let Some(element) = elements.next().transpose()? else { break };
            let Some(at) = diff.find(element.name) else { continue };
            self.out.extend_from_slice(&unchanged[..unchanged.len() - from_here.len()]);
            unchanged = elements.remaining();
            met[at] += 1;
            match diff.changes[at].1 {
                // An appended field follows at the end.
                Change::Delete | Change::Append(_) => {}
                Change::Set(new) => write::push(self.out, &new),
                Change::Inside(inner) => self.inside(&element, element.name, inner, depth)?,
            }
        }
        self.out.extend_from_slice(unchanged);
        for (&(_, change), &met) in diff.changes.iter().zip(&met) {
            match change {
                Change::Append(new) => write::push(self.out, &new),
                Change::Set(new) if met == 0 => write::push(self.out, &new),
                _ => {}
            }
            match met {
                0 if matches!(change, Change::Delete | Change::Inside(_)) => self.mismatch(Mismatch::Missing),
                0 | 1 => {}
                _ => self.mismatch(Mismatch::RepeatedName),
            }
        }
        write::close(self.out, start);
        self.check_size()
    }

    fn array(&mut self, before: &[u8], diff: &[u8], depth: usize) -> Result<(), DiffError> {
        check_depth(depth)?;
        let mut diff = ArrayDiff::read(diff)?;
        let resize = diff.resize;
        let mut next = diff.next()?;
        let mut at = 0;
        let mut name = Decimal::default();
        let start = write::open(self.out);
        for element in raw::elements(before) {
            let element = element?;
            if resize.is_some_and(|length| at >= length) {
                break;
            }
            let name = name.of(at);
            if element.name != name {
                self.mismatch(Mismatch::OddArray);
            }
            match next {
                Some((position, change)) if position == at => {
                    match change {
                        ElementChange::Set(new) => write::push_as(self.out, new.kind, name, new.value),
                        ElementChange::Inside(inner) => self.inside(&element, name, inner, depth)?,
                    }
                    next = diff.next()?;
                }
                _ => write::push_as(self.out, element.kind, name, element.value),
            }
            at += 1;
        }
        // What lies past the end of the array is filled up with nulls.
        while resize.is_some_and(|length| at < length) || next.is_some() {
            let name = name.of(at);
            match next {
                Some((position, change)) if position == at => {
                    match change {
                        ElementChange::Set(new) => write::push_as(self.out, new.kind, name, new.value),
                        ElementChange::Inside(_) => {
                            self.mismatch(Mismatch::Missing);
                            write::push_head(self.out, kind::NULL, name);
                        }
                    }
                    next = diff.next()?;
                }
                _ => write::push_head(self.out, kind::NULL, name),
            }
            at += 1;
            self.check_size()?;
        }
        write::close(self.out, start);
        self.check_size()
    }

    fn inside(
        &mut self,
        before: &Element<'_>,
        name: &[u8],
        diff: Inner<'_>,
        depth: usize,
    ) -> Result<(), DiffError> {
        match (diff, before.kind) {
            (Inner::Document(diff), kind::DOCUMENT) => {
                write::push_head(self.out, before.kind, name);
                self.document(before.value, diff, depth + 1)
            }
            (Inner::Array(diff), kind::ARRAY) => {
                write::push_head(self.out, before.kind, name);
                self.array(before.value, diff, depth + 1)
            }
            _ => {
                self.mismatch(Mismatch::WrongType);
                write::push_head(self.out, kind::NULL, name);
                Ok(())
            }
        }
    }

    fn mismatch(&mut self, mismatch: Mismatch) {
        if self.fit == Fit::Exact {
            self.fit = Fit::Loose(mismatch);
        }
    }

    fn check_size(&self) -> Result<(), DiffError> {
        if self.out.len() > self.bytes_max { Err(DiffError::TooLarge) } else { Ok(()) }
    }
}

fn check_depth(depth: usize) -> Result<(), DiffError> {
    if depth > DEPTH_MAX { Err(Malformed("nested too deeply").into()) } else { Ok(()) }
}

/// Writes the names of array elements.
#[derive(Default)]
struct Decimal {
    digits: [u8; 20],
}

impl Decimal {
    fn of(&mut self, mut number: usize) -> &[u8] {
        let mut start = self.digits.len();
        loop {
            start -= 1;
            self.digits[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return &self.digits[start..];
            }
        }
    }
}
