//! A vault, a catalog and a running job.

use std::sync::Arc;

use catalog::{Catalog, NewDeployment, NewSnapshot, Sealed, SnapshotType};
use futures::TryStreamExt as _;
use history::{
    CollectionId,
    key::push_document_key,
    raw::{kind, write},
};
use vault::{
    CollectionKind, CollectionMeta, Location, Manifest, ManifestHeader, ManifestWriter, MasterKey,
    NoAnnounce, Order, Principals, S3Options, SegmentEntry, SegmentPages, Vault,
};

use crate::{
    Engine, Settings,
    engine::wall_clock,
    lease::{Asking, JobContext},
    pipeline::{SegmentStore, Segmenter},
};

/// The time of the bases.
pub(super) const BASE_AT: model::ClusterTime = model::ClusterTime { seconds: 100, increment: 0 };
/// The time of the folds.
pub(super) const AT: model::ClusterTime = model::ClusterTime { seconds: 200, increment: 0 };
/// The collection that is folded.
pub(super) const ID: CollectionId = CollectionId([7; 16]);

pub(super) struct Bench {
    pub(super) store: SegmentStore,
    pub(super) vault: Vault,
    pub(super) catalog: Catalog,
    pub(super) dir: tempfile::TempDir,
}

impl Bench {
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(dir.path().join("catalog.sqlite").to_str().unwrap()).await.unwrap();
        let master = Arc::new(MasterKey::generate());
        let place =
            Location::parse(dir.path().join("vault").to_str().unwrap(), S3Options::default()).unwrap();
        let vault = Vault::create_or_open(&place, &master).await.unwrap();
        let project_id = catalog.projects().create("test", wall_clock()).await.unwrap().id;
        let new = NewDeployment {
            project_id,
            name: "source".parse().unwrap(),
            kind: model::DeploymentKind::ReplicaSet,
            uri_sealed: Sealed(master.seal("test", b"mongodb://nowhere")),
            options: serde_json::json!({}),
            continuous: None,
            facts: catalog::DeploymentFacts::default(),
        };
        let deployment_id = catalog.deployments().add(new, wall_clock()).await.unwrap().id;
        let new = NewSnapshot {
            deployment_id,
            snapshot_type: SnapshotType::OnDemand,
            description: None,
            retention_days: Some(1),
        };
        catalog.snapshots().request(new, wall_clock()).await.unwrap();
        // Nobody sends heartbeats here.
        let settings =
            Settings { spill_dir: dir.path().join("spill"), lease_ms: 3_600_000, ..Settings::default() };
        let asking = Asking::now();
        let lease =
            catalog.jobs().claim("test", &[], wall_clock(), settings.lease_ms).await.unwrap().unwrap();
        let engine = Engine::new(catalog.clone(), vault.clone(), master, settings);
        let store = SegmentStore::new(&JobContext::new(engine.services().clone(), lease, asking));
        Self { store, vault, catalog, dir }
    }

    pub(super) fn header(at: model::ClusterTime) -> ManifestHeader {
        ManifestHeader {
            snapshot_id: model::id::SnapshotId::from_bytes([1; 12]),
            project_id: model::id::ProjectId::from_bytes([2; 12]),
            project_name: "test".to_owned(),
            deployment_id: model::id::DeploymentId::from_bytes([3; 12]),
            deployment_name: "source".to_owned(),
            deployment_kind: model::DeploymentKind::ReplicaSet,
            cluster_time: at,
            created_at: wall_clock(),
            mongod_version: "6.0.5".to_owned(),
            fcv: "6.0".to_owned(),
            replica_set_name: "rs".to_owned(),
            description: None,
            expires_at: None,
            amid_restore: false,
            fold_rules: crate::fold::RULES,
            snapshot_type: "onDemand".to_owned(),
            ebbtide_version: "test".to_owned(),
        }
    }

    pub(super) fn writer(&self, at: model::ClusterTime) -> ManifestWriter {
        ManifestWriter::new(&self.vault, Self::header(at), Arc::new(NoAnnounce))
    }

    /// What a fresh snapshot would cut, stored.
    pub(super) async fn stored<'a>(
        &self,
        documents: impl IntoIterator<Item = &'a Vec<u8>>,
    ) -> Vec<SegmentEntry> {
        let mut entries = vec![];
        for full in self.cut(documents) {
            entries.push(self.store.submit(full, BASE_AT).await.unwrap().entry().await.unwrap());
        }
        entries
    }

    /// What a fresh snapshot would cut, only named.
    pub(super) fn named<'a>(&self, documents: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<SegmentEntry> {
        self.cut(documents).into_iter().map(|full| full.finish(&self.vault).unwrap().entry).collect()
    }

    fn cut<'a>(&self, documents: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<vault::SegmentBuilder> {
        let mut segmenter = Segmenter::new(Order::Sorted, &Arc::default());
        let (mut key, mut full) = (vec![], vec![]);
        for document in documents {
            key.clear();
            push_document_key(&mut key, document).unwrap();
            full.extend(segmenter.offer(&key, document).unwrap());
        }
        full.extend(segmenter.finish());
        full
    }

    /// A snapshot of one collection.
    pub(super) async fn base(&self, meta: CollectionMeta, documents: &[Vec<u8>]) -> Manifest {
        let mut writer = self.writer(BASE_AT);
        let mut list = writer.segment_list();
        for entry in self.stored(documents).await {
            list.push(&entry).await.unwrap();
        }
        let pages = list.finish().await.unwrap();
        writer.push_collection(meta, pages).await.unwrap();
        writer.set_principals(&Principals::default()).await.unwrap();
        let written = writer.finish(wall_clock()).await.unwrap();
        self.opened(&written.name).await
    }

    pub(super) async fn opened(&self, name: &vault::ObjectName) -> Manifest {
        let manifest = Manifest::open(&self.vault, name).await.unwrap();
        // As a job records what it has stored.
        let names: Vec<_> = manifest.object_names().try_collect().await.unwrap();
        self.store.pinned(&names).await.unwrap();
        for name in names {
            let object = catalog::StoredObject {
                name: name.to_string(),
                kind: name.kind.as_str().to_owned(),
                stored_bytes: self.vault.stored_bytes(&name).await.unwrap().unwrap(),
            };
            self.catalog.objects().stored(self.store.ctx().lease(), &[object]).await.unwrap();
        }
        manifest
    }

    /// The segments that were listed.
    pub(super) async fn listed(&self, mut writer: ManifestWriter, pages: SegmentPages) -> Vec<SegmentEntry> {
        writer.push_collection(meta(CollectionKind::Plain), pages).await.unwrap();
        let written = writer.finish(wall_clock()).await.unwrap();
        let manifest = Manifest::open(&self.vault, &written.name).await.unwrap();
        let entry = manifest.collections().try_next().await.unwrap().unwrap();
        manifest.segments(&entry).try_collect().await.unwrap()
    }
}

pub(super) fn meta(kind: CollectionKind) -> CollectionMeta {
    CollectionMeta {
        uuid: Some(ID.0),
        db: "app".to_owned(),
        name: "c".to_owned(),
        kind,
        order: Order::Sorted,
        options: bson::rawdoc! {}.into_bytes(),
        id_index: None,
        indexes: vec![],
        as_of: BASE_AT,
        read_through: None,
    }
}

/// A document of about so many bytes.
pub(super) fn document(id: i32, value: i32, bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes + 64);
    let start = write::open(&mut out);
    write::push_as(&mut out, kind::INT32, b"_id", &id.to_le_bytes());
    write::push_as(&mut out, kind::INT32, b"v", &value.to_le_bytes());
    let mut filler = (bytes as u32).to_le_bytes().to_vec();
    filler.push(0);
    filler.resize(bytes + 5, id as u8);
    write::push_as(&mut out, kind::BINARY, b"filler", &filler);
    write::close(&mut out, start);
    out
}
