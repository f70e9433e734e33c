//! What every operation refuses in the same way: strangers, wrong versions, ids, parameters, methods and bodies.

use api::Served;
use reqwest::Method;

use super::{
    client::{Account, Ask},
    world::World,
};

/// Operations that have nothing to succeed with: there are no sharded clusters, and no clouds to have endpoints in.
pub const ONLY_REFUSED: [&str; 6] = [
    "getGroupClusterBackupCheckpoint",
    "deleteGroupClusterBackupSnapshotShardedCluster",
    "listGroupBackupPrivateEndpoints",
    "createGroupBackupPrivateEndpoint",
    "getGroupBackupPrivateEndpoint",
    "deleteGroupBackupPrivateEndpoint",
];
/// Reads that take more than a role to read.
const NOT_FOR_READERS: [&str; 25] = [
    "listGroupBackupPrivateEndpoints",
    "getGroupBackupPrivateEndpoint",
    "listGroupClusterCollectionRestoreJobs",
    "getGroupClusterCollectionRestoreJob",
    "listGroupClusterCollectionRestoreJobCollections",
    "getGroupClusterCollectionRestoreJobCollection",
    "listGroupClusterBackupSnapshotDatabases",
    "getGroupClusterBackupSnapshotDatabase",
    "listGroupClusterBackupSnapshotDatabaseCollections",
    "getGroupClusterBackupSnapshotDatabaseCollection",
    "listGroupClusterBackupRestoreJobs",
    "getGroupClusterBackupRestoreJob",
    "listGroupServerlessBackupRestoreJobs",
    "getGroupServerlessBackupRestoreJob",
    "listGroupClusterBackupExports",
    "getGroupClusterBackupExport",
    "ebbtideListExports",
    "ebbtideGetExport",
    "ebbtideListRestoreJobs",
    "ebbtideGetRestoreJob",
    "ebbtideListCredentials",
    "ebbtideListAudit",
    "ebbtideGetDocument",
    "ebbtideListDocumentVersions",
    "ebbtideCompareCollection",
];
/// A list that has no pages.
const WITHOUT_PAGES: &str = "listGroupClusterBackupSnapshotShardedClusters";
/// Well formed, and nobody's.
const ORGANIZATION: &str = "5ebb71de0000000000000001";
const UNKNOWN: &str = "0123456789abcdef01234567";
/// Fewer refusals than this mean that an operation was passed over.
const REFUSALS_MIN: usize = 2;

pub async fn of_every_operation(world: &World, way: &str) {
    for operation in world.checker.operations().to_vec() {
        let case = Case { world, way, operation: &operation };
        case.strangers().await;
        case.versions().await;
        case.ids().await;
        case.roles().await;
        case.parameters().await;
        case.methods().await;
        case.bodies().await;
        let seen = world.checker.refusals(operation.id);
        assert!(seen >= REFUSALS_MIN, "{} refused in {seen} ways only", operation.id);
    }
    no_operation(world, way).await;
}

struct Case<'a> {
    world: &'a World,
    way: &'a str,
    operation: &'a Served,
}

