//! Real `mongod` processes, seeded data and oracles for tests; never shipped.
//!
//! Tests of a backup tool are worth what their oracle is worth. So nothing here imitates a server: [`Server`]
//! starts real binaries, [`oracle`] asks the server itself what it holds, and none of it uses the project's own
//! reading or writing code, so that one mistake cannot hide in both.

pub mod binaries;
pub mod data;
pub mod disguise;
pub mod disk;
pub mod load;
pub mod mutation;
pub mod oracle;
pub mod postgres;
pub mod process;
#[cfg(feature = "s3")]
pub mod s3;
pub mod server;
pub mod tls;

pub use binaries::versions;
pub use disk::Disk;
pub use server::{Options, Server, TlsOptions};

/// The servers that the whole suite is run on: the main one, a 5.0 and a later 6.0.
pub const SUPPORTED_VERSIONS: [&str; 3] = ["6.0.5", "5.0.4", "6.0.27"];

/// A server that is too old for Ebbtide, for the tests of the refusal.
pub const TOO_OLD_VERSION: &str = "4.4.2";
