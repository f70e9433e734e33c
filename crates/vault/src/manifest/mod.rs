//! Manifests: what one snapshot is.
//!
//! A manifest is a small root that refers to pages. Collection pages hold one line per collection, segment pages
//! one line per segment, both cut where the content says, at about a thousand lines, so that unchanged runs are
//! the same page in every snapshot. A million segments stream through bounded memory both ways.

mod deltas;
mod entry;
mod page;
mod principals;
mod read;
mod root;
mod write;

pub use deltas::{DeltaList, DeltaRun};
pub use entry::{CollectionEntry, CollectionKind, CollectionMeta};
pub use page::PageRef;
pub(crate) use page::open_page;
pub use principals::Principals;
pub use read::Manifest;
pub use root::{ManifestHeader, Totals};
pub use write::{
    Announce, DetachedManifest, ManifestRef, ManifestWriter, NoAnnounce, SegmentList, SegmentPages,
};
