//! The audit log: every change and every attempt at one has its line, and no line holds a secret.

use catalog::{AuditEntry, AuditOutcome};
use model::role::Role;
use serde_json::{Value, json};

use crate::common::{App, Key, Request, SLOW, http};

/// As the module says.
const REFUSALS_PER_MINUTE: usize = 60;

async fn shown(app: &App, key: &Key, query: &str) -> Vec<Value> {
    let path = app.own(&format!("/audit{query}"));
    let page = app.send(key, Request::new("GET", &path)).await.expect(200);
    page["results"].as_array().unwrap().clone()
}

/// The line of the operation that ended so.
fn refusal<'a>(lines: &'a [AuditEntry], operation: &str, code: &str) -> &'a AuditEntry {
    let fits = |line: &&AuditEntry| line.operation == operation && line.error_code.as_deref() == Some(code);
    lines.iter().find(fits).unwrap_or_else(|| panic!("no {operation} with {code} in {lines:#?}"))
}

#[tokio::test]
async fn a_change_is_told_with_who_made_it_from_where_and_how_it_ended() {
    let app = App::start().await;
    let path = app.backup("/snapshots");
    let made = app.post(&path, json!({"description": "before", "retentionInDays": 7})).await.expect(200);
    let [mut line] = <[Value; 1]>::try_from(shown(&app, &app.owner, "").await).unwrap();
    assert_eq!(line["id"].take().as_str().unwrap().len(), 24);
    assert_eq!(
        line,
        json!({
            "action": "snapshot.create",
            "at": "2025-11-22T00:00:00Z",
            "detail": {"cluster": "c1"},
            "from": "127.0.0.1",
            "id": null,
            "operation": "takeGroupClusterBackupSnapshots",
            "outcome": "ok",
            "projectId": app.project.id,
            "resource": path,
            "status": 200,
            "subject": made["id"],
            "who": app.owner.public,
        })
    );
    // The older prefix of the same operation, and a question that changes nothing.
    let old = path.replace("/v2/", "/v1.0/");
    app.post(&old, json!({"description": "again", "retentionInDays": 7}))
        .await
        .refused(400, "UNFINISHED_ON_DEMAND_SNAPSHOT");
    let question = json!({"name": "n1", "uri": "mongodb://h/", "dryRun": true});
    app.post(&app.own("/clusters"), question).await.expect(200);
    let lines = app.audit().await;
    assert_eq!(line_of(&lines, "ebbtideAddCluster").outcome, AuditOutcome::Unchanged);
    let refused = refusal(&lines, "takeGroupClusterBackupSnapshots", "UNFINISHED_ON_DEMAND_SNAPSHOT");
    assert_eq!((refused.resource.as_str(), refused.outcome), (old.as_str(), AuditOutcome::Refused));
    app.stop().await;
}

fn line_of<'a>(lines: &'a [AuditEntry], operation: &str) -> &'a AuditEntry {
    lines
        .iter()
        .find(|line| line.operation == operation)
        .unwrap_or_else(|| panic!("no {operation} in {lines:#?}"))
}

