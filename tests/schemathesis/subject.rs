//! What requests are made to: a server with deployments of each kind, snapshots, jobs and a record of operations, all with names
//! that requests are given, or nearly all would be answered by what is looked at first, that something is not there.

use std::{collections::BTreeMap, time::Instant};

use bson::{Document, doc};
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::{
    client::{Account, Ask},
    support::{PATIENCE, text},
    world::World,
};

/// How many of ten requests have a name that is something's.
const KNOWN_NAMES: f64 = 0.9;
const ROLE: &str = "5f4007f327a3bd7b6f4103c5";

/// What one run asks for, and how.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub by: &'a Account,
    /// The resource version.
    pub date: &'a str,
    pub envelopes: bool,
    /// Whether it keeps to the document, and gives what is there; the other half of what is sent does not.
    pub is_meant_well: bool,
    pub seed: u32,
    pub examples: u32,
}

/// A server with names to ask for, by parameter.
pub struct Subject {
    pub world: World,
    dictionaries: Map<String, Value>,
    parameters: Map<String, Value>,
    /// The same below a path, and for single operations. schemathesis takes the first that fits an operation, so there is one
    /// for each.
    below: BTreeMap<String, Map<String, Value>>,
    of_operations: BTreeMap<String, Map<String, Value>>,
}

impl Subject {
    pub async fn build() -> Self {
        // In all its detail the log is read by the test of conformance; here it would take half of the time.
        let mut subject = Self {
            world: World::logging("debug").await,
            dictionaries: Map::new(),
            parameters: Map::new(),
            below: BTreeMap::new(),
            of_operations: BTreeMap::new(),
        };
        subject.of_projects().await;
        subject.of_snapshots().await;
        subject.of_schedules().await;
        subject.of_jobs().await;
        subject.of_what_is_changed().await;
        subject.of_the_past().await;
        subject
    }

    /// The owner of the organization: who can do everything, and whom no project can remove.
    pub fn everybody(&self) -> &[Account; 2] {
        &self.world.organization
    }

    /// The configuration of schemathesis. No envelopes are asked for by a document that describes only what is in them.
    pub fn config(&self, asked: &Asked<'_>) -> Value {
        let bound = |these: &Map<String, Value>| -> Map<String, Value> {
            these.iter().map(|(name, bound)| (name.clone(), self.in_body(asked, name, bound))).collect()
        };
        let mut parameters = bound(&self.parameters);
        if !asked.envelopes {
            parameters.insert("query.envelope".to_owned(), "false".into());
        }
        let mut headers = json!({ "Accept": format!("application/vnd.atlas.{}+json", asked.date) });
        if let Account::Bearer(token) = asked.by {
            headers["Authorization"] = format!("Bearer {token}").into();
        }
        let below = self.below.iter().map(|(path, these)| ("include-path-regex", path, these));
        let single = self.of_operations.iter().map(|(id, these)| ("include-operation-id", id, these));
        let operations: Vec<_> = single
            .chain(below)
            .map(|(by, which, these)| json!({ by: which, "parameters": bound(these) }))
            .collect();
        let mode = if asked.is_meant_well { "positive" } else { "all" };
        json!({
            "seed": asked.seed,
            "workers": 1,
            "continue-on-failure": true,
            "request-timeout": 60.0,
            "headers": headers,
            "cache": { "enabled": false },
            "dictionaries": self.dictionaries,
            "parameters": parameters,
            "operations": operations,
            "generation": {
                "mode": mode, "max-examples": asked.examples, "no-shrink": true, "database": "none",
                "with-security-parameters": false,
            },
            "phases": {
                // What was answered is no source of requests: a credential that is listed would be deleted, our own as well.
                "coverage": { "extra-data-sources": { "responses": false } },
                "fuzzing": { "extra-data-sources": { "responses": false } },
            },
        })
    }

    /// A binding of a parameter. What is meant well has in its body what belongs there, always; otherwise it is there where
    /// schemathesis has put something.
    fn in_body(&self, asked: &Asked<'_>, name: &str, bound: &Value) -> Value {
        // A time beside a snapshot would be one state too many.
        let belongs = name.starts_with("body.") && !name.contains("pointInTime");
        let names = &self.dictionaries[&text(bound, "dictionary")]["values"];
        if asked.is_meant_well && belongs { names[0].clone() } else { bound.clone() }
    }

