//! Random documents.

use super::Random;
use crate::raw::{self, kind, write};

/// Names of fields, some of them awkward.
const NAMES: [&str; 18] = [
    "a",
    "b",
    "c",
    "d",
    "i",
    "l",
    "s",
    "u",
    "aa",
    "0",
    "1",
    "10",
    "x.y",
    "n$",
    "é",
    "A",
    "a b",
    "name_of_a_field",
];
const NESTING_MAX: usize = 4;

/// A document with `_id` (a 32-bit integer) in front and other fields of any type, names not repeated.
pub fn random_document(random: &mut Random, id: i32) -> Vec<u8> {
    let mut out = Vec::new();
    let start = write::open(&mut out);
    write::push_as(&mut out, kind::INT32, b"_id", &id.to_le_bytes());
    push_fields(random, &mut out, 0);
    write::close(&mut out, start);
    out
}

/// The same fields under another `_id`.
pub fn with_id(document: &[u8], id: i32) -> Vec<u8> {
    let mut out = Vec::with_capacity(document.len());
    let start = write::open(&mut out);
    write::push_as(&mut out, kind::INT32, b"_id", &id.to_le_bytes());
    raw::elements(document)
        .map_while(Result::ok)
        .filter(|element| element.name != b"_id")
        .for_each(|element| write::push(&mut out, &element));
    write::close(&mut out, start);
    out
}

/// A document that is like another: fields dropped, changed, added, moved, inside arrays and documents too.
pub fn edited(random: &mut Random, document: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    edit_into(random, document, &mut out, 0, false);
    out
}

fn edit_into(random: &mut Random, before: &[u8], out: &mut Vec<u8>, depth: usize, array: bool) {
    let start = write::open(out);
    let mut elements: Vec<_> = raw::elements(before).map_while(Result::ok).collect();
    // `_id` stays where it is.
    let fixed = usize::from(depth == 0 && !array);
    if !array && elements.len() > fixed + 1 && random.chance(20) {
        let (from, to) = (random.below(elements.len() - fixed), random.below(elements.len() - fixed));
        let moved = elements.remove(fixed + from);
        elements.insert(fixed + to, moved);
    }
    let mut at = 0;
    for (position, element) in elements.iter().enumerate() {
        let number = at.to_string();
        let name = if array { number.as_bytes() } else { element.name };
        match random.below(10) {
            _ if position < fixed => write::push(out, element),
            0 => continue,
            1 => push_value(random, out, name, depth),
            2..=5 if matches!(element.kind, kind::DOCUMENT | kind::ARRAY) => {
                write::push_head(out, element.kind, name);
                edit_into(random, element.value, out, depth + 1, element.kind == kind::ARRAY);
            }
            _ => write::push_as(out, element.kind, name, element.value),
        }
        at += 1;
    }
    while random.chance(30) {
        let number = at.to_string();
        let name = if array { number.as_str() } else { NAMES[random.below(NAMES.len())] };
        if !array && elements.iter().any(|element| element.name == name.as_bytes()) {
            break;
        }
        push_value(random, out, name.as_bytes(), depth);
        at += 1;
        if !array {
            break;
        }
    }
    write::close(out, start);
}

/// A name out of the pool.
pub(super) fn random_name(random: &mut Random) -> &'static [u8] {
    NAMES[random.below(NAMES.len())].as_bytes()
}

fn push_fields(random: &mut Random, out: &mut Vec<u8>, depth: usize) {
    let first = random.below(NAMES.len());
    // The pool is walked in steps that are coprime to its length, so that no name is met twice.
    let step = [1, 5, 7, 11, 13][random.below(5)];
    for n in 0..random.below(7) {
        push_value(random, out, NAMES[(first + n * step) % NAMES.len()].as_bytes(), depth);
    }
}

/// Appends a field with a random value.
pub(super) fn push_value(random: &mut Random, out: &mut Vec<u8>, name: &[u8], depth: usize) {
    if depth < NESTING_MAX && random.chance(35) {
        let array = random.chance(50);
        write::push_head(out, if array { kind::ARRAY } else { kind::DOCUMENT }, name);
        let start = write::open(out);
        if array {
            for n in 0..random.below(6) {
                push_value(random, out, n.to_string().as_bytes(), depth + 1);
            }
        } else {
            push_fields(random, out, depth + 1);
        }
        write::close(out, start);
        return;
    }
    let mut value = Vec::new();
    let kind = push_scalar(random, &mut value);
    write::push_as(out, kind, name, &value);
}

/// Writes a value without inner elements; returns its type.
fn push_scalar(random: &mut Random, value: &mut Vec<u8>) -> u8 {
    let bits = random.number();
    let text = |value: &mut Vec<u8>, text: &[u8]| {
        value.extend((text.len() as u32 + 1).to_le_bytes());
        value.extend(text);
        value.push(0);
    };
    match random.below(20) {
        0 => value.extend(f64::from_bits(bits).to_le_bytes()),
        1 => value.extend((bits as i16 as f64 / 4.0).to_le_bytes()),
        2..=4 => text(value, &b"some text of any length"[..(bits % 23) as usize]),
        5 => {
            let bytes = &bits.to_le_bytes()[..(bits % 9) as usize];
            value.extend((bytes.len() as u32).to_le_bytes());
            value.push([0, 4, 5, 0x80][random.below(4)]);
            value.extend(bytes);
            return kind::BINARY;
        }
        6 => return 0x06,
        7 => {
            value.extend(bits.to_le_bytes());
            value.extend(&bits.to_be_bytes()[..4]);
            return 0x07;
        }
        8 => {
            value.push((bits & 1) as u8);
            return kind::BOOLEAN;
        }
        9 => {
            value.extend((bits as i64 >> 20).to_le_bytes());
            return kind::DATE;
        }
        10 => return kind::NULL,
        11 => {
            value.extend(b"^a.b\0i\0");
            return 0x0B;
        }
        12 => {
            text(value, b"db.collection");
            value.extend([7; 12]);
            return 0x0C;
        }
        13 => {
            text(value, b"function() {}");
            return [0x0D, 0x0E][random.below(2)];
        }
        14 => {
            // Never (0, 0), which servers rewrite when they insert it.
            value.extend((bits | 1).to_le_bytes());
            return kind::TIMESTAMP;
        }
        15 => {
            value.extend((bits as i64).to_le_bytes());
            return kind::INT64;
        }
        16 => {
            value.extend(bits.to_le_bytes());
            value.extend((0x3040_0000_0000_0000u64 | (bits & 0xFF)).to_le_bytes());
            return 0x13;
        }
        17 => return [0xFF, 0x7F][random.below(2)],
        _ => {
            value.extend((bits as i8 as i32).to_le_bytes());
            return kind::INT32;
        }
    }
    if value.len() == 8 { kind::DOUBLE } else { kind::STRING }
}
