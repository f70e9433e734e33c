//! `ebbtide compliance-policy …`, by the Atlas API.

use std::process::ExitCode;

use model::Retention;
use serde_json::{Value, json};

use super::{Client, print};
use crate::args::{CompliancePolicy, ComplianceWanted, InProject, Output, Server};

/// Runs one of the commands.
pub(crate) async fn run(
    command: CompliancePolicy,
    server: &Server,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let client = Client::new(server)?;
    match command {
        CompliancePolicy::Show { within } => {
            let answer = client.get(&path(&within)).await?;
            print::said(output, &told(&answer), &answer);
        }
        CompliancePolicy::Set(wanted) => {
            let query = if wanted.keep_schedules { "?overwriteBackupPolicies=false" } else { "" };
            let answer = client.put(&format!("{}{query}", path(&wanted.within)), &body(&wanted)).await?;
            print::said(output, &told(&answer), &answer);
        }
        CompliancePolicy::Lift { within } => {
            client.delete(&path(&within)).await?;
            let sentence = format!("the project {} has no compliance policy any more", within.project);
            print::said(output, &sentence, &json!({ "lifted": within.project }));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(within: &InProject) -> String {
    format!("/api/atlas/v2/groups/{}/backupCompliancePolicy", within.project)
}

fn body(wanted: &ComplianceWanted) -> Value {
    let item = |kind: &str, interval: u8, kept: Retention| {
        json!({
            "frequencyType": kind,
            "frequencyInterval": interval,
            "retentionUnit": kept.unit().as_str(),
            "retentionValue": kept.value(),
        })
    };
    let scheduled = wanted
        .rules()
        .map(|rule| item(rule.frequency.kind().as_str(), rule.frequency.interval(), rule.retention));
    let mut body = json!({
        "authorizedEmail": wanted.email,
        "authorizedUserFirstName": wanted.first_name,
        "authorizedUserLastName": wanted.last_name,
        "copyProtectionEnabled": wanted.protect_copies,
        "encryptionAtRestEnabled": wanted.encryption_at_rest,
        "pitEnabled": wanted.restore_window_days.is_some(),
        "restoreWindowDays": wanted.restore_window_days.unwrap_or(0),
        "scheduledPolicyItems": scheduled.collect::<Vec<_>>(),
    });
    if let Some(kept) = wanted.on_demand {
        body["onDemandPolicyItem"] = item("ondemand", 0, kept);
    }
    body
}

/// What holds, in sentences.
fn told(answer: &Value) -> String {
    if answer["state"].is_null() {
        return "the project has no compliance policy".to_owned();
    }
    let kept = |item: &Value| {
        format!("{} {}", print::field(item, "retentionValue"), print::field(item, "retentionUnit"))
    };
    let mut lines = vec!["every deployment of the project has at least:".to_owned()];
    for item in answer["scheduledPolicyItems"].as_array().into_iter().flatten() {
        let kind = print::field(item, "frequencyType");
        let hours = match kind.as_str() {
            "hourly" => format!(", every {} hours", print::field(item, "frequencyInterval")),
            _ => String::new(),
        };
        lines.push(format!("  {kind} snapshots{hours}, kept for {}", kept(item)));
    }
    if let Some(item) = answer.get("onDemandPolicyItem") {
        lines.push(format!("  snapshots on demand kept for {}", kept(item)));
    }
    if answer["pitEnabled"] == true {
        lines.push(format!("  a restore window of {} days", print::field(answer, "restoreWindowDays")));
    }
    lines.push("nobody deletes a snapshot before its time, or keeps one shorter".to_owned());
    lines.push(format!("who is responsible: {}", print::field(answer, "authorizedEmail")));
    if answer["deletable"] == true {
        lines.push("it is released: it can be lifted".to_owned());
    }
    lines.join("\n")
}
