//! `ebbtide restore download`: an archive of a snapshot, made by the server and fetched into a file.
//!
//! Everything that is needed to go on after the process was killed is where it can be found again: the job at the
//! server, the bytes in a file that is named after the job.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use futures::StreamExt;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::{
    Client, bar, print,
    restore::{has_ended, jobs, path},
    watch,
};
use crate::{
    args::{Output, Target},
    exit,
};

/// How often a broken download is taken up again.
const FETCH_ATTEMPTS: u32 = 5;

/// Which archive is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// One of this snapshot; it need not be there yet.
    Snapshot(String),
    /// That of this restore job.
    Job(String),
}

impl Wanted {
    /// Reads the two flags, of which the command line takes exactly one.
    pub(super) fn of(snapshot: Option<String>, job: Option<String>) -> anyhow::Result<Self> {
        match (snapshot, job) {
            (_, Some(job)) => Ok(Self::Job(job)),
            (Some(snapshot), None) => Ok(Self::Snapshot(snapshot)),
            (None, None) => bail!("name a snapshot with --snapshot, or a restore job with --job"),
        }
    }
}

/// Runs the command.
pub(super) async fn run(
    client: &Client,
    target: &Target,
    wanted: &Wanted,
    file: Option<&Path>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let id = find(client, target, wanted).await?;
    let Some(ended) = watch::until(client, &path(target, &id), has_ended).await? else {
        return Ok(ExitCode::from(exit::INTERRUPTED));
    };
    if !ended.well {
        print::said(output, &ended.sentence(&format!("download {id}")), &ended.answer);
        return Ok(ended.code());
    }
    let job = ended.answer;
    let Some(file) = file else {
        print::said(output, url_of(&job)?, &job);
        return Ok(ExitCode::SUCCESS);
    };
    fetch_into(client, &job, file).await?;
    print::said(output, &format!("{} is written and its SHA-256 holds", file.display()), &job);
    Ok(ExitCode::SUCCESS)
}

/// The job to fetch from: the one that is named; else the one of the snapshot whose archive nobody has fetched yet; else
/// a new one.
async fn find(client: &Client, target: &Target, wanted: &Wanted) -> anyhow::Result<String> {
    let snapshot = match wanted {
        Wanted::Job(id) => {
            let job = client.get(&path(target, id)).await?;
            if job["deliveryType"] != "download" {
                bail!("restore job {id} makes no archive: it restores into a deployment");
            }
            return Ok(id.clone());
        }
        Wanted::Snapshot(snapshot) => snapshot,
    };
    let all = client.list(&jobs(target)).await?;
    let open = all.iter().find(|job| {
        let mine = job["deliveryType"] == "download" && job["snapshotId"] == snapshot.as_str();
        mine && matches!(job["state"].as_str(), Some("queued" | "running" | "ready"))
    });
    if let Some(job) = open {
        return Ok(print::field(job, "id"));
    }
    let body = json!({ "deliveryType": "download", "snapshotId": snapshot });
    Ok(print::field(&client.post(&jobs(target), &body).await?, "id"))
}

/// Where the bytes of one job are kept until they are all there. The name holds the job, so that bytes of two archives
/// never meet in one file.
fn part_of(file: &Path, job: &str) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{job}.part"));
    file.with_file_name(name)
}

/// Whether the file has the length of the job's archive.
fn is_whole(part: &Path, job: &Value) -> bool {
    job["archive"]["bytes"].as_u64() == Some(length_of(part))
}

fn length_of(part: &Path) -> u64 {
    std::fs::metadata(part).map_or(0, |metadata| metadata.len())
}

fn url_of(job: &Value) -> anyhow::Result<&str> {
    let url = job["deliveryUrl"][0].as_str();
    url.with_context(|| format!("restore job {} is ready but has no URL", print::field(job, "id")))
}

/// Writes the archive to `file`, going on from what is already there, and checks its hash.
async fn fetch_into(client: &Client, job: &Value, file: &Path) -> anyhow::Result<()> {
    let part = part_of(file, &print::field(job, "id"));
    let bar = bar::of_archive(job["archive"]["bytes"].as_u64().unwrap_or(0), length_of(&part));
    let mut attempt = 1;
    while !is_whole(&part, job) {
        match fetch_rest(client, url_of(job)?, &part, &bar).await {
            Ok(()) => break,
            Err(error) if attempt >= FETCH_ATTEMPTS => return Err(error),
            Err(error) => bar.suspend(|| eprintln!("download interrupted, going on: {error:#}")),
        }
        attempt += 1;
    }
    bar.finish_and_clear();
    let Some(expected) = job["archive"]["sha256"].as_str() else {
        bail!("the server does not tell the SHA-256 of the archive; {} is left unchecked", part.display())
    };
    let found = sha256(&part).await?;
    if found != expected {
        bail!(
            "{} does not have the SHA-256 that the server told ({expected}); delete it and try again",
            part.display()
        );
    }
    tokio::fs::rename(&part, file).await.with_context(|| format!("name the finished file {}", file.display()))
}

async fn fetch_rest(client: &Client, url: &str, part: &Path, bar: &ProgressBar) -> anyhow::Result<()> {
    let mut out = tokio::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(part)
        .await
        .with_context(|| format!("open {}", part.display()))?;
    let from = out.metadata().await?.len();
    let response = client.fetch(url, from).await?;
    if from > 0 && response.status() != reqwest::StatusCode::PARTIAL_CONTENT {
        bail!("the server does not go on where the download broke off");
    }
    bar.set_position(from);
    let mut body = response.bytes_stream();
    while let Some(bytes) = body.next().await {
        let bytes = bytes.context("receive the archive")?;
        out.write_all(&bytes).await.context("write the archive")?;
        bar.inc(bytes.len() as u64);
    }
    out.sync_all().await.context("write the archive to disk")
}

async fn sha256(path: &Path) -> anyhow::Result<String> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut file = std::fs::File::open(&path)?;
        let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = std::io::Read::read(&mut file, &mut buffer)?;
            if read == 0 {
                return Ok(hex::encode(hash.finish()));
            }
            hash.update(&buffer[..read]);
        }
    })
    .await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_two_jobs_never_meet() {
        let file = Path::new("/backups/orders.tar.gz");
        assert_eq!(part_of(file, "68a9"), Path::new("/backups/orders.tar.gz.68a9.part"));
        assert_ne!(part_of(file, "68a9"), part_of(file, "68aa"));
    }
}
