//! The product as a user drives it: the binary, its command line, a real mongod.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use bson::{Document, doc};
use support::{Ebbtide, stderr, text};
use testbed::{Options, Server, oracle};

async fn source(version: &str) -> Server {
    let server = Server::start(Options::version(version)).await.unwrap();
    let shop = server.client().await.unwrap().database("shop");
    let orders = shop.collection::<Document>("orders");
    orders
        .insert_many((0..3000).map(|n| doc! { "_id": n, "customer": n % 7, "text": "x".repeat(200) }))
        .await
        .unwrap();
    orders.create_index(mongodb::IndexModel::builder().keys(doc! { "customer": 1 }).build()).await.unwrap();
    shop.collection::<Document>("notes").insert_one(doc! { "_id": "a", "body": "keep me" }).await.unwrap();
    shop.run_command(
        doc! { "create": "open", "viewOn": "orders", "pipeline": [{ "$match": { "customer": 1 } }] },
    )
    .await
    .unwrap();
    server
}

async fn accident(server: &Server) {
    let shop = server.client().await.unwrap().database("shop");
    shop.collection::<Document>("notes").drop().await.unwrap();
    shop.collection::<Document>("orders").delete_many(doc! { "customer": 3 }).await.unwrap();
    shop.collection::<Document>("extra").insert_one(doc! { "_id": 1 }).await.unwrap();
}

async fn there_and_back(version: &str) {
    let server = source(version).await;
    let client = server.client().await.unwrap();
    let before = oracle::state(&client).await.unwrap();
    let ebbtide = Ebbtide::start();
    ebbtide.add("main", &server.uri());
    let snapshot = ebbtide.snapshot("main");
    accident(&server).await;
    assert!(!oracle::diff(&before, &oracle::state(&client).await.unwrap()).is_empty(), "the accident shows");
    let job = ebbtide.restore("main", &snapshot, "main");
    assert_eq!(job["state"], "finished");
    assert!(job["receipt"].is_object(), "a finished restore keeps its receipt: {job}");
    oracle::assert_same(&before, &oracle::state(&client).await.unwrap());
}

#[tokio::test]
async fn a_restore_brings_back_what_was_6_0_5() {
    there_and_back("6.0.5").await;
}

#[tokio::test]
async fn a_restore_brings_back_what_was_5_0_4() {
    there_and_back("5.0.4").await;
}

#[tokio::test]
async fn a_restore_brings_back_what_was_6_0_27() {
    there_and_back("6.0.27").await;
}

#[tokio::test]
async fn the_choices_of_a_restore_reach_its_job() {
    let server = source("6.0.5").await;
    let mut ebbtide = Ebbtide::start();
    ebbtide.add("main", &server.uri());
    let snapshot = ebbtide.snapshot("main");
    ebbtide.stop();
    ebbtide.serve_idle();
    let start = ["restore", "start", "main", "--snapshot", &snapshot, "--target", "main"];
    let choices = [
        ["--index-commit-quorum", "votingMembers"],
        ["--index-deadline", "60"],
        ["--fence", "off"],
        ["--park-ttl", "false"],
    ];
    let job = ebbtide.cli(&[&start[..], choices.as_flattened()].concat());
    let expected = serde_json::json!({
        "fence": "off", "inPlace": false, "indexCommitQuorum": "votingMembers", "indexDeadlineSeconds": 60,
        "parkTtl": false, "withUsers": false,
    });
    assert_eq!(job["options"], expected);
    ebbtide.cli(&["restore", "cancel", "main", &text(&job, "id")]);
    // What is not chosen is left to the server.
    let job = ebbtide.cli(&start);
    assert_eq!(job["options"], serde_json::json!({ "inPlace": false, "withUsers": false }));
    for wrong in [["--index-commit-quorum", "everybody"], ["--index-deadline", "0"], ["--fence", "maybe"]] {
        assert_eq!(ebbtide.try_cli(&[&start[..], &wrong].concat()).status.code(), Some(2), "{wrong:?}");
    }
}

