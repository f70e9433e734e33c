//! What the API answers, over the routes and the catalog of a server.
//!
//! One program, since each would be built and linked for itself.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod access_lists;
mod api_keys;
mod audit;
mod authentication;
mod collection_restores;
mod compliance;
mod connection_strings;
mod contents;
mod contract;
mod download;
mod exports;
mod flex;
mod hostile;
mod legacy_jobs;
mod legacy_schedules;
mod legacy_snapshots;
mod pasts;
mod points_in_time;
mod projects;
mod rate_limits;
mod restore_shapes;
mod restores;
mod schedules;
mod service_accounts;
mod serving;
mod snapshots;
mod timelines;
