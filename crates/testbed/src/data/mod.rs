//! Small seeded data sets: every kind of collection, index and value that a backup may get wrong.
//!
//! Each [`Set`] lives in a database of its own (see [`Set::database`]), so sets combine freely. The same seed and
//! server version give the same data.

mod bulk;
mod indexes;
mod principals;
mod raw;
mod shapes;
mod values;

use anyhow::Context;
use bson::doc;
use mongodb::Client;

pub use bulk::{BulkIds, bulk, bulk_indexes};
pub use raw::RawBuilder;

/// A subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// Every kind of index, on data.
    Indexes,
    /// Views, views on views, a view on nothing, a view with a collation.
    Views,
    /// Validators of both levels and actions, with documents that violate them.
    Validators,
    /// Collections with collations, and indexes that differ from them.
    Collations,
    /// Capped collections, by size and by number, wrapped round.
    Capped,
    /// Clustered collections (nothing before MongoDB 5.3).
    Clustered,
    /// Time series with and without metadata, granularity and mixed schemas.
    TimeSeries,
    /// TTL indexes, on documents that expire far in the future.
    Ttl,
    /// `_id`s of every type and in every order.
    Ids,
    /// Odd names of databases, collections and fields.
    Names,
    /// Documents of the greatest size.
    Large,
    /// Values that do not survive decoding: duplicate fields, NaN payloads, deprecated types, `Timestamp(0,0)`.
    Bytes,
    /// Stored functions.
    SystemJs,
    /// Collections without documents.
    Empty,
    /// Users and roles.
    Principals,
    /// A few thousand documents with random, increasing and mixed `_id`s, and secondary indexes.
    Bulk,
}

impl Set {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Indexes,
        Self::Views,
        Self::Validators,
        Self::Collations,
        Self::Capped,
        Self::Clustered,
        Self::TimeSeries,
        Self::Ttl,
        Self::Ids,
        Self::Names,
        Self::Large,
        Self::Bytes,
        Self::SystemJs,
        Self::Empty,
        Self::Principals,
        Self::Bulk,
    ];

    /// The database that the set is loaded into (the first of them, for [`Set::Names`]).
    pub fn database(self) -> &'static str {
        match self {
            Self::Indexes => "indexes",
            Self::Views => "views",
            Self::Validators => "validators",
            Self::Collations => "collations",
            Self::Capped => "capped",
            Self::Clustered => "clustered",
            Self::TimeSeries => "timeseries",
            Self::Ttl => "ttl",
            Self::Ids => "ids",
            Self::Names => "Odd-names_é",
            Self::Large => "large",
            Self::Bytes => "bytes",
            Self::SystemJs => "functions",
            Self::Empty => "empty",
            Self::Principals => "principals",
            Self::Bulk => "bulk",
        }
    }
}

/// Loads these sets.
pub async fn load(client: &Client, seed: u64, sets: &[Set]) -> anyhow::Result<()> {
    let version = server_version(client).await?;
    for set in sets {
        let database = client.database(set.database());
        let random = &mut Random::new(seed);
        let loaded = match set {
            Set::Indexes => indexes::load(&database, random, version).await,
            Set::Views => shapes::views(&database).await,
            Set::Validators => shapes::validators(&database).await,
            Set::Collations => shapes::collations(&database).await,
            Set::Capped => shapes::capped(&database, random).await,
            Set::Clustered if version < (5, 3) => Ok(()),
            Set::Clustered => shapes::clustered(&database, random).await,
            Set::TimeSeries => shapes::time_series(&database, random).await,
            Set::Ttl => shapes::ttl(&database).await,
            Set::Ids => values::ids(&database, random).await,
            Set::Names => values::names(client, &database).await,
            Set::Large => values::large(&database, random).await,
            Set::Bytes => values::bytes(&database).await,
            Set::SystemJs => shapes::system_js(&database).await,
            Set::Empty => shapes::empty(&database).await,
            Set::Principals => principals::load(client, &database).await,
            Set::Bulk => bulk::load(&database, random).await,
        };
        loaded.with_context(|| format!("load the data set {set:?}"))?;
    }
    Ok(())
}

/// Major and minor version of the server.
pub async fn server_version(client: &Client) -> anyhow::Result<(i32, i32)> {
    let info =
        client.database("admin").run_command(doc! { "buildInfo": 1 }).await.context("ask for the version")?;
    let parts = info.get_array("versionArray")?;
    let part = |index: usize| parts.get(index).and_then(bson::Bson::as_i32).unwrap_or_default();
    Ok((part(0), part(1)))
}

/// A small reproducible generator (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same sequence.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; 0 when `limit` is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number().checked_rem(limit).unwrap_or(0)
    }

    /// Lower case letters and digits.
    pub fn text(&mut self, length: usize) -> String {
        const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz012345";
        (0..length).map(|_| char::from(LETTERS[(self.number() % 32) as usize])).collect()
    }

    /// Bytes that do not compress.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend(self.number().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}
