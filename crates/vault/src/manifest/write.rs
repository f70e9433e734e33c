//! Writing a manifest, page by page.

use std::{error::Error as StdError, sync::Arc};

use futures::future::BoxFuture;
use history::ContentSum;
use model::WallTime;
use serde::{Deserialize, Serialize};

use super::{
    CollectionEntry, CollectionMeta, DeltaList, DeltaRun, ManifestHeader, PageRef, Principals, Totals,
    deltas::are_in_order,
    entry::CollectionLine,
    page::{PageLine, PageWriter, draw},
    principals::PrincipalLine,
    root::{ROOT_BYTES_MAX, ROOT_FORMAT, ROOT_VERSION, Root, RunLine, WHOLE_VERSION},
};
use crate::{
    Error, ObjectKind, ObjectName, Result, SegmentEntry, Vault, object::seal_single, segment::SegmentLine,
};

/// Is told the name of each object before it is stored or relied on, so that nothing collects it.
pub trait Announce: Send + Sync {
    /// Makes `name` known. The object is touched only after this succeeded.
    fn announce(&self, name: ObjectName) -> BoxFuture<'_, Result<(), Box<dyn StdError + Send + Sync>>>;
}

/// Tells nobody: for vaults that nothing is collected from.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoAnnounce;

impl Announce for NoAnnounce {
    fn announce(&self, _name: ObjectName) -> BoxFuture<'_, Result<(), Box<dyn StdError + Send + Sync>>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A manifest that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManifestRef {
    /// Its root.
    pub name: ObjectName,
    /// What the root takes in the store.
    pub stored_bytes: u64,
    /// What the whole snapshot amounts to.
    pub totals: Totals,
}

/// A manifest whose root is kept somewhere else than in the vault: a state that a job works with, and no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DetachedManifest {
    pub(super) root: String,
}

/// Lists the segments of one collection. Several collections can be listed at the same time.
pub struct SegmentList {
    pages: PageWriter,
    totals: SegmentPages,
}

/// The segments of one collection, listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SegmentPages {
    /// The pages that list them.
    pub pages: Vec<PageRef>,
    /// How many segments.
    pub segments: u64,
    /// Documents, bytes and hash of all of them.
    pub content: ContentSum,
    /// What the segments take in the store.
    pub stored_bytes: u64,
    /// What the pages take in the store.
    pub page_bytes: u64,
}

impl SegmentList {
    /// Adds the next segment, in the order of the collection.
    ///
    /// # Errors
    /// [`Error::Announce`] and whatever the store says.
    pub async fn push(&mut self, entry: &SegmentEntry) -> Result<()> {
        let line = SegmentLine::new(entry, self.pages.as_of());
        self.pages.push(&line, draw(entry.name.as_bytes())).await?;
        self.totals.segments += 1;
        self.totals.content.merge(&entry.content);
        self.totals.stored_bytes += entry.stored_bytes;
        Ok(())
    }

    /// Stores the last page.
    ///
    /// # Errors
    /// As [`SegmentList::push`].
    pub async fn finish(self) -> Result<SegmentPages> {
        let (pages, page_bytes) = self.pages.finish().await?;
        Ok(SegmentPages { pages, page_bytes, ..self.totals })
    }
}

/// Writes one manifest.
pub struct ManifestWriter {
    vault: Vault,
    announce: Arc<dyn Announce>,
    header: ManifestHeader,
    collections: PageWriter,
    principals: Option<(Vec<PageRef>, u64)>,
    runs: Vec<DeltaRun>,
    documents_beside: i64,
    current: Option<(CollectionMeta, SegmentList)>,
    totals: Totals,
}

impl ManifestWriter {
    /// Begins a manifest.
    pub fn new(vault: &Vault, header: ManifestHeader, announce: Arc<dyn Announce>) -> Self {
        let collections = PageWriter::new(vault.clone(), Arc::clone(&announce), header.cluster_time);
        Self {
            vault: vault.clone(),
            announce,
            header,
            collections,
            principals: None,
            runs: Vec::new(),
            documents_beside: 0,
            current: None,
            totals: Totals::default(),
        }
    }

    /// A list for the segments of one collection, to be handed to [`ManifestWriter::push_collection`].
    pub fn segment_list(&self) -> SegmentList {
        let as_of = self.header.cluster_time;
        SegmentList {
            pages: PageWriter::new(self.vault.clone(), Arc::clone(&self.announce), as_of),
            totals: SegmentPages::default(),
        }
    }

    /// A list for a run of deltas, to be handed to [`ManifestWriter::push_delta_run`].
    pub fn delta_list(&self) -> DeltaList {
        let as_of = self.header.cluster_time;
        DeltaList::new(PageWriter::new(self.vault.clone(), Arc::clone(&self.announce), as_of))
    }

    /// Adds a run of deltas, newer than those before it.
    ///
    /// # Errors
    /// [`Error::Refused`] when it is not.
    pub fn push_delta_run(&mut self, run: DeltaRun) -> Result<()> {
        self.runs.push(run);
        if are_in_order(&self.runs, self.header.cluster_time) {
            return Ok(());
        }
        self.runs.pop();
        Err(out_of_turn("its runs of deltas are not in the order of their times"))
    }

    /// Says that a restore had staged collections in the deployment at the time of the snapshot.
    pub fn mark_amid_restore(&mut self) {
        self.header.amid_restore = true;
    }

    /// Says by how much the deltas make the documents more, or fewer, than those in the segments.
    pub fn count_beside(&mut self, documents: i64) {
        self.documents_beside = documents;
    }