#[tokio::test]
async fn what_is_refused_is_told_as_well() {
    let app = App::start().await;
    let path = app.backup("/snapshots");
    let body = json!({"description": "d", "retentionInDays": 7});
    let ask = || Request::new("POST", &path).json(&body);
    let reader = app.key(&[Role::GroupReadOnly]).await;
    app.send(&reader, ask()).await.refused(403, "ACCESS_FORBIDDEN");
    let other = app.catalog.projects().create("other", app.now()).await.unwrap();
    let stranger = app.key_in(&[Role::GroupOwner], Some(&other)).await;
    app.send(&stranger, ask()).await.refused(401, "USER_CANNOT_ACCESS_GROUP");
    app.send(&app.owner, ask().header("Accept", "*/*")).await.refused(406, "INVALID_VERSION_DATE");
    app.post(&path, json!({"surprise": 1})).await.refused(400, "INVALID_ATTRIBUTE");
    app.post(&app.group("/clusters/nobody/backup/snapshots"), body.clone())
        .await
        .refused(404, "CLUSTER_NOT_FOUND");
    let forged = Key { private: "hush-not-the-key".to_owned(), ..app.owner.clone() };
    app.send(&forged, ask()).await.expect(401);
    let mistaken = Key { public: "hush-a-secret-in-the-wrong-place".to_owned(), ..forged.clone() };
    app.send(&mistaken, ask()).await.expect(401);
    app.plain(ask().header("Authorization", "Bearer hush-no-token")).await.expect(401);

    let lines = app.audit().await;
    let told = |code: &str| {
        let line = refusal(&lines, "takeGroupClusterBackupSnapshots", code);
        assert_eq!(
            (line.outcome, line.project, line.origin.as_str()),
            (AuditOutcome::Refused, Some(app.project.id), "127.0.0.1")
        );
        (line.who.clone(), line.status.unwrap())
    };
    assert_eq!(told("ACCESS_FORBIDDEN"), (reader.public.clone(), 403));
    assert_eq!(told("USER_CANNOT_ACCESS_GROUP"), (stranger.public.clone(), 401));
    for (code, status) in
        [("INVALID_VERSION_DATE", 406), ("INVALID_ATTRIBUTE", 400), ("CLUSTER_NOT_FOUND", 404)]
    {
        assert_eq!(told(code), (app.owner.public.clone(), status));
    }
    let unknown: Vec<_> = lines.iter().filter(|line| line.who == "unknown").collect();
    let claimed: Vec<_> =
        unknown.iter().filter(|line| line.detail == json!({"claimed": app.owner.public})).collect();
    assert_eq!((unknown.len(), claimed.len()), (3, 1), "{unknown:#?}");
    assert!(
        unknown
            .iter()
            .all(|line| line.status == Some(401) && line.error_code.as_deref() == Some("UNEXPECTED_ERROR"))
    );
    assert_eq!(lines.len(), 8, "a first request without credentials only asks for a challenge: {lines:#?}");
    // Reads, refused ones too, are no changes; neither is what no operation answers.
    app.send(&reader, Request::new("GET", &app.own("/credentials"))).await.refused(403, "ACCESS_FORBIDDEN");
    app.send(&app.owner, Request::new("PUT", &path)).await.refused(405, "METHOD_NOT_ALLOWED");
    app.post(&app.own("/nothing"), json!({})).await.refused(404, "RESOURCE_NOT_FOUND");
    assert_eq!(app.audit().await.len(), 8);
    assert!(!format!("{lines:?}").contains("hush"), "a secret is in the log: {lines:#?}");
    assert_eq!(app.changes().await, []);
    app.stop().await;
}

