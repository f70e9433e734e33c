//! Restores: what they bring back, what stops them, what they leave behind.
//!
//! One program, since each would be built and linked for itself, with the engine and the driver in it.
#![allow(clippy::unwrap_used)]

#[path = "../restore_support/mod.rs"]
mod restore_support;
#[path = "../support/mod.rs"]
mod support;

mod restore_beside;
mod restore_broken_record;
mod restore_cancel;
mod restore_elections;
mod restore_exact;
mod restore_fence;
mod restore_proof;
