//! `ebbtide export …`.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Client, cluster, print, watch};
use crate::{
    args::{Bucket, Export, InProject, Output, Server, Target},
    exit,
};

/// Runs one of the commands.
pub(crate) async fn run(command: Export, server: &Server, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(server)?;
    match command {
        Export::Bucket(command) => bucket(&client, command, output).await?,
        Export::Start { target, snapshot, bucket, data, watch } => {
            let data: Vec<Value> =
                data.into_iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
            let body = json!({"customData": data, "exportBucketId": bucket, "snapshotId": snapshot});
            let path =
                format!("/api/atlas/v2/groups/{}/clusters/{}/backup/exports", target.project, target.cluster);
            let answer = client.post(&path, &body).await?;
            let id = print::field(&answer, "id");
            if watch {
                return until_ended(&client, &target, &id, output).await;
            }
            print::said(output, &format!("export {id} is queued"), &answer);
        }
        Export::List { target } => {
            let rows = client.list(&exports(&target)).await?;
            print::list(
                output,
                &rows,
                &[
                    ("ID", |r| print::field(r, "id")),
                    ("STATE", |r| print::field(r, "state")),
                    ("SNAPSHOT", |r| print::field(r, "snapshotId")),
                    ("BUCKET", |r| print::field(r, "exportBucketId")),
                    ("CREATED", |r| print::field(r, "createdAt")),
                    ("FINISHED", |r| print::field(r, "finishedAt")),
                    ("PREFIX", |r| print::field(r, "prefix")),
                ],
            );
        }
        Export::Show { target, export } => print::one(output, &client.get(&path(&target, &export)).await?),
        Export::Watch { target, export } => return until_ended(&client, &target, &export, output).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn bucket(client: &Client, command: Bucket, output: Output) -> anyhow::Result<()> {
    match command {
        Bucket::Add { name, within, iam_role_id } => {
            let body = json!({"bucketName": name, "cloudProvider": "AWS", "iamRoleId": iam_role_id});
            let answer = client.post(&buckets(&within), &body).await?;
            let id = print::field(&answer, "_id");
            print::said(output, &format!("export bucket {id} is the place {name}"), &answer);
        }
        Bucket::List { within } => {
            let rows = client.list(&buckets(&within)).await?;
            print::list(
                output,
                &rows,
                &[
                    ("ID", |r| print::field(r, "_id")),
                    ("NAME", |r| print::field(r, "bucketName")),
                    ("ROLE", |r| print::field(r, "iamRoleId")),
                ],
            );
        }
        Bucket::Delete { bucket, within } => {
            client.delete(&format!("{}/{bucket}", buckets(&within))).await?;
            let sentence =
                format!("export bucket {bucket} is deleted; what was exported to it stays where it lies");
            print::said(output, &sentence, &json!({ "deleted": bucket }));
        }
    }
    Ok(())
}

fn buckets(within: &InProject) -> String {
    format!("/api/atlas/v2/groups/{}/backup/exportBuckets", within.project)
}

/// Ebbtide's own path, which tells the progress in bytes and what ought to be known.
fn exports(target: &Target) -> String {
    format!("{}/exports", cluster::path(target))
}

fn path(target: &Target, export: &str) -> String {
    format!("{}/{export}", exports(target))
}

fn has_ended(state: &str) -> Option<bool> {
    match state {
        "successful" => Some(true),
        "failed" | "cancelled" => Some(false),
        _ => None,
    }
}

async fn until_ended(client: &Client, target: &Target, id: &str, output: Output) -> anyhow::Result<ExitCode> {
    let Some(ended) = watch::until(client, &path(target, id), has_ended).await? else {
        return Ok(ExitCode::from(exit::INTERRUPTED));
    };
    print::said(output, &ended.sentence(&format!("export {id}")), &ended.answer);
    Ok(ended.code())
}
