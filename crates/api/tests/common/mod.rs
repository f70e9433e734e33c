//! A whole server on a port of its own: catalog on a temporary SQLite, secrets under a real master key, archives in
//! memory, a clock that tests move. And a client that shows the bytes as they came.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub, missing_docs)]

pub mod contents;
pub mod http;
pub mod past;
pub mod recorder;

use std::{
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use catalog::{
    Catalog, Completion, Deployment, DeploymentFacts, Grant, NewDeployment, NewSnapshot, Outcome, Project,
    RestoreJob, Sealed, Snapshot, SnapshotType,
};
use ebbtide_api as api;
use ebbtide_api::{
    ArchiveError, ArchiveSource, CheckFinding, CheckReport, Registrar, Secret, SecretError, SecretOpener,
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::BoxStream};
use model::{ClusterTime, DeploymentKind, WallTime, job::Work, role::Role};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub use http::{Request, Response};

/// 2025-11-22T00:00:00Z.
pub const START: i64 = 1_763_769_600_000;
pub const ACCEPT: &str = "application/vnd.atlas.2025-03-12+json";
const LEASE_MS: i64 = 60_000;

pub struct Sealer(pub vault::MasterKey);

impl SecretOpener for Sealer {
    fn seal(&self, purpose: &str, plain: &[u8]) -> Result<String, SecretError> {
        Ok(self.0.seal(purpose, plain))
    }

    fn open(&self, purpose: &str, sealed: &str) -> Result<Secret, SecretError> {
        let plain = self.0.open(purpose, sealed).map_err(|e| SecretError(e.to_string()))?;
        Ok(Secret::new(plain.to_vec()))
    }
}

/// Archives of bytes in memory, in small pieces. `reads` counts how often one was opened.
#[derive(Default)]
pub struct MemoryArchives {
    pub bytes: Mutex<Bytes>,
    pub reads: AtomicUsize,
    /// Break every stream off after this many bytes.
    pub break_after: Mutex<Option<usize>>,
}

impl ArchiveSource for MemoryArchives {
    fn read_range(
        &self,
        _archive: &Value,
        range: Range<u64>,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Result<Bytes, ArchiveError>>, ArchiveError>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let bytes = self.bytes.lock().unwrap().slice(range.start as usize..range.end as usize);
        let limit = self.break_after.lock().unwrap().unwrap_or(usize::MAX);
        let mut pieces: Vec<Result<Bytes, ArchiveError>> = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            if at >= limit {
                pieces.push(Err(ArchiveError("broken on purpose".into())));
                break;
            }
            let end = (at + 64 * 1024).min(bytes.len());
            pieces.push(Ok(bytes.slice(at..end)));
            at = end;
        }
        async move { Ok(futures::stream::iter(pieces).boxed()) }.boxed()
    }
}

/// How long the check of a deployment takes whose URI holds `slow`.
pub const SLOW: std::time::Duration = std::time::Duration::from_secs(2);

/// Says yes to every deployment but those whose URI holds `bad`, `away` or `malformed`; those whose URI holds `old` run an
/// older release. The id of a replica set is known where the URI has its name.
pub struct YesRegistrar;

impl Registrar for YesRegistrar {
    fn check<'a>(
        &'a self,
        uri: &'a Secret,
        _kind: DeploymentKind,
        _allow_untested: bool,
    ) -> BoxFuture<'a, CheckReport> {
        async move {
            let uri = uri.expose_text().unwrap();
            if uri.contains("slow") {
                tokio::time::sleep(SLOW).await;
            }
            let refusals = [
                ("bad", "MISSING_PRIVILEGE", "find on config is missing", Some("db.createRole(…)")),
                ("away", "UNREACHABLE", "no server answers", None),
                ("malformed", "INVALID_CONNECTION_STRING", "it is none", None),
            ];
            if let Some((_, code, message, remedy)) = refusals.iter().find(|(word, ..)| uri.contains(word)) {
                let (code, message) = ((*code).into(), (*message).into());
                let finding = CheckFinding { code, message, remedy: remedy.map(Into::into) };
                return CheckReport { problems: vec![finding], ..CheckReport::default() };
            }
            let set = uri.split_once("replicaSet=").map(|(_, name)| name);
            let is_old = uri.contains("old");
            let (version, fcv) = if is_old { ("5.0.4", "5.0") } else { ("6.0.5", "6.0") };
            CheckReport {
                ok: true,
                mongodb_version: Some(version.into()),
                feature_compatibility_version: Some(fcv.into()),
                replica_set_name: Some(set.unwrap_or("rs0").into()),
                replica_set_id: set.map(|name| format!("id-of-{name}")),
                ..CheckReport::default()
            }
        }
        .boxed()
    }
}

pub struct App {
    pub address: SocketAddr,
    pub catalog: Catalog,
    pub sealer: Arc<Sealer>,
    pub archives: Arc<MemoryArchives>,
    pub past: Arc<past::PlayedPast>,
    pub contents: Arc<contents::PlayedContents>,
    pub clock: Arc<AtomicI64>,
    pub state: api::State,
    pub shutdown: CancellationToken,
    pub serving: JoinHandle<Result<(), api::ServeError>>,
    pub directory: tempfile::TempDir,
    pub project: Project,
    pub cluster: Deployment,
    pub owner: Key,
}