    /// Names that a parameter is given, wherever it is.
    fn names(&mut self, parameters: &[&str], names: &[&str]) {
        let bound = self.bind(names);
        self.parameters.extend(parameters.iter().map(|name| ((*name).to_owned(), bound.clone())));
    }

    /// The same, in operations whose path is like this.
    fn names_below(&mut self, path: &str, parameters: &[&str], names: &[&str]) {
        let bound = self.bind(names);
        let these = self.below.entry(path.to_owned()).or_default();
        these.extend(parameters.iter().map(|name| ((*name).to_owned(), bound.clone())));
    }

    /// The only names that parameters of an operation are given: what it does to them is not to be done to others.
    fn only(&mut self, operations: &[&str], parameters: &[&str], names: &[&str]) {
        let mut bound = self.bind(names);
        bound["probability"] = 1.0.into();
        for operation in operations {
            let these = self.of_operations.entry((*operation).to_owned()).or_default();
            these.extend(parameters.iter().map(|name| ((*name).to_owned(), bound.clone())));
        }
    }

    fn bind(&mut self, names: &[&str]) -> Value {
        let dictionary = format!("names{}", self.dictionaries.len());
        self.dictionaries.insert(dictionary.clone(), json!({ "values": names }));
        json!({ "dictionary": dictionary, "probability": KNOWN_NAMES })
    }

    async fn of_projects(&mut self) {
        let group = self.world.ebbtide.project.clone();
        self.names(&["path.groupId", "body.targetGroupId", "body.projectId"], &[&group]);
        self.names(&["body.delivery.targetGroupId"], &[&group]);
        let clusters = ["path.clusterName", "body.targetClusterName", "body.delivery.targetClusterName"];
        self.names(&clusters, &["main"]);
        self.names_below("/serverless/", &["path.clusterName", "path.name"], &["tenant"]);
        self.names_below("/flexClusters/", &["path.clusterName", "path.name"], &["flexible"]);
        self.names(&["body.targetDeploymentItemName"], &["flexible"]);
        self.names(&["path.groupName"], &["shop"]);
        self.names(&["path.databaseName"], &["shop"]);
        self.names(&["path.collectionName"], &["orders"]);
        self.names(&["path.sourceNamespace"], &["shop.orders"]);
        self.names(&["path.endpointSetId"], &["cloudBackups_group", "clusters_group"]);
        self.names(&["path.cloudProvider"], &["AWS"]);
        let organizations = self.ask(Method::GET, "/api/atlas/v2/orgs", None, 200).await;
        self.names(&["path.orgId"], &[&text(&organizations["results"][0], "id")]);
    }

    async fn of_snapshots(&mut self) {
        self.world.ebbtide.cli(&["cluster", "update", "main", "--pit", "on"]);
        let take = |cluster: &str| self.world.ebbtide.snapshot(cluster);
        let (kept, tenants, flexible) = (take("main"), take("tenant"), take("flexible"));
        // Gone at the first, or from the day on that a change says: each has one for itself.
        let changing = [
            "deleteGroupClusterBackupSnapshot",
            "deleteGroupClusterSnapshot",
            "ebbtideDeleteSnapshot",
            "updateGroupClusterBackupSnapshot",
            "updateGroupClusterSnapshot",
        ];
        let doomed = changing.map(|operation| (operation, take("main")));
        for (operation, snapshot) in &doomed {
            self.only(&[operation], &["path.snapshotId"], &[snapshot]);
        }
        self.names(&["path.snapshotId", "body.snapshotId"], &[&kept]);
        self.names_below("/serverless/", &["path.snapshotId", "body.snapshotId"], &[&tenants]);
        self.names_below("/flexClusters/", &["path.snapshotId", "body.snapshotId"], &[&flexible]);
    }

