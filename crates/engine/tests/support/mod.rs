//! A deployment, a catalog, a vault and an engine for one test, and an oracle that is none of ours.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "each test uses a part of it"
)]

pub mod deltas;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bson::{Bson, Document, RawDocumentBuf, Timestamp, doc};
use catalog::{Catalog, NewDeployment, NewSnapshot, Sealed, Snapshot, SnapshotType};
pub use ebbtide_engine as engine;
use ebbtide_engine::{
    Engine, Settings,
    engine::{Probe, wall_clock},
};
use futures::{StreamExt, TryStreamExt};
use model::{
    id::{DeploymentId, ProjectId, SnapshotId},
    job::JobState,
    snapshot::SnapshotState,
};
use testbed::{Options, Server};
use tokio_util::sync::CancellationToken;
use vault::{CollectionEntry, Location, Manifest, MasterKey, ObjectName, S3Options, SegmentEntry, Vault};

/// Everything that a test of a job needs.
pub struct Bench {
    pub server: Server,
    pub client: mongodb::Client,
    pub catalog: Catalog,
    pub vault: Vault,
    pub master: Arc<MasterKey>,
    pub deployment: DeploymentId,
    pub project: ProjectId,
    pub dir: tempfile::TempDir,
}

/// What a job may take on a busy machine before the test says that it hangs.
const PATIENCE: Duration = Duration::from_secs(240);

impl Bench {
    pub async fn start(options: Options) -> Self {
        let server = Server::start(options).await.unwrap();
        let uri = server.uri();
        Self::over(server, &uri).await
    }

    pub async fn over(server: Server, uri: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(dir.path().join("catalog.sqlite").to_str().unwrap()).await.unwrap();
        let master = Arc::new(MasterKey::generate());
        let place =
            Location::parse(dir.path().join("vault").to_str().unwrap(), S3Options::default()).unwrap();
        let vault = Vault::create_or_open(&place, &master).await.unwrap();
        let project = catalog.projects().create("test", wall_clock()).await.unwrap().id;
        let new = NewDeployment {
            project_id: project,
            name: "source".parse().unwrap(),
            kind: model::DeploymentKind::ReplicaSet,
            uri_sealed: Sealed(master.seal(engine::connect::URI_PURPOSE, uri.as_bytes())),
            options: serde_json::json!({}),
            facts: catalog::DeploymentFacts::default(),
            continuous: None,
        };
        let deployment = catalog.deployments().add(new, wall_clock()).await.unwrap().id;
        let client = server.client().await.unwrap();
        Self { server, client, catalog, vault, master, deployment, project, dir }
    }

    /// The name of the place that snapshots can be exported to.
    pub const PLACE: &str = "archive";

    /// Where that is.
    pub fn exports(&self) -> std::path::PathBuf {
        self.dir.path().join("exports")
    }

    pub fn settings(&self) -> Settings {
        let place = Location::parse(self.exports().to_str().unwrap(), S3Options::default()).unwrap();
        Settings {
            export_places: [(Self::PLACE.parse().unwrap(), place)].into(),
            spill_dir: self.dir.path().join("spill"),
            poll_every: Duration::from_millis(50),
            reconcile_every: Duration::from_secs(3600),
            garbage_grace: Duration::ZERO,
            ..Settings::default()
        }
    }

    pub fn engine(&self, settings: Settings) -> Engine {
        Engine::new(self.catalog.clone(), self.vault.clone(), Arc::clone(&self.master), settings)
    }

    pub async fn request(&self) -> SnapshotId {
        let new = NewSnapshot {
            deployment_id: self.deployment,
            snapshot_type: SnapshotType::OnDemand,
            description: None,
            retention_days: Some(1),
        };
        self.catalog.snapshots().request(new, wall_clock()).await.unwrap().id
    }

    /// Takes a snapshot with the default settings; it must succeed.
    pub async fn snapshot(&self) -> Snapshot {
        self.snapshot_with(self.settings(), None).await
    }

    pub async fn snapshot_with(&self, settings: Settings, probe: Option<Probe>) -> Snapshot {
        let snapshot = self.try_snapshot(settings, probe).await;
        assert_eq!(snapshot.state, SnapshotState::Completed, "{:?}", snapshot.error);
        snapshot
    }

