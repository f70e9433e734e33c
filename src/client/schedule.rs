//! `ebbtide schedule …`, by the Atlas API.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Client, print};
use crate::args::{CopyWhat, Output, Rule, Schedule, Server, Target};

/// Runs one of the commands.
pub(crate) async fn run(command: Schedule, server: &Server, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(server)?;
    match command {
        Schedule::Show { target } => {
            let answer = client.get(&path(&target)).await?;
            print::said(output, &told(&target.cluster, &answer), &answer);
        }
        Schedule::Set { target, plan, update_snapshots, delete_snapshots } => {
            let mut body =
                json!({ "updateSnapshots": update_snapshots, "deleteSnapshots": delete_snapshots });
            if let Some(at) = plan.at {
                body["referenceHourOfDay"] = at.hour().into();
                body["referenceMinuteOfHour"] = at.minute().into();
            }
            let rules = plan.rules();
            if !rules.is_empty() {
                let before = client.get(&path(&target)).await?;
                body["policies"] = policies(&before["policies"][0], &rules);
            }
            let answer = client.patch(&path(&target), &body).await?;
            print::said(output, &told(&target.cluster, &answer), &answer);
        }
        Schedule::Copy { target, what } => {
            let before = client.get(&path(&target)).await?;
            let answer = client.patch(&path(&target), &copies(&before, &what)).await?;
            print::said(output, &told(&target.cluster, &answer), &answer);
        }
        Schedule::Delete { target } => {
            client.delete(&path(&target)).await?;
            let sentence = format!(
                "no more snapshots of {} are taken by themselves; those that were taken stay until they expire",
                target.cluster
            );
            print::said(output, &sentence, &json!({ "deleted": target.cluster }));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(target: &Target) -> String {
    format!("/api/atlas/v2/groups/{}/clusters/{}/backup/schedule", target.project, target.cluster)
}

/// The copy settings of a deployment with another one for a region, or none.
fn copies(before: &Value, what: &CopyWhat) -> Value {
    let region = what.to.as_str();
    let all = before["copySettings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let (same, others): (Vec<_>, Vec<_>) = all.iter().partition(|setting| setting["regionName"] == region);
    let mut settings: Vec<Value> = others.into_iter().cloned().collect();
    if what.stop {
        let deleted = if what.delete_copies { json!([{ "regionName": region }]) } else { json!([]) };
        return json!({ "copySettings": settings, "deleteCopiedBackups": deleted });
    }
    // Atlas demands a zone. A replica set has one, and it needs no name of its own.
    let mut setting =
        json!({ "regionName": region, "shouldCopyOplogs": what.oplogs, "zoneId": before["clusterId"] });
    for name in ["cloudProvider", "zoneId"] {
        if let Some(said) = same.first().and_then(|same| same.get(name)) {
            setting[name] = said.clone();
        }
    }
    match what.latest {
        Some(count) => setting["lastNumberOfSnapshots"] = count.into(),
        None => setting["frequencies"] = what.of.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().into(),
    }
    settings.push(setting);
    json!({ "copySettings": settings })
}

/// The one policy of a deployment with other items; what is taken at the same times as before stays the same item.
fn policies(before: &Value, rules: &[Rule]) -> Value {
    let items: Vec<Value> = rules
        .iter()
        .map(|rule| {
            let mut item = json!({
                "frequencyType": rule.frequency.kind().as_str(),
                "frequencyInterval": rule.frequency.interval(),
                "retentionUnit": rule.retention.unit().as_str(),
                "retentionValue": rule.retention.value(),
            });
            let same = |other: &&Value| {
                ["frequencyType", "frequencyInterval"].iter().all(|name| other[name] == item[name])
            };
            let known = before["policyItems"].as_array().into_iter().flatten().find(same);
            if let Some(known) = known {
                item["id"] = known["id"].clone();
            }
            item
        })
        .collect();
    json!([{ "id": before["id"], "policyItems": items }])
}

/// What holds, in sentences.
fn told(cluster: &str, answer: &Value) -> String {
    let items = answer["policies"][0]["policyItems"].as_array().into_iter().flatten();
    let lines: Vec<String> = items.map(line).collect();
    let copied: String = answer["copySettings"].as_array().into_iter().flatten().map(copied).collect();
    if lines.is_empty() {
        return format!("no snapshots of {cluster} are taken by themselves{copied}");
    }
    let number = |name: &str| answer[name].as_u64().unwrap_or_default();
    let (hour, minute) = (number("referenceHourOfDay"), number("referenceMinuteOfHour"));
    let next = print::field(answer, "nextSnapshot");
    let export = &answer["export"];
    let exported = if answer["autoExportEnabled"] == true {
        let (kind, bucket) = (print::field(export, "frequencyType"), print::field(export, "exportBucketId"));
        format!("\n{kind} ones are exported to the bucket {bucket}")
    } else {
        String::new()
    };
    let longer =
        answer["extraRetentionSettings"].as_array().into_iter().flatten().map(longer).collect::<String>();
    format!(
        "snapshots of {cluster} are taken at {hour:02}:{minute:02} UTC, the next one at {next}:\n{}{longer}{exported}{copied}",
        lines.join("\n")
    )
}

/// One of the copy settings.
fn copied(setting: &Value) -> String {
    let which = match setting["lastNumberOfSnapshots"].as_u64() {
        Some(1) => "the last one is".to_owned(),
        Some(count) => format!("the last {count} are"),
        None => {
            let kinds = setting["frequencies"].as_array().into_iter().flatten();
            let kinds: Vec<_> = kinds
                .filter_map(Value::as_str)
                .map(|kind| kind.to_ascii_lowercase().replace('_', "-"))
                .collect();
            format!("{} ones are", kinds.join(", "))
        }
    };
    let record = if setting["shouldCopyOplogs"] == true { ", and the record of operations" } else { "" };
    format!("\n{which} copied to {}{record}", print::field(setting, "regionName"))
}

/// One of the extra retentions.
fn longer(setting: &Value) -> String {
    let days = setting["retentionDays"].as_u64().unwrap_or_default();
    let kind = match print::field(setting, "frequencyType").as_str() {
        "ON_DEMAND" => "those on demand that expire".to_owned(),
        kind => format!("{} ones", kind.to_ascii_lowercase()),
    };
    let unit = if days == 1 { "day" } else { "days" };
    format!("\n{kind} are kept {days} {unit} longer")
}

fn line(item: &Value) -> String {
    const DAYS: [&str; 7] =
        ["Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays"];
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let interval = item["frequencyInterval"].as_u64().unwrap_or_default();
    let name = |names: &'static [&'static str]| {
        let place = usize::try_from(interval).ok().and_then(|place| place.checked_sub(1));
        place.and_then(|place| names.get(place)).copied().unwrap_or("-")
    };
    let when = match item["frequencyType"].as_str().unwrap_or_default() {
        "hourly" if interval == 1 => "every hour".to_owned(),
        "hourly" => format!("every {interval} hours"),
        "daily" => "every day".to_owned(),
        "weekly" => format!("on {}", name(&DAYS)),
        "monthly" if interval == 40 => "on the last day of the month".to_owned(),
        "monthly" => format!("on day {interval} of the month"),
        _ => format!("on {} 1st", name(&MONTHS)),
    };
    let (value, unit) = (print::field(item, "retentionValue"), print::field(item, "retentionUnit"));
    let unit = if value == "1" { unit.trim_end_matches('s') } else { unit.as_str() };
    format!("  {when}, kept for {value} {unit}")
}

#[cfg(test)]
mod tests {
    use model::{
        Retention, RetentionUnit,
        schedule::{BadInterval, Frequency, FrequencyType},
    };

    use super::*;

    fn item(kind: &str, interval: u32, value: u32, unit: &str) -> Value {
        json!({"id": kind, "frequencyType": kind, "frequencyInterval": interval, "retentionUnit": unit, "retentionValue": value})
    }

    #[test]
    fn a_schedule_is_told_in_sentences() {
        let items = [
            item("hourly", 6, 7, "days"),
            item("hourly", 1, 1, "days"),
            item("daily", 1, 7, "days"),
            item("weekly", 6, 4, "weeks"),
            item("monthly", 40, 12, "months"),
            item("monthly", 3, 12, "months"),
            item("yearly", 12, 1, "years"),
        ];
        let answer = json!({
            "policies": [{"policyItems": items}], "referenceHourOfDay": 2, "referenceMinuteOfHour": 5,
            "nextSnapshot": "2026-01-02T02:05:00Z",
        });
        assert_eq!(
            told("orders", &answer),
            "snapshots of orders are taken at 02:05 UTC, the next one at 2026-01-02T02:05:00Z:\n  \
             every 6 hours, kept for 7 days\n  every hour, kept for 1 day\n  every day, kept for 7 days\n  \
             on Saturdays, kept for 4 weeks\n  on the last day of the month, kept for 12 months\n  \
             on day 3 of the month, kept for 12 months\n  on December 1st, kept for 1 year"
        );
        let mut exported = answer.clone();
        exported["autoExportEnabled"] = true.into();
        exported["export"] = json!({"exportBucketId": "b1", "frequencyType": "monthly"});
        assert_eq!(
            told("orders", &exported),
            told("orders", &answer) + "\nmonthly ones are exported to the bucket b1"
        );
        let mut longer = answer.clone();
        longer["extraRetentionSettings"] = json!([
            {"frequencyType": "WEEKLY", "retentionDays": 1}, {"frequencyType": "ON_DEMAND", "retentionDays": 3},
        ]);
        assert_eq!(
            told("orders", &longer),
            told("orders", &answer)
                + "\nweekly ones are kept 1 day longer\nthose on demand that expire are kept 3 days longer"
        );
        let mut copied = answer.clone();
        copied["copySettings"] = json!([
            {"regionName": "EU_WEST_1", "frequencies": ["DAILY", "ON_DEMAND"], "shouldCopyOplogs": true},
            {"regionName": "CENTRAL_US", "lastNumberOfSnapshots": 3, "shouldCopyOplogs": false},
        ]);
        assert_eq!(
            told("orders", &copied),
            told("orders", &answer)
                + "\ndaily, on-demand ones are copied to EU_WEST_1, and the record of operations\n\
                   the last 3 are copied to CENTRAL_US"
        );
        let none = json!({"policies": [{"policyItems": []}]});
        assert_eq!(told("orders", &none), "no snapshots of orders are taken by themselves");
    }

    #[test]
    fn what_is_taken_as_before_stays_the_same_item() -> Result<(), BadInterval> {
        let before =
            json!({"id": "p", "policyItems": [item("daily", 1, 7, "days"), item("hourly", 6, 2, "days")]});
        let keep = |value| Retention::new(RetentionUnit::Days, value).ok();
        let rules: Vec<Rule> = [(FrequencyType::Daily, 1, 9), (FrequencyType::Hourly, 12, 2)]
            .into_iter()
            .filter_map(|(kind, interval, value)| {
                let frequency = Frequency::new(kind, interval).ok()?;
                Some(Rule { frequency, retention: keep(value)? })
            })
            .collect();
        let sent = policies(&before, &rules);
        assert_eq!((&sent[0]["id"], rules.len()), (&json!("p"), 2));
        assert_eq!(sent[0]["policyItems"][0]["id"], "daily");
        assert!(sent[0]["policyItems"][1].get("id").is_none(), "every 12 hours is another one: {sent}");
        Ok(())
    }
}
