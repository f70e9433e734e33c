//! `ebbtide cluster …`.

use std::process::ExitCode;

use mongo::privileges::{self, Purpose};
use serde_json::{Value, json};

use super::{Client, Refused, findings::Findings, print};
use crate::{
    args::{Change, Cluster, Kind, Output, RolePurpose, Server, Switch, Target},
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
        Cluster::Add { target, uri, kind, allow_untested_version, pit, restore_window_days, dry_run } => {
            let kind = match kind {
                Kind::ReplicaSet => "replicaSet",
                Kind::Serverless => "serverless",
                Kind::Flex => "flex",
            };
            let mut body = json!({
                "name": target.cluster, "kind": kind, "uri": uri,
                "allowUntestedVersion": allow_untested_version, "dryRun": dry_run,
            });
            if pit {
                body["continuousBackup"] = continuous(Some(true), restore_window_days);
            }
            let answer = client.post(&clusters(&target.project), &body).await;
            let answer = answer
                .map_err(|error| not_taken(&format!("{} cannot be registered", target.cluster), error))?;
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
        Cluster::Update { target, change } => update(&client, &target, change, output).await?,
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

/// Changes what is given, and says what holds from now on.
async fn update(client: &Client, target: &Target, change: Change, output: Output) -> anyhow::Result<()> {
    let Change { uri, pit, restore_window_days } = change;
    let (mut body, is_new_uri) = (json!({}), uri.is_some());
    if let Some(uri) = uri {
        body["uri"] = uri.into();
    }
    let is_of_record = pit.is_some() || restore_window_days.is_some();
    if is_of_record {
        body["continuousBackup"] = continuous(pit.map(|pit| pit == Switch::On), restore_window_days);
    }
    let answer = client.patch(&path(target), &body).await;
    let answer = answer.map_err(|error| {
        not_taken(&format!("the connection string of {} stays as it is", target.cluster), error)
    })?;
    let mut told = vec![];
    if is_new_uri {
        let version = print::field(&answer, "mongoDBVersion");
        told.push(format!("{} is reached by the new connection string: MongoDB {version}", target.cluster));
    }
    if is_of_record {
        told.push(changed(&target.cluster, &answer["continuousBackup"]));
    }
    print::said(output, &told.join("\n"), &answer);
    warn(&answer["check"], output);
    Ok(())
}

/// What is asked of continuous backup; what is not given stays as it is.
fn continuous(enabled: Option<bool>, days: Option<u32>) -> Value {
    let given = [("pitEnabled", enabled.map(Value::from)), ("restoreWindowDays", days.map(Value::from))];
    let given = given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.collect())
}

/// What holds from now on, in a sentence.
fn changed(cluster: &str, continuous: &Value) -> String {
    let days = print::field(continuous, "restoreWindowDays");
    if continuous["pitEnabled"] == true {
        format!("{cluster} is recorded; what is recorded is kept for {days} days")
    } else {
        format!("{cluster} is not recorded; what was recorded is kept for {days} days")
    }
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
    warn(check, output);
    if ok { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) }
}

/// Tells people what a check found that does not stand in the way.
fn warn(check: &Value, output: Output) {
    let warnings = Findings::of_report(&check["warnings"]);
    if output == Output::Text && !warnings.is_empty() {
        eprintln!("to be known:\n{warnings}");
    }
}

/// Puts what the check found on lines of its own, after what that means.
fn not_taken(meaning: &str, error: anyhow::Error) -> anyhow::Error {
    let refused = match error.downcast::<Refused>() {
        Ok(refused) => refused,
        Err(other) => return other,
    };
    let findings = Findings::of_fields(&refused.fields);
    if findings.is_empty() {
        return refused.into();
    }
    Refused { sentence: format!("{meaning}:\n{findings}"), ..refused }.into()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_is_sent() {
        assert_eq!(continuous(Some(false), None), json!({"pitEnabled": false}));
        assert_eq!(continuous(None, Some(3)), json!({"restoreWindowDays": 3}));
        assert_eq!(continuous(Some(true), Some(3)), json!({"pitEnabled": true, "restoreWindowDays": 3}));
    }

    #[test]
    fn a_change_says_what_holds() {
        let told = |on: bool| changed("orders", &json!({"pitEnabled": on, "restoreWindowDays": 7}));
        assert_eq!(told(true), "orders is recorded; what is recorded is kept for 7 days");
        assert_eq!(told(false), "orders is not recorded; what was recorded is kept for 7 days");
    }
}