    /// Takes a snapshot and gives it back in whatever state it ends.
    pub async fn try_snapshot(&self, settings: Settings, probe: Option<Probe>) -> Snapshot {
        let id = self.request().await;
        self.finish(id, settings, probe).await
    }

    /// Takes a snapshot that was asked for and gives it back in whatever state it ends.
    pub async fn finish(&self, id: SnapshotId, settings: Settings, probe: Option<Probe>) -> Snapshot {
        let mut engine = self.engine(settings);
        if let Some(probe) = probe {
            engine = engine.with_probe(probe);
        }
        let shutdown = CancellationToken::new();
        let running = tokio::spawn({
            let (engine, shutdown) = (engine.clone(), shutdown.clone());
            async move { engine.run(shutdown).await }
        });
        tokio::time::timeout(PATIENCE, self.ended(id)).await.expect("the job ends");
        shutdown.cancel();
        running.await.unwrap().unwrap();
        let obligations = self.catalog.obligations().of_deployment(self.deployment).await.unwrap();
        assert_eq!(obligations, [], "something is left to be undone");
        self.catalog.snapshots().get(id).await.unwrap().unwrap()
    }

    async fn ended(&self, id: SnapshotId) {
        loop {
            let job = self.catalog.jobs().of_subject(&id.to_string()).await.unwrap().unwrap();
            if !matches!(job.state, JobState::Queued | JobState::Running) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn manifest(&self, snapshot: &Snapshot) -> Manifest {
        let name: ObjectName = snapshot.manifest.as_ref().expect("a manifest").parse().unwrap();
        Manifest::open(&self.vault, &name).await.unwrap()
    }

    pub async fn collections(&self, snapshot: &Snapshot) -> BTreeMap<String, CollectionEntry> {
        let manifest = self.manifest(snapshot).await;
        let entries: Vec<_> = manifest.collections().try_collect().await.unwrap();
        entries.into_iter().map(|entry| (format!("{}.{}", entry.meta.db, entry.meta.name), entry)).collect()
    }

    pub async fn segments(&self, snapshot: &Snapshot, namespace: &str) -> Vec<SegmentEntry> {
        let manifest = self.manifest(snapshot).await;
        let collections = self.collections(snapshot).await;
        manifest.segments(&collections[namespace]).try_collect().await.unwrap()
    }

    /// The documents of one collection, in the order of its segments, what is kept beside them included.
    pub async fn documents(&self, snapshot: &Snapshot, namespace: &str) -> Vec<Vec<u8>> {
        let manifest = self.manifest(snapshot).await;
        let id = self.collections(snapshot).await[namespace].meta.uuid;
        deltas::documents(&self.vault, &manifest, id, self.segments(snapshot, namespace).await).await
    }

    /// What the source itself says that it held at a cluster time: read by the official driver, sorted by bytes.
    pub async fn source_at(&self, namespace: &str, at: model::ClusterTime) -> Vec<Vec<u8>> {
        source_at(&self.client, namespace, at).await
    }

    /// Asserts that a collection of the snapshot is the source's at the snapshot's time, document for document.
    pub async fn assert_exact(&self, snapshot: &Snapshot, namespace: &str) {
        let mut taken = self.documents(snapshot, namespace).await;
        taken.sort();
        let truth = self.source_at(namespace, snapshot.cluster_time.unwrap()).await;
        assert_eq!(taken.len(), truth.len(), "{namespace}: another number of documents");
        assert!(taken == truth, "{namespace}: documents differ");
    }

    /// Runs the verification over a snapshot; nothing may be wrong.
    pub async fn assert_verifies(&self, snapshot: &Snapshot) {
        let name = snapshot.manifest.as_ref().unwrap().parse().unwrap();
        let report =
            engine::verify::verify(&self.vault, &name, &engine::progress::Counters::default()).await.unwrap();
        assert!(report.is_good(), "{:?}", report.faults);
        assert_eq!(self.manifest(snapshot).await.documents(), snapshot.documents);
    }

    pub async fn window(&self) -> i64 {
        let reply = self
            .server
            .admin(doc! { "getParameter": 1, "minSnapshotHistoryWindowInSeconds": 1 })
            .await
            .unwrap();
        number(reply.get("minSnapshotHistoryWindowInSeconds").unwrap())
    }

    pub async fn fill(&self, db: &str, collection: &str, documents: impl IntoIterator<Item = Document>) {
        let collection = self.client.database(db).collection::<Document>(collection);
        let mut documents = documents.into_iter().peekable();
        while documents.peek().is_some() {
            let batch: Vec<_> = documents.by_ref().take(1000).collect();
            collection.insert_many(batch).await.unwrap();
        }
    }
}

pub async fn source_at(client: &mongodb::Client, namespace: &str, at: model::ClusterTime) -> Vec<Vec<u8>> {
    let (db, collection) = namespace.split_once('.').unwrap();
    let time = Timestamp { time: at.seconds, increment: at.increment };
    let find = doc! { "find": collection, "hint": { "$natural": 1 }, "readConcern": { "level": "snapshot", "atClusterTime": time } };
    let mut cursor =
        client.database(db).run_raw_cursor_command(RawDocumentBuf::try_from(&find).unwrap()).await.unwrap();
    let mut documents = vec![];
    while cursor.advance().await.unwrap() {
        documents.push(cursor.current().as_bytes().to_vec());
    }
    documents.sort();
    documents
}

pub fn number(value: &Bson) -> i64 {
    match value {
        Bson::Int32(number) => i64::from(*number),
        Bson::Int64(number) => *number,
        Bson::Double(number) => *number as i64,
        other => panic!("{other} is no number"),
    }
}

/// Documents of about `bytes` bytes with ids made by `id`.
pub fn documents(count: u64, bytes: usize, id: impl Fn(u64) -> Bson) -> impl Iterator<Item = Document> {
    (0..count).map(move |n| {
        let filler: String = (0..bytes as u64 / 64)
            .map(|at| format!("{:064x}", u128::from(scatter(n * 1000 + at)).pow(2)))
            .collect();
        doc! { "_id": id(n), "n": n as i64, "filler": filler }
    })
}

/// A number that follows `n` in no order.
pub fn scatter(n: u64) -> u64 {
    (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ ((n + 7).wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 17)
}

/// A probe that calls `act` at each moment.
pub fn probe<F>(act: impl Fn(&'static str, String) -> F + Send + Sync + 'static) -> Probe
where
    F: Future<Output = ()> + Send + 'static,
{
    Arc::new(move |moment, about| Box::pin(act(moment, about)))
}

/// Puts each document into its namespace, all in one transaction.
pub async fn put_in_one(client: &mongodb::Client, documents: &[(&str, Document)]) {
    let mut session = client.start_session().await.unwrap();
    loop {
        session.start_transaction().await.unwrap();
        let done = async {
            for (namespace, document) in documents {
                let (db, collection) = namespace.split_once('.').unwrap();
                let collection = client.database(db).collection::<Document>(collection);
                collection.insert_one(document).session(&mut session).await?;
            }
            session.commit_transaction().await
        };
        match done.await {
            Ok(()) => return,
            Err(error) => before_another_try(&mut session, &error).await,
        }
    }
}

/// Ends a transaction that failed for no reason of its own: a server under pressure ends one, and says that it is worth
/// another try.
pub async fn before_another_try(session: &mut mongodb::ClientSession, error: &mongodb::error::Error) {
    assert!(error.contains_label("TransientTransactionError"), "{error}");
    session.abort_transaction().await.ok();
    tokio::time::sleep(Duration::from_millis(200)).await;
}

pub fn raw(document: &Document) -> Vec<u8> {
    RawDocumentBuf::try_from(document).unwrap().into_bytes()
}

/// All names in the vault, of objects that a snapshot consists of.
pub async fn objects(vault: &Vault) -> Vec<ObjectName> {
    let mut names = vec![];
    for kind in vault::ObjectKind::COLLECTED {
        let mut listed = vault.list(kind);
        while let Some(object) = listed.next().await {
            names.push(object.unwrap().name);
        }
    }
    names
}