    /// In a form that the legacy pages can tell, which other changes would not keep.
    async fn of_schedules(&mut self) {
        let schedule = json!({
            "dailySnapshotRetentionDays": 7, "monthlySnapshotRetentionMonths": 13, "snapshotIntervalHours": 12,
            "snapshotRetentionDays": 3, "weeklySnapshotRetentionWeeks": 4,
        });
        let path = self.world.group("/clusters/main/snapshotSchedule");
        self.ask(Method::PATCH, &path, Some(schedule), 200).await;
        let changing = ["updateGroupClusterBackupSchedule", "deleteGroupClusterBackupSchedule"];
        self.only(&changing, &["path.clusterName"], &["changing"]);
    }

    async fn of_jobs(&mut self) {
        let id = |made: &Value| text(made, "id");
        let snapshot = self.known("", "body.snapshotId");
        let (main, tenants, flexible) = (
            self.world.group("/clusters/main"),
            self.world.group("/serverless/tenant"),
            self.world.group("/flexClusters/flexible"),
        );
        let download = json!({ "deliveryType": "download", "snapshotId": snapshot });
        let jobs = format!("{main}/backup/restoreJobs");
        let job = id(&self.ask(Method::POST, &jobs, Some(download), 200).await);
        let collections = json!({
            "snapshotId": snapshot, "targetClusterName": "main", "targetGroupId": self.world.ebbtide.project,
            "indexStrategy": "ALL", "writeStrategy": "CREATE_NEW", "collections": [{"sourceNamespace": "shop.orders"}],
        });
        let path = format!("{main}/collectionRestoreJobs");
        let of_collections = id(&self.ask(Method::POST, &path, Some(collections), 201).await);
        self.names(&["path.restoreJobId", "path.jobId"], &[&job]);
        self.names_below("/collectionRestoreJobs/", &["path.restoreJobId", "path.jobId"], &[&of_collections]);

        let download = json!({
            "deliveryType": "download", "snapshotId": self.known("/serverless/", "body.snapshotId"),
            "targetClusterName": "tenant", "targetGroupId": self.world.ebbtide.project,
        });
        let path = format!("{tenants}/backup/restoreJobs");
        let job = id(&self.ask(Method::POST, &path, Some(download), 200).await);
        self.names_below("/serverless/", &["path.restoreJobId"], &[&job]);
        let download = json!({ "snapshotId": self.known("/flexClusters/", "body.snapshotId") });
        let path = format!("{flexible}/backup/download");
        let job = id(&self.ask(Method::POST, &path, Some(download), 200).await);
        self.names_below("/flexClusters/", &["path.restoreJobId"], &[&job]);

        let bucket = json!({ "bucketName": "archive", "cloudProvider": "AWS", "iamRoleId": ROLE });
        let path = self.world.group("/backup/exportBuckets");
        let bucket = text(&self.ask(Method::POST, &path, Some(bucket), 200).await, "_id");
        let export = json!({ "snapshotId": snapshot, "exportBucketId": bucket });
        let path = format!("{main}/backup/exports");
        let export = id(&self.ask(Method::POST, &path, Some(export), 200).await);
        self.names(&["path.exportBucketId", "body.exportBucketId", "body.export.exportBucketId"], &[&bucket]);
        self.names(&["path.exportId"], &[&export]);
        self.names(&["body.bucketName"], &["archive"]);
        self.names(&["body.iamRoleId"], &[ROLE]);
    }

