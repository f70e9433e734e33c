//! The oplog as a record, against real servers: nothing missing, nothing twice, and every end told by its name.
#![allow(clippy::unwrap_used)]

// Everybody else knows the crate by its short name.
extern crate ebbtide_mongo as mongo;

mod ends;
mod record;
mod start;
#[path = "../read_side/support.rs"]
#[allow(dead_code)]
mod support;
mod tailing;
