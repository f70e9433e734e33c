//! The demonstration itself, step by step.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use mongodb::Client;
use serde_json::Value;
use testbed::oracle::{self, State};
use testbed::{Options, Server, process};

use crate::api::Cluster;
use crate::args::Args;
use crate::http::Api;
use crate::program::{self, Ebbtide};
use crate::screen::{say, step};
use crate::{account, archive, dataset};

const STEPS: usize = 12;
const CLUSTER: &str = "newyork";
/// What the recording may take to catch up.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// A second one, to look at a point in time.
const OTHER_CLUSTER: &str = "newyork-test";

/// Runs everything; on an error whatever was started is stopped again, unless it is to be kept.
pub(crate) async fn run(args: &Args) -> anyhow::Result<()> {
    let directory = Directory::new(args)?;
    say(&format!("everything is kept in {}", directory.path.display()));

    step(1, STEPS, "start a replica set");
    let server = Server::start(Options {
        auth: true,
        binary: Some(args.mongod.clone()),
        directory: Some(directory.path.join("mongodb")),
        outlives: args.keep,
        ..Options::default()
    })
    .await?;
    let client = server.client().await?;
    say(&format!("MongoDB {} at {}", version(&client).await?, server.host_port()));

    step(2, STEPS, "load the flights that left New York in 2013");
    let flights = dataset::load(&client, &args.data).await?;
    account::create(&client).await?;
    let before = oracle::state(&client).await.context("read what was loaded")?;
    say(&format!(
        "and a view, a validator, a time series, {} indexes, a role and a user",
        before
            .databases
            .values()
            .flat_map(|db| db.collections.values())
            .map(|c| c.indexes.len())
            .sum::<usize>()
    ));

    step(3, STEPS, "start Ebbtide on an empty data directory");
    let ebbtide = Ebbtide { program: args.ebbtide.clone(), data_dir: directory.path.join("ebbtide") };
    let project = text(&ebbtide.admin(&["create-project", "demo"])?, "id")?;
    let key = ebbtide.admin(&["create-key", "--project", &project, "--role", "GROUP_OWNER"])?;
    let address = format!("127.0.0.1:{}", process::free_port()?);
    let process = ebbtide.serve(&address, args.keep)?;
    let api = Api { address, public_key: text(&key, "publicKey")?, private_key: text(&key, "privateKey")? };
    let cluster = Cluster { api: &api, project: &project, name: CLUSTER };

    let work = work(&ebbtide, &cluster, &server, &client, &before, &directory).await;
    let work = work.with_context(|| process.log_tail());
    if args.keep {
        tell_how_to_stop(&server, &process, &api, &project, &directory).await;
    }
    work?;
    println!(
        "\nall of it is back: {flights} flights, and everything around them. The demonstration succeeded."
    );
    Ok(())
}

async fn work(
    ebbtide: &Ebbtide,
    cluster: &Cluster<'_>,
    server: &Server,
    client: &Client,
    before: &State,
    directory: &Directory,
) -> anyhow::Result<()> {
    step(4, STEPS, "register the replica set");
    say("with an account that may do what docs/privileges.md says, and no more");
    register(ebbtide, cluster, CLUSTER, &server.uri_for(account::USER, account::PASSWORD), &["--pit"])?;
    cluster.wait_for_timeline()?;
    say("every operation is recorded from now on");

    step(5, STEPS, "take a snapshot");
    say(&format!("$ PUBLIC={} PRIVATE={}", cluster.api.public_key, cluster.api.private_key));
    let snapshot = text(&cluster.take_snapshot()?, "id")?;

    step(6, STEPS, "stage an accident");
    let damage = dataset::stage_accident(client).await?;
    let damaged = oracle::diff(before, &oracle::state(client).await?);
    say(&format!("the airports are dropped, {} flights deleted", damage.flights));
    ensure!(!damaged.is_empty(), "the accident did no damage, so nothing could be proved");

    step(7, STEPS, "restore the snapshot");
    cluster.restore(&snapshot)?;

    step(8, STEPS, "compare: dbHash of every collection, raw listCollections and listIndexes");
    let after = oracle::state(client).await.context("read what was restored")?;
    let differences = oracle::diff(before, &after);
    if !differences.is_empty() {
        bail!("the restored deployment differs from the original:\n{}", differences.join("\n"));
    }
    let collections: usize = after.databases.values().map(|database| database.collections.len()).sum();
    say(&format!("equal: {collections} collections and views, {} users", after.users.len()));

    step(9, STEPS, "download the snapshot as an archive");
    download(cluster, server, before, &snapshot, directory).await?;
    undo(ebbtide, cluster, server, client, before).await
}