impl Case<'_> {
    /// The path, filled in with what exists, but for ids of snapshots and jobs.
    fn target(&self) -> String {
        self.target_with(&[])
    }

    fn target_with(&self, changes: &[(&str, &str)]) -> String {
        let project = self.world.ebbtide.project.as_str();
        let cluster = match self.operation.path.as_str() {
            path if path.contains("/serverless/") => "tenant",
            path if path.contains("/flexClusters/") => "flexible",
            _ => "main",
        };
        let fill = |part: &str| {
            let Some((name, verb)) = part.strip_prefix('{').and_then(|name| name.split_once('}')) else {
                return part.to_owned();
            };
            if let Some((_, value)) = changes.iter().find(|(other, _)| *other == name) {
                return format!("{value}{verb}");
            }
            let known = match name {
                "groupId" => project,
                "groupName" => "shop",
                "clusterName" => cluster,
                "cloudProvider" => "AWS",
                "orgId" => ORGANIZATION,
                _ => UNKNOWN,
            };
            format!("{known}{verb}")
        };
        self.operation.path.split('/').map(fill).collect::<Vec<_>>().join("/")
    }

    fn ask(&self, target: &str) -> Ask {
        Ask::new(self.operation.method.clone(), target)
    }

    fn owner(&self) -> &Account {
        match self.operation.id {
            "ebbtideListAudit" | "ebbtideCreateProject" | "createGroup" => self.world.organization(self.way),
            _ if self.is_of_credentials() && self.has("orgId") => self.world.organization(self.way),
            _ => self.world.owner(self.way),
        }
    }

    fn has(&self, parameter: &str) -> bool {
        self.operation.path.contains(&format!("{{{parameter}}}"))
    }

    fn is_of_credentials(&self) -> bool {
        ["/accessList", "/apiKeys", "/serviceAccounts"].iter().any(|noun| self.operation.path.contains(noun))
    }

    /// Of a credential that is not there, which is found out before a body is looked at.
    fn is_of_one_credential(&self) -> bool {
        self.operation.path.contains("/accessList")
            || self.operation.path.ends_with("/apiKeys/{apiUserId}")
            || self.operation.path.contains("/serviceAccounts/{clientId}")
            || self.operation.id == "ebbtideUpdateCredential"
    }

    fn is_endpoint(&self) -> bool {
        self.operation.path.contains("/privateEndpoints")
    }

    fn is_flex(&self) -> bool {
        self.operation.path.contains("/flexClusters/")
    }

    async fn refused(&self, account: &Account, ask: Ask, status: u16, code: &str) {
        self.world.checker.refused(account, ask, status, code).await;
    }

    async fn strangers(&self) {
        let target = self.target();
        let wrong = match self.way {
            "digest" => Account::key(&self.world.ebbtide.public_key, "not-the-private-key"),
            _ => Account::Bearer("not-a-token".to_owned()),
        };
        for account in [&Account::Nobody, &wrong] {
            self.refused(account, self.ask(&target), 401, "UNEXPECTED_ERROR").await;
        }
        if self.has("groupId") {
            self.refused(&self.world.stranger, self.ask(&target), 401, "USER_CANNOT_ACCESS_GROUP").await;
        }
    }

    async fn versions(&self) {
        if !self.operation.path.starts_with("/api/atlas/") {
            return;
        }
        let target = self.target();
        for accept in [
            "*/*",
            "application/json",
            "application/vnd.atlas.2022-12-31+json",
            "application/vnd.atlas.2099-01-01+json",
            "application/vnd.atlas.2023-13-45+json",
            "application/vnd.atlas.preview+json",
        ] {
            let ask = self.ask(&target).accept(accept);
            self.refused(self.owner(), ask, 406, "INVALID_VERSION_DATE").await;
        }
        let none = Ask { accept: None, ..self.ask(&target) };
        self.refused(self.owner(), none, 406, "INVALID_VERSION_DATE").await;
    }

    async fn ids(&self) {
        let unknown_cluster = match self.operation.path.contains("/serverless/") {
            true => "SERVERLESS_INSTANCE_NOT_FOUND",
            false => "CLUSTER_NOT_FOUND",
        };
        for (parameter, value, code) in [
            ("groupId", "xyz", "INVALID_GROUP_ID"),
            ("snapshotId", "xyz", "INVALID_SNAPSHOT_ID"),
            ("restoreJobId", "xyz", "INVALID_JOB_ID"),
            ("checkpointId", "xyz", "INVALID_CHECKPOINT_ID"),
            ("exportBucketId", "xyz", "EXPORT_BUCKET_NOT_FOUND"),
            ("exportId", "xyz", "RESOURCE_NOT_FOUND"),
            ("orgId", "xyz", "INVALID_ORG_ID"),
            ("orgId", UNKNOWN, "ORG_NOT_FOUND"),
            ("credentialId", "xyz", "INVALID_KEY_ID"),
            ("credentialId", UNKNOWN, "API_KEY_NOT_FOUND"),
            ("apiUserId", UNKNOWN, "API_KEY_NOT_FOUND"),
            ("clientId", "mdb_sa_id_nobody", "SERVICE_ACCOUNT_NOT_FOUND"),
            ("groupName", "nobody", "GROUP_NAME_NOT_FOUND"),
            ("clusterName", "nobody", unknown_cluster),
            ("clusterName", "a_b", "CLUSTER_NOT_FOUND"),
        ] {
            if self.has(parameter) {
                let target = self.target_with(&[(parameter, value)]);
                self.refused(self.owner(), self.ask(&target), 404, code).await;
            }
        }
        if self.has("groupId") {
            let target = self.target_with(&[("groupId", UNKNOWN)]);
            self.refused(self.owner(), self.ask(&target), 404, "GROUP_NOT_FOUND").await;
        }
        if self.is_endpoint() {
            let code = "UNSUPPORTED_FOR_CURRENT_CONFIG";
            self.refused(self.owner(), self.ask(&self.target()), 403, code).await;
            let target = self.target_with(&[("cloudProvider", "NEBULA")]);
            self.refused(self.owner(), self.ask(&target), 404, "RESOURCE_NOT_FOUND").await;
            return;
        }
        let (snapshot, job) = match self.is_flex() {
            true => ("TENANT_SNAPSHOT_NOT_FOUND", "TENANT_RESTORE_NOT_FOUND"),
            false => ("SNAPSHOT_NOT_FOUND", "RESTORE_JOB_NOT_FOUND"),
        };
        for (parameter, code) in [
            ("endpointSetId", "RESOURCE_NOT_FOUND"),
            ("snapshotId", snapshot),
            ("restoreJobId", job),
            ("checkpointId", "CHECKPOINT_NOT_FOUND"),
            ("exportBucketId", "EXPORT_BUCKET_NOT_FOUND"),
            ("exportId", "RESOURCE_NOT_FOUND"),
        ] {
            if self.has(parameter) {
                self.refused(self.owner(), self.ask(&self.target()), 404, code).await;
            }
        }
        self.kinds().await;
    }

    /// A deployment of one kind does not answer on the paths of the others.
    async fn kinds(&self) {
        let path = &self.operation.path;
        if !self.has("clusterName") || path.starts_with("/api/ebbtide/") {
            return;
        }
        let serverless = "CANNOT_USE_CLUSTER_IN_SERVERLESS_INSTANCE_API";
        let flex = "CANNOT_USE_NON_FLEX_CLUSTER_IN_FLEX_API";
        let others = if path.contains("/serverless/{clusterName}/backup") {
            vec![("main", serverless)]
        } else if path.contains("/serverless/") {
            vec![("main", serverless), ("flexible", serverless)]
        } else if self.is_flex() {
            vec![("main", flex), ("tenant", flex)]
        } else {
            vec![
                ("tenant", "CANNOT_USE_SERVERLESS_INSTANCE_IN_CLUSTER_API"),
                ("flexible", "CANNOT_USE_FLEX_CLUSTER_IN_CLUSTER_API"),
            ]
        };
        for (other, code) in others {
            let target = self.target_with(&[("clusterName", other)]);
            self.refused(self.owner(), self.ask(&target), 400, code).await;
        }
    }

    async fn roles(&self) {
        let reads = self.operation.method == Method::GET;
        if reads && !NOT_FOR_READERS.contains(&self.operation.id) {
            return;
        }
        let reader = self.world.reader(self.way);
        self.refused(reader, self.ask(&self.target()), 403, "ACCESS_FORBIDDEN").await;
    }

    async fn parameters(&self) {
        let target = self.target();
        for wrong in ["envelope=x", "pretty=1", "envelope"] {
            let ask = self.ask(&format!("{target}?{wrong}"));
            self.refused(self.owner(), ask, 400, "INVALID_QUERY_PARAMETER").await;
        }
        if !self.lists() {
            return;
        }
        for wrong in ["pageNum=0", "pageNum=x", "itemsPerPage=0", "itemsPerPage=501", "includeCount=x"] {
            let ask = self.ask(&format!("{target}?{wrong}"));
            self.refused(self.owner(), ask, 400, "INVALID_QUERY_PARAMETER").await;
        }
    }

    fn lists(&self) -> bool {
        let id = self.operation.id;
        let is_list = id.starts_with("list") || id.starts_with("ebbtideList");
        // Versions are looked for, not counted: they come with what follows them instead of by pages.
        // Snapshots of sharded clusters have no pages either, and of private endpoints there is no list.
        is_list && id != "ebbtideListDocumentVersions" && id != WITHOUT_PAGES && !self.is_endpoint()
    }

    /// Reads answer HEAD, in an envelope and prettily; no path answers a method that it does not have.
    async fn methods(&self) {
        let (target, owner, checker) = (self.target(), self.owner(), &self.world.checker);
        let mut of_path = checker.operations().iter().filter(|other| other.path == self.operation.path);
        let has_put = of_path.any(|other| other.method == Method::PUT);
        let lacking = if has_put { Method::POST } else { Method::PUT };
        let refused = checker.raw(owner, &Ask::new(lacking, &target)).await;
        let told = (refused.status, refused.header("x-error-code"));
        assert_eq!(told, (405, Some("METHOD_NOT_ALLOWED")), "{target}");
        let allowed = refused.header("allow").unwrap_or_default().to_owned();
        assert!(
            allowed.split(',').any(|method| method == self.operation.method.as_str()),
            "{target}: {allowed}"
        );
        if self.operation.method != Method::GET {
            return;
        }
        let plain = checker.raw(owner, &self.ask(&target)).await;
        let head = checker.raw(owner, &Ask::new(Method::HEAD, &target)).await;
        assert_eq!(head.status, plain.status, "{target}");
        for name in ["content-type", "x-error-code", "content-length", "deprecation", "sunset"] {
            let changes = name == "content-length" && self.operation.id == "ebbtideStatus";
            assert!(changes || head.header(name) == plain.header(name), "{target}: {name} of HEAD");
        }
        let pretty = checker.raw(owner, &self.ask(&format!("{target}?pretty=true"))).await;
        assert_eq!(pretty.status, plain.status);
        let is_pretty = pretty.text().starts_with("{\n  \"") && pretty.text().contains("\" : ");
        assert!(is_pretty || plain.text() == "{}", "{target}: {}", pretty.text());
        assert!(plain.status != 200 || !plain.text().contains('\n'), "{target} is compact unless asked");
        let enveloped = checker.raw(owner, &self.ask(&format!("{target}?envelope=true"))).await;
        assert_eq!(enveloped.json()["status"], plain.status, "{target}");
        let is_page = plain.status == 200 && (self.lists() || self.operation.id == WITHOUT_PAGES);
        assert_eq!(
            enveloped.json().get("content").is_none(),
            is_page,
            "{target}: lists are their own envelope"
        );
    }

    async fn bodies(&self) {
        let takes_one = [Method::POST, Method::PATCH].contains(&self.operation.method);
        // Private endpoints are refused, and unknown snapshots and buckets not found, before a body is looked at.
        if !takes_one
            || self.is_endpoint()
            || self.has("snapshotId")
            || self.has("exportBucketId")
            || self.is_of_one_credential()
        {
            return;
        }
        let target = self.target();
        let form = self.ask(&target).text("application/x-www-form-urlencoded", "a=b");
        self.refused(self.owner(), form, 415, "UNSUPPORTED_MEDIA_TYPE").await;
        for body in ["", "{", "[]", "null"] {
            let ask = self.ask(&target).text("application/json", body);
            self.refused(self.owner(), ask, 400, "MALFORMED_JSON").await;
        }
        let vendor = "application/vnd.atlas.2023-01-01+json;charset=utf-8";
        let unknown = self.ask(&target).text(vendor, r#"{"surprise":1}"#);
        self.refused(self.owner(), unknown, 400, "INVALID_ATTRIBUTE").await;
        let long = format!("{{\"description\":\"{}\"}}", "x".repeat(200_000));
        let ask = self.ask(&target).text("application/json", &long);
        self.refused(self.owner(), ask, 413, "PAYLOAD_TOO_LARGE").await;
    }
}

/// Paths and prefixes outside the table.
async fn no_operation(world: &World, way: &str) {
    let (owner, checker) = (world.owner(way), &world.checker);
    for path in ["/api/atlas/v2/nothing", "/api/atlas/v3", "/api/ebbtide/v1/nothing"] {
        checker.refused(owner, Ask::new(Method::GET, path), 404, "RESOURCE_NOT_FOUND").await;
        checker.refused(&Account::Nobody, Ask::new(Method::GET, path), 401, "UNEXPECTED_ERROR").await;
    }
    // The path from before versions by date: no Accept, plain JSON.
    let old = format!("/api/atlas/v1.0/groups/{}/clusters/main/backup/restoreJobs", world.ebbtide.project);
    let client = super::client::Client::new(&world.ebbtide.url());
    let answer = client.send(owner, &Ask::new(Method::GET, &old)).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
}
