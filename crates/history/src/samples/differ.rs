//! The diff from one document to another, in the form that servers log for pipeline updates.

use std::collections::BTreeSet;

use super::sections::push_sections;
use crate::raw::{self, Element, kind, write};

/// The diff that turns `before` into `after`; none if they are equal.
///
/// Names must not be repeated. A field that comes later than it did is appended anew, as by a server.
pub fn diff_between(before: &[u8], after: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    (before != after).then(|| push_document_diff(before, after, &mut out))?;
    Some(out)
}

fn push_document_diff(before: &[u8], after: &[u8], out: &mut Vec<u8>) {
    let mut sections: [Vec<u8>; 3] = Default::default();
    let mut inner = Vec::new();
    let mut skipped = BTreeSet::new();
    let mut olds = raw::elements(before).map_while(Result::ok).peekable();
    let mut news = raw::elements(after).map_while(Result::ok).peekable();
    while let (Some(old), Some(new)) = (olds.peek().copied(), news.peek().copied()) {
        olds.next();
        if old.name != new.name {
            skipped.insert(old.name);
            continue;
        }
        news.next();
        if old != new && !push_inside(&old, &new, old.name, &mut inner) {
            write::push(&mut sections[1], &new);
        }
    }
    skipped.extend(olds.map(|old| old.name));
    for new in news {
        skipped.remove(new.name);
        write::push(&mut sections[2], &new);
    }
    for name in skipped {
        write::push_as(&mut sections[0], kind::BOOLEAN, name, &[0]);
    }
    push_sections(&sections, &inner, out);
}

/// Appends the diff of two values of one type that has inner elements; false for others.
fn push_inside(old: &Element<'_>, new: &Element<'_>, name: &[u8], out: &mut Vec<u8>) -> bool {
    if old.kind != new.kind || !matches!(old.kind, kind::DOCUMENT | kind::ARRAY) {
        return false;
    }
    write::push_head(out, kind::DOCUMENT, &[b"s", name].concat());
    if old.kind == kind::DOCUMENT {
        push_document_diff(old.value, new.value, out);
    } else {
        push_array_diff(old.value, new.value, out);
    }
    true
}

fn push_array_diff(before: &[u8], after: &[u8], out: &mut Vec<u8>) {
    let olds: Vec<_> = raw::elements(before).map_while(Result::ok).collect();
    let news: Vec<_> = raw::elements(after).map_while(Result::ok).collect();
    let start = write::open(out);
    write::push_as(out, kind::BOOLEAN, b"a", &[1]);
    if news.len() < olds.len() {
        write::push_as(out, kind::INT32, b"l", &(news.len() as i32).to_le_bytes());
    }
    for (at, new) in news.iter().enumerate() {
        match olds.get(at) {
            Some(old) if old == new => {}
            Some(old) if push_inside(old, new, at.to_string().as_bytes(), out) => {}
            _ => write::push_as(out, new.kind, format!("u{at}").as_bytes(), new.value),
        }
    }
    write::close(out, start);
}
