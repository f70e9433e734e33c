#![allow(clippy::unwrap_used)]
use serde_json::{Value, json};

use super::*;
use crate::{restore::RestoreState, selection::There};

fn read(mut body: Value) -> Result<CollectionRestore, AskedError> {
    body["indexStrategy"] = json!("ALL");
    if body.get("writeStrategy").is_none() {
        body["writeStrategy"] = json!("CREATE_NEW");
    }
    let asked: Asked = serde_json::from_value(body).unwrap();
    CollectionRestore::try_from(asked)
}

fn name(text: &str) -> Name {
    let (db, collection) = text.split_once('.').unwrap();
    Name::new(db, collection)
}

fn names(texts: &[&str]) -> Value {
    texts.iter().map(|text| json!({"sourceNamespace": text})).collect()
}

fn resolved(restore: &CollectionRestore, there: &[&str]) -> Vec<String> {
    let names: Vec<Name> = there.iter().map(|text| name(text)).collect();
    let there = names.iter().map(|name| There { name, is_series: false });
    let resolved = restore.selection().resolve(there).unwrap();
    resolved.names.iter().map(|(from, to)| format!("{from}={to}")).collect()
}

#[test]
fn lists_targets_and_suffixes_become_a_selection() {
    let there = ["shop.orders", "shop.items", "bank.a*b", "bank.log", "crm.x=y"];
    let plain = read(json!({"databases": names(&["shop"]), "collections": names(&["bank.log"])})).unwrap();
    assert_eq!(
        resolved(&plain, &there),
        ["bank.log=bank.log", "shop.items=shop.items", "shop.orders=shop.orders"]
    );
    assert!(!plain.selection().overwrites());
    assert_eq!(plain.databases().iter().collect::<Vec<_>>(), ["shop"]);
    // Nothing in a name is a pattern.
    let odd =
        read(json!({"collections": names(&["bank.a*b", "crm.x=y"]), "collectionSuffix": "_*"})).unwrap();
    assert_eq!(resolved(&odd, &there), ["bank.a*b=bank.a*b_*", "crm.x=y=crm.x=y_*"]);
    // A name that is given stands as it is.
    let given = read(json!({
        "databases": [{"sourceNamespace": "shop", "targetNamespace": "mall"}, {"sourceNamespace": "crm", "targetNamespace": ""}],
        "collections": [{"sourceNamespace": "bank.log", "targetNamespace": "audit.log"}, {"sourceNamespace": "bank.a*b"}],
        "databaseSuffix": "_d", "collectionSuffix": "_c", "writeStrategy": "OVERWRITE_EXISTING",
    }))
    .unwrap();
    assert_eq!(
        resolved(&given, &there),
        [
            "bank.a*b=bank.a*b_c",
            "bank.log=audit.log",
            "crm.x=y=crm_d.x=y",
            "shop.items=mall.items",
            "shop.orders=mall.orders"
        ]
    );
    assert!(given.selection().overwrites());
    let kept = serde_json::to_value(&given).unwrap();
    assert_eq!(serde_json::from_value::<CollectionRestore>(kept).unwrap(), given);
}

