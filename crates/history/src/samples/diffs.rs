//! Random diffs that a server accepts for a document, whether or not they were made from it.

use std::collections::BTreeSet;

use super::{
    Random,
    documents::{push_value, random_name},
    sections::push_sections,
};
use crate::raw::{self, Element, kind, write};

/// How deep new values nest, counted from the deepest that is allowed.
const NEW_VALUE_DEPTH: usize = 3;

/// A diff for `document` that leaves `_id` alone. In `loose_percent` of the changes it does not fit.
pub fn random_diff(random: &mut Random, document: &[u8], loose_percent: usize) -> Vec<u8> {
    let mut out = Vec::new();
    push_document_diff(random, document, &mut out, loose_percent);
    out
}

fn push_document_diff(random: &mut Random, before: &[u8], out: &mut Vec<u8>, loose: usize) {
    let mut sections: [Vec<u8>; 3] = Default::default();
    let mut inner = Vec::new();
    let mut taken: BTreeSet<Vec<u8>> = BTreeSet::from([b"_id".to_vec()]);
    for element in raw::elements(before).map_while(Result::ok).filter(|element| element.name != b"_id") {
        taken.insert(element.name.to_vec());
        match random.below(10) {
            0 => write::push_as(&mut sections[0], kind::BOOLEAN, element.name, &[0]),
            1 => push_value(random, &mut sections[1], element.name, NEW_VALUE_DEPTH),
            2 if random.chance(40) => push_value(random, &mut sections[2], element.name, NEW_VALUE_DEPTH),
            3..=6 => push_inside(random, &element, element.name, &mut inner, loose),
            _ => {}
        }
    }
    for section in 0..3 {
        // A new field is appended often; one that is not there is set or deleted only by a diff that does not fit.
        while random.chance(if section == 2 { 40 } else { loose }) {
            let name = random_name(random);
            if taken.insert(name.to_vec()) {
                match section {
                    0 => write::push_as(&mut sections[0], kind::BOOLEAN, name, &[0]),
                    _ => push_value(random, &mut sections[section], name, NEW_VALUE_DEPTH),
                }
            }
        }
    }
    if sections.iter().all(Vec::is_empty) && inner.is_empty() {
        push_value(random, &mut sections[2], b"fresh", NEW_VALUE_DEPTH);
    }
    push_sections(&sections, &inner, out);
}

/// Appends an inner diff, if the element is of a type that has any.
fn push_inside(random: &mut Random, element: &Element<'_>, name: &[u8], out: &mut Vec<u8>, loose: usize) {
    let misfit = random.chance(loose);
    let name = [b"s", name].concat();
    match (element.kind, misfit) {
        (kind::DOCUMENT, false) | (kind::ARRAY, true) => {
            write::push_head(out, kind::DOCUMENT, &name);
            push_document_diff(random, element.value, out, loose);
        }
        (kind::ARRAY, false) | (_, true) => {
            write::push_head(out, kind::DOCUMENT, &name);
            let elements = if element.kind == kind::ARRAY { element.value } else { &[5, 0, 0, 0, 0] };
            push_array_diff(random, elements, out, loose);
        }
        _ => {}
    }
}

fn push_array_diff(random: &mut Random, before: &[u8], out: &mut Vec<u8>, loose: usize) {
    let elements: Vec<_> = raw::elements(before).map_while(Result::ok).collect();
    let start = write::open(out);
    write::push_as(out, kind::BOOLEAN, b"a", &[1]);
    let mut end = elements.len() + random.below(4);
    if random.chance(30) {
        end = random.below(elements.len() + 3);
        write::push_as(out, kind::INT32, b"l", &(end as i32).to_le_bytes());
    }
    for at in 0..end {
        match elements.get(at) {
            Some(element) if random.chance(40) => {
                push_inside(random, element, at.to_string().as_bytes(), out, loose);
            }
            _ if random.chance(30) => {
                push_value(random, out, format!("u{at}").as_bytes(), NEW_VALUE_DEPTH);
            }
            _ => {}
        }
    }
    write::close(out, start);
}
