//! `ebbtide cluster …`.

use std::process::ExitCode;

use mongo::privileges::{self, Purpose};
use serde_json::{Value, json};

use super::{Client, Refused, findings::Findings, print};
use crate::{
    args::{Cluster, Kind, Output, RolePurpose, Server, Target},
    exit,
};

/// Runs one of the commands.
pub(crate) async fn run(command: Cluster, server: &Server, output: Output) -> anyhow::Result<ExitCode> {
    if let Cluster::Role { purpose, mongodb } = command {
        print_role(purpose, mongodb, output);
        return Ok(ExitCode::SUCCESS);
    }
    let client = Client::new(server)?;
    match command {
        // Answered above, without a server.
        Cluster::Role { .. } => {}
        Cluster::Add { target, uri, kind, allow_untested_version, dry_run } => {
            let kind = match kind {
                Kind::ReplicaSet => "replicaSet",
                Kind::Serverless => "serverless",
            };
            let body = json!({
                "name": target.cluster, "kind": kind, "uri": uri,
                "allowUntestedVersion": allow_untested_version, "dryRun": dry_run,
            });
            let answer = client.post(&clusters(&target.project), &body).await;
            let answer = answer.map_err(|error| cannot_register(&target.cluster, error))?;
            return Ok(tell_check(&target.cluster, dry_run, &answer, output));
        }
        Cluster::List { project } => {
            let rows = client.list(&clusters(&project.project)).await?;
            print::list(
                output,
                &rows,
                &[
                    ("NAME", |r| print::field(r, "name")),
                    ("KIND", |r| print::field(r, "kind")),
                    ("MONGODB", |r| print::field(r, "mongoDBVersion")),
                    ("REPLICA SET", |r| print::field(r, "replicaSetName")),
                    ("ID", |r| print::field(r, "id")),
                ],
            );
        }
        Cluster::Show { target } => print::one(output, &client.get(&path(&target)).await?),
        Cluster::Remove { target, force } => {
            let force = if force { "?force=true" } else { "" };
            client.delete(&format!("{}{force}", path(&target))).await?;
            print::said(
                output,
                &format!("{} is forgotten; its snapshots stay", target.cluster),
                &json!({ "removed": target.cluster }),
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says how a registration, or the question whether it would be one, came out.
fn tell_check(cluster: &str, dry_run: bool, answer: &Value, output: Output) -> ExitCode {
    let check = &answer["check"];
    let ok = !dry_run || check["ok"] == true;
    let version = print::field(answer, "mongoDBVersion");
    let sentence = match (ok, dry_run) {
        (true, true) => format!("{cluster} can be registered: MongoDB {version}"),
        (true, false) => format!("{cluster} is registered: MongoDB {version}"),
        (false, _) => {
            format!("{cluster} cannot be registered:\n{}", Findings::of_report(&check["problems"]))
        }
    };
    print::said(output, &sentence, answer);
    let warnings = Findings::of_report(&check["warnings"]);
    if output == Output::Text && !warnings.is_empty() {
        eprintln!("to be known:\n{warnings}");
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) }
}

/// Puts what the check found on lines of its own.
fn cannot_register(cluster: &str, error: anyhow::Error) -> anyhow::Error {
    let refused = match error.downcast::<Refused>() {
        Ok(refused) => refused,
        Err(other) => return other,
    };
    let findings = Findings::of_fields(&refused.fields);
    if findings.is_empty() {
        return refused.into();
    }
    Refused { sentence: format!("{cluster} cannot be registered:\n{findings}"), ..refused }.into()
}

/// Prints what mongosh runs to make a role, or the command itself as JSON.
fn print_role(purpose: RolePurpose, version: (u32, u32, u32), output: Output) {
    let purpose = match purpose {
        RolePurpose::Backup => Purpose::Backup,
        RolePurpose::Restore => Purpose::Restore,
        RolePurpose::RestoreUsers => Purpose::RestoreUsers,
    };
    let command = privileges::role_command_json(purpose, version);
    let sentence = format!("db.getSiblingDB(\"admin\").runCommand({command})");
    print::said(output, &sentence, &command);
}

fn clusters(project: &str) -> String {
    format!("/api/ebbtide/v1/groups/{project}/clusters")
}

/// Where Ebbtide's own view of a deployment is.
pub(super) fn path(target: &Target) -> String {
    format!("{}/{}", clusters(&target.project), target.cluster)
}
