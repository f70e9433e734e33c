//! The past as a person looks at it: the binary, its command line, a real mongod that is recorded.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{process::Output, time::Instant};

use bson::{Document, doc};
use serde_json::{Value, json};
use support::{Ebbtide, stderr};
use testbed::{Options, Server};

/// What anything here may take on a busy machine before the test says that it hangs.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(240);

/// What the server is asked until it answers that.
async fn until(what: impl Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < PATIENCE, "it hangs");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Runs a command that must succeed; its time as `--at` takes it.
async fn run(database: &mongodb::Database, command: Document) -> String {
    let reply = database.run_command(command).await.unwrap();
    let time = reply.get_timestamp("operationTime").unwrap();
    format!("{},{}", time.time, time.increment)
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A refusal as programs see it.
fn refused(output: &Output) -> (Value, Value) {
    assert_eq!(output.status.code(), Some(1), "{}", stderr(output));
    let said: Value = serde_json::from_str(stderr(output).lines().last().unwrap()).unwrap();
    (said["status"].clone(), said["errorCode"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_looked_at_before_anything_is_restored() {
    let server = Server::start(Options::version("6.0.5")).await.unwrap();
    let shop = server.client().await.unwrap().database("shop");
    let items = [doc! { "_id": "5", "z": 1, "a": { "y": 2_i64, "b": 1.5 } }, doc! { "_id": 5, "n": 0 }];
    shop.collection::<Document>("items").insert_many(items).await.unwrap();
    let ebbtide = Ebbtide::start();
    ebbtide.cli(&["cluster", "add", "main", "--uri", &server.uri(), "--pit"]);
    let restorable = |at: Option<&str>| {
        let shown = ebbtide.cli(&["timeline", "show", "main"]);
        let Some(to) = shown["restorable"].as_array().unwrap().last().map(|range| range["to"].clone()) else {
            return false;
        };
        let to = (to["seconds"].as_u64().unwrap(), to["increment"].as_u64().unwrap());
        at.is_none_or(|at| {
            let (seconds, increment) = at.split_once(',').unwrap();
            to >= (seconds.parse().unwrap(), increment.parse().unwrap())
        })
    };
    until(|| restorable(None)).await;
    let set = |id: &str, value: i32| doc! { "update": "items", "updates": [{ "q": { "_id": id }, "u": { "$set": { "z": value } } }] };
    let first = run(&shop, set("5", 7)).await;
    let second = run(&shop, set("5", 8)).await;
    run(&shop, doc! { "insert": "items", "documents": [{ "_id": "new" }] }).await;
    let gone = run(&shop, doc! { "delete": "items", "deletes": [{ "q": { "_id": "5" }, "limit": 1 }] }).await;
    let dropped = run(&shop, doc! { "drop": "items", "writeConcern": { "w": "majority" } }).await;
    until(|| restorable(Some(&dropped))).await;

    // As people see it: the document, its fields in their order, and nothing else on standard output.
    let show = |id: &str, at: &str, more: &[&str]| {
        ebbtide.try_text(&[&["doc", "show", "main", "shop.items", id, "--at", at], more].concat())
    };
    let shown = show("\"5\"", &first, &["--relaxed"]);
    let text = "{\n  \"_id\": \"5\",\n  \"z\": 7,\n  \"a\": {\n    \"y\": 2,\n    \"b\": 1.5\n  }\n}\n";
    assert_eq!(stdout(&shown), text);
    assert!(stderr(&shown).contains(&format!("({first})")), "{}", stderr(&shown));
    let number = stdout(&show("5", &first, &[]));
    assert!(number.contains(r#""$numberInt": "5""#), "{number}");
    // And programs, to the byte.
    let file = ebbtide.directory.join("item.bson");
    let json = show("\"5\"", &second, &["--bson", file.to_str().unwrap(), "--output", "json"]);
    assert!(
        stdout(&json)
            .contains(r#""document":{"_id":"5","z":{"$numberInt":"8"},"a":{"y":{"$numberLong":"2"},"#)
    );
    let expected = doc! { "_id": "5", "z": 8, "a": { "y": 2_i64, "b": 1.5 } };
    assert_eq!(std::fs::read(file).unwrap(), bson::serialize_to_vec(&expected).unwrap());

    for (id, at, status, code) in [
        ("\"5\"", &gone, 404, "DOCUMENT_NOT_FOUND"),
        ("\"5\"", &dropped, 404, "COLLECTION_NOT_FOUND"),
        ("{\"$oid\":\"5\"}", &first, 400, "INVALID_DOCUMENT_ID"),
        ("5", &"4000000000".to_owned(), 400, "INVALID_PIT_RESTORE_TIME"),
    ] {
        let output = show(id, at, &["--output", "json"]);
        assert_eq!(refused(&output), (json!(status), json!(code)), "{id} at {at}");
    }
    assert_eq!(show("5", "yesterday", &[]).status.code(), Some(2));

    let history = |more: &[&str]| {
        let words = ["doc", "history", "main", "shop.items", "\"5\""];
        ebbtide.try_text(&[&words[..], more].concat())
    };
    let text = stdout(&history(&[]));
    let operations: Vec<_> =
        text.lines().skip(1).map(|line| line.split_whitespace().nth(2).unwrap()).collect();
    assert_eq!(operations, ["delete", "update", "update", "present"], "{text}");
    assert!(
        text.lines().nth(2).unwrap().starts_with(&second) && text.lines().nth(2).unwrap().ends_with("z"),
        "{text}"
    );
    let page = stdout(&history(&["--limit", "2", "--documents", "--relaxed"]));
    assert!(page.contains("    {\"_id\":\"5\",\"z\":8,"), "{page}");
    let next = page.lines().last().unwrap().rsplit(' ').next().unwrap().to_owned();
    let rest = stdout(&history(&["--to", &next]));
    assert_eq!(rest.lines().count(), 3, "{page}\n{rest}");
    let json: Value = serde_json::from_str(&stdout(&history(&["--output", "json"]))).unwrap();
    assert_eq!((json["versions"].as_array().unwrap().len(), &json["hasMore"]), (4, &json!(false)));

    let diff = |to: &str, more: &[&str]| {
        let words = ["diff", "main", "shop.items", "--from", &first, "--to", to];
        ebbtide.try_text(&[&words[..], more].concat())
    };
    let text = stdout(&diff(&gone, &["--relaxed"]));
    let expected = "1 documents added, 1 removed, 0 changed\n\"5\"\n  - {\"_id\":\"5\",\"z\":7,\"a\":{\"y\":2,\"b\":1.5}}\n\
                    \"new\"\n  + {\"_id\":\"new\"}\n";
    assert_eq!(text, expected);
    let few: Value =
        serde_json::from_str(&stdout(&diff(&gone, &["--limit", "1", "--output", "json"]))).unwrap();
    assert_eq!(
        (few["documents"]["shown"].as_array().unwrap().len(), &few["documents"]["removed"]),
        (1, &json!(1))
    );
    assert!(stdout(&diff(&dropped, &[])).starts_with("the collection was dropped\n"));
    let backwards = ["diff", "main", "shop.items", "--from", &gone, "--to", &first, "--output", "json"];
    let refusal = refused(&ebbtide.try_text(&backwards));
    assert_eq!(refusal, (json!(400), json!("INVALID_QUERY_PARAMETER")));
}
