//! The benchmark: Ebbtide beside mongodump and mongorestore, in one run, on the same servers and data.
//!
//! Every figure is the median of the runs, with the lowest and the highest beside it. Machines are noisy: read the
//! ratios. Nothing here fails on a time; `docs/benchmarks.md` holds a table and the command that made it.

mod beside;
mod dataset;
mod limits;
mod load;
mod process;
mod report;
mod requests;
mod timeline;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use limits::Limits;
use process::{Ebbtide, directory_bytes, drop_page_cache, timed};
use report::Report;
use testbed::{Options, Server};

/// After a checkpoint the server and the disk have still something to do.
const SETTLING: Duration = Duration::from_secs(10);

/// What is asked on the command line; `cargo xtask bench --help` tells it.
struct Plan {
    megabytes: u64,
    runs: usize,
    version: String,
    parts: Vec<String>,
    program: PathBuf,
    mongodump: Option<PathBuf>,
    mongorestore: Option<PathBuf>,
    /// The program that writes a snapshot of very many segments.
    many_segments: Option<PathBuf>,
    segments: u64,
    /// Reads a second that the disk gives to the server with random `_id`s; no limit where none is said.
    disk_reads: Option<u64>,
    /// Megabytes of memory that this server may take, with what the kernel keeps of its files; no limit where none is said.
    memory_mb: Option<u64>,
    /// Operations that are recorded and restored over.
    operations: u64,
    directory: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let plan = plan()?;
    let mut report = Report::new();
    if plan.wants("snapshot") || plan.wants("restore") {
        snapshot_and_restore(&plan, &mut report).await?;
    }
    if plan.wants("timeline") || plan.wants("folded") {
        timeline::measure(&plan, &mut report).await?;
    }
    if plan.wants("scattered") {
        scattered(&plan, &mut report).await?;
    }
    if plan.wants("segments") {
        many_segments(&plan, &mut report).await?;
    }
    if plan.wants("requests") {
        request_rate(&plan, &mut report).await?;
    }
    println!("{}", report.table());
    Ok(())
}

impl Plan {
    fn wants(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|p| p == part)
    }
}

fn plan() -> anyhow::Result<Plan> {
    let mut plan = Plan {
        megabytes: 2000,
        runs: 3,
        version: testbed::SUPPORTED_VERSIONS[0].to_owned(),
        parts: Vec::new(),
        program: PathBuf::from("ebbtide"),
        mongodump: None,
        mongorestore: None,
        many_segments: None,
        segments: 1_000_000,
        disk_reads: None,
        memory_mb: None,
        operations: 1_000_000,
        directory: std::env::temp_dir().join(format!("ebbtide-bench-{}", std::process::id())),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--size-mb" => plan.megabytes = value()?.parse().context("--size-mb")?,
            "--runs" => plan.runs = value()?.parse().context("--runs")?,
            "--version" => plan.version = value()?,
            "--only" => plan.parts = value()?.split(',').map(str::to_owned).collect(),
            "--ebbtide" => plan.program = value()?.into(),
            "--mongodump" => plan.mongodump = Some(value()?.into()),
            "--mongorestore" => plan.mongorestore = Some(value()?.into()),
            "--many-segments" => plan.many_segments = Some(value()?.into()),
            "--segments" => plan.segments = value()?.parse().context("--segments")?,
            "--disk-reads" => plan.disk_reads = Some(value()?.parse().context("--disk-reads")?),
            "--memory-mb" => plan.memory_mb = Some(value()?.parse().context("--memory-mb")?),
            "--operations" => plan.operations = value()?.parse().context("--operations")?,
            "--directory" => plan.directory = value()?.into(),
            other => bail!("unknown argument {other}; see cargo xtask bench --help"),
        }
    }
    std::fs::create_dir_all(&plan.directory)?;
    Ok(plan)
}

async fn server(plan: &Plan, cache_gb: f64) -> anyhow::Result<Server> {
    Server::start(Options { cache_gb, ..Options::version(plan.version.as_str()) }).await
}

async fn snapshot_and_restore(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("loading {} MB", plan.megabytes);
    let source = server(plan, 1.0).await?;
    load::standard(&source.client().await?, plan.megabytes).await?;
    settle(&source).await?;
    let dump = plan.directory.join("dump");
    for run in 0..plan.runs {
        eprintln!("run {} of {}", run + 1, plan.runs);
        let directory = plan.directory.join(format!("data-{run}"));
        let ebbtide = Ebbtide::start(&plan.program, &directory, None)?;
        ebbtide.client(&["cluster", "add", "source", "--uri", &source.uri()])?;
        let snapshot = first_and_second_snapshot(&ebbtide, report)?;
        if plan.wants("snapshot") {
            dumps(plan, &source, report)?;
        }
        if plan.wants("restore") {
            restore(plan, &ebbtide, &snapshot, report).await?;
            mongorestore(plan, &source, &dump, report).await?;
        }
        report.memory("ebbtide serve: peak memory", ebbtide.peak_memory()?);
        drop(ebbtide);
        std::fs::remove_dir_all(&directory)?;
    }
    report.ratio(
        "snapshot is faster than mongodump --gzip --archive by",
        "mongodump --gzip --archive",
        "first snapshot",
    );
    report.ratio(
        "snapshot is faster than mongodump --archive | zstd -1 -T2 by",
        "mongodump --archive | zstd -1 -T2",
        "first snapshot",
    );
    report.ratio(
        "restore is faster than mongorestore --dir -j4 -w4 by",
        "mongorestore --dir -j4 -w4",
        "automated restore",
    );
    Ok(())
}