/// A bad update, and the way back to the operation before it.
async fn undo(
    ebbtide: &Ebbtide,
    cluster: &Cluster<'_>,
    server: &Server,
    client: &Client,
    before: &State,
) -> anyhow::Result<()> {
    step(10, STEPS, "a bad updateMany, and what was there before it, in a second replica set");
    let good = dataset::last_operation(client).await?;
    let updated = dataset::stage_bad_update(client).await?;
    say(&format!(
        "db.flights.updateMany({}, {{$set: {{arr_delay: 0}}}}): {updated} flights are on time now",
        dataset::BAD_FILTER
    ));
    let binary = server.binary().map(PathBuf::from);
    let other = Server::start(Options { binary, auth: true, ..Options::default() }).await?;
    let other_client = other.client().await?;
    account::create(&other_client).await?;
    register(ebbtide, cluster, OTHER_CLUSTER, &other.uri_for(account::USER, account::PASSWORD), &[])?;
    cluster.restore_to_point(good, OTHER_CLUSTER)?;
    let looked_at = oracle::state(&other_client).await.context("read the second replica set")?;
    let part = |state: &State| state.databases.get(dataset::DATABASE).cloned();
    ensure!(
        part(before) == part(&looked_at),
        "the second replica set differs from what was there before the update"
    );
    say("equal there to what was there before");

    step(11, STEPS, "what became of one of the flights, told from the vault");
    history(ebbtide, cluster, client).await?;

    step(12, STEPS, "back to the operation before it, in place: only what changed is put back");
    let job = cluster.restore_to_point(good, CLUSTER)?;
    let details = cluster.job_details(&text(&job, "id")?)?;
    let rewind = &details["receipt"]["rewind"];
    ensure!(rewind["mode"] == "rewind", "everything was restored: {rewind}");
    say(&format!(
        "a rewind: {} documents replaced, {} collections stayed",
        rewind["documents"]["replaced"], rewind["collectionsKept"]
    ));
    let after = oracle::state(client).await.context("read what was restored")?;
    let differences = oracle::diff(before, &after);
    if !differences.is_empty() {
        bail!("the restored deployment differs from the original:\n{}", differences.join("\n"));
    }
    say("equal again, and so would be any other moment: the restore itself can be undone");
    Ok(())
}

