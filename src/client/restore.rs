//! `ebbtide restore …`.

use std::process::ExitCode;

use model::{WallTime, timeline::PointInTime};
use serde_json::{Value, json};

use super::{
    Client, cluster,
    download::{self, Wanted},
    print, watch,
};
use crate::{
    args::{Choices, Fence, Output, Restore, Rewind, Server, Target},
    exit,
};

/// Runs one of the commands.
pub(crate) async fn run(command: Restore, server: &Server, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(server)?;
    match command {
        Restore::Start {
            target,
            snapshot,
            at,
            into,
            target_project,
            selected,
            with_users,
            in_place,
            choices,
            dry_run,
            watch,
        } => {
            let mut body = what(snapshot.as_deref(), at);
            let target_project = target_project.as_deref().unwrap_or(&target.project);
            let onto_itself = into == target.cluster && target_project == target.project && !in_place;
            body["targetClusterName"] = into.into();
            body["targetGroupId"] = target_project.into();
            for (name, flag) in [("withUsers", with_users), ("inPlace", in_place), ("dryRun", dry_run)] {
                body[name] = flag.into();
            }
            choose(&mut body, &choices);
            if let Some(selection) = selected.said() {
                body["selection"] = json!(selection);
            }
            let answer = client.post(&jobs(&target), &body).await?;
            if dry_run {
                return dry(&client, &target, answer, body, onto_itself, output).await;
            }
            let id = print::field(&answer, "id");
            if watch {
                return until_ended(&client, &target, &id, output).await;
            }
            print::said(output, &format!("restore job {id} is queued"), &answer);
        }
        Restore::Download { target, snapshot, job, file } => {
            let wanted = Wanted::of(snapshot, job)?;
            return download::run(&client, &target, &wanted, file.as_deref(), output).await;
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
                    ("AT", |r| point_in_time(r).unwrap_or_else(|| "-".to_owned())),
                    ("TARGET", |r| print::field(r, "targetClusterName")),
                    ("FINISHED", |r| print::field(r, "finishedAt")),
                ],
            );
        }
        Restore::Show { target, job } => print::one(output, &client.get(&path(&target, &job)).await?),
        Restore::Collections { target, job } => {
            let Target { cluster, project } = &target;
            let job =
                format!("/api/atlas/v2/groups/{project}/clusters/{cluster}/collectionRestoreJobs/{job}");
            let rows = client.list(&format!("{job}/collections")).await?;
            print::list(
                output,
                &rows,
                &[
                    ("COLLECTION", |r| print::field(r, "sourceNamespace")),
                    ("RESTORED AS", |r| print::field(r, "effectiveTargetNamespace")),
                    ("STATE", |r| print::field(r, "state")),
                    ("INDEXES", |r| print::field(&r["indexStatus"], "state")),
                    ("DOCUMENTS", |r| print::field(r, "restoredDocuments")),
                    ("OF", |r| print::field(r, "totalDocuments")),
                ],
            );
        }
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

/// Tells what would be done. Onto itself a job finds out what has changed since; it changes nothing.
async fn dry(
    client: &Client,
    target: &Target,
    mut answer: Value,
    mut body: Value,
    onto_itself: bool,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let mut text = planned(&answer);
    if onto_itself && is_captured(client, target).await? {
        body["dryRun"] = false.into();
        body["planOnly"] = true.into();
        let id = print::field(&client.post(&jobs(target), &body).await?, "id");
        let Some(ended) = watch::until(client, &path(target, &id), has_ended).await? else {
            // Nobody waits for the plan any more, and it would stand in the way of a restore.
            client.delete(&path(target, &id)).await?;
            return Ok(ExitCode::from(exit::INTERRUPTED));
        };
        if !ended.answer["receipt"]["planOnly"].is_boolean() {
            print::said(output, &ended.sentence("the plan"), &ended.answer);
            return Ok(ended.code());
        }
        answer["plan"] = ended.answer["receipt"].clone();
        text.push_str(&rewind_planned(&answer["plan"]["rewind"]));
    }
    print::said(output, &text, &answer);
    Ok(ExitCode::SUCCESS)
}

async fn is_captured(client: &Client, target: &Target) -> anyhow::Result<bool> {
    let shown = client.get(&cluster::path(target)).await?;
    Ok(shown["continuousBackup"]["pitEnabled"].as_bool().unwrap_or(false))
}