/// Waits until the server has written out what was loaded: whoever is measured first must not pay for it.
async fn settle(source: &Server) -> anyhow::Result<()> {
    source.client().await?.database("admin").run_command(bson::doc! { "fsync": 1 }).await?;
    tokio::time::sleep(SETTLING).await;
    Ok(())
}

/// Takes two snapshots of the same data; the id of the first.
fn first_and_second_snapshot(ebbtide: &Ebbtide, report: &mut Report) -> anyhow::Result<String> {
    let before = ebbtide.vault_bytes()?;
    let processor = ebbtide.processor_seconds()?;
    let started = Instant::now();
    let answer = ebbtide.client(&["snapshot", "create", "source", "--watch"])?;
    report.time("first snapshot", started.elapsed());
    report.seconds("first snapshot: processor time of ebbtide", ebbtide.processor_seconds()? - processor);
    let stored = ebbtide.vault_bytes()? - before;
    report.bytes("first snapshot: bytes stored", stored);
    let started = Instant::now();
    ebbtide.client(&["snapshot", "create", "source", "--watch"])?;
    report.time("second snapshot, nothing changed", started.elapsed());
    report.bytes("second snapshot: bytes stored", ebbtide.vault_bytes()? - before - stored);
    Ok(answer["id"].as_str().context("a snapshot id")?.to_owned())
}

fn dumps(plan: &Plan, source: &Server, report: &mut Report) -> anyhow::Result<()> {
    let Some(mongodump) = &plan.mongodump else { return Ok(()) };
    let (mongodump, uri) = (mongodump.display(), source.uri());
    let archive = plan.directory.join("archive");
    let gzip = timed(&format!(
        "{mongodump} --quiet --uri '{uri}' --db bench --gzip --archive={}",
        archive.display()
    ))?;
    report.time("mongodump --gzip --archive", gzip);
    report.bytes("mongodump --gzip --archive: bytes", archive.metadata()?.len());
    let line = format!(
        "{mongodump} --quiet --uri '{uri}' --db bench --archive | zstd -q -1 -T2 -f -o {}",
        archive.display()
    );
    report.time("mongodump --archive | zstd -1 -T2", timed(&line)?);
    std::fs::remove_file(&archive)?;
    Ok(())
}

async fn restore(plan: &Plan, ebbtide: &Ebbtide, snapshot: &str, report: &mut Report) -> anyhow::Result<()> {
    let target = server(plan, 1.0).await?;
    ebbtide.client(&["cluster", "add", "target", "--uri", &target.uri()])?;
    let started = Instant::now();
    ebbtide.client(&[
        "restore",
        "start",
        "source",
        "--snapshot",
        snapshot,
        "--target",
        "target",
        "--watch",
    ])?;
    report.time("automated restore", started.elapsed());
    ebbtide.client(&["cluster", "remove", "target"])?;
    Ok(())
}

async fn mongorestore(plan: &Plan, source: &Server, dump: &Path, report: &mut Report) -> anyhow::Result<()> {
    let (Some(mongodump), Some(mongorestore)) = (&plan.mongodump, &plan.mongorestore) else { return Ok(()) };
    if !dump.exists() {
        timed(&format!(
            "{} --quiet --uri '{}' --db bench --out {}",
            mongodump.display(),
            source.uri(),
            dump.display()
        ))?;
        report.bytes("data set: bytes of BSON", directory_bytes(dump)?);
    }
    let target = server(plan, 1.0).await?;
    let line = format!(
        "{} --quiet --uri '{}' -j4 --numInsertionWorkersPerCollection=4 --dir {}",
        mongorestore.display(),
        target.uri(),
        dump.display()
    );
    report.time("mongorestore --dir -j4 -w4", timed(&line)?);
    Ok(())
}