#[tokio::test]
async fn no_line_holds_a_secret() {
    let app = App::start().await;
    let clusters = app.own("/clusters");
    for uri in ["mongodb://u:hush-1@h/", "mongodb://u:hush-2@bad/", "mongodb://u:hush-3@malformed/"] {
        app.post(&clusters, json!({"name": "n1", "uri": uri})).await;
    }
    app.patch(&app.own("/clusters/n1"), json!({"uri": "mongodb://u:hush-4@h/"})).await.expect(200);
    let made = app.post(&app.own("/credentials"), json!({"roles": ["GROUP_READ_ONLY"]})).await.expect(201);
    let account = json!({"roles": ["GROUP_READ_ONLY"], "kind": "serviceAccount"});
    let account = app.post(&app.own("/credentials"), account).await.expect(201);
    app.delete(&app.own(&format!("/credentials/{}", made["id"].as_str().unwrap()))).await.expect(204);
    let lines = app.audit().await;
    let actions: Vec<&str> =
        lines.iter().map(|line| line.action.as_str()).filter(|action| !action.is_empty()).collect();
    for action in ["cluster.add", "cluster.update", "credential.create", "credential.delete"] {
        assert!(actions.contains(&action), "{actions:?}");
    }
    let text = format!("{lines:?} {:?}", shown(&app, &app.owner, "").await);
    for secret in [
        "hush",
        made["privateKey"].as_str().unwrap(),
        account["clientSecret"].as_str().unwrap(),
        &app.owner.private,
    ] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_line_is_begun_before_the_change_and_concluded_without_the_caller() {
    let app = App::start().await;
    let body = json!({"name": "n1", "uri": "mongodb://slow/"});
    let ask = Request::new("POST", &app.own("/clusters")).json(&body);
    let (address, owner) = (app.address, app.owner.clone());
    let asking = tokio::spawn(async move { http::digest(address, &owner, ask).await });
    let lines = loop {
        let lines = app.audit().await;
        if !lines.is_empty() {
            break lines;
        }
        assert!(!asking.is_finished());
        tokio::time::sleep(SLOW / 100).await;
    };
    // Who asks hangs up while the deployment is checked.
    asking.abort();
    assert_eq!((lines.len(), lines[0].outcome, lines[0].status), (1, AuditOutcome::Unknown, None));
    assert_eq!((lines[0].operation.as_str(), &lines[0].who), ("ebbtideAddCluster", &app.owner.public));
    let started = std::time::Instant::now();
    let concluded = loop {
        let lines = app.audit().await;
        if lines[0].outcome != AuditOutcome::Unknown {
            break lines;
        }
        assert!(started.elapsed() < SLOW * 20, "{lines:?}");
        tokio::time::sleep(SLOW / 20).await;
    };
    assert_eq!(
        (concluded.len(), concluded[0].outcome, concluded[0].status),
        (1, AuditOutcome::Ok, Some(201))
    );
    assert_eq!((concluded[0].id, concluded[0].action.as_str()), (lines[0].id, "cluster.add"));
    let added = app.catalog.deployments().by_name(app.project.id, "n1").await.unwrap().unwrap();
    assert_eq!(concluded[0].subject, added.id.to_string());
    app.stop().await;
}

#[tokio::test]
async fn the_log_is_read_by_project_time_and_operation() {
    let app = App::start().await;
    let credentials = app.own("/credentials");
    for _ in 0..3 {
        app.post(&credentials, json!({"roles": ["GROUP_READ_ONLY"]})).await.expect(201);
        app.pass_seconds(60);
    }
    app.post(&app.backup("/snapshots"), json!({"description": "d", "retentionInDays": 7})).await.expect(200);
    let organization = app.key_in(&[Role::OrgOwner], None).await;
    let create = Request::new("POST", "/api/ebbtide/v1/groups").json(&json!({"name": "elsewhere"}));
    let elsewhere = app.send(&organization, create).await.expect(201);

    let reader = app.key(&[Role::GroupReadOnly]).await;
    let minute = |n: u32| format!("2025-11-22T00:0{n}:00Z");
    let operations = async |query: String| -> Vec<String> {
        let lines = shown(&app, &reader, &query).await;
        lines.iter().map(|line| line["operation"].as_str().unwrap().to_owned()).collect()
    };
    let (made, taken) = ("ebbtideCreateCredential", "takeGroupClusterBackupSnapshots");
    assert_eq!(operations(String::new()).await, [taken, made, made, made], "newest first, and nobody else's");
    assert_eq!(operations(format!("?operation={made}&minDate={}", minute(1))).await, [made, made]);
    assert_eq!(
        operations(format!("?maxDate={}", minute(1))).await,
        [made, made],
        "the second that is named belongs to it"
    );
    assert_eq!(operations(format!("?minDate={}", minute(4))).await, [""; 0]);
    assert_eq!(operations("?itemsPerPage=3&pageNum=2".to_owned()).await, [made]);
    let page = app.get(&app.own("/audit?itemsPerPage=3&minDate=2025-01-01T00:00:00Z")).await.expect(200);
    assert_eq!(page["totalCount"], 4);
    let next = page["links"][1]["href"].as_str().unwrap();
    assert!(next.ends_with("/audit?minDate=2025-01-01T00:00:00Z&itemsPerPage=3&pageNum=2"), "{next}");

    for (query, code) in [
        ("minDate=yesterday", "INVALID_DATE_FORMAT"),
        ("maxDate=", "INVALID_DATE_FORMAT"),
        ("operation=nothing", "INVALID_ENUM_VALUE"),
        ("itemsPerPage=0", "INVALID_QUERY_PARAMETER"),
    ] {
        app.get(&app.own(&format!("/audit?{query}"))).await.refused(400, code);
    }
    let all = Request::new("GET", "/api/ebbtide/v1/audit");
    app.send(&reader, all.clone()).await.refused(403, "ACCESS_FORBIDDEN");
    app.get("/api/ebbtide/v1/audit").await.refused(403, "ACCESS_FORBIDDEN");
    let all = app.send(&organization, all).await.expect(200);
    assert_eq!(all["totalCount"], 5);
    let own = format!("/api/ebbtide/v1/groups/{}/audit", elsewhere["id"].as_str().unwrap());
    app.get(&own).await.refused(401, "USER_CANNOT_ACCESS_GROUP");
    let own = app.send(&organization, Request::new("GET", &own)).await.expect(200);
    assert_eq!((&own["totalCount"], &own["results"][0]["action"]), (&json!(1), &json!("project.create")));
    assert_eq!(own["results"][0]["subject"], elsewhere["id"]);
    app.stop().await;
}

#[tokio::test]
async fn asking_in_vain_again_and_again_does_not_fill_the_log() {
    let app = App::start().await;
    let mut connection = http::Connection::open(app.address).await;
    let path = app.own("/credentials");
    let ask = || Request::new("POST", &path).json(&json!({"roles": []})).header("Accept", "application/json");
    let nonce = http::nonce(&connection.send(&ask()).await);
    for count in 1..=REFUSALS_PER_MINUTE + 5 {
        let authorization = http::answer(&app.owner, "POST", &path, &nonce, count.try_into().unwrap());
        let answer = connection.send(&ask().header("Authorization", &authorization)).await;
        answer.refused(400, "MISSING_ATTRIBUTE");
    }
    assert_eq!(app.audit().await.len(), REFUSALS_PER_MINUTE);
    app.post(&path, json!({"roles": ["GROUP_READ_ONLY"]})).await.expect(201);
    assert_eq!(app.changes().await.len(), 1, "a change has its line whatever was refused before");
    app.pass_seconds(61);
    app.post(&path, json!({"roles": []})).await.refused(400, "MISSING_ATTRIBUTE");
    assert_eq!(app.audit().await[0].detail, json!({"notWritten": 5}));
    app.stop().await;
}
