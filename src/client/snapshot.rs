//! `ebbtide snapshot …`.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Client, cluster, http, print, watch};
use crate::{
    args::{Output, Server, Snapshot, Target},
    exit,
};

/// Runs one of the commands.
pub(crate) async fn run(command: Snapshot, server: &Server, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(server)?;
    match command {
        Snapshot::Create { target, description, retention_days, watch } => {
            let body = json!({ "description": description, "retentionInDays": retention_days });
            let answer = client.post(&snapshots(&target), &body).await?;
            let id = print::field(&answer, "id");
            if watch {
                return until_ended(&client, &target, &id, output).await;
            }
            print::said(output, &format!("snapshot {id} is queued"), &answer);
        }
        Snapshot::List { target } => {
            let rows = client.list(&snapshots(&target)).await?;
            print::list(
                output,
                &rows,
                &[
                    ("ID", |r| print::field(r, "id")),
                    ("STATE", |r| print::field(r, "state")),
                    ("TYPE", kind),
                    ("REQUESTED", |r| print::field(r, "requestedAt")),
                    ("EXPIRES", |r| print::field(r, "expiresAt")),
                    ("DATA", |r| print::bytes(r["logicalBytes"].as_u64().unwrap_or(0))),
                    ("ADDED", |r| print::bytes(r["addedBytes"].as_u64().unwrap_or(0))),
                    ("DESCRIPTION", |r| print::field(r, "description")),
                ],
            );
        }
        Snapshot::Show { target, snapshot } => {
            print::one(output, &client.get(&path(&target, &snapshot)).await?)
        }
        Snapshot::Databases { target, snapshot } => {
            names(&client, &databases(&target, &snapshot), output).await?
        }
        Snapshot::Collections { target, snapshot, database } => {
            let path = format!("{}/{}/collections", databases(&target, &snapshot), http::segment(&database));
            names(&client, &path, output).await?;
        }
        Snapshot::Watch { target, snapshot } => {
            return until_ended(&client, &target, &snapshot, output).await;
        }
        Snapshot::Delete { target, snapshot } => {
            client.delete(&path(&target, &snapshot)).await?;
            print::said(output, &format!("snapshot {snapshot} is deleted"), &json!({ "deleted": snapshot }));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Ebbtide's own path, which serves deployments of every kind.
fn snapshots(target: &Target) -> String {
    format!("{}/snapshots", cluster::path(target))
}

/// What it holds is a part of the Atlas API.
fn databases(target: &Target, snapshot: &str) -> String {
    let Target { cluster, project } = target;
    format!("/api/atlas/v2/groups/{project}/clusters/{cluster}/backup/snapshots/{snapshot}/databases")
}

async fn names(client: &Client, path: &str, output: Output) -> anyhow::Result<()> {
    let rows = client.list(path).await?;
    print::list(output, &rows, &[("NAME", |row| print::field(row, "name"))]);
    Ok(())
}

fn path(target: &Target, snapshot: &str) -> String {
    format!("{}/{snapshot}", snapshots(target))
}

/// How often a schedule takes such snapshots, or that none took it.
fn kind(snapshot: &Value) -> String {
    let name = if snapshot["frequencyType"].is_string() { "frequencyType" } else { "snapshotType" };
    print::field(snapshot, name)
}

fn has_ended(state: &str) -> Option<bool> {
    match state {
        "completed" => Some(true),
        "failed" | "deleted" => Some(false),
        _ => None,
    }
}

async fn until_ended(client: &Client, target: &Target, id: &str, output: Output) -> anyhow::Result<ExitCode> {
    let Some(ended) = watch::until(client, &path(target, id), has_ended).await? else {
        return Ok(ExitCode::from(exit::INTERRUPTED));
    };
    print::said(output, &ended.sentence(&format!("snapshot {id}")), &ended.answer);
    Ok(ended.code())
}
