//! The read side against real servers: connecting, listing, exact reads, finding DDL, least privileges.
#![allow(clippy::unwrap_used)]

// Everybody else knows the crate by its short name.
extern crate ebbtide_mongo as mongo;

mod connecting;
mod ddl;
mod keys;
mod listing;
mod privileges;
mod reading;
mod support;
mod window;