/// What a rewind would do, or why it is none, in sentences.
fn rewind_planned(rewind: &Value) -> String {
    if rewind["mode"] != "rewind" {
        return format!("\nno rewind: {}", print::field(rewind, "reason"));
    }
    let documents = &rewind["documents"];
    let count = |name: &str| documents[name].as_u64().unwrap_or(0);
    let of = |name: &str| rewind[name].as_array().map_or(0, Vec::len);
    let mut text = format!(
        "\nas a rewind: {} documents come back, {} become what they were, {} go ({} written, in {} collections); {} \
         collections are made anew; {} indexes go and {} are built; {} collections stay",
        count("inserted"),
        count("replaced"),
        count("removed"),
        print::bytes(count("bytes")),
        of("collectionsChanged"),
        of("collectionsRebuilt"),
        of("indexesDropped"),
        of("indexesBuilt"),
        print::field(rewind, "collectionsKept"),
    );
    for line in rewind["collectionsRebuilt"].as_array().into_iter().flatten() {
        text.push_str(&format!("\n  {}: {}", print::field(line, "ns"), print::field(line, "reason")));
    }
    text
}

/// What is to be restored. The command line takes care that it is one or the other.
fn what(snapshot: Option<&str>, at: Option<PointInTime>) -> Value {
    match at {
        None => json!({ "deliveryType": "automated", "snapshotId": snapshot }),
        Some(PointInTime::Second(seconds)) => {
            json!({ "deliveryType": "pointInTime", "pointInTimeUTCSeconds": seconds })
        }
        Some(PointInTime::Operation(time)) => {
            json!({ "deliveryType": "pointInTime", "oplogTs": time.seconds, "oplogInc": time.increment })
        }
    }
}

/// The point in time of a job or a plan, if it has one.
fn point_in_time(job: &Value) -> Option<String> {
    if let (Some(seconds), Some(increment)) = (job["oplogTs"].as_u64(), job["oplogInc"].as_u64()) {
        return Some(format!("{seconds},{increment}"));
    }
    let seconds = job["pointInTimeUTCSeconds"].as_i64()?;
    Some(WallTime(seconds.saturating_mul(1000)).to_rfc3339())
}

/// Adds the choices that were made.
fn choose(body: &mut Value, choices: &Choices) {
    let Choices { index_commit_quorum, index_deadline, fence, park_ttl, rewind } = choices;
    let rewind = rewind.map(|rewind| match rewind {
        Rewind::Auto => "auto",
        Rewind::Only => "only",
        Rewind::Off => "off",
    });
    let fence = fence.map(|fence| match fence {
        Fence::Auto => "auto",
        Fence::Off => "off",
    });
    let made = [
        ("indexCommitQuorum", index_commit_quorum.clone()),
        ("indexDeadlineSeconds", index_deadline.map(Value::from)),
        ("fence", fence.map(Value::from)),
        ("parkTtl", park_ttl.map(Value::from)),
        ("rewind", rewind.map(Value::from)),
    ];
    for (name, value) in made {
        if let Some(value) = value {
            body[name] = value;
        }
    }
}

/// What a restore would do, in sentences.
fn planned(plan: &Value) -> String {
    let number = |name: &str| plan[name].as_u64();
    let data = format!(
        "{} documents ({}) in {} collections",
        print::field(plan, "documents"),
        print::bytes(number("logicalBytes").unwrap_or(0)),
        print::field(plan, "collections"),
    );
    let into = print::field(plan, "targetClusterName");
    if let Some(text) = planned_selection(plan, &into) {
        return text;
    }
    let mut text = match point_in_time(plan) {
        None => format!("{into} would be replaced by {data}; nothing was changed"),
        Some(at) => format!(
            "{into} would be replaced by what was there at {at}: snapshot {}, {data}, and the operations since; nothing \
             was changed",
            print::field(plan, "snapshotId"),
        ),
    };
    if let (Some(bytes), Some(seconds)) = (number("bytesLoadedInCutOver"), number("expectedOutageSeconds")) {
        let series = number("timeSeriesBytes").unwrap_or(0);
        text.push_str(&format!(
            "\nexpected outage: about {seconds} s; {} are loaded inside the cut-over ({} of time series)",
            print::bytes(bytes),
            print::bytes(series),
        ));
    }
    text
}

/// What a restore with a selection would do; nothing for one without. How much it is only the job finds out.
fn planned_selection(plan: &Value, into: &str) -> Option<String> {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|text| Some(text.as_str()?.to_owned())).collect()
    };
    let selection = plan["options"].get("selection")?;
    let renames = selection["renames"].as_array().into_iter().flatten();
    let renames: Vec<String> = renames
        .map(|rename| format!("{} as {}", print::field(rename, "from"), print::field(rename, "to")))
        .collect();
    let mut text = format!(
        "{} of snapshot {}{} would be restored into {into}",
        texts(&selection["namespaces"]).join(", "),
        print::field(plan, "snapshotId"),
        point_in_time(plan).map(|at| format!(" with the operations up to {at}")).unwrap_or_default(),
    );
    if !renames.is_empty() {
        text.push_str(&format!(", {}", renames.join(", ")));
    }
    text.push_str("; nothing else would be touched, and nothing was changed");
    if selection["overwrite"] == true {
        text.push_str("\nwhat stands under the other names would be replaced");
    }
    Some(text)
}

