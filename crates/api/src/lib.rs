//! The Atlas Administration API v2 over HTTP, and Ebbtide's own paths beside it.
//!
//! A request goes through one gate (`gate`): who asks, may it ask now, in which version, are the ids in
//! its path well formed, may it do this here. Only then a handler (`ops`) looks at parents, body and meaning. A handler
//! writes rows that state an intent into the catalog and reads rows that state what was observed; it never
//! talks to a MongoDB and never runs a job. A download streams an archive out of the vault's read side, and questions about
//! the past and about what a snapshot holds are answered from there; that is all that reaches past the catalog.
//!
//! Whatever comes from outside is bounded: header bytes, body bytes, connections, cached rows, nonces, buckets.

mod access;
mod audit;
mod auth;
mod body;
mod cache;
mod contents;
mod download;
mod error;
mod forbidden;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod gate;
mod json;
mod openapi;
mod ops;
mod page;
mod params;
mod past;
mod query;
mod rate;
mod reply;
mod router;
mod serve;
mod server;
mod state;
mod version;

pub use auth::{
    digest::{REALM, ha1},
    issue::{Issued, NewAccount, download_token, issue_api_key, issue_service_account},
};
pub use contents::{Contents, ContentsError};
pub use error::{Code, Problem};
pub use model::organization::Organization;
pub use openapi::{Coverage, coverage_page, document};
pub use past::{
    DefinitionChange, DifferenceOf, DocumentAt, DocumentChange, DocumentChanges, Past, PastDifference,
    PastDocument, PastError, PastVersion, PastVersions, VersionsOf,
};
pub use rate::{Bucket, RateLimits};
pub use router::{Served, operations, router};
pub use serve::{ServeError, serve};
pub use state::{
    ArchiveError, ArchiveSource, CheckFinding, CheckReport, Clock, LegacyMode, PURPOSE_DOWNLOAD_TOKEN,
    PURPOSE_HA1, PURPOSE_URI, Quirks, Registrar, Secret, SecretError, SecretOpener, Settings, State,
    UNTESTED_VERSION,
};
