//! Names of vaults and of objects, and where objects lie in the store.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The random id of a vault, 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VaultId(pub(crate) [u8; 16]);

impl fmt::Display for VaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl TryFrom<String> for VaultId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        fixed_hex(&text).map(Self).ok_or_else(|| format!("a vault id is 32 hexadecimal digits, got {text:?}"))
    }
}

impl From<VaultId> for String {
    fn from(id: VaultId) -> Self {
        id.to_string()
    }
}

/// What an object holds. It decides where the object lies and is bound into its seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A sorted or natural-order run of documents of one collection.
    Segment,
    /// A run of lines that a manifest refers to.
    Page,
    /// The root of a manifest: one snapshot.
    Manifest,
    /// One part of an archive made for download.
    Archive,
    /// A run of entries of an oplog.
    Slice,
    /// A sorted run of changes that are not applied yet.
    Delta,
}

impl ObjectKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Segment, Self::Page, Self::Manifest, Self::Archive, Self::Slice, Self::Delta];
    /// The kinds that snapshots consist of: what no snapshot needs is garbage. Archives live as long as their job, and
    /// slices as long as their timeline says.
    pub const COLLECTED: [Self; 4] = [Self::Segment, Self::Page, Self::Manifest, Self::Delta];

    /// The byte that stands for this kind in headers, names and seals.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Segment => 1,
            Self::Page => 2,
            Self::Manifest => 3,
            Self::Archive => 4,
            Self::Slice => 5,
            Self::Delta => 6,
        }
    }

    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::Page => "page",
            Self::Manifest => "manifest",
            Self::Archive => "archive",
            Self::Slice => "slice",
            Self::Delta => "delta",
        }
    }

    /// The directory of this kind in the store.
    pub(crate) const fn directory(self) -> &'static str {
        match self {
            Self::Segment => "v1/segments",
            Self::Page => "v1/pages",
            Self::Manifest => "v1/manifests",
            Self::Archive => "v1/archives",
            Self::Slice => "v1/slices",
            Self::Delta => "v1/deltas",
        }
    }
}

/// The name of one object: its kind and 32 bytes.
///
/// The bytes are a keyed hash of the plain content; for a part of an archive they say whose part it is.
/// As text: `segment/` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectName {
    /// What it holds.
    pub kind: ObjectKind,
    pub(crate) bytes: [u8; 32],
}

/// Hexadecimal digits that make the first directory below the kind's.
const FAN_OUT_DIGITS: usize = 2;

impl ObjectName {
    pub(crate) const fn new(kind: ObjectKind, bytes: [u8; 32]) -> Self {
        Self { kind, bytes }
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The 32 bytes as 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        hex::encode(self.bytes)
    }

    /// Where the object lies, seen from the root of the vault: `v1/segments/ab/abcd…`.
    pub fn path(&self) -> String {
        let hex = self.hex();
        format!("{}/{}/{hex}", self.kind.directory(), &hex[..FAN_OUT_DIGITS])
    }

    /// The name of what lies at `file`, the last part of a path; none when it is not an object's.
    pub(crate) fn from_file(kind: ObjectKind, file: &str) -> Option<Self> {
        fixed_hex(file).map(|bytes| Self { kind, bytes })
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.as_str(), self.hex())
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no object name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an object name is KIND/ and 64 hexadecimal digits, got {0:?}")]
pub struct MalformedName(pub String);

impl FromStr for ObjectName {
    type Err = MalformedName;

    fn from_str(text: &str) -> Result<Self, MalformedName> {
        let malformed = || MalformedName(text.chars().take(80).collect());
        let (kind, digits) = text.split_once('/').ok_or_else(malformed)?;
        let kind = ObjectKind::ALL.into_iter().find(|k| k.as_str() == kind).ok_or_else(malformed)?;
        Self::from_file(kind, digits).ok_or_else(malformed)
    }
}

impl TryFrom<String> for ObjectName {
    type Error = MalformedName;

    fn try_from(text: String) -> Result<Self, MalformedName> {
        text.parse()
    }
}

impl From<ObjectName> for String {
    fn from(name: ObjectName) -> Self {
        name.to_string()
    }
}

/// Lower-case hexadecimal digits of exactly `N` bytes.
pub(crate) fn fixed_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
    (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

/// A hash as 64 hexadecimal digits.
pub(crate) mod hex_hash {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    use super::fixed_hex;

    pub(crate) fn serialize<S: Serializer>(hash: &[u8; 32], out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&hex::encode(hash))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        let digits = String::deserialize(from)?;
        fixed_hex(&digits).ok_or_else(|| D::Error::custom(format!("{digits:?} is no hash")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_through_text_and_path() {
        for kind in ObjectKind::ALL {
            let name = ObjectName::new(kind, [0xAB; 32]);
            assert_eq!(name.to_string().parse(), Ok(name));
            let path = name.path();
            let file = path.rsplit('/').next().expect("a file");
            assert_eq!(ObjectName::from_file(kind, file), Some(name));
            assert!(path.contains("/ab/abab"));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", "segment", "segment/ab", "thing/00", &format!("segment/{}", "AB".repeat(32))] {
            assert!(text.parse::<ObjectName>().is_err(), "{text}");
        }
    }
}
