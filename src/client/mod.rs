//! The commands that talk to a server over HTTP, as any Atlas client does.

pub(crate) mod audit;
mod bar;
pub(crate) mod cluster;
pub(crate) mod compliance;
mod digest;
mod download;
pub(crate) mod export;
mod findings;
mod http;
pub(crate) mod past;
mod print;
pub(crate) mod restore;
pub(crate) mod schedule;
pub(crate) mod snapshot;
pub(crate) mod timeline;
mod watch;

pub(crate) use http::{Client, Refused};
