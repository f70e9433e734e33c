//! What the README and the guide tell people to type works when it is typed.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use bson::{Document, doc};
use testbed::{Options, Server};

const README: &str = include_str!("../README.md");
const GUIDE: &str = include_str!("../docs/guide.md");
const CLIENTS: &str = include_str!("../docs/atlas-clients.md");
/// Lines that are not run here, and where they are.
const ELSEWHERE: [(&str, &str, &str); 3] = [
    (
        "cargo build --release",
        include_str!("../docs/guide.md"),
        "`cargo build --release` makes `target/release/ebbtide`",
    ),
    ("cargo xtask demo", include_str!("../xtask/src/main.rs"), "[\"demo\", rest @ ..] => demo::run(rest)"),
    ("cargo xtask test", include_str!("../.ci/run"), "\nstep test cargo xtask test\n"),
];

/// The commands of a page's shell blocks: continued lines joined, remarks taken off.
fn commands(page: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let (mut inside, mut continued) = (false, false);
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```sh";
            continue;
        }
        let text = line.split("  #").next().unwrap_or_default().trim();
        if !inside || text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (text, goes_on) = text.strip_suffix('\\').map_or((text, false), |text| (text.trim_end(), true));
        match found.last_mut().filter(|_| continued) {
            Some(last) => *last = format!("{last} {text}"),
            None => found.push(text.to_owned()),
        }
        continued = goes_on;
    }
    found
}

/// A reader who types what a page says, and puts in what it leaves out.
struct Reader {
    place: tempfile::TempDir,
    port: u16,
    uri: String,
    /// What stands for itself on the page, such as `ID`, and what it is.
    known: BTreeMap<&'static str, String>,
    environment: BTreeMap<String, String>,
    has_atlas_cli: bool,
    server: Option<Child>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }
}

impl Reader {
    fn new(uri: String) -> Self {
        let (place, port) = (tempfile::tempdir().unwrap(), support::free_port());
        let program = PathBuf::from(env!("CARGO_BIN_EXE_ebbtide"));
        let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let environment = BTreeMap::from([
            ("PATH".to_owned(), path),
            ("HOME".to_owned(), place.path().to_str().unwrap().to_owned()),
            ("EBBTIDE_URL".to_owned(), format!("http://127.0.0.1:{port}")),
            ("EBBTIDE_LISTEN".to_owned(), format!("127.0.0.1:{port}")),
            ("EBBTIDE_LOG".to_owned(), "info".to_owned()),
        ]);
        let home = place.path().to_str().unwrap().to_owned();
        let atlas = Command::new("atlas").arg("--version").env("HOME", &home).output();
        let has_atlas_cli =
            atlas.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("atlascli"));
        Self { place, port, uri, known: BTreeMap::new(), environment, has_atlas_cli, server: None }
    }

    /// Types one command.
    fn types(&mut self, command: &str) {
        if let Some((_, text, holds)) = ELSEWHERE.iter().find(|(other, ..)| *other == command) {
            assert!(text.contains(holds), "{command:?} is on a page, but {holds:?} is gone");
            return;
        }
        let command = self.filled_in(command);
        let (first, rest) = command.split_once(' ').unwrap();
        match first {
            "export" => {
                let pairs = rest.split(' ').map(|pair| pair.split_once('=').unwrap());
                self.environment.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
            }
            "ebbtide" if rest.starts_with("serve ") => self.serves(&command),
            "atlas" if !self.has_atlas_cli => {}
            "ebbtide" | "curl" | "tar" | "atlas" => self.runs(&command),
            other => panic!("nothing runs {other:?} of {command:?}: teach this test to"),
        }
    }

    /// The command with everything in place of its placeholders.
    fn filled_in(&self, command: &str) -> String {
        let data = self.place.path().join("data");
        let mut text = command.replace("/var/lib/ebbtide", data.to_str().unwrap());
        text = text.replace("http://127.0.0.1:27080", &format!("http://127.0.0.1:{}", self.port));
        if let Some(from) = text.find("'mongodb://") {
            let to = from + 1 + text[from + 1..].find('\'').unwrap();
            text.replace_range(from..=to, &format!("'{}'", self.uri));
        }
        for (name, value) in &self.known {
            for (before, after) in [(" ", " "), (" ", ""), ("=", " "), ("=", "")] {
                let word = format!("{before}{name}{after}");
                if after.is_empty() && !text.ends_with(&word) {
                    continue;
                }
                text = text.replace(&word, &format!("{before}{value}{after}"));
            }
            text = text.replace(&format!("{name}=…"), &format!("{name}={value}"));
            text = text.replace(&format!("\"{name}\":\"…\""), &format!("\"{name}\":\"{value}\""));
        }
        // What it does to a server is tested with a server of its own; the reader has none on the default port.
        if let Some((before, _)) = text.split_once(" && mongorestore ") {
            text.truncate(before.len());
        }
        assert!(!text.contains('…'), "{command:?} leaves out something that this test does not know");
        text
    }

    fn shell(&self, command: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(self.place.path()).env_clear().envs(&self.environment);
        shell
    }

    fn serves(&mut self, command: &str) {
        let log = std::fs::File::create(self.place.path().join("server.log")).unwrap();
        let mut shell = self.shell(&format!("exec {command}"));
        shell.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let server = self.server.insert(shell.spawn().unwrap());
        let started = std::time::Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(server.try_wait().unwrap().is_none(), "{command:?} ended");
            assert!(started.elapsed() < support::PATIENCE, "{command:?} does not serve");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    fn runs(&mut self, command: &str) {
        let output = self.shell(command).output().unwrap();
        let said = String::from_utf8(output.stdout.clone()).unwrap();
        assert!(output.status.success(), "{command}\n{said}\n{}", support::stderr(&output));
        assert!(!said.contains("errorCode"), "{command}\n{said}");
        self.learns(command, &said);
    }

    /// Takes down what a command prints that later commands need.
    fn learns(&mut self, command: &str, said: &str) {
        let last = || said.split_whitespace().last().unwrap().to_owned();
        let after = |title: &str| {
            let line = said.lines().find(|line| line.starts_with(title));
            line.unwrap_or_else(|| panic!("{command} says no {title}: {said}"))[title.len()..]
                .trim()
                .to_owned()
        };
        if command.contains("create-project") {
            let id = last();
            self.known.extend([("ID", id.clone()), ("targetGroupId", id)]);
        } else if command.contains("create-key") {
            self.known.insert("EBBTIDE_PUBLIC_KEY", after("public key:"));
            self.known.insert("EBBTIDE_PRIVATE_KEY", after("private key:"));
        } else if command.contains("create-service-account") {
            self.environment.insert("CLIENT_ID".to_owned(), after("client id:"));
            self.environment.insert("CLIENT_SECRET".to_owned(), after("client secret:"));
        } else if command.contains("snapshot create") {
            let id = said.split_whitespace().nth(1).unwrap().to_owned();
            self.known.extend([("SNAPSHOT", id.clone()), ("snapshotId", id)]);
        } else if command.starts_with("atlas backups snapshots create") {
            self.known.insert("SNAPSHOT", id_in(said));
        } else if command.starts_with("atlas backups restores start") {
            self.known.insert("JOB", id_in(said));
        }
    }
}

/// The first id of what is said.
fn id_in(said: &str) -> String {
    let mut words = said.split(|other: char| !other.is_ascii_alphanumeric());
    let id = words.find(|word| word.len() == 24 && word.bytes().all(|byte| byte.is_ascii_hexdigit()));
    id.unwrap_or_else(|| panic!("no id: {said}")).to_owned()
}

async fn read(page: &str, least: usize) -> Reader {
    let mongod = Server::start(Options::default().with_auth()).await.unwrap();
    let orders = mongod.client().await.unwrap().database("shop").collection::<Document>("orders");
    orders.insert_many((0..50).map(|n| doc! { "_id": n })).await.unwrap();
    let mut reader = Reader::new(mongod.uri());
    let commands = commands(page);
    assert!(commands.len() >= least, "the page has lost its commands: {commands:?}");
    for command in commands {
        reader.types(&command);
    }
    assert_eq!(orders.count_documents(doc! {}).await.unwrap(), 50);
    reader
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_can_be_typed() {
    let config = include_str!("../.cargo/config.toml");
    assert!(config.contains("xtask = \"run --quiet --package xtask --\""), "cargo xtask is an alias");
    assert!(ELSEWHERE.iter().all(|(command, ..)| commands(README).iter().any(|other| other == command)));
    read(README, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_can_be_typed() {
    let reader = read(GUIDE, 12).await;
    assert!(reader.place.path().join("dump").is_dir(), "the archive is unpacked");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_clients_can_be_typed() {
    let mongod = Server::start(Options::default()).await.unwrap();
    let orders = mongod.client().await.unwrap().database("shop").collection::<Document>("orders");
    orders.insert_many((0..50).map(|n| doc! { "_id": n })).await.unwrap();
    let mut reader = Reader::new(mongod.uri());
    if !reader.has_atlas_cli {
        eprintln!("SKIPPED: no Atlas CLI on PATH, so its lines of docs/atlas-clients.md were not typed");
    }
    for command in [
        "ebbtide serve --data-dir /var/lib/ebbtide",
        "ebbtide admin create-project shop --data-dir /var/lib/ebbtide",
        "ebbtide admin create-key --project ID --role GROUP_OWNER --data-dir /var/lib/ebbtide",
        "ebbtide admin create-service-account --project ID --role GROUP_OWNER --data-dir /var/lib/ebbtide",
        "export EBBTIDE_PROJECT=ID EBBTIDE_PUBLIC_KEY=… EBBTIDE_PRIVATE_KEY=…",
        "ebbtide cluster add orders --uri 'mongodb://elsewhere'",
        "ebbtide snapshot create orders --watch",
        "ebbtide restore start orders --snapshot SNAPSHOT --target orders --watch",
    ] {
        reader.types(command);
    }
    let told = |reader: &Reader, name: &str| reader.environment[name].clone();
    let (project, public, private) = (
        told(&reader, "EBBTIDE_PROJECT"),
        told(&reader, "EBBTIDE_PUBLIC_KEY"),
        told(&reader, "EBBTIDE_PRIVATE_KEY"),
    );
    for (name, value) in [("PUBLIC_KEY", &public), ("PRIVATE_KEY", &private), ("PROJECT", &project)] {
        reader.environment.insert(name.to_owned(), value.clone());
    }
    reader.known.extend([
        ("MONGODB_ATLAS_PUBLIC_API_KEY", public),
        ("MONGODB_ATLAS_PRIVATE_API_KEY", private),
        ("MONGODB_ATLAS_PROJECT_ID", project.clone()),
        ("PROJECT", project),
    ]);
    let commands = commands(CLIENTS);
    for client in ["atlas ", "curl "] {
        assert!(commands.iter().any(|command| command.starts_with(client)), "{commands:?}");
    }
    for command in commands {
        reader.types(&command);
    }
    assert_eq!(orders.count_documents(doc! {}).await.unwrap(), 50);
}

#[test]
fn commands_are_read_as_a_person_reads_them() {
    let page = "x\n```sh\n# no\na b   # remark\nc \\\n  d 'e' \\\n  f\n\n```\n```toml\nnot = 1\n```\n";
    assert_eq!(commands(page), ["a b", "c d 'e' f"]);
}
