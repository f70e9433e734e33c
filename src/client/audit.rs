//! `ebbtide audit …`.

use std::{collections::HashSet, process::ExitCode};

use anyhow::bail;
use model::WallTime;
use serde_json::Value;

use super::{Client, http::segment, print};
use crate::args::{Audit, Output, Server, Since};

/// Most lines that the server puts on a page.
const PAGE: u32 = 500;

/// Runs one of the commands.
pub(crate) async fn run(command: Audit, server: &Server, output: Output) -> anyhow::Result<ExitCode> {
    let Audit::List { project, organization, since, until, operation, limit } = command;
    let client = Client::new(server)?;
    let path = match project.filter(|_| !organization) {
        Some(project) => format!("/api/ebbtide/v1/groups/{}/audit", segment(&project)),
        None => "/api/ebbtide/v1/audit".to_owned(),
    };
    let wanted = filter(since, until, operation.as_deref(), engine::engine::wall_clock());
    let lines = newest(&client, &path, &wanted, limit).await?;
    let columns: [print::Column; 6] = [
        ("AT", |line| print::field(line, "at")),
        ("WHO", |line| print::field(line, "who")),
        ("FROM", |line| print::field(line, "from")),
        ("OPERATION", operation_of),
        ("OUTCOME", outcome),
        ("WHAT", what),
    ];
    print::list(output, &lines, &columns);
    Ok(ExitCode::SUCCESS)
}

/// The query that says so.
fn filter(since: Option<Since>, until: Option<Since>, operation: Option<&str>, now: WallTime) -> String {
    let time = |name: &str, since: Option<Since>| {
        since.map(|since| format!("&{name}={}", segment(&since.time(now).to_rfc3339())))
    };
    let operation = operation.map(|name| format!("&operation={}", segment(name)));
    [time("minDate", since), time("maxDate", until), operation].into_iter().flatten().collect()
}

/// The newest lines. What is written meanwhile moves all others back: none is listed twice for that.
async fn newest(client: &Client, path: &str, wanted: &str, limit: u32) -> anyhow::Result<Vec<Value>> {
    let (mut lines, mut seen) = (Vec::new(), HashSet::new());
    let most = usize::try_from(limit)?;
    for page in 1.. {
        let size = limit.min(PAGE);
        let query = format!("{path}?itemsPerPage={size}&pageNum={page}&includeCount=false{wanted}");
        let mut answer = client.get(&query).await?;
        let Some(results) = answer.get_mut("results").and_then(Value::as_array_mut) else {
            bail!("{path}: the server's answer has no results");
        };
        let last = results.len() < usize::try_from(size)?;
        lines.extend(results.drain(..).filter(|line| seen.insert(print::field(line, "id"))));
        if last || lines.len() >= most {
            break;
        }
    }
    lines.truncate(most);
    Ok(lines)
}

/// What was called; of lines from before that was told, what was done.
fn operation_of(line: &Value) -> String {
    let name = if line["operation"].is_null() { "action" } else { "operation" };
    print::field(line, name)
}

fn outcome(line: &Value) -> String {
    let outcome = print::field(line, "outcome");
    match (line["status"].as_u64(), line["errorCode"].as_str()) {
        (Some(status), Some(code)) => format!("{outcome} ({status} {code})"),
        _ => outcome,
    }
}

/// What was done to what; of what was not done, what was addressed.
fn what(line: &Value) -> String {
    match (line["action"].as_str(), line["subject"].as_str()) {
        (Some(action), Some(subject)) => format!("{action} {subject}"),
        _ => print::field(line, "resource"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_tell_what_was_done_or_what_was_tried() {
        let done = json!({
            "action": "snapshot.create", "operation": "takeGroupClusterBackupSnapshots", "outcome": "ok", "resource": "/p",
            "status": 200, "subject": "68a8",
        });
        assert_eq!((outcome(&done).as_str(), what(&done).as_str()), ("ok", "snapshot.create 68a8"));
        let refused =
            json!({"errorCode": "ACCESS_FORBIDDEN", "outcome": "refused", "resource": "/p", "status": 403});
        assert_eq!(outcome(&refused), "refused (403 ACCESS_FORBIDDEN)");
        assert_eq!((what(&refused).as_str(), operation_of(&refused).as_str()), ("/p", "-"));
    }

    #[test]
    fn the_query_holds_what_was_asked_for() {
        let now = WallTime(86_400_000);
        let query =
            filter(Some(Since::Ago(86_400_000)), Some(Since::Time(now)), Some("admin create-key"), now);
        let expected =
            "&minDate=1970-01-01T00%3A00%3A00Z&maxDate=1970-01-02T00%3A00%3A00Z&operation=admin%20create-key";
        assert_eq!(query, expected);
        assert_eq!(filter(None, None, None, now), "");
    }
}