#[tokio::test]
async fn one_collection_is_brought_back_beside_the_live_one() {
    let server = source("6.0.5").await;
    let ebbtide = Ebbtide::start();
    ebbtide.add("main", &server.uri());
    let snapshot = ebbtide.snapshot("main");
    let client = server.client().await.unwrap();
    let shop = client.database("shop");
    shop.collection::<Document>("orders").delete_many(doc! {}).await.unwrap();
    let start = ["restore", "start", "main", "--snapshot", &snapshot, "--target", "main"];
    let beside = ["--namespace", "shop.orders", "--rename", "shop.orders=shop.orders_old"];
    let plan = ebbtide.cli(&[&start[..], &beside, &["--dry-run"]].concat());
    let asked = serde_json::json!({
        "namespaces": ["shop.orders"], "renames": [{"from": "shop.orders", "to": "shop.orders_old"}],
    });
    assert_eq!(plan["options"]["selection"], asked);
    let ended = ebbtide.cli(&[&start[..], &beside, &["--watch"]].concat());
    assert_eq!(ended["state"], "finished", "{ended}");
    let count = async |name: &str| shop.collection::<Document>(name).count_documents(doc! {}).await.unwrap();
    assert_eq!((count("orders_old").await, count("orders").await), (3000, 0));

    // What stands there now is not replaced by accident.
    let again = ebbtide.try_cli(&[&start[..], &beside, &["--watch"]].concat());
    assert_eq!(again.status.code(), Some(3), "{}", support::stderr(&again));
    let refused: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert!(refused["error"].as_str().unwrap().contains("overwrite"), "{refused}");
    shop.collection::<Document>("orders_old").delete_many(doc! {}).await.unwrap();
    ebbtide.cli(&[&start[..], &beside, &["--overwrite", "--watch"]].concat());
    assert_eq!(count("orders_old").await, 3000);
    // The server says what is wrong with a selection, in words.
    let wrong = ebbtide.try_cli(&[&start[..], &["--namespace", "admin.x"]].concat());
    assert_eq!(wrong.status.code(), Some(1));
    assert!(support::stderr(&wrong).contains("belong to the server"), "{}", support::stderr(&wrong));
}

#[tokio::test]
async fn a_second_snapshot_of_the_same_data_stores_next_to_nothing() {
    let server = source("6.0.5").await;
    let ebbtide = Ebbtide::start();
    ebbtide.add("main", &server.uri());
    ebbtide.snapshot("main");
    let segments = || support::files(&ebbtide.directory.join("vault/v1/segments")).len();
    let before = segments();
    ebbtide.snapshot("main");
    assert_eq!(segments(), before);
}

#[tokio::test]
async fn a_download_is_fetched_once_and_holds_the_documents() {
    let server = source("6.0.5").await;
    let ebbtide = Ebbtide::start();
    ebbtide.add("main", &server.uri());
    let snapshot = ebbtide.snapshot("main");
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("main.tar.gz");
    let answer = ebbtide.cli(&[
        "restore",
        "download",
        "main",
        "--snapshot",
        &snapshot,
        "--file",
        file.to_str().unwrap(),
    ]);
    let unpacked =
        std::process::Command::new("tar").arg("xzf").arg(&file).current_dir(place.path()).status().unwrap();
    assert!(unpacked.success());
    let orders = std::fs::read(place.path().join("dump/shop/orders.bson")).unwrap();
    let first = bson::rawdoc! { "_id": 0, "customer": 0, "text": "x".repeat(200) };
    assert!(orders.starts_with(first.as_bytes()));
    assert_eq!(orders.len(), first.as_bytes().len() * 3000);
    let url = answer["deliveryUrl"][0].as_str().unwrap().to_owned();
    let status = |method: &[&str]| {
        let mut curl = std::process::Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}"]).args(method);
        String::from_utf8(curl.arg(&url).output().unwrap().stdout).unwrap()
    };
    // It is used up when its last byte was given to the kernel, and that is noted a moment after; a HEAD delivers nothing.
    let taken = std::time::Instant::now();
    while status(&["--head"]) == "200" {
        assert!(taken.elapsed() < support::PATIENCE, "the link is not used up");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(status(&[]), "410", "a link dies after one complete download");
}

