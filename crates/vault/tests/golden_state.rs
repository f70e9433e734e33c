//! What the golden snapshots amount to, the one with deltas too: written down here by hand.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use history::raw::{self, Element, kind};
use support::{WHOLE, WITH_DELTAS, golden_vault, snapshot, state};

/// A document as text, for documents of few types.
fn text(document: &[u8]) -> String {
    let fields: Vec<_> = raw::elements(document)
        .map(|element| element.unwrap())
        .map(|element| format!("{}: {}", String::from_utf8_lossy(element.name), value(&element)))
        .collect();
    format!("{{{}}}", fields.join(", "))
}

fn value(element: &Element<'_>) -> String {
    match element.kind {
        kind::DOCUMENT => text(element.value),
        kind::ARRAY => {
            let values: Vec<_> = raw::elements(element.value)
                .enumerate()
                .map(|(at, element)| {
                    let element = element.unwrap();
                    assert_eq!(element.name, at.to_string().as_bytes());
                    value(&element)
                })
                .collect();
            format!("[{}]", values.join(", "))
        }
        kind::STRING => format!("{:?}", element.text().unwrap()),
        kind::BOOLEAN => element.boolean().unwrap().to_string(),
        kind::NULL => "null".to_owned(),
        kind::INT32 | kind::INT64 => element.integer().unwrap().to_string(),
        other => format!("a value of type {other:#x}"),
    }
}

fn texts(documents: &[Vec<u8>]) -> Vec<String> {
    documents.iter().map(|document| text(document)).collect()
}

#[tokio::test]
async fn the_snapshot_with_deltas_is_what_its_changes_make_of_it() {
    let vault = golden_vault().await;
    let whole: BTreeMap<_, _> = state(&vault, &snapshot(&vault, WHOLE).await).await.into_iter().collect();
    let with: BTreeMap<_, _> =
        state(&vault, &snapshot(&vault, WITH_DELTAS).await).await.into_iter().collect();
    assert_eq!(with.keys().collect::<Vec<_>>(), ["carts", "drafts", "kinds", "orders", "trees"]);

    let id = |document: &Vec<u8>| raw::field(document, "_id").unwrap().unwrap().integer().unwrap();
    let mut orders: BTreeMap<i64, String> =
        whole["orders"].iter().map(|document| (id(document), text(document))).collect();
    assert_eq!(orders.len(), 1500);
    for (id, d) in [
        (-5, "in front of all"),
        (3, "three"),
        (9, "nine"),
        (2998, "between two segments"),
        (2999, "between two segments as well"),
        (3000, "the first of its segment"),
        (3006, "again"),
        (3012, "patched"),
        (3015, "patched at the end"),
        (5000, "behind all"),
    ] {
        orders.insert(id, format!("{{_id: {id}, d: {d:?}}}"));
    }
    orders.insert(3003, "{_id: 3003}".to_owned());
    orders.insert(6, "{_id: 6, d: \"six\", more: 6}".to_owned());
    orders.remove(&3009);
    orders.remove(&4497);
    assert_eq!(texts(&with["orders"]), orders.into_values().collect::<Vec<_>>());

    assert_eq!(
        texts(&with["trees"]),
        [
            r#"{_id: 1, a: {x: ["new", {z: 2}], k: "v", n: 1}, : {e: 2}, new: []}"#,
            r#"{_id: 2, l: [1, null, null, 9, null], last: 2, first: "moved"}"#,
            "{_id: 3, l: [], n: 1, appended: 2}",
            "{_id: 4, b: null, c: 1}",
            "{_id: 5, twice: 3, twice: 3, n: 0}",
        ]
    );
    assert_eq!(
        texts(&with["carts"]),
        [
            r#"{_id: 0, d: "zero"}"#,
            r#"{_id: 1, d: "one, patched"}"#,
            r#"{_id: 3, d: "at the time of the snapshot"}"#
        ]
    );
    assert!(with["drafts"].is_empty());
    // By turns: deleted, patched, replaced, left alone, inserted.
    let expected = (0..41).filter_map(|at| match at % 5 {
        0 => None,
        2 => Some(-at),
        3 => Some(0),
        _ => Some(at),
    });
    let numbers = with["kinds"].iter().map(|document| raw::field(document, "n").unwrap().unwrap());
    let numbers: Vec<_> = numbers.map(|number| number.integer().unwrap()).collect();
    assert_eq!(numbers, expected.collect::<Vec<i64>>());
}
