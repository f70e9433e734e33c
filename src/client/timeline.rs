//! `ebbtide timeline …`.

use std::process::ExitCode;

use serde_json::Value;

use super::{Client, cluster, print};
use crate::args::{Output, Server, Timeline};

/// Runs one of the commands.
pub(crate) async fn run(command: Timeline, server: &Server, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(server)?;
    match command {
        Timeline::Show { target } => {
            let answer = client.get(&format!("{}/timeline", cluster::path(&target))).await?;
            print::said(output, told(&answer).trim_end(), &answer);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is recorded, and what can be restored because of that.
fn told(answer: &Value) -> String {
    let wanted = &answer["continuousBackup"];
    let mut text = format!(
        "continuous backup of {}: {}, restore window {} days\n{}",
        print::field(answer, "clusterName"),
        if wanted["pitEnabled"] == true { "on" } else { "off" },
        print::field(wanted, "restoreWindowDays"),
        recording(&answer["capture"]),
    );
    text.push_str(&compared(&answer["liveCheck"], &answer["defects"]));
    let rows = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
    let ranges = rows("restorable");
    if ranges.is_empty() {
        text.push_str("\nno point in time can be restored yet\n");
    } else {
        text.push_str("\ncan be restored, every point in time\n");
        let columns: [print::Column; 3] = [
            ("FROM", |range| time(&range["from"])),
            ("TO", |range| time(&range["to"])),
            ("TIMELINE", |range| print::field(range, "timelineId")),
        ];
        text.push_str(&print::table(&ranges, &columns));
    }
    let timelines = rows("timelines");
    if !timelines.is_empty() {
        let columns: [print::Column; 6] = [
            ("TIMELINE", |timeline| print::field(timeline, "id")),
            ("STATE", |timeline| print::field(timeline, "state")),
            ("AFTER", |timeline| time(&timeline["start"])),
            ("UP TO", |timeline| time(&timeline["durableEnd"])),
            ("ENDED", |timeline| print::field(timeline, "endedAt")),
            ("WHY", why),
        ];
        text.push_str("\nrecorded\n");
        text.push_str(&print::table(&timelines, &columns));
    }
    text
}

/// Lines about who records.
fn recording(capture: &Value) -> String {
    if capture.is_null() {
        return "recording: not begun\n".to_owned();
    }
    let mut parts = vec![if capture["active"] == true { "active" } else { "nobody is at it" }.to_owned()];
    if let Some(seconds) = capture["behindSeconds"].as_u64() {
        parts.push(format!("{} behind", span(seconds)));
    }
    if let Some(seconds) = capture["oplogWindowSeconds"].as_u64() {
        parts.push(format!("the oplog reaches back {}", span(seconds)));
    }
    if let Some(slices) = capture["waitingSlices"].as_u64().filter(|slices| *slices > 0) {
        parts.push(format!("{slices} slices wait for the vault"));
    }
    let mut text =
        format!("recording: {} (as of {})\n", parts.join(", "), print::field(capture, "updatedAt"));
    for name in ["warning", "error"] {
        if let Some(said) = capture[name].as_str() {
            text.push_str(&format!("{name}: {said}\n"));
        }
    }
    text
}

/// Lines about how the deployment compares with what is recorded of it.
fn compared(round: &Value, defects: &Value) -> String {
    let mut text = String::new();
    if !round.is_null() {
        let last = round["lastThroughAt"].as_str().map(|at| format!("; compared wholly at {at}"));
        text.push_str(&format!(
            "compared with the deployment: {} documents in the round that began at {}{}\n",
            round["documents"],
            print::field(round, "roundBeganAt"),
            last.unwrap_or_default(),
        ));
    }
    for defect in defects.as_array().into_iter().flatten() {
        text.push_str(&format!(
            "DEFECT: {} is not what is recorded of it at {}: {}; the next snapshot reads it anew\n",
            print::field(defect, "namespace"),
            time(&defect["clusterTime"]),
            print::field(defect, "what"),
        ));
    }
    text
}

/// A cluster time for people, and as `--at` takes it.
pub(super) fn time(time: &Value) -> String {
    format!("{} ({},{})", print::field(time, "date"), time["seconds"], time["increment"])
}

/// Why a timeline ended.
fn why(timeline: &Value) -> String {
    match timeline["endDetail"].as_str() {
        Some(detail) if !detail.is_empty() => format!("{}: {detail}", print::field(timeline, "endReason")),
        _ => print::field(timeline, "endReason"),
    }
}

/// A length of time in the largest unit of which there are two.
fn span(seconds: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "d"), (3_600, "h"), (60, "min")];
    let unit = UNITS.into_iter().find(|(length, _)| seconds >= 2 * length);
    unit.map_or_else(|| format!("{seconds} s"), |(length, name)| format!("{} {name}", seconds / length))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_timeline_is_told_with_what_can_be_typed_next() {
        let time = |seconds: u32| json!({"date": "2026-01-02T03:04:05Z", "increment": 7, "seconds": seconds});
        let answer = json!({
            "capture": {
                "active": true, "behindSeconds": 2, "oplogWindowSeconds": 129_600, "updatedAt": "2026-01-02T04:00:00Z",
                "waitingSlices": 3, "warning": "half of the oplog's window is used up",
            },
            "clusterName": "orders",
            "continuousBackup": {"pitEnabled": true, "restoreWindowDays": 7},
            "defects": [{"clusterTime": time(150), "namespace": "shop.items", "what": "1 document differs"}],
            "liveCheck": {
                "documents": 70, "lastThroughAt": "2026-01-01T09:00:00Z", "roundBeganAt": "2026-01-02T00:00:00Z",
            },
            "restorable": [{"from": time(100), "timelineId": "t1", "to": time(200)}],
            "timelines": [
                {"durableEnd": time(200), "end": time(201), "id": "t1", "start": time(90), "state": "open"},
                {
                    "durableEnd": time(50), "end": time(50), "endDetail": "", "endReason": "rolledOver",
                    "endedAt": "2026-01-01T00:00:00Z", "id": "t0", "start": time(10), "state": "ended",
                },
            ],
        });
        let text = told(&answer);
        for line in [
            "continuous backup of orders: on, restore window 7 days\n",
            "recording: active, 2 s behind, the oplog reaches back 36 h, 3 slices wait for the vault \
             (as of 2026-01-02T04:00:00Z)\n",
            "warning: half of the oplog's window is used up\n",
            "compared with the deployment: 70 documents in the round that began at 2026-01-02T00:00:00Z; compared wholly at \
             2026-01-01T09:00:00Z\n",
            "DEFECT: shop.items is not what is recorded of it at 2026-01-02T03:04:05Z (150,7): 1 document differs; the next",
            "2026-01-02T03:04:05Z (100,7)  2026-01-02T03:04:05Z (200,7)  t1\n",
            "2026-01-01T00:00:00Z  rolledOver\n",
        ] {
            assert!(text.contains(line), "{line:?} is missing:\n{text}");
        }
    }

    #[test]
    fn nothing_recorded_is_told_too() {
        let answer = json!({
            "clusterName": "orders", "continuousBackup": {"pitEnabled": false, "restoreWindowDays": 7},
            "restorable": [], "timelines": [],
        });
        assert_eq!(
            told(&answer),
            "continuous backup of orders: off, restore window 7 days\nrecording: not begun\n\n\
             no point in time can be restored yet\n"
        );
    }

    #[test]
    fn lengths_have_units() {
        let spans = [0, 119, 120, 7_199, 7_200, 172_799, 172_800].map(span);
        assert_eq!(spans, ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d"]);
    }
}
