//! Snapshots: read, folded, out of pieces.
//!
//! One program, since each would be built and linked for itself, with the engine and the driver in it.
#![allow(clippy::unwrap_used)]

#[path = "../fold_support/mod.rs"]
mod fold_support;
#[path = "../restore_support/mod.rs"]
mod restore_support;
#[path = "../support/mod.rs"]
mod support;

mod fold_snapshots;
mod shapes_change;
mod snapshot_contents;
mod snapshot_ddl;
mod snapshot_exact;
mod snapshot_folded;
mod snapshot_jobs;
mod snapshot_pieces;
mod snapshot_shapes;
