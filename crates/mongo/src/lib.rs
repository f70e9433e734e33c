//! A MongoDB deployment in and out as bytes: reading exactly, writing exactly.
//!
//! Two planes. The control plane ([`Deployment`]) uses the official driver: it finds the primary, follows elections,
//! knows versions and members. The data plane ([`wire`]) speaks OP_MSG itself, because raw bytes then stay raw and
//! cost a quarter of the processor time. Nothing here knows the vault, the catalog or HTTP, and no document is
//! decoded and encoded again on any path.
//!
//! An error says what the caller can do; retrying is the caller's business (see [`Error::is_transient`]).

pub mod connect;
pub mod ddl;
pub mod error;
pub mod facts;
pub mod fence;
mod identify;
pub mod index_spec;
pub mod listing;
pub mod namespace;
pub mod oplog;
mod permit;
pub mod principals;
pub mod privileges;
pub mod read;
pub mod time;
pub mod uri;
pub mod window;
pub mod wire;
pub mod write;

pub use connect::{ConnectOptions, Deployment};
pub use ddl::{DdlEvent, DdlKind};
pub use error::{Error, Result};
pub use facts::Facts;
pub use listing::{CollectionInfo, CollectionKind, Pinned};
pub use namespace::{Namespace, STAGING_PREFIX};
pub use permit::Permit;
pub use time::ClusterTime;
pub use uri::Uri;
