//! A deployment beside what is recorded of it, as a person compares them: the binary, its command line, a real mongod.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{process::Output, time::Instant};

use bson::{Document, doc};
use serde_json::{Value, json};
use support::{Ebbtide, PATIENCE, stderr};
use testbed::{Options, Server};

fn verify(ebbtide: &Ebbtide, words: &[&str]) -> Output {
    let mut command = support::program();
    command.args(["verify", "--live"]).args(words).args(["--project", &ebbtide.project]);
    command.args(ebbtide.data_flags()).output().unwrap()
}

/// What a program reads, and the exit code.
fn read(output: &Output) -> (Value, Option<i32>) {
    let said = serde_json::from_slice(&output.stdout);
    (said.unwrap_or_else(|e| panic!("{e}: {}", stderr(output))), output.status.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_compared_by_hand() {
    let server = Server::start(Options::version("6.0.5")).await.unwrap();
    let shop = server.client().await.unwrap().database("shop");
    shop.collection("items").insert_many((0..500).map(|n| doc! { "_id": n })).await.unwrap();
    shop.collection("others").insert_one(doc! { "_id": "a" }).await.unwrap();
    shop.run_command(doc! { "create": "log", "capped": true, "size": 10_000 }).await.unwrap();
    let ebbtide = Ebbtide::start();

    ebbtide.add("plain", &server.uri());
    let unrecorded = verify(&ebbtide, &["plain"]);
    assert_eq!(unrecorded.status.code(), Some(1));
    assert!(stderr(&unrecorded).contains("--pit on"), "{}", stderr(&unrecorded));
    let unknown = verify(&ebbtide, &["nowhere"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(stderr(&unknown).contains("no deployment nowhere"), "{}", stderr(&unknown));
    assert_eq!(verify(&ebbtide, &["main", "--share", "0%"]).status.code(), Some(2));
    assert_eq!(verify(&ebbtide, &["main", "--all"]).status.code(), Some(2));

    ebbtide.cli(&["cluster", "add", "main", "--uri", &server.uri(), "--pit"]);
    let shown = || ebbtide.cli(&["timeline", "show", "main"]);
    let begun = Instant::now();
    while shown()["restorable"].as_array().unwrap().is_empty() {
        assert!(begun.elapsed() < PATIENCE, "nothing is recorded");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    shop.collection::<Document>("items").delete_one(doc! { "_id": 7 }).await.unwrap();
    let good = verify(&ebbtide, &["main"]);
    let text = String::from_utf8(good.stdout.clone()).unwrap();
    assert!(good.status.success(), "{}{text}", stderr(&good));
    assert!(text.starts_with("main is what is recorded of it; compared at "), "{text}");
    assert!(text.contains(" 500 documents, "), "{text}");
    assert!(text.contains("  not compared: shop.log: it is capped"), "{text}");
    let (said, code) = read(&verify(&ebbtide, &["main", "--namespace", "shop.items", "--output", "json"]));
    assert_eq!((code, &said["good"], &said["report"]["documents"]), (Some(0), &json!(true), &json!(499)));
    let nothing = verify(&ebbtide, &["main", "--namespace", "shop.item"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(stderr(&nothing).contains("is named shop.item"), "{}", stderr(&nothing));

    let act = async |alone: &mongodb::Client| {
        let items = alone.database("shop").collection::<Document>("items");
        items.update_one(doc! { "_id": 9 }, doc! { "$set": { "secret": "hunter2" } }).await?;
        Ok(())
    };
    server.past_the_oplog(0, act).await.unwrap();
    let (said, code) = read(&verify(&ebbtide, &["main", "--output", "json"]));
    assert_eq!((code, &said["good"]), (Some(1), &json!(false)), "{said}");
    let difference = &said["report"]["differences"][0];
    assert_eq!(difference["namespace"], "shop.items");
    assert_eq!(difference["firstId"], "{\"$numberInt\":\"9\"}", "{said}");
    assert!(!said.to_string().contains("hunter2"), "{said}");
    let text = verify(&ebbtide, &["main"]);
    assert_eq!(text.status.code(), Some(1));
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.starts_with("main DIFFERS from what is recorded of it in 1 collections; "), "{text}");
    assert_eq!(shown()["defects"][0]["namespace"], "shop.items");
    let told = ebbtide.try_text(&["timeline", "show", "main"]);
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("DEFECT: shop.items is not what is recorded of it"), "{told}");

    ebbtide.snapshot("main");
    let begun = Instant::now();
    while shown()["defects"] != json!([]) {
        assert!(begun.elapsed() < PATIENCE, "it is not mended");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let mended = verify(&ebbtide, &["main"]);
    assert!(mended.status.success(), "{}", stderr(&mended));
}