/// Where the restore jobs of a deployment are.
pub(super) fn jobs(target: &Target) -> String {
    format!("{}/restoreJobs", cluster::path(target))
}

/// Where one of them is.
pub(super) fn path(target: &Target, job: &str) -> String {
    format!("{}/{job}", jobs(target))
}

/// Whether a job is over, and then whether it ended well.
pub(super) fn has_ended(state: &str) -> Option<bool> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_or_a_point_in_time_is_asked_for() {
        let snapshot = what(Some("68a8"), None);
        assert_eq!(snapshot, json!({"deliveryType": "automated", "snapshotId": "68a8"}));
        assert_eq!(point_in_time(&snapshot), None);
        let second = what(None, Some(PointInTime::Second(1_767_323_045)));
        assert_eq!(second, json!({"deliveryType": "pointInTime", "pointInTimeUTCSeconds": 1_767_323_045}));
        assert_eq!(point_in_time(&second).as_deref(), Some("2026-01-02T03:04:05Z"));
        let time = model::ClusterTime { seconds: 1_767_323_045, increment: 7 };
        let operation = what(None, Some(PointInTime::Operation(time)));
        let asked = json!({"deliveryType": "pointInTime", "oplogInc": 7, "oplogTs": 1_767_323_045});
        assert_eq!((point_in_time(&operation).as_deref(), &operation), (Some("1767323045,7"), &asked));
    }

    #[test]
    fn a_plan_of_a_point_in_time_names_the_snapshot_that_it_begins_with() {
        let text = planned(&json!({
            "targetClusterName": "orders", "documents": 10, "logicalBytes": 2048, "collections": 3,
            "snapshotId": "68a8", "oplogTs": 1_767_323_045, "oplogInc": 7,
        }));
        assert!(text.contains("at 1767323045,7: snapshot 68a8, 10 documents (2.0 KiB)"), "{text}");
    }

    #[test]
    fn a_plan_tells_what_a_rewind_would_do_or_why_it_is_none() {
        let text = rewind_planned(&json!({
            "mode": "rewind", "documents": {"inserted": 1, "removed": 2, "replaced": 3, "bytes": 2048},
            "collectionsChanged": [{}], "collectionsRebuilt": [{"ns": "a.b", "reason": "it was dropped"}],
            "indexesDropped": [], "indexesBuilt": ["a.c x"], "collectionsKept": 4,
        }));
        assert!(text.contains("1 documents come back, 3 become what they were, 2 go (2.0 KiB"), "{text}");
        assert!(
            text.contains("0 indexes go and 1 are built; 4 collections stay\n  a.b: it was dropped"),
            "{text}"
        );
        assert_eq!(rewind_planned(&json!({"mode": "full", "reason": "a gap"})), "\nno rewind: a gap");
    }

    #[test]
    fn a_plan_of_a_part_says_what_becomes_of_what() {
        let mut plan = json!({
            "targetClusterName": "orders", "snapshotId": "68a8",
            "options": {"selection": {"namespaces": ["shop.*", "bank.log"]}},
        });
        let text = planned(&plan);
        assert!(
            text.starts_with("shop.*, bank.log of snapshot 68a8 would be restored into orders;"),
            "{text}"
        );
        assert!(text.contains("nothing else would be touched") && !text.contains("replaced"), "{text}");
        plan["oplogTs"] = json!(1_767_323_045);
        plan["oplogInc"] = json!(7);
        plan["options"]["selection"]["renames"] = json!([{"from": "shop.*", "to": "old.*"}]);
        plan["options"]["selection"]["overwrite"] = json!(true);
        let text = planned(&plan);
        assert!(text.contains("up to 1767323045,7") && text.contains("shop.* as old.*"), "{text}");
        assert!(text.contains("would be replaced"), "{text}");
    }

    #[test]
    fn a_plan_tells_the_outage_where_it_is_known() {
        let mut plan = json!({
            "targetClusterName": "orders", "documents": 10, "logicalBytes": 2048, "collections": 3,
        });
        assert!(!planned(&plan).contains("outage"));
        plan["timeSeriesBytes"] = json!(1024);
        plan["bytesLoadedInCutOver"] = json!(1024);
        plan["expectedOutageSeconds"] = json!(4);
        let text = planned(&plan);
        assert!(
            text.contains("about 4 s; 1.0 KiB are loaded") && text.contains("nothing was changed"),
            "{text}"
        );
    }
}