/// A collection with random text `_id`s, about five times as large as WiredTiger's cache, read cold.
async fn scattered(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    const CACHE_GB: f64 = 0.25;
    const DOCUMENT_BYTES: u64 = 950;
    let documents = plan.megabytes.min(1300) * 1_000_000 / DOCUMENT_BYTES;
    eprintln!("loading {documents} documents with random _ids");
    let source = server(plan, CACHE_GB).await?;
    load::scattered(&source.client().await?, documents).await?;
    let data = source.log(0).await?;
    let limits = Limits::of(data.parent().unwrap_or(&data), plan.disk_reads, plan.memory_mb)?;
    for run in 0..plan.runs {
        let directory = plan.directory.join(format!("scattered-{run}"));
        let ebbtide = Ebbtide::start(&plan.program, &directory, None)?;
        ebbtide.client(&["cluster", "add", "source", "--uri", &source.uri()])?;
        restart_cold(&source, &limits).await?;
        let started = Instant::now();
        ebbtide.client(&["snapshot", "create", "source", "--watch"])?;
        report.time("cold snapshot of random _ids", started.elapsed());
        drop(ebbtide);
        std::fs::remove_dir_all(&directory)?;
        restart_cold(&source, &limits).await?;
        report.time("cold plain scan in _id order", scan_in_id_order(&source).await?);
    }
    report.ratio(
        "cold snapshot is faster than a scan in _id order by",
        "cold plain scan in _id order",
        "cold snapshot of random _ids",
    );
    Ok(())
}

async fn restart_cold(source: &Server, limits: &Limits) -> anyhow::Result<()> {
    source.stop(0).await?;
    drop_page_cache()?;
    source.restart(0).await?;
    let pid = source.pid(0).await.context("the server runs")?;
    limits.hold(pid)?;
    source.primary().await.map(drop)
}

async fn scan_in_id_order(source: &Server) -> anyhow::Result<Duration> {
    let client = source.client().await?;
    let started = Instant::now();
    let collection = client.database("bench").collection::<bson::RawDocumentBuf>("scattered");
    let mut cursor =
        collection.find(bson::doc! {}).hint(mongodb::options::Hint::Keys(bson::doc! { "_id": 1 })).await?;
    while cursor.advance().await? {}
    Ok(started.elapsed())
}

/// The memory that `serve` takes for restoring a snapshot of very many segments, which are of one document each: the
/// manifest is what is large.
async fn many_segments(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let Some(maker) = &plan.many_segments else { return Ok(()) };
    let directory = plan.directory.join("segments");
    let ebbtide = Ebbtide::start(&plan.program, &directory, None)?;
    let project = ebbtide.environment("EBBTIDE_PROJECT").to_owned();
    drop(ebbtide);
    eprintln!("making a snapshot of {} segments", plan.segments);
    let made = std::process::Command::new(maker)
        .args([directory.join("vault"), directory.join("master.key")])
        .args([&project, &plan.segments.to_string()])
        .output()
        .context("run many_segments")?;
    anyhow::ensure!(made.status.success(), "many_segments: {}", String::from_utf8_lossy(&made.stderr));
    let snapshot = String::from_utf8(made.stdout)?.trim().to_owned();
    for file in std::fs::read_dir(&directory)? {
        let file = file?;
        if file.file_name().to_string_lossy().starts_with("catalog.db") {
            std::fs::remove_file(file.path())?;
        }
    }
    let data = directory.to_str().context("the directory is UTF-8")?;
    process::admin(&plan.program, data, &["rebuild-catalog"])?;
    let ebbtide = Ebbtide::start_in(&plan.program, &directory, &project, None)?;
    let target = server(plan, 0.5).await?;
    ebbtide.client(&["cluster", "add", "many", "--uri", &target.uri()])?;
    let started = Instant::now();
    ebbtide.client(&["restore", "start", "many", "--snapshot", &snapshot, "--target", "many", "--watch"])?;
    report.time(&format!("restore of {} segments of one document", plan.segments), started.elapsed());
    report.memory(
        &format!("ebbtide serve: peak memory with {} segments in one manifest", plan.segments),
        ebbtide.peak_memory()?,
    );
    drop(ebbtide);
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

async fn request_rate(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let source = server(plan, 0.25).await?;
    load::scattered(&source.client().await?, 100).await?;
    let directory = plan.directory.join("requests");
    let ebbtide = Ebbtide::start(&plan.program, &directory, Some(0))?;
    ebbtide.client(&["cluster", "add", "source", "--uri", &source.uri()])?;
    let snapshot = ebbtide.client(&["snapshot", "create", "source", "--watch"])?;
    let snapshot = snapshot["id"].as_str().context("a snapshot id")?;
    let job = ebbtide.client(&[
        "restore",
        "start",
        "source",
        "--snapshot",
        snapshot,
        "--target",
        "source",
        "--watch",
    ])?;
    let job = job["id"].as_str().context("a job id")?;
    let path = format!(
        "/api/atlas/v2/groups/{}/clusters/source/backup/restoreJobs/{job}",
        ebbtide.environment("EBBTIDE_PROJECT")
    );
    for _ in 0..plan.runs {
        let (user, password) =
            (ebbtide.environment("EBBTIDE_PUBLIC_KEY"), ebbtide.environment("EBBTIDE_PRIVATE_KEY"));
        let rate = requests::rate(&ebbtide.url, &path, user, password, Duration::from_secs(5))?;
        report.per_second("GET of a restore job, server on one core, rate limit off: requests", rate);
    }
    drop(ebbtide);
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}
