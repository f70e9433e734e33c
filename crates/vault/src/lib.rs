//! Bytes in and out of an object store.
//!
//! The vault keeps what a snapshot is: segments of documents, the pages and roots of manifests; the slices of oplogs
//! between snapshots; the deltas that newer snapshots add to older segments; and the archives that people download.
//! Every object is compressed, sealed with AES-256-GCM and named by a keyed hash, so the store learns neither content
//! nor equality with anything it does not hold, and cannot pass one object off as another. `docs/format.md` is the
//! normative description of every byte.
//!
//! The vault knows no MongoDB and no SQL. It never relies on conditional puts: a name says what is inside, so
//! writing an object again is harmless. What must be unique is decided in the catalog.

pub mod archive;
mod blocks;
mod compress;
mod copies;
mod crypt;
pub mod delta;
mod error;
#[cfg(any(test, feature = "testing"))]
pub mod faults;
pub mod key;
mod leftovers;
pub mod location;
pub mod manifest;
mod name;
mod object;
mod outlet;
mod page_cache;
mod pool;
mod recycle;
pub mod segment;
pub mod slice;
mod store;
#[cfg(test)]
mod tests;
mod vault;

pub use archive::{ArchiveId, ArchiveInfo, ArchiveReader, ArchiveWriter};
pub use compress::Hands;
pub use copies::CopyMark;
pub use delta::{Delta, DeltaBlock, DeltaBuilder, DeltaEntry, DeltaKey, SealedDelta};
pub use error::{Error, Result};
pub use key::MasterKey;
pub use location::{Location, S3Options, Secret};
pub use manifest::{
    Announce, CollectionEntry, CollectionKind, CollectionMeta, DeltaList, DeltaRun, DetachedManifest,
    Manifest, ManifestHeader, ManifestRef, ManifestWriter, NoAnnounce, PageRef, Principals, SegmentList,
    SegmentPages, Totals,
};
pub use name::{ObjectKind, ObjectName, VaultId};
pub use object::SealedObject;
pub use outlet::{Outlet, OutletError};
pub use pool::Pool;
pub use segment::{Draft, Order, Segment, SegmentBuilder, SegmentEntry};
pub use slice::{
    BrokenLink, LinkFault, SealedSlice, Slice, SliceBlock, SliceBuilder, SliceHeader, SliceLink, SliceSource,
};
pub use vault::{Listed, Vault};
