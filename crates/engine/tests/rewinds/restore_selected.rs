//! Chosen databases and collections are restored, and nothing else is touched: judged by the server itself.
#![allow(clippy::unwrap_used)]

use crate::{restore_support, support};

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI32, Ordering},
};

use bson::{Document, doc};
use catalog::{RestoreJob, Snapshot};
use model::{id::DeploymentId, restore::RestoreState};
use mongo::privileges::{Purpose, role_definition};
use restore_support::{
    assert_no_staging, damage, data, put, register, request, restore, run, server, take_out,
    without_stored_views,
};
use serde_json::{Value, json};
use support::{Bench, probe};
use testbed::{Options, Server, data::Set, oracle};

const VERSIONS: [&str; 2] = ["6.0.5", "5.0.4"];

/// A shop, beside whatever sets are in the server.
async fn shop(client: &mongodb::Client) {
    let shop = client.database("shop");
    let documents = (0..500).map(|n| doc! {"_id": n, "n": n, "text": "x".repeat(100)});
    shop.collection::<Document>("orders").insert_many(documents).await.unwrap();
    let index = doc! {"key": {"n": -1}, "name": "by n"};
    shop.run_command(doc! {"createIndexes": "orders", "indexes": [index]}).await.unwrap();
    shop.collection::<Document>("items").insert_many((0..50).map(|n| doc! {"_id": n})).await.unwrap();
    shop.run_command(doc! {"create": "recent", "viewOn": "orders", "pipeline": [{"$match": {"n": 1}}]})
        .await
        .unwrap();
}

/// An accident in it.
async fn damage_shop(client: &mongodb::Client) {
    let shop = client.database("shop");
    shop.collection::<Document>("orders").delete_many(doc! {"n": {"$gte": 100}}).await.unwrap();
    shop.run_command(doc! {"dropIndexes": "orders", "index": "by n"}).await.unwrap();
    shop.collection::<Document>("items").insert_one(doc! {"_id": "since"}).await.unwrap();
    shop.collection::<Document>("later").insert_one(doc! {"_id": "since"}).await.unwrap();
}

fn selection(namespaces: &[&str], renames: &[(&str, &str)]) -> Value {
    let renames: Vec<_> = renames.iter().map(|(from, to)| json!({"from": from, "to": to})).collect();
    json!({"selection": {"namespaces": namespaces, "renames": renames}})
}

/// A restore that has to be refused, with nothing changed.
async fn refused(bench: &Bench, snapshot: &Snapshot, options: Value) -> String {
    let before = data(&bench.client).await;
    let id = request(bench, snapshot, bench.deployment, options).await;
    let job = run(bench, id, bench.settings(), None).await;
    assert_eq!(job.state, RestoreState::Failed);
    oracle::assert_same(&before, &data(&bench.client).await);
    job.error.unwrap()
}

