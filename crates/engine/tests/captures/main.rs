//! What is done without being asked for: what continuous backup records and what ends a record; what schedules want, and have copied.
//!
//! One program, since each would be built and linked for itself, with the engine and the driver in it.
#![allow(clippy::unwrap_used)]

#[path = "../capture_support/mod.rs"]
mod capture_support;
#[path = "../restore_support/mod.rs"]
mod restore_support;
#[path = "../support/mod.rs"]
mod support;

mod capture;
mod capture_accounts;
mod capture_clocks;
mod capture_disks;
mod capture_elections;
mod copies;
mod schedules;