#[test]
fn what_cannot_be_is_refused_and_named() {
    let many: Vec<String> = (0..=NAMES_MAX).map(|n| format!("shop.c{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let renamed = |from: &str, to: &str| json!([{"sourceNamespace": from, "targetNamespace": to}]);
    for (body, field, why) in [
        (json!({}), "collections", "nothing is asked for"),
        (json!({"collections": names(&many)}), "collections", "100"),
        (json!({"databases": names(&["shop", "shop"])}), "databases", "twice"),
        (json!({"collections": names(&["a.b", "a.b"])}), "collections", "twice"),
        (json!({"databases": names(&["a"]), "collections": names(&["a.b"])}), "collections", "as a whole"),
        (json!({"databases": names(&["a.b"])}), "databases", "no dot"),
        (json!({"databases": names(&[""])}), "databases", "no dot"),
        (json!({"databases": names(&["admin"])}), "databases", "belong to the server"),
        (json!({"collections": names(&["local.x"])}), "collections", "belong to the server"),
        (json!({"collections": names(&["shop"])}), "collections", "names no collection"),
        (json!({"collections": names(&["shop."])}), "collections", "names no collection"),
        (json!({"collections": names(&[".x"])}), "collections", "names no collection"),
        (json!({"collections": names(&["shop.system.js"])}), "collections", "belong to the server"),
        (json!({"collections": names(&["shop.system.buckets.x"])}), "collections", "belong to the server"),
        (json!({"collections": renamed("a.b", "admin.b")}), "collections", "into admin"),
        (json!({"collections": renamed("a.b", "c.system.b")}), "collections", "belong to the server"),
        (json!({"databases": renamed("a", "b c")}), "databases", "63 bytes"),
        (json!({"databases": renamed("a", &"x".repeat(64))}), "databases", "63 bytes"),
        (
            json!({"collections": [{"sourceNamespace": "a.b", "targetNamespace": "c.d"}, {"sourceNamespace": "c.d"}]}),
            "collections",
            "both become c.d",
        ),
        (json!({"collections": names(&["a.b"]), "collectionSuffix": "$"}), "collections", "$"),
    ] {
        let error = read(body.clone()).unwrap_err();
        assert_eq!(error.field, field, "{body}: {error}");
        assert!(error.reason.contains(why), "{body}: {error}");
    }
    let most: Vec<String> = (0..NAMES_MAX).map(|n| format!("c{n}")).collect();
    let databases: Vec<&str> = most.iter().map(String::as_str).collect();
    let collections: Vec<String> = most.iter().map(|db| format!("x{db}.y")).collect();
    let collections: Vec<&str> = collections.iter().map(String::as_str).collect();
    assert!(read(json!({"databases": names(&databases), "collections": names(&collections)})).is_ok());
}

fn free(wanted: &[(&str, bool)], there: &[&str]) -> Result<Vec<String>, String> {
    let wanted: Vec<Destination> = wanted
        .iter()
        .map(|(text, whole_database)| Destination { name: name(text), whole_database: *whole_database })
        .collect();
    let there: Vec<Name> = there.iter().map(|text| name(text)).collect();
    let found = beside(&wanted, &there)?;
    Ok(wanted.iter().map(|to| found[&to.name].to_string()).collect())
}

#[test]
fn what_is_there_is_never_in_the_way() {
    assert_eq!(free(&[("a.x", false), ("b.y", true)], &["c.z"]).unwrap(), ["a.x", "b.y"]);
    assert_eq!(free(&[("a.x", false), ("a.y", false)], &["a.x"]).unwrap(), ["a.x_restored", "a.y"]);
    let there = ["a.x", "a.x_restored", "a.x_restored_2"];
    assert_eq!(free(&[("a.x", false)], &there).unwrap(), ["a.x_restored_3"]);
    // What else is restored has its name already.
    let wanted = [("a.x", false), ("a.x_restored", false)];
    assert_eq!(free(&wanted, &["a.x"]).unwrap(), ["a.x_restored_2", "a.x_restored"]);
    // A database goes as a whole, and no two differ only by case.
    let wanted = [("a.x", true), ("a.y", true), ("b.x", true)];
    assert_eq!(free(&wanted, &["A.z"]).unwrap(), ["a_restored.x", "a_restored.y", "b.x"]);
    assert_eq!(free(&[("a.x", true)], &["a.z", "A_Restored.z"]).unwrap(), ["a_restored_2.x"]);
    let wanted = [("a.x", true), ("a_restored.y", true)];
    assert_eq!(free(&wanted, &["a.z"]).unwrap(), ["a_restored_2.x", "a_restored.y"]);
}

#[test]
fn a_name_that_would_be_too_long_is_told() {
    let long = format!("{}.x", "d".repeat(60));
    assert!(free(&[(&long, true)], &[&long]).unwrap_err().contains("another target"));
    let long = format!("a.{}", "x".repeat(250));
    assert!(free(&[(&long, false)], &[&long]).unwrap_err().contains("another target"));
    let long = format!("a.{}", "x".repeat(250));
    assert!(free(&[(&long, true)], &["a.y"]).unwrap_err().contains("255"));
}

#[test]
fn nothing_of_a_job_that_has_ended_is_still_going_on() {
    use CollectionState as Shown;
    for step in CollectionStep::ALL {
        assert_eq!(step.as_str().parse::<CollectionStep>().unwrap(), *step);
        for job in RestoreState::ALL {
            let shown = step.shown(job);
            let goes_on =
                matches!(shown, Shown::NotStarted | Shown::InProgress | Shown::Finalizing | Shown::Rollback);
            assert!(!(goes_on && job.is_final()), "{step:?} of a job that is {job:?}: {shown:?}");
            assert_eq!(shown == Shown::Successful, job == RestoreState::Finished && step.is_restored());
            assert!(CollectionStep::shown_as(shown, job).any(|other| other == *step));
            assert_eq!(step.indexes(job, IndexStrategy::None), IndexState::NotRestored);
            let indexes = step.indexes(job, IndexStrategy::All);
            let goes_on = matches!(indexes, IndexState::NotStarted | IndexState::InProgress);
            assert!(!(goes_on && job.is_final()), "{step:?} of a job that is {job:?}: {indexes:?}");
        }
    }
    assert_eq!(CollectionStep::Waiting.shown(RestoreState::Running), Shown::NotStarted);
    assert_eq!(CollectionStep::Staged.shown(RestoreState::Running), Shown::InProgress);
    assert_eq!(CollectionStep::Staged.shown(RestoreState::Failed), Shown::NotRestored);
    assert_eq!(CollectionStep::InPlace.shown(RestoreState::Failed), Shown::Failed);
    assert_eq!(CollectionStep::Loading.shown(RestoreState::Cancelling), Shown::Rollback);
    assert_eq!(CollectionStep::IndexesFailed.shown(RestoreState::Failed), Shown::IndexBuildFailed);
    let indexes = |step: CollectionStep| step.indexes(RestoreState::Running, IndexStrategy::AllExceptTtl);
    assert_eq!(indexes(CollectionStep::Loading), IndexState::NotStarted);
    assert_eq!(indexes(CollectionStep::Indexing), IndexState::InProgress);
    assert_eq!(indexes(CollectionStep::Staged), IndexState::Successful);
}

#[test]
fn the_job_is_initializing_until_it_is_known_what_is_restored() {
    use CollectionRestoreState as Shown;
    assert_eq!(CollectionRestoreState::of(RestoreState::Running, false), Shown::Initializing);
    assert_eq!(CollectionRestoreState::of(RestoreState::Running, true), Shown::InProgress);
    assert_eq!(CollectionRestoreState::of(RestoreState::Failed, false), Shown::Failed);
    for job in RestoreState::ALL {
        let shown = CollectionRestoreState::of(job, true);
        let ended = matches!(shown, Shown::Successful | Shown::Canceled | Shown::Failed);
        assert_eq!(ended, job.is_final() || job == RestoreState::Ready, "{job:?}: {shown:?}");
    }
}
