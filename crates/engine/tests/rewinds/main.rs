//! Restores to points in time, of a part, and by putting back what changed.
//!
//! One program, since each would be built and linked for itself, with the engine and the driver in it.
#![allow(clippy::unwrap_used)]

#[path = "../restore_support/mod.rs"]
mod restore_support;
#[path = "../support/mod.rs"]
mod support;

mod restore_collections;
mod restore_point_in_time;
mod restore_rewind;
mod restore_selected;
mod restore_selected_times;