/// An API key in the clear.
#[derive(Clone, Debug)]
pub struct Key {
    pub public: String,
    pub private: String,
}

impl App {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts a server with one project, one replica set named `c1` and an owner's key. Rate limits are off.
    pub async fn start_with(change: impl FnOnce(&mut api::Settings)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(directory.path().join("catalog.sqlite").to_str().unwrap()).await.unwrap();
        let sealer = Arc::new(Sealer(vault::MasterKey::generate()));
        let archives = Arc::new(MemoryArchives::default());
        let past = Arc::new(past::PlayedPast::default());
        let contents = Arc::new(contents::PlayedContents::default());
        let clock = Arc::new(AtomicI64::new(START));
        let mut settings = api::Settings { rate_limits: None, ..api::Settings::default() };
        change(&mut settings);
        let reading = Arc::clone(&clock);
        let state = api::State {
            catalog: catalog.clone(),
            archives: Arc::clone(&archives) as Arc<dyn ArchiveSource>,
            past: Arc::clone(&past) as Arc<dyn api::Past>,
            contents: Arc::clone(&contents) as Arc<dyn api::Contents>,
            secrets: Arc::clone(&sealer) as Arc<dyn SecretOpener>,
            registrar: Arc::new(YesRegistrar),
            poke: Arc::new(Notify::new()),
            clock: Arc::new(move || WallTime(reading.load(Ordering::SeqCst))),
            engine_status: Arc::new(|| {
                json!({"reconcilers": [{
                    "name": "reaper", "lastRunAt": "2026-01-02T03:04:05Z", "runs": 3, "failures": 1,
                    "error": "the error names db1.example",
                    "did": {"undone": 0, "left": [{"hindrance": "db1.example is away"}]},
                }]})
            }),
            settings,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(api::serve(listener, state.clone(), shutdown.clone()));
        let project = catalog.projects().create("p1", WallTime(START)).await.unwrap();
        let cluster = deployment(&catalog, &project, "c1", DeploymentKind::ReplicaSet).await;
        let mut app = Self {
            address,
            catalog,
            sealer,
            archives,
            past,
            contents,
            clock,
            state,
            shutdown,
            serving,
            directory,
            project,
            cluster,
            owner: Key { public: String::new(), private: String::new() },
        };
        app.owner = app.key(&[Role::GroupOwner]).await;
        app
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.serving.await.unwrap().unwrap();
        self.catalog.close().await;
    }

    pub fn now(&self) -> WallTime {
        WallTime(self.clock.load(Ordering::SeqCst))
    }

    pub fn pass_seconds(&self, seconds: i64) {
        self.clock.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    /// A key with roles in the first project.
    pub async fn key(&self, roles: &[Role]) -> Key {
        self.key_in(roles, Some(&self.project)).await
    }

    pub async fn key_in(&self, roles: &[Role], project: Option<&Project>) -> Key {
        let grants = roles.iter().map(|role| Grant { role: *role, project: project.map(|p| p.id) }).collect();
        let issued = api::issue_api_key(self.sealer.as_ref(), "test", grants).unwrap();
        let public = issued.row.public_name.clone();
        self.catalog.credentials().create(issued.row, self.now()).await.unwrap();
        Key { public, private: issued.secret.expose_text().unwrap().to_owned() }
    }

    pub async fn service_account(&self, roles: &[Role]) -> Key {
        let grants = roles.iter().map(|role| Grant { role: *role, project: Some(self.project.id) }).collect();
        let (name, description) = ("test".to_owned(), "for a test".to_owned());
        let issued = api::issue_service_account(api::NewAccount { name, description, grants, hours: None });
        let public = issued.row.public_name.clone();
        self.catalog.credentials().create(issued.row, self.now()).await.unwrap();
        Key { public, private: issued.secret.expose_text().unwrap().to_owned() }
    }

    pub async fn add(&self, name: &str, kind: DeploymentKind) -> Deployment {
        deployment(&self.catalog, &self.project, name, kind).await
    }

    /// A path under the first project.
    pub fn group(&self, rest: &str) -> String {
        format!("/api/atlas/v2/groups/{}{rest}", self.project.id)
    }

    /// A path under the replica set of the first project.
    pub fn backup(&self, rest: &str) -> String {
        self.group(&format!("/clusters/c1/backup{rest}"))
    }

    pub fn own(&self, rest: &str) -> String {
        format!("/api/ebbtide/v1/groups/{}{rest}", self.project.id)
    }

    /// One request without credentials.
    pub async fn plain(&self, request: Request) -> Response {
        http::once(self.address, &request).await
    }

    /// One request with digest, as the owner, with a current `Accept`.
    pub async fn get(&self, path: &str) -> Response {
        self.send(&self.owner, Request::new("GET", path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Response {
        self.send(&self.owner, Request::new("POST", path).json(&body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Response {
        self.send(&self.owner, Request::new("PATCH", path).json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Response {
        self.send(&self.owner, Request::new("DELETE", path)).await
    }

    /// The lines of the audit log that tell of changes, newest first.
    pub async fn changes(&self) -> Vec<catalog::AuditEntry> {
        let mut lines = self.audit().await;
        lines.retain(|line| line.outcome == catalog::AuditOutcome::Ok);
        lines
    }

    /// All lines of the audit log, newest first.
    pub async fn audit(&self) -> Vec<catalog::AuditEntry> {
        let all = catalog::AuditFilter::default();
        self.catalog.audit().list(&all, catalog::Page::new(1, 500)).await.unwrap().items
    }

    /// One request with digest; adds a current `Accept` unless the request has one.
    pub async fn send(&self, key: &Key, request: Request) -> Response {
        let request = if request.has("accept") { request } else { request.header("Accept", ACCEPT) };
        http::digest(self.address, key, request).await
    }

    /// A completed snapshot of a deployment.
    pub async fn snapshot_of(&self, deployment: &Deployment) -> Snapshot {
        self.snapshot_as_of(deployment, ClusterTime { seconds: (START / 1000) as u32, increment: 3 }).await
    }

    /// A completed snapshot of a deployment, with data of that time.
    pub async fn snapshot_as_of(&self, deployment: &Deployment, cluster_time: ClusterTime) -> Snapshot {
        let new = NewSnapshot {
            deployment_id: deployment.id,
            snapshot_type: SnapshotType::OnDemand,
            description: Some("test".into()),
            retention_days: Some(7),
        };
        let snapshot = self.catalog.snapshots().request(new, self.now()).await.unwrap();
        self.complete_snapshot_as_of(cluster_time).await;
        self.catalog.snapshots().get(snapshot.id).await.unwrap().unwrap()
    }

    pub async fn snapshot(&self) -> Snapshot {
        self.snapshot_of(&self.cluster).await
    }

    /// Plays the worker of the snapshot that waits.
    pub async fn complete_snapshot(&self) {
        self.complete_snapshot_as_of(ClusterTime { seconds: (START / 1000) as u32, increment: 3 }).await;
    }

    async fn complete_snapshot_as_of(&self, cluster_time: ClusterTime) {
        let lease = self.claim(&["snapshot"]).await;
        let completion = Completion {
            manifest: format!("m-{}", lease.job_id),
            cluster_time,
            last_as_of: None,
            amid_restore: false,
            mongod_version: "6.0.5".into(),
            fcv: Some("6.0".into()),
            replica_set_name: Some("rs0".into()),
            collections: 2,
            documents: 10,
            logical_bytes: 1000,
            stored_bytes: 400,
            added_bytes: 400,
            notes: json!({"timeSeriesBytes": 300}),
        };
        self.catalog
            .jobs()
            .finish(&lease, Outcome::SnapshotCompleted(Box::new(completion)), self.now())
            .await
            .unwrap();
    }

    pub async fn claim(&self, kinds: &[&str]) -> catalog::Lease {
        self.catalog.jobs().claim("w", kinds, self.now(), LEASE_MS).await.unwrap().expect("a job waits")
    }

    /// Plays the worker of the download that waits: the archive is `bytes`.
    pub async fn finish_download(&self, bytes: &[u8]) -> (RestoreJob, String) {
        *self.archives.bytes.lock().unwrap() = Bytes::copy_from_slice(bytes);
        let lease = self.claim(&["download"]).await;
        let token = api::download_token();
        let sha256 = http::sha256_hex(bytes);
        let archive = json!({
            "bytes": bytes.len(), "sha256": sha256, "sha1": "00", "parts": 1,
            "tokenSealed": self.sealer.0.seal(api::PURPOSE_DOWNLOAD_TOKEN, token.as_bytes()),
        });
        let Work::Download { restore_job_id } = lease.work else { panic!("not a download") };
        let asked = self.catalog.restores().get(restore_job_id).await.unwrap().unwrap();
        let outcome = Outcome::DownloadReady {
            archive,
            url_token_sha256: http::sha256_hex(token.as_bytes()),
            expires_at: self.now().plus_ms(asked.terms.life_ms()),
        };
        self.catalog.jobs().finish(&lease, outcome, self.now()).await.unwrap();
        let job = self.catalog.restores().get(restore_job_id).await.unwrap().unwrap();
        (job, sha256)
    }
}

pub async fn deployment(
    catalog: &Catalog,
    project: &Project,
    name: &str,
    kind: DeploymentKind,
) -> Deployment {
    let new = NewDeployment {
        project_id: project.id,
        name: name.parse().unwrap(),
        kind,
        uri_sealed: Sealed("sealed".into()),
        options: json!({}),
        facts: DeploymentFacts {
            replica_set_name: Some("rs0".into()),
            replica_set_id: None,
            mongodb_version: Some("6.0.5".into()),
            details: json!({}),
            checked_at: None,
        },
        continuous: None,
    };
    catalog.deployments().add(new, WallTime(START)).await.unwrap()
}