/// From which name to which, as the receipt tells it.
fn mapping(receipt: &Value) -> Vec<String> {
    let lines = receipt["perCollection"].as_array().unwrap();
    assert!(lines.iter().all(|line| line["ok"] == true), "{receipt:#}");
    let name = |line: &Value, field: &str| line[field].as_str().unwrap().to_owned();
    lines.iter().map(|line| format!("{}={}", name(line, "from"), name(line, "ns"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_collection_goes_back_and_everything_else_stays_as_others_make_it() {
    for (version, options) in VERSIONS.into_iter().zip([json!({}), json!({"inPlace": true})]) {
        let server = server(Options::version(version), &Set::ALL).await;
        let uri = server.uri();
        let bench = Bench::over(server, &uri).await;
        shop(&bench.client).await;
        let before = data(&bench.client).await;
        let snapshot = bench.snapshot().await;
        damage(&bench.client).await;
        damage_shop(&bench.client).await;
        let mut expected = data(&bench.client).await;
        put(&mut expected, "shop.orders", &before, "shop.orders");

        // Nobody is kept out without access control: others write all the time, and make and drop things.
        let (client, moments) = (bench.client.clone(), Arc::new(AtomicI32::new(0)));
        let writing = probe({
            let moments = Arc::clone(&moments);
            move |moment, _| {
                let (client, moments) = (client.clone(), Arc::clone(&moments));
                async move {
                    if !["restore.staged", "restore.fenced", "restore.switched", "restore.lifted"]
                        .contains(&moment)
                    {
                        return;
                    }
                    let n = moments.fetch_add(1, Ordering::SeqCst);
                    client
                        .database("shop")
                        .collection::<Document>("live")
                        .insert_one(doc! {"_id": n})
                        .await
                        .unwrap();
                    client
                        .database("new")
                        .collection::<Document>("live")
                        .insert_one(doc! {"_id": n})
                        .await
                        .unwrap();
                    let view = doc! {"create": format!("view {n}"), "viewOn": "orders", "pipeline": []};
                    client.database("shop").run_command(view).await.unwrap();
                    client
                        .database("gone")
                        .collection::<Document>("x")
                        .insert_one(doc! {"_id": n})
                        .await
                        .unwrap();
                    client.database("gone").drop().await.unwrap();
                }
            }
        });
        let mut asked = selection(&["shop.orders"], &[]);
        asked.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let id = request(&bench, &snapshot, bench.deployment, asked).await;
        let job = run(&bench, id, bench.settings(), Some(writing)).await;
        assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
        let moments = moments.load(Ordering::SeqCst);
        assert_eq!(moments, 4);
        let mut found = data(&bench.client).await;
        for n in 0..moments {
            take_out(&mut found, &format!("shop.view {n}"));
        }
        take_out(&mut found, "shop.live");
        for db in ["shop", "new"] {
            let live = bench.client.database(db).collection::<Document>("live");
            assert_eq!(live.count_documents(doc! {}).await.unwrap(), 4);
        }
        let found = found.without_databases(&["new"]);
        // The views of others are in there too.
        oracle::assert_same(&without_stored_views(expected), &without_stored_views(found));
        assert_no_staging(&bench.client).await;
        let receipt = job.receipt.unwrap();
        assert_eq!(mapping(&receipt), ["shop.orders=shop.orders"]);
        assert_eq!((&receipt["documents"], &receipt["collections"]), (&json!(500), &json!(1)));
        assert_eq!(receipt["foreignWrites"]["count"], 0, "{receipt:#}");
        assert_eq!(receipt["tornTransactions"]["state"], "unknown", "{receipt:#}");
        assert!(receipt["tornTransactions"]["reason"].as_str().unwrap().contains("recorded"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_others_write_to_what_is_selected_is_told() {
    let server = server(Options::version("6.0.5"), &[]).await;
    let uri = server.uri();
    let bench = Bench::over(server, &uri).await;
    shop(&bench.client).await;
    let snapshot = bench.snapshot().await;
    let client = bench.client.clone();
    let writing = probe(move |moment, _| {
        let client = client.clone();
        async move {
            if moment == "restore.switched" {
                let shop = client.database("shop");
                shop.collection::<Document>("orders").insert_one(doc! {"_id": "foreign"}).await.unwrap();
                shop.collection::<Document>("items").insert_one(doc! {"_id": "foreign"}).await.unwrap();
            }
        }
    });
    let id = request(&bench, &snapshot, bench.deployment, selection(&["shop.orders"], &[])).await;
    let job = run(&bench, id, bench.settings(), Some(writing)).await;
    assert_eq!(job.state, RestoreState::Finished, "{:?}", job.error);
    let receipt = job.receipt.unwrap();
    assert_eq!(receipt["foreignWrites"]["count"], 1, "{receipt:#}");
    assert_eq!(receipt["foreignWrites"]["first"][0]["ns"], "shop.orders");
    assert_eq!(receipt["perCollection"][0]["changedByOthers"], true, "{receipt:#}");
}

/// A deployment with access control, an account for the backup, one for the restore, and one that only works in the shop.
async fn with_accounts(version: &str) -> (Bench, DeploymentId, mongodb::Client) {
    let server = Server::start(Options::version(version).with_auth()).await.unwrap();
    let client = server.client().await.unwrap();
    shop(&client).await;
    let admin = client.database("admin");
    let mut parts = version.split('.').map(|part| part.parse().unwrap());
    let numbers = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    for (user, purpose) in [("backup", Purpose::Backup), ("restore", Purpose::Restore)] {
        admin.run_command(role_definition(purpose, numbers)).await.unwrap();
        admin
            .run_command(doc! {"createUser": user, "pwd": "secret", "roles": [purpose.role()]})
            .await
            .unwrap();
    }
    let role = doc! {"role": "readWrite", "db": "shop"};
    admin.run_command(doc! {"createUser": "shop", "pwd": "secret", "roles": [role]}).await.unwrap();
    let [backup, restore, shop] = ["backup", "restore", "shop"].map(|user| server.uri_for(user, "secret"));
    let bench = Bench::over(server, &backup).await;
    let target = register(&bench, "target", &restore).await;
    (bench, target, mongodb::Client::with_uri_str(&shop).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_look_at_the_old_orders_beside_the_live_ones_disturbs_nobody() {
    for version in VERSIONS {
        let (bench, target, user) = with_accounts(version).await;
        let snapshot = bench.snapshot().await;
        let before = data(&bench.client).await;
        damage_shop(&bench.client).await;
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI32::new(0)));
        let working = tokio::spawn({
            let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
            async move {
                let orders = user.database("shop").collection::<Document>("orders");
                while !stop.load(Ordering::SeqCst) {
                    let n = written.load(Ordering::SeqCst);
                    // Not one is refused, not even in the moment of the cut-over.
                    orders.insert_one(doc! {"_id": format!("live {n}")}).await.unwrap();
                    written.store(n + 1, Ordering::SeqCst);
                }
            }
        });
        let options = selection(
            &["shop.orders", "shop.recent"],
            &[("shop.orders", "shop.orders_old"), ("shop.recent", "shop.recent_old")],
        );
        let job = restore(&bench, &snapshot, target, options).await;
        stop.store(true, Ordering::SeqCst);
        working.await.unwrap();
        let after = data(&bench.client).await;
        let (was, is) = (&before.databases["shop"], &after.databases["shop"]);
        assert_eq!(was.hashes["orders"], is.hashes["orders_old"]);
        assert_eq!(was.collections["orders"], is.collections["orders_old"]);
        assert_eq!(was.collections["recent"], is.collections["recent_old"]);
        let live = bench.client.database("shop").collection::<Document>("orders");
        let written = u64::try_from(written.load(Ordering::SeqCst)).unwrap();
        assert!(written > 0);
        assert_eq!(live.count_documents(doc! {}).await.unwrap(), 100 + written);
        assert_no_staging(&bench.client).await;
        let receipt = job.receipt.unwrap();
        assert_eq!(mapping(&receipt), ["shop.orders=shop.orders_old", "shop.recent=shop.recent_old"]);
        assert_eq!(receipt["fence"]["state"], "none", "{receipt:#}");
        assert!(receipt["fence"]["reason"].as_str().unwrap().contains("nothing was replaced"));
        assert_eq!(receipt["foreignWrites"]["count"], 0, "{receipt:#}");
        assert_eq!(receipt["tornTransactions"]["state"], "none", "{receipt:#}");
        let warnings = receipt["warnings"].to_string();
        assert!(warnings.contains("shop.recent_old is on shop.orders"), "{warnings}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_its_own_place_others_are_kept_out_for_a_moment() {
    let (bench, target, _) = with_accounts("6.0.5").await;
    let snapshot = bench.snapshot().await;
    let before = data(&bench.client).await;
    damage_shop(&bench.client).await;
    let mut expected = data(&bench.client).await;
    put(&mut expected, "shop.orders", &before, "shop.orders");
    let job = restore(&bench, &snapshot, target, selection(&["shop.orders"], &[])).await;
    oracle::assert_same(&expected, &data(&bench.client).await);
    assert_eq!(job.receipt.unwrap()["fence"]["state"], "raised");
    let status = bench.server.admin(doc! {"serverStatus": 1}).await.unwrap();
    let block = status.get_document("repl").unwrap().get("userWriteBlockMode").unwrap();
    assert_eq!(support::number(block), 1, "lifted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whole_databases_under_other_names() {
    const SETS: [Set; 9] = [
        Set::Indexes,
        Set::Views,
        Set::Collations,
        Set::Validators,
        Set::Capped,
        Set::Clustered,
        Set::TimeSeries,
        Set::Ttl,
        Set::SystemJs,
    ];
    for version in VERSIONS {
        let server = server(Options::version(version), &SETS).await;
        let uri = server.uri();
        let bench = Bench::over(server, &uri).await;
        let before = data(&bench.client).await;
        let snapshot = bench.snapshot().await;
        damage(&bench.client).await;
        let damaged = data(&bench.client).await;
        let databases: Vec<String> = before.databases.keys().cloned().collect();
        assert!(databases.len() >= 8, "{databases:?}");
        let to: Vec<String> = databases.iter().map(|db| format!("{db}_old")).collect();
        let namespaces: Vec<&str> = databases.iter().map(String::as_str).collect();
        let renames: Vec<(&str, &str)> =
            databases.iter().zip(&to).map(|(from, to)| (from.as_str(), to.as_str())).collect();
        let job = restore(&bench, &snapshot, bench.deployment, selection(&namespaces, &renames)).await;

        let mut expected = damaged.clone();
        for (from, to) in renames {
            for name in before.databases[from].collections.keys() {
                put(&mut expected, &format!("{to}.{name}"), &before, &format!("{from}.{name}"));
            }
        }
        let found = data(&bench.client).await;
        oracle::assert_same(&without_stored_views(expected), &without_stored_views(found));
        assert_no_staging(&bench.client).await;
        // What users see of a time series, through its new name.
        for name in ["weather", "bare"] {
            let count = async |db: &str| {
                let series = bench.client.database(db).collection::<Document>(name);
                series.count_documents(doc! {}).await.unwrap()
            };
            assert_eq!((count("timeseries_old").await, count("timeseries").await), (300, 300), "{name}");
        }
        let receipt = job.receipt.unwrap();
        let lines = mapping(&receipt);
        let renamed = "timeseries.system.buckets.weather=timeseries_old.system.buckets.weather";
        assert!(lines.iter().any(|line| line == renamed), "{lines:#?}");
        assert_eq!(receipt["foreignWrites"]["count"], 0, "{receipt:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn into_another_deployment_that_has_its_own_things() {
    let source = server(Options::version("5.0.4"), &[Set::TimeSeries, Set::Capped]).await;
    let uri = source.uri();
    let bench = Bench::over(source, &uri).await;
    shop(&bench.client).await;
    let before = data(&bench.client).await;
    let snapshot = bench.snapshot().await;
    let other = server(Options::version("6.0.5"), &[Set::Views, Set::TimeSeries, Set::Bulk]).await;
    let client = other.client().await.unwrap();
    let theirs = client.database("shop");
    theirs.collection::<Document>("orders").insert_one(doc! {"_id": "theirs"}).await.unwrap();
    theirs.collection::<Document>("items").insert_one(doc! {"_id": "theirs"}).await.unwrap();
    let mut expected = data(&client).await;
    put(&mut expected, "shop.orders", &before, "shop.orders");
    for name in before.databases["capped"].collections.keys() {
        put(&mut expected, &format!("rings.{name}"), &before, &format!("capped.{name}"));
    }
    put(&mut expected, "timeseries.rain", &before, "timeseries.weather");
    put(&mut expected, "timeseries.system.buckets.rain", &before, "timeseries.system.buckets.weather");
    let target = register(&bench, "other", &other.uri()).await;
    let options = selection(
        &["shop.orders", "capped.*", "timeseries.weather"],
        &[("capped", "rings"), ("timeseries.weather", "timeseries.rain")],
    );
    let job = restore(&bench, &snapshot, target, options).await;
    oracle::assert_same(&without_stored_views(expected), &without_stored_views(data(&client).await));
    assert_no_staging(&client).await;
    let receipt = job.receipt.unwrap();
    assert_eq!(receipt["tornTransactions"]["state"], "none", "{receipt:#}");
    oracle::assert_same(&before, &data(&bench.client).await);
}

async fn with_shop(sets: &[Set]) -> (Bench, Snapshot, oracle::State) {
    let server = server(Options::version("6.0.5"), sets).await;
    let uri = server.uri();
    let bench = Bench::over(server, &uri).await;
    shop(&bench.client).await;
    let before = data(&bench.client).await;
    let snapshot = bench.snapshot().await;
    (bench, snapshot, before)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_stands_under_a_new_name_is_not_replaced_unless_that_is_asked_for() {
    let (bench, snapshot, before) = with_shop(&[Set::TimeSeries, Set::SystemJs]).await;
    let shop = bench.client.database("shop");
    // One of each kind, in the way of another kind.
    shop.run_command(doc! {"create": "taken 1", "timeseries": {"timeField": "t"}}).await.unwrap();
    shop.collection::<Document>("taken 1").insert_one(doc! {"t": bson::DateTime::now()}).await.unwrap();
    shop.collection::<Document>("taken 2").insert_one(doc! {"_id": "precious"}).await.unwrap();
    shop.collection::<Document>("taken 3").insert_one(doc! {"_id": "precious"}).await.unwrap();
    shop.run_command(doc! {"create": "taken 4", "viewOn": "items", "pipeline": []}).await.unwrap();
    shop.collection::<Document>("system.js").insert_one(doc! {"_id": "f", "value": 1}).await.unwrap();
    let renames = [
        ("shop.orders", "shop.taken 1"),
        ("shop.recent", "shop.taken 2"),
        ("timeseries.weather", "shop.taken 3"),
        ("shop.items", "shop.taken 4"),
        ("functions.system.js", "shop.system.js"),
    ];
    let namespaces = renames.map(|(from, _)| from);
    let mut options = selection(&namespaces, &renames);
    let error = refused(&bench, &snapshot, options.clone()).await;
    for (from, to) in renames {
        assert!(error.contains(&format!("{from} is to be restored as {to}")), "{error}");
    }
    assert!(error.contains("overwrite") && error.contains("nothing was changed"), "{error}");

    options["selection"]["overwrite"] = json!(true);
    let mut expected = data(&bench.client).await;
    for (from, to) in renames {
        put(&mut expected, to, &before, from);
    }
    take_out(&mut expected, "shop.system.buckets.taken 1");
    put(&mut expected, "shop.system.buckets.taken 3", &before, "timeseries.system.buckets.weather");
    let job = restore(&bench, &snapshot, bench.deployment, options).await;
    let found = data(&bench.client).await;
    oracle::assert_same(&without_stored_views(expected), &without_stored_views(found));
    assert_eq!(job.receipt.unwrap()["foreignWrites"]["count"], 0);
}

/// Runs a restore of something as `taken`; somebody makes something of that name at this moment.
async fn somebody_is_quicker(
    restored: &str,
    moment: &'static str,
    make: Document,
) -> (Bench, RestoreJob, oracle::State) {
    let (bench, snapshot, before) = with_shop(&[Set::TimeSeries]).await;
    let client = bench.client.clone();
    let making = probe(move |now, _| {
        let (client, make) = (client.clone(), make.clone());
        async move {
            if now == moment {
                client.database("shop").run_command(make).await.unwrap();
            }
        }
    });
    let options = selection(&[restored], &[(restored, "shop.taken")]);
    let id = request(&bench, &snapshot, bench.deployment, options).await;
    let job = run(&bench, id, bench.settings(), Some(making)).await;
    assert_no_staging(&bench.client).await;
    (bench, job, before)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_comes_to_stand_there_while_the_restore_runs_is_not_replaced_either() {
    let collection = doc! {"insert": "taken", "documents": [{"_id": "precious"}]};
    let view = doc! {"create": "taken", "viewOn": "items", "pipeline": []};
    let (orders, weather) = ("shop.orders", "timeseries.weather");
    for (restored, moment, make, why) in [
        // Before the cut-over, and in the moment of it, where nobody is kept out.
        (orders, "restore.staged", &collection, "nothing was changed"),
        (orders, "restore.staged", &view, "nothing was changed"),
        (orders, "restore.fenced", &collection, "somebody made shop.taken"),
        (orders, "restore.fenced", &view, "somebody made shop.taken"),
        // A time series has no staging name: it is made in its place.
        (weather, "restore.fenced", &collection, "somebody made shop.taken"),
        (weather, "restore.fenced", &view, "somebody made shop.taken"),
    ] {
        let (bench, job, mut expected) = somebody_is_quicker(restored, moment, make.clone()).await;
        assert_eq!(job.state, RestoreState::Failed, "{moment}");
        assert!(job.error.as_ref().unwrap().contains(why), "{moment}: {:?}", job.error);
        let found = data(&bench.client).await;
        put(&mut expected, "shop.taken", &found, "shop.taken");
        oracle::assert_same(&without_stored_views(expected), &without_stored_views(found));
        if make.contains_key("insert") {
            let taken = bench.client.database("shop").collection::<Document>("taken");
            assert_eq!(taken.count_documents(doc! {"_id": "precious"}).await.unwrap(), 1);
        }
    }
}

/// Nobody gives lifetimes back after a cut-over that failed, so whoever keeps what is in place has to know of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cut_over_that_fails_tells_of_the_lifetimes_that_are_put_aside() {
    let server = server(Options::version("6.0.5"), &[Set::TimeSeries]).await;
    let uri = server.uri();
    let bench = Bench::over(server, &uri).await;
    let app = bench.client.database("app");
    for name in ["dated", "staged"] {
        app.collection::<Document>(name).insert_one(doc! {"at": bson::DateTime::now()}).await.unwrap();
        let index = doc! {"key": {"at": 1}, "name": "ttl", "expireAfterSeconds": 1_000_000};
        app.run_command(doc! {"createIndexes": name, "indexes": [index]}).await.unwrap();
    }
    let snapshot = bench.snapshot().await;
    let client = bench.client.clone();
    let making = probe(move |now, _| {
        let client = client.clone();
        async move {
            if now == "restore.fenced" {
                let quicker = doc! {"insert": "staged", "documents": [{"_id": "precious"}]};
                client.database("new").run_command(quicker).await.unwrap();
            }
        }
    });
    let options = selection(&["app.dated", "app.staged"], &[("app", "new")]);
    let id = request(&bench, &snapshot, bench.deployment, options).await;
    let job = run(&bench, id, bench.settings(), Some(making)).await;
    assert_eq!(job.state, RestoreState::Failed);
    let error = job.error.unwrap();
    assert!(error.contains("somebody made new.staged"), "{error}");
    let command = r#"db.getSiblingDB("new").runCommand({"collMod":"dated","index":{"expireAfterSeconds":1000000,"name":"ttl"}})"#;
    assert!(error.contains(command), "{error}");
    assert_eq!(error.matches("collMod").count(), 1, "what was swept needs nothing: {error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_does_not_fit_the_snapshot_is_refused_and_named() {
    let (bench, snapshot, _) = with_shop(&[Set::TimeSeries]).await;
    let bank = bench.client.database("bank");
    bank.collection::<Document>("later").insert_one(doc! {"_id": 1}).await.unwrap();
    for (options, reasons) in [
        (selection(&["shop.orders", "shop.gone"], &[]), &["nothing is called shop.gone"][..]),
        (selection(&["bank"], &[]), &["nothing is called bank.*"]),
        (selection(&["shop.x*", "bank.later"], &[]), &["shop.x*", "bank.later"]),
        (selection(&["shop"], &[("shop.gone", "shop.x")]), &["nothing is called shop.gone"]),
        (
            selection(&["shop", "timeseries"], &[("shop.orders", "timeseries.weather")]),
            &["shop.orders", "timeseries.weather", "both become"],
        ),
        (selection(&["shop"], &[("shop", "Shop")]), &["a database shop", "beside Shop"]),
        (selection(&["shop"], &[("shop", "BANK")]), &["a database bank", "beside BANK"]),
        (json!({"selection": {"namespaces": ["shop.orders"]}, "withUsers": true}), &["users and roles"]),
        (json!({"selection": {"namespaces": []}}), &["not valid"]),
    ] {
        let error = refused(&bench, &snapshot, options.clone()).await;
        for reason in reasons {
            assert!(error.contains(reason), "{options}: {error}");
        }
    }
}