    /// What requests take away, or make useless for all after them, is there for that alone.
    async fn of_what_is_changed(&mut self) {
        let uri = self.world.mongod.uri();
        self.world.ebbtide.add("doomed", &uri);
        self.only(&["ebbtideRemoveCluster"], &["path.clusterName"], &["doomed"]);
        self.world.ebbtide.add("changing", &uri);
        self.only(&["ebbtideUpdateCluster"], &["path.clusterName"], &["changing"]);
        // Others are asked for addresses, and nobody waits until they do not answer.
        self.only(&["ebbtideAddCluster", "ebbtideUpdateCluster"], &["body.uri"], &[&uri, "mongodb://", "x"]);
        let path = self.world.own("/credentials");
        let mut doomed = Vec::new();
        for _ in 0..2 {
            let body = json!({ "roles": ["GROUP_READ_ONLY"] });
            doomed.push(text(&self.ask(Method::POST, &path, Some(body), 201).await, "id"));
        }
        self.only(&["ebbtideDeleteCredential"], &["path.credentialId"], &[&doomed[0], &doomed[1]]);
        self.of_access_lists(&path).await;
        self.of_api_keys(&path).await;
        self.of_service_accounts(&path).await;
        let mut projects = Vec::new();
        for name in ["renamed", "deleted"] {
            let body = json!({ "name": name });
            projects
                .push(text(&self.ask(Method::POST, "/api/ebbtide/v1/groups", Some(body), 201).await, "id"));
        }
        self.only(&["updateGroup"], &["path.groupId"], &[&projects[0]]);
        self.only(&["deleteGroup"], &["path.groupId"], &[&projects[1]]);
        // A policy that holds forbids much of what else is asked for.
        let other = self.world.other_project.clone();
        self.only(
            &["updateGroupBackupCompliancePolicy", "disableGroupBackupCompliancePolicy"],
            &["path.groupId", "body.projectId"],
            &[&other],
        );
        let bucket = json!({ "bucketName": "archive", "cloudProvider": "AWS", "iamRoleId": ROLE });
        let path = format!("/api/atlas/v2/groups/{other}/backup/exportBuckets");
        let bucket = text(&self.ask(Method::POST, &path, Some(bucket), 200).await, "_id");
        self.only(&["deleteGroupBackupExportBucket"], &["path.groupId"], &[&other]);
        self.only(&["deleteGroupBackupExportBucket"], &["path.exportBucketId"], &[&bucket]);
    }