#[tokio::test]
async fn what_cannot_be_registered_is_refused_with_a_reason() {
    let ebbtide = Ebbtide::start();
    let refused = |uri: &str, words: &[&str]| {
        let output = ebbtide.try_cli(&["cluster", "add", "main", "--uri", uri]);
        assert_eq!(output.status.code(), Some(1), "{uri} was taken");
        let said = stderr(&output).to_lowercase();
        for word in words {
            assert!(said.contains(word), "{said:?} does not say {word:?}");
        }
    };
    refused(
        &format!("mongodb://127.0.0.1:{}/?serverSelectionTimeoutMS=500", support::free_port()),
        &["127.0.0.1"],
    );
    refused("not a uri", &["connection string"]);
    let standalone = Server::start(Options::default().members(0)).await.unwrap();
    refused(&standalone.uri(), &["standalone"]);
    let old = Server::start(Options::version("4.4.2")).await.unwrap();
    refused(&old.uri(), &["4.4"]);
    let guarded = Server::start(Options::default().with_auth()).await.unwrap();
    refused(&guarded.uri_for("root", "wrong-password"), &["authentication"]);
    let shown = ebbtide.log();
    assert!(!shown.contains("wrong-password"), "a password is in the log");
}

#[tokio::test]
async fn what_an_account_lacks_is_told_line_by_line_with_the_command_that_mends_it() {
    let server = Server::start(Options::default().with_auth()).await.unwrap();
    let make = doc! { "createUser": "poor", "pwd": "pw", "roles": [{ "role": "read", "db": "shop" }] };
    server.admin(make).await.unwrap();
    let ebbtide = Ebbtide::start();
    let poor = server.uri_for("poor", "pw");
    let add = |more: &[&str]| {
        let words = [&["cluster", "add", "main", "--uri", &poor], more].concat();
        ebbtide.try_text(&words)
    };
    let refused = add(&[]);
    assert_eq!(refused.status.code(), Some(1));
    let asked = add(&["--dry-run"]);
    assert_eq!(asked.status.code(), Some(1), "a script can tell that it cannot be registered");
    for told in [stderr(&refused), String::from_utf8(asked.stdout).unwrap()] {
        let (problems, remedies) = told.split_once("what mends it, in mongosh:\n").unwrap();
        let lines: Vec<&str> = problems.lines().skip(1).collect();
        assert!(
            lines.len() > 1 && lines.iter().all(|line| line.starts_with("  MISSING_PRIVILEGE: ")),
            "{told}"
        );
        let commands: Vec<&str> = remedies.lines().filter(|line| line.contains("db.getSiblingDB")).collect();
        assert_eq!(commands.len(), 2, "each command once: {told}");
    }
    // One that may take backups, and nothing else, is taken with a warning.
    let role = ebbtide.cli(&["cluster", "role", "--purpose", "backup", "--mongodb", "6.0"]);
    let role = bson::Bson::try_from(role).unwrap();
    server.admin(role.as_document().unwrap().clone()).await.unwrap();
    let name = role.as_document().unwrap().get_str("createRole").unwrap();
    server.admin(doc! { "grantRolesToUser": "poor", "roles": [name] }).await.unwrap();
    let added = add(&[]);
    assert!(added.status.success(), "{}", stderr(&added));
    assert!(String::from_utf8(added.stdout.clone()).unwrap().contains("main is registered"));
    assert!(
        stderr(&added).contains("what mends it"),
        "what a restore would lack is told: {}",
        stderr(&added)
    );
}

