//! A captured deployment whose password changes: it is told and tried again without haste, and the record goes on once the
//! new password is known.
#![allow(clippy::unwrap_used)]

use crate::{capture_support, support};

use std::time::Duration;

use bson::{Bson, doc};
use capture_support::{Running, assert_whole, based, caught_up, current, settings, shown, switch, until};
use catalog::Sealed;
use support::{Bench, documents, engine::connect::URI_PURPOSE};
use testbed::{Options, Server};

const OLD: &str = "the-old-pass-word";
const NEW: &str = "the-new-pass-word";

/// How often the server has refused the account.
async fn refusals(bench: &Bench) -> usize {
    let log = std::fs::read_to_string(bench.server.log(0).await.unwrap()).unwrap();
    log.lines().filter(|line| line.contains("Authentication failed") && line.contains("keeper")).count()
}

/// What the API does with a connection string that was found to lead to the same replica set.
async fn replace_uri(bench: &Bench, uri: &str) {
    let deployments = bench.catalog.deployments();
    let facts = deployments.get(bench.deployment).await.unwrap().unwrap().facts;
    let sealed = Sealed(bench.master.seal(URI_PURPOSE, uri.as_bytes()));
    deployments.replace_uri(bench.deployment, &sealed, &facts).await.unwrap();
}

/// Whether that account reads the oplog.
async fn follows(bench: &Bench, user: &str) -> Option<()> {
    let looked = doc! { "currentOp": 1, "$all": true, "ns": "local.oplog.rs", "effectiveUsers.user": user };
    let found = bench.server.admin(looked).await.unwrap();
    (!found.get_array("inprog").unwrap().is_empty()).then_some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn another_account_takes_over_while_the_old_one_still_works() {
    let server = Server::start(Options::version("6.0.5").with_auth()).await.unwrap();
    for user in ["keeper", "heir"] {
        server.admin(doc! { "createUser": user, "pwd": OLD, "roles": ["root"] }).await.unwrap();
    }
    let uri = server.uri_for("keeper", OLD);
    let bench = Bench::over(server, &uri).await;
    switch(&bench, true).await;
    let running = Running::start(bench.engine(settings(&bench)));
    let before = caught_up(&bench).await;
    until(&bench, "the first account follows", || follows(&bench, "keeper")).await;
    replace_uri(&bench, &bench.server.uri_for("heir", OLD)).await;
    until(&bench, "the other account follows", || follows(&bench, "heir")).await;
    bench.fill("app", "things", documents(100, 100, |n| Bson::Int64(n as i64))).await;
    let after = caught_up(&bench).await;
    running.stop().await;
    assert_eq!((after.id, &after.ended), (before.id, &None), "one timeline all along");
    assert_whole(&bench, &after).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_password_that_changes_interrupts_the_record_and_does_not_end_it() {
    let server = Server::start(Options::version("6.0.5").with_auth()).await.unwrap();
    server.admin(doc! { "createUser": "keeper", "pwd": OLD, "roles": ["root"] }).await.unwrap();
    let uri = server.uri_for("keeper", OLD);
    let bench = Bench::over(server, &uri).await;
    bench.fill("app", "things", documents(100, 100, |n| Bson::Int64(n as i64))).await;
    switch(&bench, true).await;
    let running = Running::start(bench.engine(settings(&bench)));
    based(&bench).await;
    let before = caught_up(&bench).await;

    bench.server.admin(doc! { "updateUser": "keeper", "pwd": NEW }).await.unwrap();
    // Connections that are open stay as they are until they break.
    bench.server.stop(0).await.unwrap();
    bench.server.restart(0).await.unwrap();
    bench.server.wait_for_members().await.unwrap();
    let error = until(&bench, "the refusal is told", || async {
        shown(&bench).await["error"]
            .as_str()
            .filter(|error| error.contains("uthentication"))
            .map(str::to_owned)
    })
    .await;
    assert!(error.contains("source"), "which deployment it is about is not told: {error}");
    bench.fill("app", "meanwhile", documents(100, 100, |n| Bson::Int64(n as i64))).await;
    let so_far = refusals(&bench).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let more = refusals(&bench).await - so_far;
    assert!(more < 30, "{more} attempts in 15 s: accounts are locked for less");
    let still = current(&bench).await.unwrap();
    assert_eq!((still.id, still.ended.clone()), (before.id, None));

    replace_uri(&bench, &bench.server.uri_for("keeper", NEW)).await;
    let after = caught_up(&bench).await;
    until(&bench, "the error is over", || async { shown(&bench).await["error"].is_null().then_some(()) })
        .await;
    running.stop().await;
    assert_eq!(after.id, before.id, "one timeline all along");
    assert_whole(&bench, &after).await;
    for file in std::fs::read_dir(bench.dir.path()).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(bytes) = std::fs::read(&file) else { continue };
        for secret in [OLD, NEW] {
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found && !error.contains(secret), "a password lies in {}", file.display());
        }
    }
}
