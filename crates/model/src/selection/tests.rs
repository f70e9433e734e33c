#![allow(clippy::unwrap_used)]
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn name(text: &str) -> Name {
    let (db, collection) = text.split_once('.').unwrap();
    Name::new(db, collection)
}

fn read(value: Value) -> Result<Selection, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn selection(namespaces: &[&str], renames: &[&str]) -> Result<Selection, SelectionError> {
    let renames = renames.iter().map(|text| SaidRename::parse(text)).collect::<Result<_, _>>()?;
    let namespaces = namespaces.iter().map(|text| (*text).to_owned()).collect();
    Selection::try_from(Said { namespaces, renames, overwrite: false })
}

/// What becomes of these names, or all errors.
fn resolve(namespaces: &[&str], renames: &[&str], there: &[&str]) -> Result<Vec<String>, String> {
    let names: Vec<Name> = there.iter().map(|text| name(text)).collect();
    let there = names.iter().map(|name| There { name, is_series: false });
    let resolved = selection(namespaces, renames).unwrap().resolve(there);
    let resolved = resolved.map_err(|errors| SelectionError::joined(&errors))?;
    Ok(resolved.names.iter().map(|(from, to)| format!("{from}={to}")).collect())
}

const THERE: [&str; 6] =
    ["shop.logs", "shop.logs_1", "shop.orders", "shop.system.js", "shop.x*y", "bank.orders"];