#[tokio::test]
async fn a_lost_catalog_is_rebuilt_from_the_vault() {
    let server = source("6.0.5").await;
    let client = server.client().await.unwrap();
    let before = oracle::state(&client).await.unwrap();
    let mut old = Ebbtide::start();
    old.add("main", &server.uri());
    let snapshot = old.snapshot("main");
    let project = old.project.clone();
    old.stop();
    let place = tempfile::tempdir().unwrap();
    let (vault, key) = (place.path().join("vault"), place.path().join("key"));
    std::fs::rename(old.directory.join("vault"), &vault).unwrap();
    std::fs::rename(old.directory.join("master.key"), &key).unwrap();
    std::fs::remove_dir_all(&old.directory).unwrap();
    accident(&server).await;

    let flags = ["--vault", vault.to_str().unwrap(), "--master-key-file", key.to_str().unwrap()];
    let rebuilt = support::program()
        .args(["admin", "rebuild-catalog", "--data-dir", place.path().join("new").to_str().unwrap()])
        .args(flags)
        .output()
        .unwrap();
    assert!(rebuilt.status.success(), "{}", stderr(&rebuilt));
    let mut new = Ebbtide::on(place.path().join("new"), &flags);
    new.project = project;
    new.new_key();
    new.serve(&[]);
    new.add("main", &server.uri());
    new.restore("main", &snapshot, "main");
    oracle::assert_same(&before, &oracle::state(&client).await.unwrap());
}

#[tokio::test]
async fn the_master_key_can_be_changed() {
    let server = source("6.0.5").await;
    let mut ebbtide = Ebbtide::start();
    ebbtide.add("main", &server.uri());
    let snapshot = ebbtide.snapshot("main");
    let link = ebbtide.cli(&["restore", "download", "main", "--snapshot", &snapshot]);
    ebbtide.stop();
    let old = std::fs::read_to_string(ebbtide.directory.join("master.key")).unwrap();
    let told = ebbtide.admin(&["key", "rotate"]);
    let new = std::fs::read_to_string(ebbtide.directory.join("master.key")).unwrap();
    assert_ne!(old, new);
    assert!(told["fingerprint"].is_string());
    ebbtide.serve(&[]);
    let shown = ebbtide.cli(&["restore", "show", "main", &text(&link, "id")]);
    assert_eq!(shown["deliveryUrl"], link["deliveryUrl"], "a link outlives the key it was sealed with");
    assert_eq!(ebbtide.restore("main", &snapshot, "main")["state"], "finished");
    ebbtide.stop();
    // With the old key nothing opens, and the reason is told.
    std::fs::write(ebbtide.directory.join("master.key"), old).unwrap();
    let output = ebbtide.try_admin(&["create-project", "other"]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("key"), "{}", stderr(&output));
}

#[tokio::test]
async fn verify_names_a_damaged_object() {
    let server = source("6.0.5").await;
    let ebbtide = Ebbtide::start();
    ebbtide.add("main", &server.uri());
    let snapshot = ebbtide.snapshot("main");
    let verify =
        || support::program().args(["verify", &snapshot]).args(ebbtide.data_flags()).output().unwrap();
    let good = verify();
    assert!(good.status.success(), "{}", stderr(&good));
    let segments = support::files(&ebbtide.directory.join("vault/v1/segments"));
    let largest = segments.iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(largest, bytes).unwrap();
    let bad = verify();
    assert_eq!(bad.status.code(), Some(1));
    let name = largest.file_name().unwrap().to_str().unwrap();
    let said = stderr(&bad) + &String::from_utf8_lossy(&bad.stdout);
    assert!(said.contains(&name[..12]), "{said} does not name {name}");
    assert!(said.contains("shop.orders"), "{said} does not name the collection");
    // It is remembered, and mended by the next snapshot of the same data.
    ebbtide.snapshot("main");
    let mended = verify();
    assert!(mended.status.success(), "{}", stderr(&mended));
}

