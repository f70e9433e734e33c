//! The backup compliance policy of a project, in each of its versions, and what it forbids.

use reqwest::Method;
use serde_json::{Value, json};

use super::{client::Ask, world::World};

/// Drives the policy by one way of authentication, and leaves none behind.
pub async fn of_a_project(world: &World, way: &str, snapshot: &str) {
    let (owner, checker) = (world.owner(way), &world.checker);
    let path = world.group("/backupCompliancePolicy");
    let get = |date: &str| Ask::new(Method::GET, &path).date(date);
    let put = |date: &str, body: &Value| Ask::new(Method::PUT, &path).date(date).json(body);
    let item = |kind: &str, interval: i32, value: i32| json!({"frequencyType": kind, "frequencyInterval": interval, "retentionUnit": "days", "retentionValue": value});
    for date in ["2023-01-01", "2023-10-01", "2025-03-12"] {
        let mut body = json!({
            "authorizedEmail": "it@example.com", "authorizedUserFirstName": "Ada", "authorizedUserLastName": "Byron",
            "encryptionAtRestEnabled": true, "onDemandPolicyItem": item("ondemand", 0, 1),
            "scheduledPolicyItems": [item("daily", 1, 7), item("weekly", 6, 28)],
        });
        let set = checker.ok(owner, put(date, &body), 200).await;
        assert_eq!(checker.ok(owner, get(date), 200).await, set);
        assert_eq!(
            checker.ok(owner, put(date, &set), 200).await["scheduledPolicyItems"],
            set["scheduledPolicyItems"]
        );
        body["scheduledPolicyItems"] = json!([]);
        checker.refused(owner, put(date, &body), 400, "BACKUP_COMPLIANCE_POLICY_SETTINGS_INVALID").await;
        body["authorizedEmail"] = Value::Null;
        checker.refused(owner, put(date, &body), 400, "MISSING_ATTRIBUTE").await;
    }
    let mut more = checker.ok(owner, get("2025-03-12"), 200).await;
    more["copyProtectionEnabled"] = true.into();
    let set = checker.ok(owner, put("2025-03-12", &more), 200).await;
    assert_eq!(set["copyProtectionEnabled"], true);
    more["copyProtectionEnabled"] = false.into();
    let code = "BACKUP_COMPLIANCE_POLICY_SETTINGS_INVALID";
    checker.refused(owner, put("2025-03-12", &more), 400, code).await;
    let schedule = Ask::new(Method::DELETE, &world.group("/clusters/main/backup/schedule"));
    let code = "BACKUP_POLICY_NOT_MEETING_BACKUP_COMPLIANCE_POLICY_REQUIREMENTS";
    checker.refused(owner, schedule, 400, code).await;
    let one = Ask::new(Method::DELETE, &world.group(&format!("/clusters/main/backup/snapshots/{snapshot}")));
    checker.refused(owner, one, 400, "CANNOT_DELETE_SNAPSHOT_WITH_BACKUP_COMPLIANCE_POLICY").await;
    let lift = || Ask::new(Method::DELETE, &path).date("2024-11-13");
    checker.refused(owner, lift(), 400, "BACKUP_COMPLIANCE_POLICY_SETTINGS_INVALID").await;
    world.ebbtide.admin(&["release-compliance-policy", "--project", &world.ebbtide.project]);
    checker.ok(owner, lift(), 204).await;
    let schedule = Ask::new(Method::DELETE, &world.group("/clusters/main/backup/schedule"));
    checker.ok(owner, schedule.date("2024-08-05"), 200).await;
}
