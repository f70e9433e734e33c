//! Copies of snapshots in other vaults: what these are called, and where a copy stands.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::IllegalTransition;

/// Name of a vault that snapshots are copied to, as the configuration of the server has it; the API calls it a region. It has
/// the form of the names of Atlas's regions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegionName(String);

/// The text is no name of a region.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the name of a region has 2 to 40 capital letters, digits and underscores, a letter first, such as EU_WEST_1; got {0:?}"
)]
pub struct MalformedRegion(pub String);

impl RegionName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RegionName {
    type Err = MalformedRegion;

    fn from_str(text: &str) -> Result<Self, MalformedRegion> {
        let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_uppercase());
        if begins && (2..=40).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(MalformedRegion(text.chars().take(64).collect()))
        }
    }
}

impl TryFrom<String> for RegionName {
    type Error = MalformedRegion;

    fn try_from(text: String) -> Result<Self, MalformedRegion> {
        text.parse()
    }
}

impl From<RegionName> for String {
    fn from(name: RegionName) -> Self {
        name.0
    }
}

impl fmt::Display for RegionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whose region it is. Kept and shown, as clients ask for it; which vault is meant is told by the name of the region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CloudProvider {
    /// Amazon.
    Aws,
    /// Microsoft.
    Azure,
    /// Google.
    Gcp,
}

impl CloudProvider {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "AWS",
            Self::Azure => "AZURE",
            Self::Gcp => "GCP",
        }
    }
}

impl FromStr for CloudProvider {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found =
            [Self::Aws, Self::Azure, Self::Gcp].into_iter().find(|provider| provider.as_str() == text);
        found.ok_or_else(|| format!("a cloud provider is AWS, AZURE or GCP, not {text:?}"))
    }
}

/// Where a copy of a snapshot stands. One that is gone has no state any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CopyState {
    /// To be made, or to be made whole again. Leaves by `Made`, `Unwanted`.
    Wanted,
    /// The other vault has everything that the snapshot needs. Leaves by `Damaged`, `Unwanted`.
    Made,
    /// To be deleted. No exit but that.
    Unwanted,
}

/// What can happen to a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CopyEvent {
    /// Its manifest is durable in the other vault.
    Made,
    /// Something of it was found damaged or missing there.
    Damaged,
    /// Its snapshot is gone, or nobody wants it there any more.
    Unwanted,
}

impl CopyState {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Wanted, Self::Made, Self::Unwanted];

    /// The word in the catalog and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wanted => "wanted",
            Self::Made => "made",
            Self::Unwanted => "unwanted",
        }
    }

    /// The state after `event`.
    ///
    /// # Errors
    /// [`IllegalTransition`] when this state has no such exit.
    pub fn next(self, event: CopyEvent) -> Result<Self, IllegalTransition> {
        use CopyEvent as E;
        match (self, event) {
            (Self::Wanted, E::Made) => Ok(Self::Made),
            (Self::Wanted | Self::Made, E::Damaged) => Ok(Self::Wanted),
            (Self::Wanted | Self::Made, E::Unwanted) => Ok(Self::Unwanted),
            (Self::Made, E::Made) | (Self::Unwanted, _) => Err(IllegalTransition {
                machine: "copy",
                state: self.as_str().to_owned(),
                event: format!("{event:?}"),
            }),
        }
    }
}

impl FromStr for CopyState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| format!("unknown state of a copy {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_named_as_atlas_names_them() {
        for good in ["EU_WEST_1", "CENTRAL_US", "X2", &"A".repeat(40)] {
            assert_eq!(good.parse::<RegionName>().map(String::from).as_deref(), Ok(good));
        }
        for bad in ["", "A", "_A", "1A", "eu-west-1", "EU WEST", "EU/1", "É1", &"A".repeat(41)] {
            assert!(bad.parse::<RegionName>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn what_is_not_wanted_any_more_is_never_made() {
        for event in [CopyEvent::Made, CopyEvent::Damaged, CopyEvent::Unwanted] {
            assert!(CopyState::Unwanted.next(event).is_err(), "{event:?}");
        }
        assert_eq!(CopyState::Made.next(CopyEvent::Damaged), Ok(CopyState::Wanted));
    }
}
