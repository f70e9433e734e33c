//! What can go wrong, by what the caller can do about it.

use std::{error::Error as StdError, io};

use crate::ObjectName;

/// The result of everything that touches the vault.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the vault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no vault at this place.
    #[error("there is no vault at {location}; check the place, or let `ebbtide serve` create one there")]
    NoVault {
        /// Where it was looked for.
        location: String,
    },
    /// The vault was made with another master key.
    #[error(
        "the vault at {location} belongs to the master key {expected}, not to {given}; give the key that it was created with"
    )]
    WrongKey {
        /// Which vault.
        location: String,
        /// Fingerprint of the key that opens it.
        expected: String,
        /// Fingerprint of the key that was given.
        given: String,
    },
    /// An object that something refers to is not there.
    #[error("{object} is missing in the vault at {location}")]
    Missing {
        /// Which object.
        object: ObjectName,
        /// Which vault.
        location: String,
    },
    /// Bytes are not what was written.
    #[error("{object} is damaged{}: {what}", block.map(|n| format!(" at block {n}")).unwrap_or_default())]
    Damaged {
        /// Which object.
        object: ObjectName,
        /// Which of its blocks, counted from 0; none when it is not about one block.
        block: Option<u32>,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Written by a version of Ebbtide that this one does not know.
    #[error("{what} has format version {version}, and this Ebbtide reads up to {known}; update Ebbtide")]
    NewerFormat {
        /// What was read.
        what: String,
        /// The version it has.
        version: u32,
        /// The newest version known here.
        known: u32,
    },
    /// No space is left.
    #[error("no space is left for the vault at {location}: nothing was lost; free space and try again")]
    Full {
        /// Which vault.
        location: String,
        /// What the store said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The store lets us not do this.
    #[error("the store refuses to {action} at {location}; check the credentials and permissions")]
    Denied {
        /// What was tried.
        action: &'static str,
        /// Where.
        location: String,
        /// What the store said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The store failed; trying again later may help.
    #[error("the store failed to {action} at {location}")]
    Store {
        /// What was tried.
        action: &'static str,
        /// Where.
        location: String,
        /// What the store said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A place that cannot be a vault's.
    #[error("{text:?} cannot be the place of a vault: {why}")]
    Location {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// The master key cannot be had.
    #[error("cannot use the master key from {from}: {why}")]
    MasterKey {
        /// The file or the command.
        from: String,
        /// What is wrong, and what mends it.
        why: String,
    },
    /// A sealed secret does not open with this master key for this purpose.
    #[error(
        "the sealed {purpose} does not open with the master key {fingerprint}; it was sealed with another key or changed"
    )]
    Sealed {
        /// What it was sealed for.
        purpose: String,
        /// Fingerprint of the key that was tried.
        fingerprint: String,
    },
    /// The caller could not be told of an object that is about to be stored.
    #[error("an object could not be announced before it is stored")]
    Announce(#[source] Box<dyn StdError + Send + Sync>),
    /// What was handed over cannot be stored.
    #[error("cannot store {what}: {why}")]
    Refused {
        /// What was handed over.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl Error {
    /// Whether the same call may succeed later without anybody doing anything.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Store { .. })
    }

    /// Whether stored bytes are gone or wrong.
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Missing { .. })
    }

    /// The object whose stored bytes are gone or wrong.
    pub const fn damaged_object(&self) -> Option<&ObjectName> {
        match self {
            Self::Damaged { object, .. } | Self::Missing { object, .. } => Some(object),
            _ => None,
        }
    }

    pub(crate) const fn damaged(object: ObjectName, what: &'static str) -> Self {
        Self::Damaged { object, block: None, what }
    }

    pub(crate) const fn damaged_block(object: ObjectName, block: u32, what: &'static str) -> Self {
        Self::Damaged { object, block: Some(block), what }
    }

    /// Sorts what the store said by what can be done about it.
    pub(crate) fn from_store(error: object_store::Error, action: &'static str, location: &str) -> Self {
        let location = location.to_owned();
        let full = is_full(&error);
        let denied = is_denied(&error);
        let source = Box::new(error);
        if full {
            Self::Full { location, source }
        } else if denied {
            Self::Denied { action, location, source }
        } else {
            Self::Store { action, location, source }
        }
    }
}

fn is_denied(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    matches!(error, E::PermissionDenied { .. } | E::Unauthenticated { .. })
        || any_io(error, |io| io.kind() == io::ErrorKind::PermissionDenied)
}

/// The disk is full, or the quota is used up.
fn is_full(error: &object_store::Error) -> bool {
    any_io(error, |io| matches!(io.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

fn any_io(error: &(dyn StdError + 'static), test: impl Fn(&io::Error) -> bool) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<io::Error>().is_some_and(&test) {
            return true;
        }
        next = error.source();
    }
    false
}