    /// Adds a collection whose segments are listed.
    ///
    /// # Errors
    /// [`Error::Announce`] and whatever the store says.
    pub async fn push_collection(&mut self, meta: CollectionMeta, segments: SegmentPages) -> Result<()> {
        let entry = CollectionEntry {
            documents: segments.content.documents,
            bytes: segments.content.bytes,
            content: segments.content,
            segments: segments.segments,
            stored_bytes: segments.stored_bytes,
            segment_pages: segments.pages,
            meta,
        };
        let hash = blake3::hash(format!("{}.{}", entry.meta.db, entry.meta.name).as_bytes());
        let line = CollectionLine::new(&entry, self.collections.as_of());
        self.collections.push(&line, draw(hash.as_bytes())).await?;
        self.totals.collections += 1;
        self.totals.segments += entry.segments;
        self.totals.documents += entry.documents;
        self.totals.bytes += entry.bytes;
        self.totals.stored_bytes += entry.stored_bytes + segments.page_bytes;
        Ok(())
    }

    /// Begins a collection; [`ManifestWriter::push_segment`] adds to it.
    ///
    /// # Errors
    /// [`Error::Refused`] when the one before was not ended.
    pub fn begin_collection(&mut self, meta: CollectionMeta) -> Result<()> {
        if self.current.is_some() {
            return Err(out_of_turn("the collection before it was not ended"));
        }
        self.current = Some((meta, self.segment_list()));
        Ok(())
    }

    /// Adds a segment to the collection that was begun.
    ///
    /// # Errors
    /// [`Error::Refused`] when none was, [`Error::Announce`], and whatever the store says.
    pub async fn push_segment(&mut self, entry: &SegmentEntry) -> Result<()> {
        match &mut self.current {
            Some((_, list)) => list.push(entry).await,
            None => Err(out_of_turn("no collection was begun")),
        }
    }

    /// Ends the collection that was begun.
    ///
    /// # Errors
    /// As [`ManifestWriter::push_segment`].
    pub async fn end_collection(&mut self) -> Result<()> {
        let (meta, list) = self.current.take().ok_or_else(|| out_of_turn("no collection was begun"))?;
        let segments = list.finish().await?;
        self.push_collection(meta, segments).await
    }

    /// Adds users and roles.
    ///
    /// # Errors
    /// [`Error::Announce`] and whatever the store says.
    pub async fn set_principals(&mut self, principals: &Principals) -> Result<()> {
        let as_of = self.header.cluster_time;
        let mut pages = PageWriter::new(self.vault.clone(), Arc::clone(&self.announce), as_of);
        for document in &principals.users {
            pages.push(&PrincipalLine::user(document), draw(blake3::hash(document).as_bytes())).await?;
        }
        for document in &principals.roles {
            pages.push(&PrincipalLine::role(document), draw(blake3::hash(document).as_bytes())).await?;
        }
        self.principals = Some(pages.finish().await?);
        Ok(())
    }

    /// Stores the root. Everything that it names is durable before it is.
    ///
    /// # Errors
    /// [`Error::Refused`] when a collection was not ended, [`Error::Announce`], and whatever the store says.
    pub async fn finish(self, completed_at: WallTime) -> Result<ManifestRef> {
        let (vault, announce) = (self.vault.clone(), Arc::clone(&self.announce));
        let (plain, totals) = self.root(completed_at).await?;
        let name = vault.keys().name(ObjectKind::Manifest, &[&plain]);
        announce.announce(name).await.map_err(Error::Announce)?;
        let stored_bytes = vault.put(&seal_single(vault.keys(), name, &plain)?).await?;
        Ok(ManifestRef { name, stored_bytes, totals })
    }

    /// Ends the manifest of a state that is no snapshot: everything that the root names is durable, and the root is not
    /// stored, so that nobody who looks for snapshots in the vault takes it for one.
    ///
    /// # Errors
    /// As [`ManifestWriter::finish`].
    pub async fn finish_detached(self, completed_at: WallTime) -> Result<DetachedManifest> {
        let (plain, _) = self.root(completed_at).await?;
        let root = String::from_utf8(plain).map_err(|_| out_of_turn("its root is no text"))?;
        Ok(DetachedManifest { root })
    }

    async fn root(mut self, completed_at: WallTime) -> Result<(Vec<u8>, Totals)> {
        if self.current.is_some() {
            return Err(out_of_turn("a collection was not ended"));
        }
        let above = self.header.cluster_time;
        let (collection_pages, page_bytes) = self.collections.finish().await?;
        self.totals.stored_bytes += page_bytes + self.principals.as_ref().map_or(0, |(_, bytes)| *bytes);
        self.totals.stored_bytes += self.runs.iter().map(|run| run.stored_bytes).sum::<u64>();
        let lines = |pages: &[PageRef]| pages.iter().map(|page| PageLine::new(page, above)).collect();
        let root = Root {
            format: ROOT_FORMAT.to_owned(),
            version: if self.runs.is_empty() { WHOLE_VERSION } else { ROOT_VERSION },
            header: self.header,
            completed_at,
            totals: self.totals,
            collection_pages: lines(&collection_pages),
            principal_pages: self.principals.as_ref().map(|(pages, _)| lines(pages)),
            documents_beside: self.documents_beside,
            delta_runs: self.runs.iter().map(|run| RunLine::new(run, above)).collect(),
        };
        let plain = serde_json::to_vec(&root)
            .ok()
            .filter(|plain| plain.len() <= ROOT_BYTES_MAX)
            .ok_or_else(|| out_of_turn("its root is too large"))?;
        Ok((plain, self.totals))
    }
}

fn out_of_turn(why: &str) -> Error {
    Error::Refused { what: "a manifest", why: why.to_owned() }
}