/// Asks for the versions of one flight, until the bad update is among them.
async fn history(ebbtide: &Ebbtide, cluster: &Cluster<'_>, client: &Client) -> anyhow::Result<()> {
    let id = dataset::one_of_them(client).await?;
    let namespace = format!("{}.flights", dataset::DATABASE);
    say(&format!("$ ebbtide doc history {CLUSTER} {namespace} '{id}' --project {}", cluster.project));
    let started = Instant::now();
    loop {
        let mut command = client_command(ebbtide, cluster, &["doc", "history", CLUSTER, &namespace, &id]);
        let answer = program::run(&mut command)?;
        let newest = &answer["versions"][0];
        if newest["operation"] == "update" {
            say(&format!("{}: {} of {}", newest["wallTime"], newest["operation"], newest["changedFields"]));
            return Ok(());
        }
        // The recording is some seconds behind.
        ensure!(started.elapsed() < PATIENCE, "the update is not in the history of the flight: {answer}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A command of the command line with everything that it needs but its words.
fn client_command(ebbtide: &Ebbtide, cluster: &Cluster<'_>, words: &[&str]) -> Command {
    let mut command = Command::new(&ebbtide.program);
    command.args(words).args(["--project", cluster.project, "--output", "json"]);
    // Secrets by the environment: arguments show in process lists.
    command.env("EBBTIDE_URL", format!("http://{}", cluster.api.address));
    command.env("EBBTIDE_PUBLIC_KEY", &cluster.api.public_key);
    command.env("EBBTIDE_PRIVATE_KEY", &cluster.api.private_key);
    command
}

fn register(
    ebbtide: &Ebbtide,
    cluster: &Cluster<'_>,
    name: &str,
    uri: &str,
    more: &[&str],
) -> anyhow::Result<()> {
    let url = format!("http://{}", cluster.api.address);
    let flags: String = more.iter().map(|flag| format!(" {flag}")).collect();
    say(&format!(
        "$ ebbtide cluster add {name} --project {} --url {url} --uri 'mongodb://…'{flags}",
        cluster.project
    ));
    let mut command = client_command(ebbtide, cluster, &[&["cluster", "add", name], more].concat());
    command.env("EBBTIDE_CLUSTER_URI", uri);
    program::run(&mut command).map(drop)
}

async fn download(
    cluster: &Cluster<'_>,
    server: &Server,
    before: &State,
    snapshot: &str,
    directory: &Directory,
) -> anyhow::Result<()> {
    let job = cluster.download(snapshot)?;
    let url = job["deliveryUrl"][0].as_str().context("the job has no URL")?;
    let details = cluster.job_details(&text(&job, "id")?)?;
    say(&format!("$ curl --remote-name '{url}'"));
    let file = directory.path.join(format!("restore-{snapshot}.tar.gz"));
    let sha256 = archive::fetch(url, &file)?;
    if let Some(told) = archive::find_text(&details, "sha256") {
        ensure!(told.eq_ignore_ascii_case(&sha256), "the archive has SHA-256 {sha256}, the job says {told}");
        say(&format!("SHA-256 {sha256}, as the job says"));
    }
    let unpacked = archive::unpack(&file, &directory.path.join("archive"))?;
    let documents = archive::compare(&unpacked, before)?;
    say(&format!("equal: {documents} documents, byte for byte"));
    let Some(program) = archive::mongorestore() else {
        say("mongorestore is not on PATH: not tried");
        return Ok(());
    };
    say(&format!("$ mongorestore --dir {}", unpacked.display()));
    let binary = server.binary().map(PathBuf::from);
    let other = Server::start(Options { binary, ..Options::default() }).await?;
    archive::restore(&program, &other.uri(), &unpacked)?;
    let restored = oracle::state(&other.client().await?).await.context("read what mongorestore restored")?;
    let part = |state: &State| state.databases.get(dataset::DATABASE).cloned();
    // Compared by content: mongorestore makes time series and options in its own way.
    let hashes = |state| part(state).map(|database| database.hashes).unwrap_or_default();
    ensure!(hashes(before) == hashes(&restored), "what mongorestore restored differs from the original");
    say("equal after mongorestore, by dbHash");
    Ok(())
}

async fn tell_how_to_stop(
    server: &Server,
    process: &program::Server,
    api: &Api,
    project: &str,
    directory: &Directory,
) {
    let mongod = server.pid(0).await.unwrap_or_default();
    println!("\neverything goes on running:");
    say(&format!("MongoDB  {}", server.uri()));
    say(&format!("Ebbtide  http://{} (log: {})", api.address, process.log().display()));
    say(&format!("export EBBTIDE_URL=http://{} EBBTIDE_PROJECT={project}", api.address));
    say(&format!("export EBBTIDE_PUBLIC_KEY={} EBBTIDE_PRIVATE_KEY={}", api.public_key, api.private_key));
    say(&format!("to stop it: kill {} {mongod}; rm -r {}", process.pid(), directory.path.display()));
}

async fn version(client: &Client) -> anyhow::Result<String> {
    let info = client.database("admin").run_command(bson::doc! { "buildInfo": 1 }).await?;
    Ok(info.get_str("version")?.to_owned())
}

fn text(value: &Value, name: &str) -> anyhow::Result<String> {
    Ok(value[name].as_str().with_context(|| format!("no {name} in {value}"))?.to_owned())
}

/// Where everything is kept; removed at the end unless the user named it or wants it kept.
struct Directory {
    path: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Directory {
    fn new(args: &Args) -> anyhow::Result<Self> {
        if let Some(named) = &args.data_dir {
            std::fs::create_dir_all(named).with_context(|| format!("make {}", named.display()))?;
            let mut entries =
                std::fs::read_dir(named).with_context(|| format!("list {}", named.display()))?;
            ensure!(
                entries.next().is_none(),
                "{} is not empty: the demonstration starts from nothing",
                named.display()
            );
            return Ok(Self { path: named.clone(), _temporary: None });
        }
        let made = tempfile::Builder::new().prefix("ebbtide-demo-").tempdir().context("make a directory")?;
        if args.keep {
            return Ok(Self { path: made.keep(), _temporary: None });
        }
        Ok(Self { path: made.path().to_path_buf(), _temporary: Some(made) })
    }
}
