//! `ebbtide snapshot …`.

use std::process::ExitCode;

use serde_json::json;

use super::{Client, cluster, print, watch};
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
            let answer = client.post(&format!("{}/snapshots", cluster::atlas_path(&target)), &body).await?;
            let id = print::field(&answer, "id");
            if watch {
                return until_ended(&client, &target, &id, output).await;
            }
            print::said(output, &format!("snapshot {id} is queued"), &answer);
        }
        Snapshot::List { target } => {
            let rows = client.list(&format!("{}/snapshots", cluster::atlas_path(&target))).await?;
            print::list(
                output,
                &rows,
                &[
                    ("ID", |r| print::field(r, "id")),
                    ("STATUS", |r| print::field(r, "status")),
                    ("CREATED", |r| print::field(r, "createdAt")),
                    ("EXPIRES", |r| print::field(r, "expiresAt")),
                    ("SIZE", |r| print::bytes(r["storageSizeBytes"].as_u64().unwrap_or(0))),
                    ("DESCRIPTION", |r| print::field(r, "description")),
                ],
            );
        }
        Snapshot::Show { target, snapshot } => {
            print::one(output, &client.get(&path(&target, &snapshot)).await?)
        }
        Snapshot::Watch { target, snapshot } => {
            return until_ended(&client, &target, &snapshot, output).await;
        }
        Snapshot::Delete { target, snapshot } => {
            client.delete(&format!("{}/snapshots/{snapshot}", cluster::atlas_path(&target))).await?;
            print::said(output, &format!("snapshot {snapshot} is deleted"), &json!({ "deleted": snapshot }));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(target: &Target, snapshot: &str) -> String {
    format!("{}/snapshots/{snapshot}", cluster::path(target))
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
