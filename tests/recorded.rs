//! What MongoDB's own clients asked when they were content is asked again, and answered as it was then.
//!
//! The Atlas CLI and the Terraform provider cannot be built out of a module proxy, so most machines do not have them. Where they
//! are, `tests/atlas_cli.rs` and `tests/terraform.rs` drive them; with `EBBTIDE_TEST_RECORD=1` they write down what passes, and
//! this plays it back everywhere: the same requests in the same order, with today's ids and times in the place of those, and only
//! those left out with which a client waited for the end of a job.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[allow(dead_code, reason = "each test file uses a part of it")]
#[path = "conformance/client.rs"]
mod client;
#[allow(dead_code, reason = "each test file uses a part of it")]
mod recorded {
    pub mod alike;
    pub mod player;
    pub mod recording;
}
mod support;

use recorded::{
    player::Player,
    recording::{Recording, directory},
};
use support::Ebbtide;
use testbed::{Options, Server};

/// The name of the place that snapshots can be exported to.
const EXPORTS: &str = "archive";
/// The region that snapshots can be copied to.
const REGION: &str = "EU_WEST_1";

/// Plays one recording, of a client that says this of itself.
async fn play(name: &str, client: &str) {
    let recording = Recording::read(&directory().join(format!("{name}.jsonl")));
    assert!(recording.about.client.contains(client), "{:?}", recording.about);
    let server = Server::start(Options::default()).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let exports = place.path().join("exports");
    std::fs::create_dir(&exports).unwrap();
    let config = place.path().join("ebbtide.toml");
    // Asking again for what a client waited for must not meet a limit.
    let limits = "[rate_limit]\ncapacity = 1000000\nclusters_capacity = 1000000\n";
    let places = format!(
        "{limits}[exports.{EXPORTS}]\nurl = \"{}\"\n[copies.{REGION}]\nurl = \"{}\"\n",
        exports.display(),
        place.path().join("second").display()
    );
    std::fs::write(&config, places).unwrap();
    let ebbtide = Ebbtide::start_with(&["--config", config.to_str().unwrap()], &[]);
    let played = Player::new(&ebbtide, &server, &recording).play(&recording).await;
    played.unwrap_or_else(|why| panic!("{name}: {why}\n{}", ebbtide.log()));
}

macro_rules! recordings {
    ($($test:ident: $name:literal of $client:literal;)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $test() {
            play($name, $client).await;
        })*

        #[test]
        fn every_recording_is_played() {
            let mut there: Vec<_> = std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            there.sort();
            let mut played = [$(concat!($name, ".jsonl")),*];
            played.sort_unstable();
            assert_eq!(there, played);
        }
    };
}

recordings! {
    the_atlas_cli_restores: "atlas-cli-restores" of "atlascli/";
    the_atlas_cli_sets_schedules_and_exports: "atlas-cli-schedules" of "atlascli/";
    the_atlas_cli_sets_a_compliance_policy: "atlas-cli-compliance" of "atlascli/";
    terraform_takes_snapshots: "terraform-snapshots" of "terraform-provider";
    terraform_restores: "terraform-restores" of "terraform-provider";
    terraform_keeps_schedules: "terraform-schedules" of "terraform-provider";
    terraform_sets_a_compliance_policy: "terraform-compliance" of "terraform-provider";
    terraform_reads_flex_clusters: "terraform-flex" of "terraform-provider";
}
