//! Reading a manifest, page by page.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use model::WallTime;

use super::{
    CollectionEntry, DeltaRun, DetachedManifest, ManifestHeader, PageRef, Principals, Totals,
    deltas::are_in_order,
    entry::CollectionLine,
    page::{PageLine, read_lines},
    principals::{Principal, PrincipalLine},
    root::{ROOT_BYTES_MAX, ROOT_FORMAT, ROOT_VERSION, Root},
};
use crate::{
    DeltaEntry, Error, ObjectKind, ObjectName, Result, SegmentEntry, Vault, delta::DeltaLine,
    object::open_single, segment::SegmentLine,
};

/// An open manifest: its root is in memory, its pages are read as they are needed.
#[derive(Debug, Clone)]
pub struct Manifest {
    vault: Vault,
    name: ObjectName,
    root: Arc<Root>,
    collection_pages: Vec<PageRef>,
    principal_pages: Option<Vec<PageRef>>,
    delta_runs: Arc<[DeltaRun]>,
}

/// Only what every version of a root has.
#[derive(serde::Deserialize)]
struct RootVersion {
    format: String,
    version: u32,
}

impl Manifest {
    /// Opens a manifest.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`], [`Error::NewerFormat`], and whatever the store says.
    pub async fn open(vault: &Vault, name: &ObjectName) -> Result<Self> {
        Self::from_sealed(vault, name, &vault.get(name).await?)
    }

    /// Opens a manifest whose sealed root lies in memory.
    pub(crate) fn from_sealed(vault: &Vault, name: &ObjectName, sealed: &[u8]) -> Result<Self> {
        let plain = open_single(vault.keys(), name, sealed, ROOT_BYTES_MAX)?;
        if vault.keys().name(ObjectKind::Manifest, &[&plain]) != *name {
            return Err(Error::damaged_block(*name, 0, "its hash is another one"));
        }
        Self::of_root(vault, name, &plain)
    }

    /// Opens a manifest whose root is not in the vault.
    ///
    /// # Errors
    /// [`Error::Damaged`] and [`Error::NewerFormat`].
    pub fn attach(vault: &Vault, detached: &DetachedManifest) -> Result<Self> {
        let plain = detached.root.as_bytes();
        let name = vault.keys().name(ObjectKind::Manifest, &[plain]);
        Self::of_root(vault, &name, plain)
    }

    fn of_root(vault: &Vault, name: &ObjectName, plain: &[u8]) -> Result<Self> {
        let root = parse_root(name, plain)?;
        let pages = |lines: &[PageLine]| {
            let above = root.header.cluster_time;
            let pages: Option<Vec<_>> = lines.iter().map(|line| line.clone().into_ref(above)).collect();
            pages.ok_or_else(|| Error::damaged(*name, "a reference to a page is malformed"))
        };
        let collection_pages = pages(&root.collection_pages)?;
        let principal_pages = root.principal_pages.as_deref().map(pages).transpose()?;
        let runs = root.delta_runs.iter().map(|run| run.read(root.header.cluster_time));
        let delta_runs = runs.collect::<Option<Arc<[DeltaRun]>>>();
        let delta_runs =
            delta_runs.ok_or_else(|| Error::damaged(*name, "a reference to a page is malformed"))?;
        if !are_in_order(&delta_runs, root.header.cluster_time) {
            return Err(Error::damaged(*name, "its runs of deltas are not in the order of their times"));
        }
        Ok(Self {
            vault: vault.clone(),
            name: *name,
            root: Arc::new(root),
            collection_pages,
            principal_pages,
            delta_runs,
        })
    }

    /// The name of the root.
    pub const fn name(&self) -> ObjectName {
        self.name
    }

    /// What the snapshot is of.
    pub fn header(&self) -> &ManifestHeader {
        &self.root.header
    }

    /// When the snapshot was complete.
    pub fn completed_at(&self) -> WallTime {
        self.root.completed_at
    }

    /// What the snapshot amounts to.
    pub fn totals(&self) -> Totals {
        self.root.totals
    }

    /// How many documents the snapshot has, what is kept beside its segments included.
    pub fn documents(&self) -> u64 {
        self.root.totals.documents.saturating_add_signed(self.root.documents_beside)
    }

    /// The collections, in the order in which they were written.
    pub fn collections(&self) -> BoxStream<'static, Result<CollectionEntry>> {
        read_lines(&self.vault, self.collection_pages.clone(), CollectionLine::into_entry)
    }

    /// The segments of a collection, in its order.
    pub fn segments(&self, collection: &CollectionEntry) -> BoxStream<'static, Result<SegmentEntry>> {
        read_lines(&self.vault, collection.segment_pages.clone(), SegmentLine::into_entry)
    }

    /// What has changed since the times of the segments, from the oldest run to the newest; nothing where all of them are as
    /// of the time of the snapshot. To a segment belong the changes between its keys that took effect after its `as_of`.
    pub fn delta_runs(&self) -> &[DeltaRun] {
        &self.delta_runs
    }

    /// The deltas of a run, in the order of collections and keys.
    pub fn deltas(&self, run: &DeltaRun) -> BoxStream<'static, Result<DeltaEntry>> {
        read_lines(&self.vault, run.pages.clone(), DeltaLine::into_entry)
    }

    /// Users and roles, when they were taken.
    ///
    /// # Errors
    /// As [`Manifest::open`].
    pub async fn principals(&self) -> Result<Option<Principals>> {
        let Some(pages) = self.principal_pages.clone() else { return Ok(None) };
        let mut principals = Principals::default();
        let mut lines = read_lines(&self.vault, pages, PrincipalLine::into_principal);
        while let Some(principal) = lines.try_next().await? {
            match principal {
                Principal::User(document) => principals.users.push(document),
                Principal::Role(document) => principals.roles.push(document),
            }
        }
        Ok(Some(principals))
    }

    /// Every object that the snapshot needs: the root, the pages, the segments, the deltas. An object that is needed twice is
    /// told twice.
    pub fn object_names(&self) -> BoxStream<'static, Result<ObjectName>> {
        let pages = self.collection_pages.iter().chain(self.principal_pages.iter().flatten());
        let pages = pages.chain(self.delta_runs.iter().flat_map(|run| &run.pages));
        let own: Vec<_> = std::iter::once(self.name).chain(pages.map(|page| page.name)).map(Ok).collect();
        let vault = self.vault.clone();
        let below = self.collections().map_ok(move |collection| {
            let pages: Vec<_> = collection.segment_pages.iter().map(|page| Ok(page.name)).collect();
            let segments = read_lines(&vault, collection.segment_pages, SegmentLine::into_entry);
            stream::iter(pages).chain(segments.map_ok(|entry| entry.name))
        });
        let runs: Vec<_> = self.delta_runs.iter().map(|run| self.deltas(run)).collect();
        let deltas = stream::iter(runs).flatten().map_ok(|entry| entry.name);
        stream::iter(own).chain(deltas).chain(below.try_flatten()).boxed()
    }
}

fn parse_root(name: &ObjectName, plain: &[u8]) -> Result<Root> {
    let malformed = |_| Error::damaged(*name, "its root is malformed");
    let RootVersion { format, version } = serde_json::from_slice(plain).map_err(malformed)?;
    if format != ROOT_FORMAT {
        return Err(Error::damaged(*name, "it is not a manifest"));
    }
    if version > ROOT_VERSION {
        return Err(Error::NewerFormat { what: name.to_string(), version, known: ROOT_VERSION });
    }
    serde_json::from_slice(plain).map_err(malformed)
}
