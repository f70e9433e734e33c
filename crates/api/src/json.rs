//! Writing JSON the way Atlas writes it: keys in alphabetical order whatever the map type underneath,
//! and, for `pretty=true`, in the layout of Jackson's default pretty printer (`"key" : value`).

use serde_json::Value;

/// How a body is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// No white space at all.
    Compact,
    /// Two spaces, a space on both sides of the colon, arrays on the line of their key.
    Pretty,
}

/// JSON that has parts which are text already, because a value would lose the order of their fields: documents.
#[derive(Debug)]
pub(crate) enum Tree {
    Value(Value),
    /// JSON, taken as it is.
    Text(String),
    List(Vec<Self>),
    Object(Vec<(&'static str, Self)>),
}

impl<T: Into<Value>> From<T> for Tree {
    fn from(value: T) -> Self {
        Self::Value(value.into())
    }
}

impl Tree {
    fn write(&self, out: &mut Vec<u8>) {
        let separate = |position: usize, out: &mut Vec<u8>| {
            if position > 0 {
                out.push(b',');
            }
        };
        match self {
            Self::Value(value) => write_value(value, Layout::Compact, 0, out),
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::List(items) => {
                out.push(b'[');
                for (position, item) in items.iter().enumerate() {
                    separate(position, out);
                    item.write(out);
                }
                out.push(b']');
            }
            Self::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_unstable_by_key(|(name, _)| *name);
                out.push(b'{');
                for (position, (name, member)) in members.into_iter().enumerate() {
                    separate(position, out);
                    write_string(name, out);
                    out.push(b':');
                    member.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

/// The tree as text, on one line whatever layout is asked for; in an envelope if there is a status for it.
pub(crate) fn write_tree(tree: &Tree, envelope: Option<u16>) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    match envelope {
        None => tree.write(&mut out),
        Some(status) => {
            out.extend_from_slice(format!("{{\"status\":{status},\"content\":").as_bytes());
            tree.write(&mut out);
            out.push(b'}');
        }
    }
    out
}

/// The value as text.
pub(crate) fn write(value: &Value, layout: Layout) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    write_value(value, layout, 0, &mut out);
    out
}

/// `{"status":…,"content":…}`: the one object whose keys Atlas does not sort.
pub(crate) fn write_envelope(status: u16, content: &Value, layout: Layout) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let status = Value::from(status);
    write_object(&[("status", &status), ("content", content)], layout, 0, &mut out);
    out
}

/// An object whose keys keep the order given.
pub(crate) fn write_ordered(entries: &[(&str, &Value)], layout: Layout) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write_object(entries, layout, 0, &mut out);
    out
}

/// The value without the members that are null: what is unset is absent.
pub(crate) fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let set = map.iter().filter(|(_, value)| !value.is_null());
            set.map(|(name, value)| (name.clone(), without_nulls(value))).collect()
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

fn write_value(value: &Value, layout: Layout, depth: usize, out: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            // serde_json keeps insertion order when any crate of the build asks for it, so sort here.
            let mut entries: Vec<_> = map.iter().map(|(key, value)| (key.as_str(), value)).collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            write_object(&entries, layout, depth, out);
        }
        Value::Array(items) => write_array(items, layout, depth, out),
        Value::String(text) => write_string(text, out),
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
    }
}

fn write_object(entries: &[(&str, &Value)], layout: Layout, depth: usize, out: &mut Vec<u8>) {
    if entries.is_empty() {
        out.extend_from_slice(if layout == Layout::Pretty { b"{ }" } else { b"{}" });
        return;
    }
    out.push(b'{');
    for (position, (key, value)) in entries.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        new_line(layout, depth + 1, out);
        write_string(key, out);
        out.extend_from_slice(if layout == Layout::Pretty { b" : " } else { b":" });
        write_value(value, layout, depth + 1, out);
    }
    new_line(layout, depth, out);
    out.push(b'}');
}

fn write_array(items: &[Value], layout: Layout, depth: usize, out: &mut Vec<u8>) {
    let pad: &[u8] = if layout == Layout::Pretty { b" " } else { b"" };
    out.push(b'[');
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        out.extend_from_slice(pad);
        write_value(item, layout, depth, out);
    }
    out.extend_from_slice(pad);
    out.push(b']');
}

fn new_line(layout: Layout, depth: usize, out: &mut Vec<u8>) {
    if layout == Layout::Pretty {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', depth * 2));
    }
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    let plain = text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
    if plain {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(Value::from(text).to_string().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn documents_keep_the_order_of_their_fields() {
        let tree = Tree::Object(vec![
            ("document", Tree::Text(r#"{"z":1,"a":2}"#.to_owned())),
            ("at", Value::from(5).into()),
            ("list", Tree::List(vec![Tree::Text("{}".to_owned()), "x\"".into()])),
        ]);
        let text = r#"{"at":5,"document":{"z":1,"a":2},"list":[{},"x\""]}"#;
        assert_eq!(write_tree(&tree, None), text.as_bytes());
        let enveloped = format!(r#"{{"status":200,"content":{text}}}"#);
        assert_eq!(write_tree(&tree, Some(200)), enveloped.as_bytes());
    }
    use proptest::prelude::*;
    use serde_json::json;

    fn text(value: &Value, layout: Layout) -> String {
        String::from_utf8(write(value, layout)).unwrap()
    }

    #[test]
    fn what_is_unset_is_absent_at_every_depth() {
        let value = serde_json::json!({"a": null, "b": {"c": null, "d": [{"e": null}, 1]}});
        assert_eq!(without_nulls(&value), serde_json::json!({"b": {"d": [{}, 1]}}));
    }

    #[test]
    fn keys_are_sorted_and_nothing_else_is_touched() {
        let value = json!({"b": [1, {"z": null, "a": "\u{e9}\n\""}], "a": {}});
        assert_eq!(
            text(&value, Layout::Compact),
            "{\"a\":{},\"b\":[1,{\"a\":\"\u{e9}\\n\\\"\",\"z\":null}]}"
        );
    }

    #[test]
    fn pretty_is_jacksons() {
        let value = json!({"links": [{"rel": "self", "href": "x"}], "results": [], "empty": {}, "n": [1, 2]});
        let expected = "{\n  \"empty\" : { },\n  \"links\" : [ {\n    \"href\" : \"x\",\n    \"rel\" : \"self\"\n  } ],\n  \"n\" : [ 1, 2 ],\n  \"results\" : [ ]\n}";
        assert_eq!(text(&value, Layout::Pretty), expected);
    }

    #[test]
    fn the_envelope_begins_with_the_status() {
        let body = write_envelope(200, &json!({"b": 1, "a": 2}), Layout::Compact);
        assert_eq!(body, br#"{"status":200,"content":{"a":2,"b":1}}"#);
    }

    proptest! {
        #[test]
        fn every_string_reads_back(s in any::<String>(), pretty in any::<bool>()) {
            let layout = if pretty { Layout::Pretty } else { Layout::Compact };
            let value = json!({ s.clone(): [s.clone(), {"k": s}] });
            let back: Value = serde_json::from_slice(&write(&value, layout)).unwrap();
            prop_assert_eq!(back, value);
        }
    }
}
