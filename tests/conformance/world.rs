//! A server with two projects, two deployments and credentials of every kind that matters.

use bson::{Document, doc};
use reqwest::Method;
use serde_json::Value;
use testbed::{Options, Server};

use super::{
    checker::Checker,
    client::{Account, Ask, Client},
};
use crate::support::{Ebbtide, text};

/// What the server must never write into its log.
pub struct Secrets(Vec<String>);

pub struct World {
    pub ebbtide: Ebbtide,
    pub checker: Checker,
    pub mongod: Server,
    owners: [Account; 2],
    readers: [Account; 2],
    pub organization: [Account; 2],
    pub stranger: Account,
    /// A project that only the stranger is in.
    pub other_project: String,
    pub secrets: Secrets,
    /// The place that snapshots are exported to.
    pub exports: tempfile::TempDir,
    _configuration: tempfile::TempDir,
}

impl World {
    pub async fn build() -> Self {
        Self::logging("trace").await
    }

    /// With a log of that detail.
    pub async fn logging(level: &str) -> Self {
        let mongod = Server::start(Options::default().with_auth()).await.unwrap();
        let orders = mongod.client().await.unwrap().database("shop").collection::<Document>("orders");
        orders.insert_many((0..200).map(|n| doc! { "_id": n, "text": "x".repeat(100) })).await.unwrap();
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("ebbtide.toml");
        let exports = tempfile::tempdir().unwrap();
        // So high that no request of this test is refused, and yet told in every answer.
        let content = format!(
            "[rate_limit]\ncapacity = 1000000\nclusters_capacity = 1000000\ntokens_capacity = 1000000\n[exports.archive]\nurl = \"{}\"\n\
             [copies.EU_WEST_1]\nurl = \"{}\"\n",
            exports.path().display(),
            place.path().join("second").display()
        );
        std::fs::write(&file, content).unwrap();
        let flags = ["--config", file.to_str().unwrap()];
        let mut ebbtide = Ebbtide::start_with(&flags, &[("EBBTIDE_LOG", level)]);
        ebbtide.add("main", &mongod.uri());
        for (name, kind) in [("tenant", "serverless"), ("flexible", "flex")] {
            ebbtide.cli(&["cluster", "add", name, "--kind", kind, "--uri", &mongod.uri()]);
        }
        let mut secrets = vec![testbed::server::ROOT_PASSWORD.to_owned(), ebbtide.private_key.clone()];
        let owners = pair(&ebbtide, "GROUP_OWNER", &mut secrets).await;
        let readers = pair(&ebbtide, "GROUP_READ_ONLY", &mut secrets).await;
        let organization = pair(&ebbtide, "ORG_OWNER", &mut secrets).await;
        let shop = ebbtide.project.clone();
        ebbtide.project = text(&ebbtide.admin(&["create-project", "elsewhere"]), "id");
        let [stranger, _] = pair(&ebbtide, "GROUP_OWNER", &mut secrets).await;
        let other_project = std::mem::replace(&mut ebbtide.project, shop);
        let checker = Checker::new(&ebbtide.url());
        Self {
            ebbtide,
            checker,
            mongod,
            owners,
            readers,
            organization,
            stranger,
            other_project,
            secrets: Secrets(secrets),
            exports,
            _configuration: place,
        }
    }

    pub fn owner(&self, way: &str) -> &Account {
        &self.owners[usize::from(way == "oauth")]
    }

    pub fn reader(&self, way: &str) -> &Account {
        &self.readers[usize::from(way == "oauth")]
    }

    pub fn organization(&self, way: &str) -> &Account {
        &self.organization[usize::from(way == "oauth")]
    }

    /// A path of the Atlas API in the project.
    pub fn group(&self, rest: &str) -> String {
        format!("/api/atlas/v2/groups/{}{rest}", self.ebbtide.project)
    }

    /// A path of Ebbtide's own in the project.
    pub fn own(&self, rest: &str) -> String {
        format!("/api/ebbtide/v1/groups/{}{rest}", self.ebbtide.project)
    }

    /// Serves the API but runs no jobs: what is asked for stays as it was asked for.
    pub fn hold_jobs(&mut self) {
        self.ebbtide.stop();
        self.ebbtide.serve_idle();
    }

    pub fn run_jobs(&mut self) {
        self.ebbtide.stop();
        self.ebbtide.serve(&[("EBBTIDE_LOG", "trace")]);
    }

    /// Polls one of Ebbtide's own views until the state is this one.
    pub async fn wait_for(&self, account: &Account, path: &str, state: &str) -> Value {
        let started = std::time::Instant::now();
        loop {
            let seen = self.checker.ok(account, Ask::new(Method::GET, path), 200).await;
            if seen["state"] == state {
                return seen;
            }
            assert_ne!(seen["state"], "failed", "{seen}");
            assert!(started.elapsed() < crate::support::PATIENCE, "{path} does not become {state}: {seen}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// A secret was made that must not be in the log either.
    pub fn keep_secret(&mut self, secret: &str) {
        self.secrets.0.push(secret.to_owned());
    }

    pub fn check_no_secret(&self, text: &str) {
        for secret in &self.secrets.0 {
            let line = text.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "a secret is told: {line:?}");
        }
    }

    /// The log, written in all its detail, holds no secret.
    pub fn check_log(&self) {
        let log = self.ebbtide.log();
        assert!(log.contains("answered"), "the log is a detailed one");
        self.check_no_secret(&log);
        let panicked = log.lines().find(|line| line.contains("panicked"));
        assert!(panicked.is_none(), "{panicked:?}");
    }
}

/// An API key, and a service account's token, in the same role.
async fn pair(ebbtide: &Ebbtide, role: &str, secrets: &mut Vec<String>) -> [Account; 2] {
    let key = ebbtide.key(role);
    let (public, private) = (text(&key, "publicKey"), text(&key, "privateKey"));
    let account = ebbtide.admin(&["create-service-account", "--project", &ebbtide.project, "--role", role]);
    let (id, secret) = (text(&account, "clientId"), text(&account, "clientSecret"));
    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    let ask = Ask::new(Method::POST, "/api/oauth/token").text("application/x-www-form-urlencoded", &form);
    let answer = Client::new(&ebbtide.url()).send(&Account::Nobody, &ask).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let token = text(&answer.json(), "access_token");
    secrets.extend([private.clone(), secret, token.clone()]);
    [Account::key(&public, &private), Account::Bearer(token)]
}
