//! `ebbtide restore …`.

use std::{path::Path, process::ExitCode};

use anyhow::{Context, bail};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::{Client, cluster, print, watch};
use crate::{
    args::{Output, Restore, Server, Target},
    exit,
};

/// How often a broken download is taken up again.
const FETCH_ATTEMPTS: u32 = 5;

/// Runs one of the commands.
pub(crate) async fn run(command: Restore, server: &Server, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(server)?;
    match command {
        Restore::Start { target, snapshot, into, target_project, with_users, in_place, watch } => {
            let body = json!({
                "deliveryType": "automated", "snapshotId": snapshot, "targetClusterName": into,
                "targetGroupId": target_project.as_deref().unwrap_or(&target.project),
                "withUsers": with_users, "inPlace": in_place,
            });
            let answer = client.post(&jobs(&target), &body).await?;
            let id = print::field(&answer, "id");
            if watch {
                return until_ended(&client, &target, &id, output).await;
            }
            print::said(output, &format!("restore job {id} is queued"), &answer);
        }
        Restore::Download { target, snapshot, file } => {
            return download(&client, &target, &snapshot, file.as_deref(), output).await;
        }
        Restore::List { target } => {
            let rows = client.list(&jobs(&target)).await?;
            print::list(
                output,
                &rows,
                &[
                    ("ID", |r| print::field(r, "id")),
                    ("DELIVERY", |r| print::field(r, "deliveryType")),
                    ("STATE", |r| print::field(r, "state")),
                    ("SNAPSHOT", |r| print::field(r, "snapshotId")),
                    ("TARGET", |r| print::field(r, "targetClusterName")),
                    ("FINISHED", |r| print::field(r, "finishedAt")),
                ],
            );
        }
        Restore::Show { target, job } => print::one(output, &client.get(&path(&target, &job)).await?),
        Restore::Watch { target, job } => return until_ended(&client, &target, &job, output).await,
        Restore::Cancel { target, job } => {
            client.delete(&path(&target, &job)).await?;
            print::said(
                output,
                &format!("restore job {job}: cancel is accepted"),
                &json!({ "cancelled": job }),
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn jobs(target: &Target) -> String {
    format!("{}/restoreJobs", cluster::path(target))
}

fn path(target: &Target, job: &str) -> String {
    format!("{}/{job}", jobs(target))
}

fn has_ended(state: &str) -> Option<bool> {
    match state {
        "finished" | "ready" => Some(true),
        "failed" | "cancelled" | "expired" => Some(false),
        _ => None,
    }
}

async fn until_ended(client: &Client, target: &Target, id: &str, output: Output) -> anyhow::Result<ExitCode> {
    let Some(ended) = watch::until(client, &path(target, id), has_ended).await? else {
        return Ok(ExitCode::from(exit::INTERRUPTED));
    };
    print::said(output, &ended.sentence(&format!("restore job {id}")), &ended.answer);
    Ok(ended.code())
}

async fn download(
    client: &Client,
    target: &Target,
    snapshot: &str,
    file: Option<&Path>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let body = json!({ "deliveryType": "download", "snapshotId": snapshot });
    let id = print::field(&client.post(&jobs(target), &body).await?, "id");
    let Some(ended) = watch::until(client, &path(target, &id), has_ended).await? else {
        return Ok(ExitCode::from(exit::INTERRUPTED));
    };
    if !ended.well {
        print::said(output, &ended.sentence(&format!("download {id}")), &ended.answer);
        return Ok(ended.code());
    }
    let Some(url) = ended.answer["deliveryUrl"][0].as_str() else {
        bail!("restore job {id} is ready but has no URL")
    };
    if let Some(file) = file {
        fetch_into(client, url, file, &ended.answer["archive"]).await?;
        print::said(output, &format!("{} is written and its SHA-256 holds", file.display()), &ended.answer);
    } else {
        print::said(output, url, &ended.answer);
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the archive to `file`, going on from what is already there, and checks its hash.
async fn fetch_into(client: &Client, url: &str, file: &Path, archive: &Value) -> anyhow::Result<()> {
    let part = file.with_extension("part");
    for attempt in 1.. {
        match fetch_rest(client, url, &part).await {
            Ok(()) => break,
            Err(error) if attempt >= FETCH_ATTEMPTS => return Err(error),
            Err(error) => eprintln!("download interrupted, going on: {error:#}"),
        }
    }
    if let Some(expected) = archive["sha256"].as_str() {
        let found = sha256(&part).await?;
        if found != expected {
            bail!(
                "{} does not have the SHA-256 that the server told ({expected}); delete it and try again",
                part.display()
            );
        }
    }
    tokio::fs::rename(&part, file).await.with_context(|| format!("name the finished file {}", file.display()))
}

async fn fetch_rest(client: &Client, url: &str, part: &Path) -> anyhow::Result<()> {
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
    let mut body = response.bytes_stream();
    while let Some(bytes) = body.next().await {
        out.write_all(&bytes.context("receive the archive")?).await.context("write the archive")?;
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
