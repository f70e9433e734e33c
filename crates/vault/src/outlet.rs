//! Places outside the vault that files are put to in the clear: a local directory or a bucket that speaks S3.
//!
//! Nothing here is sealed, and nothing is read back. A file comes into being whole or not at all: it is put in one request,
//! and in a directory written beside its place and renamed.

use std::{error::Error as StdError, fmt};

use bytes::Bytes;
use object_store::path::Path;

use crate::{Error, Location, store::Store};

/// Why a place cannot be written to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutletError {
    /// There is no such directory. None is made: an unmounted disk is a missing directory too.
    #[error("there is no directory {location}: mount its disk, or make it")]
    NoDirectory {
        /// The place.
        location: String,
    },
    /// No space is left.
    #[error("no space is left at {location}: free space there and export again")]
    Full {
        /// The place.
        location: String,
        /// What the store said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The store lets us not write there.
    #[error(
        "{location} refuses to be written: check the credentials and permissions that the configuration gives for it"
    )]
    Denied {
        /// The place.
        location: String,
        /// What the store said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The store failed; trying again later may help.
    #[error("{location} cannot be written")]
    Away {
        /// The place.
        location: String,
        /// What the store said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The place is not one, or the file's name is none.
    #[error("{location} cannot be written: {why}")]
    Unusable {
        /// The place.
        location: String,
        /// What is wrong with it.
        why: String,
    },
}

impl OutletError {
    /// Whether the same call may succeed later without anybody doing anything.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Away { .. })
    }

    fn of(place: &str, error: Error) -> Self {
        let place = place.to_owned();
        match error {
            Error::NoVault { location } => Self::NoDirectory { location },
            Error::Full { location, source } => Self::Full { location, source },
            Error::Denied { location, source, .. } => Self::Denied { location, source },
            Error::Store { location, source, .. } => Self::Away { location, source },
            Error::Location { why, .. } => Self::Unusable { location: place, why },
            other => Self::Unusable { location: place, why: other.to_string() },
        }
    }
}

/// A place that can be written to.
pub struct Outlet {
    store: Store,
}

impl Outlet {
    /// Opens a place. A directory has to be there; a bucket is not asked before the first file.
    ///
    /// # Errors
    /// [`OutletError`], which names the place.
    pub fn open(location: &Location) -> Result<Self, OutletError> {
        let store = Store::open(location, false);
        Ok(Self { store: store.map_err(|e| OutletError::of(&location.to_string(), e))? })
    }

    /// Puts a file; durable on return. One of that name is replaced as a whole. The parts of `path` between its slashes are
    /// taken as they are: whoever makes them escapes what a store may not like.
    ///
    /// # Errors
    /// [`OutletError`], which names the file.
    pub async fn put(&self, path: &str, bytes: Bytes) -> Result<(), OutletError> {
        let location = || format!("{}/{path}", self.store.location());
        let parsed = Path::parse(path)
            .map_err(|e| OutletError::Unusable { location: location(), why: e.to_string() })?;
        self.store.put_as(&parsed, bytes).await.map_err(|e| OutletError::of(&location(), e))
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").field("location", &self.store.location()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::S3Options;

    fn place(text: &str) -> Location {
        Location::parse(text, S3Options::default()).unwrap()
    }

    #[tokio::test]
    async fn files_lie_where_their_names_say_and_are_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let outlet = Outlet::open(&place(directory.path().to_str().unwrap())).unwrap();
        for content in ["first", "second and longer", "3"] {
            outlet.put("a/b%2Fc%20~/.complete", Bytes::from(content)).await.unwrap();
            let read = std::fs::read_to_string(directory.path().join("a/b%2Fc%20~/.complete")).unwrap();
            assert_eq!(read, content);
        }
        for bad in ["a/../../b", "a//b", "a/\n"] {
            let refused = outlet.put(bad, Bytes::new()).await.unwrap_err();
            assert!(matches!(refused, OutletError::Unusable { .. }), "{bad:?}: {refused}");
        }
    }

    #[tokio::test]
    async fn a_place_that_is_not_there_is_told_and_not_made() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("not-mounted");
        let error = Outlet::open(&place(missing.to_str().unwrap())).unwrap_err();
        assert!(matches!(&error, OutletError::NoDirectory { location } if location.ends_with("not-mounted")));
        assert!(!error.is_transient() && !missing.exists());
    }

    #[tokio::test]
    async fn what_passes_is_told_from_what_does_not() {
        let faults = crate::faults::Faults::new();
        let outlet = Outlet::open(&Location::memory().with_faults(faults.clone())).unwrap();
        faults.fail_put(1);
        let away = outlet.put("x", Bytes::from_static(b"1")).await.unwrap_err();
        assert!(matches!(away, OutletError::Away { .. }) && away.is_transient(), "{away}");
        faults.set_full(true);
        let full = outlet.put("x", Bytes::from_static(b"1")).await.unwrap_err();
        assert!(matches!(full, OutletError::Full { .. }) && !full.is_transient(), "{full}");
    }
}
