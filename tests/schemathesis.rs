//! What a stranger's program makes of our documents: schemathesis, driven over the document that `ebbtide openapi` prints and, where
//! it is at hand, over the official one of Atlas, against the real program and a real mongod. Requests are good, bad and odd; no
//! answer is a fault of the server, and none has a status, a media type or a body that the document does not have.
//!
//! The same requests are made in every run, and few: `EBBTIDE_TEST_SCHEMATHESIS_EXAMPLES=200` makes so many for each operation
//! at random, which takes a quarter of an hour; `EBBTIDE_TEST_SCHEMATHESIS_SEED=7` makes others.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, dead_code)]

#[path = "conformance/checker.rs"]
mod checker;
#[path = "conformance/client.rs"]
mod client;
mod schemathesis {
    pub mod documents;
    pub mod program;
    pub mod subject;
}
#[path = "conformance/specification.rs"]
mod specification;
mod support;
#[path = "conformance/world.rs"]
mod world;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use client::Account;
use schemathesis::{
    documents,
    program::{Program, Run},
    subject::{Asked, Subject},
};
use serde_json::Value;

const EXAMPLES: &str = "EBBTIDE_TEST_SCHEMATHESIS_EXAMPLES";
const SEED: &str = "EBBTIDE_TEST_SCHEMATHESIS_SEED";
const CHECKS: &str =
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
/// Each form of each parameter and body by itself, and all of them together at random.
const PHASES: &str = "coverage,fuzzing";

fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}: {text}")))
}

/// Operation and status of every request to an operation that was answered.
fn answered(log: &str) -> BTreeMap<String, BTreeSet<u16>> {
    let mut seen: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    for line in
        log.lines().filter(|line| line.contains(" answered operation=\"") && !line.contains("\"none\""))
    {
        let field = |name: &str| line.split(&format!(" {name}=")).nth(1)?.split_whitespace().next();
        if let (Some(operation), Some(status)) = (field("operation"), field("status")) {
            seen.entry(operation.trim_matches('"').to_owned()).or_default().insert(status.parse().unwrap());
        }
    }
    seen
}

/// What the server says of its own faults.
fn faults(log: &str) -> String {
    let told = log.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked"));
    told.collect::<Vec<_>>().join("\n")
}

/// None was forgotten.
fn assert_all_asked(seen: &BTreeMap<String, BTreeSet<u16>>) {
    let missing: Vec<_> =
        api::operations().map(|served| served.id).filter(|id| !seen.contains_key(*id)).collect();
    assert!(missing.is_empty(), "never asked: {missing:?}");
}

/// Refusals alone would show little: whatever can be read was read, and half of what can be done was done.
fn assert_enough_succeeded(document: &Value, seen: &BTreeMap<String, BTreeSet<u16>>) {
    let can = |served: &api::Served| {
        let told = &document["paths"][&served.path][served.method.as_str().to_ascii_lowercase()];
        told["x-ebbtide-coverage"] != "refused"
    };
    let never = |served: &api::Served| !seen[served.id].iter().any(|status| *status < 300);
    let (reads, writes): (Vec<_>, Vec<_>) =
        api::operations().filter(can).partition(|served| served.method.as_str() == "GET");
    let of = |these: &[api::Served]| -> Vec<_> {
        these
            .iter()
            .filter(|served| never(served))
            .map(|served| format!("{}: {:?}", served.id, seen[served.id]))
            .collect()
    };
    let (unread, undone) = (of(&reads), of(&writes));
    assert!(unread.is_empty(), "never read: {unread:?}");
    assert!(undone.len() * 2 < writes.len(), "never done: {undone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_makes_a_fault_or_an_answer_that_is_not_documented() {
    let program = match Program::find() {
        Ok(program) => program,
        Err(why) => return eprintln!("SKIPPED: no schemathesis: {why}"),
    };
    let mut subject = Subject::build().await;
    let (examples, seed) = (number(EXAMPLES, 2), number(SEED, 1));
    let place = tempfile::tempdir().unwrap();
    let url = subject.world.ebbtide.url();
    // All of them are run, so that one run of this shows all there is.
    let wrong = RefCell::new(Vec::new());
    let run = |name: &str, document: &Value, asked: Asked<'_>, phases: &str, more: &[&str]| {
        let digest = match asked.by {
            Account::Key { public, private, .. } => Some(format!("{public}:{private}")),
            _ => None,
        };
        let (config, before) = (subject.config(&asked), subject.world.ebbtide.log().len());
        let arguments = [&["--checks", CHECKS, "--phases", phases, "--warnings", "off"][..], more].concat();
        let run = Run { name, document, config: &config, url: &url, arguments: &arguments, digest };
        let (output, took) = program.run(place.path(), &run);
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            wrong.borrow_mut().push(format!("{name}: {said}\n{}", support::stderr(&output)));
        }
        let seen = answered(&subject.world.ebbtide.log()[before..]);
        eprintln!("{name}: {} operations in {took:?}", seen.len());
        seen
    };
    let [key, bearer] = subject.everybody();
    let own = documents::own();

    let asked = Asked {
        by: &Account::Nobody,
        date: "2025-03-12",
        envelopes: true,
        is_meant_well: false,
        seed,
        examples,
    };
    let refused = run("nobody", &own, Asked { examples: 1, ..asked }, "fuzzing", &[]);
    let let_in: Vec<_> = refused.iter().filter(|(_, statuses)| **statuses != BTreeSet::from([401])).collect();
    assert!(let_in.is_empty(), "answered to nobody: {let_in:?}");
    assert_all_asked(&refused);

    let by_key = Asked { by: key, ..asked };
    let bodies = ["--include-method", "POST", "--include-method", "PATCH", "--include-method", "PUT"];
    let mut all = Vec::new();
    if let Some(mut official) = documents::official() {
        // Each form of each parameter is looked at once, by the document that tells more.
        all.push(run("own", &own, by_key, "fuzzing", &[]));
        all.push(run("ebbtide", &own, by_key, PHASES, &["--include-tag", "Ebbtide"]));
        let by_token = Asked { by: bearer, envelopes: false, ..asked };
        all.push(run("official", &official, by_token, PHASES, &[]));
        let several = documents::of_several_versions(&mut official);
        let only: Vec<_> = several.iter().flat_map(|id| ["--include-operation-id", id.as_str()]).collect();
        all.push(run("older", &official, Asked { date: "2023-02-01", ..by_token }, "fuzzing", &only));
        all.push(run("good", &official, Asked { is_meant_well: true, ..by_token }, "fuzzing", &bodies));
    } else {
        eprintln!("SKIPPED: the OpenAPI document of Atlas is not at hand");
        all.push(run("own", &own, by_key, PHASES, &[]));
    }
    all.push(run("well", &own, Asked { is_meant_well: true, ..by_key }, "fuzzing", &bodies));
    let mut seen: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    for (operation, statuses) in all.into_iter().flatten() {
        seen.entry(operation).or_default().extend(statuses);
    }
    assert_all_asked(&seen);
    let wrong = wrong.take();
    assert!(wrong.is_empty(), "{}\nserver: {}", wrong.join("\n"), faults(&subject.world.ebbtide.log()));
    assert_enough_succeeded(&own, &seen);
    subject.world.ebbtide.stop();
    subject.world.check_log();
}