#[tokio::test]
async fn verify_names_a_damaged_slice_and_a_missing_one() {
    let server = source("6.0.5").await;
    let mut ebbtide = Ebbtide::start();
    ebbtide.cli(&["cluster", "add", "main", "--uri", &server.uri(), "--pit"]);
    let began = std::time::Instant::now();
    let slices = loop {
        let slices = support::files(&ebbtide.directory.join("vault/v1/slices"));
        if slices.len() >= 2 {
            break slices;
        }
        assert!(began.elapsed() < support::PATIENCE, "nothing is recorded");
        server.admin(doc! { "appendOplogNote": 1, "data": { "n": 1 } }).await.unwrap();
        std::thread::sleep(std::time::Duration::from_millis(200));
    };
    // Without another slice meanwhile.
    ebbtide.stop();
    let verify = || support::program().args(["verify", "--all"]).args(ebbtide.data_flags()).output().unwrap();
    let said = |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let good = verify();
    assert!(good.status.success(), "{}", stderr(&good));
    assert!(said(&good).contains("timeline ") && said(&good).contains(" slices, "), "{}", said(&good));
    let slice = &slices[0];
    let name = slice.file_name().unwrap().to_str().unwrap();
    let whole = std::fs::read(slice).unwrap();
    let mut bytes = whole.clone();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(slice, bytes).unwrap();
    let bad = verify();
    assert_eq!(bad.status.code(), Some(1));
    assert!(said(&bad).contains("DAMAGED: 1 faults") && said(&bad).contains(name), "{}", said(&bad));
    std::fs::remove_file(slice).unwrap();
    let gone = verify();
    assert_eq!(gone.status.code(), Some(1));
    assert!(said(&gone).contains(name), "{}", said(&gone));
    std::fs::write(slice, whole).unwrap();
    assert!(verify().status.success());
}

#[tokio::test]
async fn a_stolen_catalog_lets_nobody_in() {
    let server = Server::start(Options::default().with_auth()).await.unwrap();
    let mut ebbtide = Ebbtide::start();
    ebbtide.add("main", &server.uri());
    let account =
        ebbtide.admin(&["create-service-account", "--project", &ebbtide.project, "--role", "GROUP_OWNER"]);
    ebbtide.stop();
    let mut catalog = Vec::new();
    for file in support::files(&ebbtide.directory) {
        if file.file_name().unwrap().to_str().unwrap().starts_with("catalog.db") {
            catalog.extend(std::fs::read(&file).unwrap());
        }
    }
    let holds = |needle: &[u8]| catalog.windows(needle.len()).any(|window| window == needle);
    assert!(holds(ebbtide.public_key.as_bytes()), "the search finds what is there");
    let ha1 = {
        use md5::{Digest, Md5};
        Md5::digest(format!("{}:MMS Public API:{}", ebbtide.public_key, ebbtide.private_key))
    };
    let uri = server.uri();
    let password = uri.split("://").nth(1).unwrap().split('@').next().unwrap().split(':').nth(1).unwrap();
    let secret = text(&account, "clientSecret");
    let key = std::fs::read_to_string(ebbtide.directory.join("master.key")).unwrap();
    let secrets: [(&str, Vec<u8>); 6] = [
        ("the private key", ebbtide.private_key.clone().into_bytes()),
        ("HA1", ha1.to_vec()),
        ("HA1 in hexadecimal", hex::encode(ha1).into_bytes()),
        ("the deployment's password", password.as_bytes().to_vec()),
        ("the client secret", secret.into_bytes()),
        ("the master key", key.trim().as_bytes().to_vec()),
    ];
    for (what, secret) in secrets {
        assert!(!holds(&secret), "{what} is in the catalog in clear");
    }
}