    /// Times that something is known of.
    async fn of_the_past(&mut self) {
        let orders =
            self.world.mongod.client().await.unwrap().database("shop").collection::<Document>("orders");
        orders.insert_one(doc! { "_id": 1_000, "text": "later" }).await.unwrap();
        let begun = Instant::now();
        let range = loop {
            let shown = self.world.ebbtide.cli(&["timeline", "show", "main"]);
            if let Some(range) = shown["restorable"].as_array().and_then(|ranges| ranges.last()) {
                break range.clone();
            }
            assert!(begun.elapsed() < PATIENCE, "nothing is restorable: {shown}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        };
        let time = |of: &str| format!("{},{}", range[of]["seconds"], range[of]["increment"]);
        let (from, to) = (time("from"), time("to"));
        self.names(&["query.at", "query.from"], &[&from]);
        self.names(&["query.to"], &[&to]);
        self.names(&["query.namespace"], &["shop.orders"]);
        self.names(&["query.id"], &["7", "{\"$numberLong\":\"7\"}"]);
        let seconds = range["to"]["seconds"].clone();
        let points = ["body.pointInTimeUTCSeconds", "body.pointInTimeUtcSeconds"];
        self.names(&points, &["0"]);
        let dictionary = text(&self.parameters[points[0]], "dictionary");
        self.dictionaries[&dictionary]["values"] = json!([seconds]);
    }

    /// The one name that a parameter has.
    fn known(&self, below: &str, parameter: &str) -> String {
        let here = self.below.get(below).and_then(|these| these.get(parameter));
        let bound = here.or(self.parameters.get(parameter));
        let dictionary = text(bound.unwrap(), "dictionary");
        text_of(&self.dictionaries[&dictionary]["values"][0])
    }

    /// One entry of each list is there to be looked at, and another one to be taken out.
    async fn of_access_lists(&mut self, credentials: &str) {
        let mut made = Vec::new();
        for kind in ["apiKey", "apiKey", "serviceAccount"] {
            let body = json!({ "kind": kind, "roles": ["GROUP_READ_ONLY"] });
            made.push(self.ask(Method::POST, credentials, Some(body), 201).await);
        }
        let (set, key, client) = (text(&made[0], "id"), text(&made[1], "id"), text(&made[2], "clientId"));
        self.only(&["ebbtideUpdateCredential"], &["path.credentialId"], &[&set]);
        let entries = || json!([{ "ipAddress": "192.0.2.7" }, { "ipAddress": "192.0.2.8" }]);
        let organizations = self.ask(Method::GET, "/api/atlas/v2/orgs", None, 200).await;
        let list = format!(
            "/api/atlas/v2/orgs/{}/apiKeys/{key}/accessList",
            text(&organizations["results"][0], "id")
        );
        self.ask(Method::POST, &list, Some(entries()), 200).await;
        let list = self.world.group(&format!("/serviceAccounts/{client}/accessList"));
        self.ask(Method::POST, &list, Some(entries()), 200).await;
        let (keys, accounts) = (["path.apiUserId"], ["path.clientId"]);
        let reads = ["listOrgApiKeyAccessListEntries", "getOrgApiKeyAccessListEntry"];
        self.only(&reads, &keys, &[&key]);
        self.only(&["getOrgApiKeyAccessListEntry"], &["path.ipAddress"], &["192.0.2.7"]);
        self.only(&["createOrgApiKeyAccessListEntry", "deleteOrgApiKeyAccessListEntry"], &keys, &[&key]);
        let of_accounts = [
            "listOrgServiceAccountAccessList",
            "createOrgServiceAccountAccessList",
            "deleteOrgServiceAccountAccessEntry",
            "listGroupServiceAccountAccessList",
            "createGroupServiceAccountAccessList",
            "deleteGroupServiceAccountAccessEntry",
        ];
        self.only(&of_accounts, &accounts, &[&client]);
        let deleting = [
            "deleteOrgApiKeyAccessListEntry",
            "deleteOrgServiceAccountAccessEntry",
            "deleteGroupServiceAccountAccessEntry",
        ];
        self.only(&deleting, &["path.ipAddress"], &["192.0.2.8"]);
    }

    /// One key for each that changes it: what takes roles or the key itself is not the one that the others look at.
    async fn of_api_keys(&mut self, credentials: &str) {
        let mut made = Vec::new();
        for _ in 0..3 {
            let body = json!({ "kind": "apiKey", "roles": ["GROUP_READ_ONLY"] });
            made.push(text(&self.ask(Method::POST, credentials, Some(body), 201).await, "id"));
        }
        let kept = ["getOrgApiKey", "updateOrgApiKey", "addGroupApiKey", "updateGroupApiKeyRoles"];
        self.only(&kept, &["path.apiUserId"], &[&made[0]]);
        self.only(&["removeGroupApiKey"], &["path.apiUserId"], &[&made[1]]);
        self.only(&["deleteOrgApiKey"], &["path.apiUserId"], &[&made[2]]);
    }

    /// The same with service accounts, and a secret for each that deletes one.
    async fn of_service_accounts(&mut self, credentials: &str) {
        let mut made = Vec::new();
        for _ in 0..6 {
            let body = json!({ "kind": "serviceAccount", "roles": ["GROUP_READ_ONLY"] });
            made.push(text(&self.ask(Method::POST, credentials, Some(body), 201).await, "clientId"));
        }
        let client = ["path.clientId"];
        let kept = [
            "getOrgServiceAccount",
            "updateOrgServiceAccount",
            "listOrgServiceAccountGroups",
            "getGroupServiceAccount",
            "updateGroupServiceAccount",
            "inviteGroupServiceAccount",
        ];
        self.only(&kept, &client, &[&made[0]]);
        let adding = ["createOrgServiceAccountSecret", "createGroupServiceAccountSecret"];
        self.only(&adding, &client, &[&made[1]]);
        self.only(&["deleteGroupServiceAccount"], &client, &[&made[2]]);
        self.only(&["deleteOrgServiceAccount"], &client, &[&made[3]]);
        let deleting = ["deleteOrgServiceAccountSecret", "deleteGroupServiceAccountSecret"];
        for (operation, account) in deleting.iter().zip(&made[4..]) {
            let path = self.world.group(&format!("/serviceAccounts/{account}"));
            let shown = self.ask(Method::GET, &path, None, 200).await;
            self.only(&[operation], &client, &[account]);
            self.only(&[operation], &["path.secretId"], &[&text(&shown["secrets"][0], "id")]);
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>, status: u16) -> Value {
        let ask = Ask::new(method, path);
        let ask = if let Some(body) = &body { ask.json(body) } else { ask };
        self.world.checker.ok(&self.everybody()[1], ask, status).await
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