#[test]
fn one_a_beginning_or_a_whole_database_is_selected() {
    let selected = |pattern: &str| {
        let found = resolve(&[pattern], &[], &THERE).unwrap();
        found.iter().map(|line| line.split_once('=').unwrap().0.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(selected("shop.orders"), ["shop.orders"]);
    assert_eq!(selected("shop.logs"), ["shop.logs"], "a name is no beginning");
    assert_eq!(selected("shop.logs*"), ["shop.logs", "shop.logs_1"]);
    assert_eq!(selected("shop.*").len(), 5);
    assert_eq!(selected("shop"), selected("shop.*"));
    assert_eq!(selected("shop.x\\*y"), ["shop.x*y"]);
    assert_eq!(selected("shop.system.js"), ["shop.system.js"]);
    // A beginning that happens to fit never brings functions along.
    assert!(resolve(&["shop.s*"], &[], &THERE).is_err());
}

#[test]
fn the_rename_that_says_most_counts() {
    let renames = ["shop=old", "shop.logs*=old.journal*", "shop.logs=shop.log"];
    assert_eq!(
        resolve(&["shop"], &renames, &["shop.logs", "shop.logs_1", "shop.orders", "shop.system.js"]).unwrap(),
        [
            "shop.logs=shop.log",
            "shop.logs_1=old.journal_1",
            "shop.orders=old.orders",
            "shop.system.js=old.system.js"
        ]
    );
    // Each takes the other's place.
    let swapped = resolve(&["a.x", "a.y"], &["a.x=a.y", "a.y=a.x"], &["a.x", "a.y"]).unwrap();
    assert_eq!(swapped, ["a.x=a.y", "a.y=a.x"]);
}

#[test]
fn functions_that_would_get_another_name_are_left_out() {
    let (orders, functions) = (name("shop.orders"), name("shop.system.js"));
    let there = [&orders, &functions].map(|name| There { name, is_series: false });
    let resolved = selection(&["shop"], &["shop.*=shop.old_*"]).unwrap().resolve(there).unwrap();
    assert_eq!(resolved.names, [(orders.clone(), name("shop.old_orders"))].into());
    assert_eq!(resolved.left_out, [functions]);
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    for (namespaces, renames, why) in [
        (&[][..], &[][..], "nothing is selected"),
        (&[""], &[], "names no database"),
        (&[".x"], &[], "names no database"),
        (&["shop."], &[], "names no collection"),
        (&["*"], &[], "name the database"),
        (&["*.orders"], &[], "name the database"),
        (&["shop.*s"], &[], "at the end"),
        (&["shop.a\\b"], &[], "backslash"),
        (&["admin.mine"], &[], "belong to the server"),
        (&["local"], &[], "belong to the server"),
        (&["config.*"], &[], "belong to the server"),
        (&["shop.system.buckets.weather"], &[], "select shop.weather"),
        (&["shop.system.views"], &[], "by their own names"),
        (&["shop.system.profile"], &[], "only system.js"),
        (&["shop.system.*"], &[], "only system.js"),
        (&["shop.ebbtide.staging.1"], &[], "Ebbtide's own"),
        (&["shop"], &["bank.x=bank.y"], "renamed and not selected"),
        (&["shop.a*"], &["shop.b*=shop.c*"], "renamed and not selected"),
        (&["shop"], &["shop.a=shop.b", "shop.a=shop.c"], "renamed twice"),
        (&["shop"], &["shop.a=shop.a"], "the same"),
        (&["shop"], &["shop.a=shop"], "both"),
        (&["shop"], &["shop=shop2.a"], "both"),
        (&["shop"], &["shop.a=admin.a"], "into admin"),
        (&["shop"], &["shop.a=sh/op.a"], "a database has"),
        (&["shop"], &["shop.a=sh op.a"], "a database has"),
        (&["shop"], &["shop.a=shop.b$c"], "no new collection"),
        (&["shop"], &["shop.a=shop..b"], "begins with a dot"),
        (&["shop"], &["shop.a=shop.system.b"], "belong to the server"),
        (&["shop"], &["shop.a*=shop.system.*"], "belong to the server"),
        (&["shop"], &["shop.a=shop.ebbtide.staging.b"], "Ebbtide's own"),
        (&["shop"], &["shop.a=shop.system.js"], "stored functions"),
        (&["shop"], &["shop.system.js=shop.functions"], "stored functions"),
        (&["shop.a", "shop.b"], &["shop.a=x.c", "shop.b=x.c"], "both become x.c"),
        (&["shop.a", "shop.b"], &["shop.a=shop.b"], "both become shop.b"),
        (&["shop.a", "bank.b"], &["shop.a=Bank.a"], "beside each other"),
        (&["shop", "bank"], &["shop=x", "bank=X"], "beside each other"),
    ] {
        let error = selection(namespaces, renames).unwrap_err().to_string();
        assert!(error.contains(why), "{namespaces:?} {renames:?}: {error}");
    }
    let long = format!("shop.{}", "x".repeat(251));
    assert!(selection(&["shop.a"], &[&format!("shop.a={long}")]).unwrap_err().to_string().contains("255"));
    assert!(SaidRename::parse("shop.a").is_err() && SaidRename::parse("shop.a\\=b").is_err());
}

#[test]
fn what_only_the_state_tells_is_refused_with_the_reason() {
    let error = resolve(&["shop.gone", "shop.a*", "shop.orders"], &[], &THERE).unwrap_err();
    assert_eq!(error, "nothing is called shop.gone; nothing is called shop.a*");
    let error = resolve(&["shop"], &["shop.gone=shop.x"], &THERE).unwrap_err();
    assert_eq!(error, "nothing is called shop.gone", "a rename of nothing is a slip of the pen");
    let error = resolve(&["shop", "bank"], &["bank=shop"], &THERE).unwrap_err();
    assert!(error.contains("bank.orders") && error.contains("both become shop.orders"), "{error}");
    let error = resolve(&["shop"], &["shop.*=shop.sys*"], &["shop.tem.x"]).unwrap_err();
    assert!(error.contains("belong to the server"), "{error}");
    let error = resolve(&["bank", "Bank"], &[], &["bank.x", "Bank.x"]).unwrap_err();
    assert!(error.contains("beside each other"), "{error}");
    let long = format!("shop.{}", "x".repeat(240));
    let renames = ["shop.*=shop.very_old_but_good_*"];
    assert!(resolve(&["shop"], &renames, &[&long]).unwrap_err().contains("longer than 255 bytes"));
    let series = name(&format!("shop.{}", "x".repeat(232)));
    let renamed = selection(&["shop"], &["shop.*=shop.2023_*"]).unwrap();
    let errors = renamed.resolve([There { name: &series, is_series: true }]).unwrap_err();
    assert!(SelectionError::joined(&errors).contains("system.buckets."));
    assert!(renamed.resolve([There { name: &series, is_series: false }]).is_ok());
}

#[test]
fn it_is_kept_in_the_words_in_which_it_is_asked_for() {
    let kept = json!({"namespaces": ["shop.*"], "renames": [{"from": "shop.*", "to": "shop.old_*"}], "overwrite": true});
    let read_back = read(kept.clone()).unwrap();
    assert!(read_back.overwrites());
    assert_eq!(serde_json::to_value(&read_back).unwrap(), kept);
    assert_eq!(
        serde_json::to_value(selection(&["shop"], &[]).unwrap()).unwrap(),
        json!({"namespaces": ["shop.*"]})
    );
    // What is not understood might have narrowed it.
    assert!(read(json!({"namespaces": ["shop"], "except": ["shop.x"]})).is_err());
    assert!(read(json!({"namespaces": []})).is_err() && read(json!({})).is_err());
    let rename = SaidRename::parse("shop.a\\=b=shop.c").unwrap();
    assert_eq!((rename.from.as_str(), rename.to.as_str()), ("shop.a\\=b", "shop.c"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(texts in proptest::collection::vec(".{0,12}", 0..4), from in ".{0,8}", to in ".{0,8}") {
        let renames = vec![SaidRename { from, to }];
        let _ = Selection::try_from(Said { namespaces: texts, renames, overwrite: false });
    }

    #[test]
    fn a_pattern_says_what_it_was_read_from(db in "[a-z*\\\\=é-]{1,8}", text in "[a-z.*\\\\=é-]{0,8}", is_open: bool) {
        let escape = |text: &str| text.replace('\\', "\\\\").replace('*', "\\*");
        prop_assume!(is_open || !text.is_empty());
        let said = format!("{}.{}{}", escape(&db), escape(&text), if is_open { "*" } else { "" });
        let pattern: Pattern = said.parse().unwrap();
        prop_assert_eq!(&pattern, &pattern.to_string().parse().unwrap());
        let meant = if is_open { format!("{text}z") } else { text };
        prop_assert!(pattern.matches(&Name::new(&db, meant)));
    }

    /// Small alphabets, so that names meet.
    #[test]
    fn every_selected_name_has_a_destination_of_its_own_or_it_is_refused(
        there in proptest::collection::btree_set("[ab]\\.[ab]{1,2}", 0..8),
        namespaces in proptest::collection::vec("[ab](\\.([ab]{1,2}|[ab]?\\*))?", 1..4),
        renames in proptest::collection::vec("[ab]\\.([ab]=[ab]\\.[ab]|[ab]?\\*=[abc]\\.[ab]?\\*)", 0..3),
    ) {
        let (namespaces, renames): (Vec<_>, Vec<_>) =
            (namespaces.iter().map(String::as_str).collect(), renames.iter().map(String::as_str).collect());
        let Ok(selection) = selection(&namespaces, &renames) else { return Ok(()) };
        let said = serde_json::to_value(&selection).unwrap();
        prop_assert_eq!(&read(said).unwrap(), &selection);
        let names: Vec<Name> = there.iter().map(|text| name(text)).collect();
        let Ok(resolved) = selection.resolve(names.iter().map(|name| There { name, is_series: false })) else { return Ok(()) };
        let selected: Vec<&Name> = names.iter().filter(|name| selection.selects(name)).collect();
        prop_assert!(!selected.is_empty());
        prop_assert_eq!(resolved.names.keys().collect::<Vec<_>>(), selected);
        let destinations: BTreeSet<&Name> = resolved.names.values().collect();
        prop_assert_eq!(destinations.len(), resolved.names.len());
        if renames.is_empty() {
            prop_assert!(resolved.names.iter().all(|(from, to)| from == to));
        }
    }
}