#[tokio::test]
async fn exit_codes_and_json_are_what_scripts_rely_on() {
    let ebbtide = Ebbtide::start();
    assert_eq!(ebbtide.try_cli(&["cluster", "nonsense"]).status.code(), Some(2));
    assert_eq!(ebbtide.try_cli(&["cluster", "show", "nobody"]).status.code(), Some(1));
    assert_eq!(ebbtide.cli(&["cluster", "list"]), serde_json::json!([]));
    let mut stranger = support::program();
    stranger.args(["cluster", "list", "--project", &ebbtide.project, "--url", &ebbtide.url()]);
    let output = stranger.args(["--public-key", "nobodyxx", "--private-key", "wrong"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("API key"), "{}", stderr(&output));

    // With --output json errors are JSON too, wherever they come from.
    let told = |output: std::process::Output| -> serde_json::Value {
        let said = stderr(&output);
        serde_json::from_str(said.lines().last().unwrap()).unwrap_or_else(|_| panic!("{said}"))
    };
    let refused = told(ebbtide.try_cli(&["cluster", "show", "nobody"]));
    assert_eq!((&refused["status"], &refused["errorCode"]), (&404.into(), &"CLUSTER_NOT_FOUND".into()));
    assert!(refused["detail"].as_str().unwrap().starts_with("No cluster named nobody exists"), "{refused}");
    let failed = told(ebbtide.try_admin(&["create-key", "--project", "nonsense", "--role", "GROUP_OWNER"]));
    assert_eq!(failed["detail"], "understand --project");
    assert!(failed["causes"][0].as_str().unwrap().contains("24 hexadecimal digits"), "{failed}");
    let unregistered = told(ebbtide.try_cli(&["cluster", "add", "x", "--uri", "not a uri"]));
    assert!(unregistered["fields"][0]["description"].as_str().unwrap().contains("connection string"));
    assert!(!stderr(&ebbtide.try_text(&["cluster", "show", "nobody"])).contains('{'));
}

#[tokio::test]
async fn a_schedule_is_set_shown_and_deleted() {
    let server = Server::start(Options::default()).await.unwrap();
    let ebbtide = Ebbtide::start();
    ebbtide.add("main", &server.uri());
    let items = |shown: &serde_json::Value| shown["policies"][0]["policyItems"].as_array().unwrap().clone();
    let shown = ebbtide.cli(&["schedule", "show", "main"]);
    assert_eq!(items(&shown), [] as [serde_json::Value; 0], "a deployment has none by itself");
    let default = ebbtide.cli(&["schedule", "set", "main", "--default"]);
    assert_eq!(items(&default).len(), 5);
    let later = ebbtide.cli(&["schedule", "set", "main", "--at", "02:30"]);
    assert_eq!((items(&later), &later["referenceMinuteOfHour"]), (items(&default), &30.into()));
    let other = ["schedule", "set", "main", "--daily", "9d", "--weekly", "mon=4w", "--update-snapshots"];
    let other = ebbtide.cli(&other);
    assert_eq!(items(&other)[0]["id"], items(&default)[1]["id"], "what is taken as before is the same item");
    assert_eq!((items(&other).len(), &other["referenceHourOfDay"]), (2, &2.into()));
    let text = ebbtide.try_text(&["schedule", "show", "main"]);
    let told = String::from_utf8(text.stdout).unwrap();
    assert!(told.contains("02:30 UTC") && told.contains("  on Mondays, kept for 4 weeks\n"), "{told}");
    let refused = ebbtide.try_cli(&["schedule", "set", "main", "--daily", "90d", "--weekly", "mon=4w"]);
    assert!(!refused.status.success() && stderr(&refused).contains("INVALID_BACKUP_POLICY"));
    assert_eq!(ebbtide.cli(&["schedule", "delete", "main"])["deleted"], "main");
    assert_eq!(items(&ebbtide.cli(&["schedule", "show", "main"])), [] as [serde_json::Value; 0]);
}
