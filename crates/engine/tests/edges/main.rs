//! Odd servers, odd data, and what is done beside snapshots and restores.
//!
//! One program, since each would be built and linked for itself, with the engine and the driver in it.
#![allow(clippy::unwrap_used)]

#[path = "../restore_support/mod.rs"]
mod restore_support;
#[path = "../support/mod.rs"]
mod support;

mod download_archive;
mod edge_catalog;
mod edge_servers;
mod edge_transactions;
mod exports;
mod extremes;
mod keeping;
mod live_check;
mod many;
mod observed;
