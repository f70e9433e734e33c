//! Exports: the documents of a snapshot as files in a place outside the vault, and where such a job stands.

use std::{
    fmt::{self, Write as _},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{IllegalTransition, WallTime};

/// Name of a place that snapshots may be exported to, as the configuration of the server calls it and as the API calls
/// the bucket. It has the form of a bucket's name at S3.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PlaceName(String);

/// The text is no name of a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the name of a place for exports has 3 to 63 lower-case letters, digits, hyphens and periods, with a letter or a digit \
     at both ends; got {0:?}"
)]
pub struct MalformedPlaceName(pub String);

impl PlaceName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PlaceName {
    type Err = MalformedPlaceName;

    fn from_str(text: &str) -> Result<Self, MalformedPlaceName> {
        let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let ends = [bytes.first(), bytes.last()].into_iter().all(|end| end.is_some_and(plain));
        let inside = bytes.iter().all(|byte| plain(byte) || matches!(byte, b'-' | b'.'));
        if (3..=63).contains(&bytes.len()) && ends && inside {
            Ok(Self(text.to_owned()))
        } else {
            Err(MalformedPlaceName(text.chars().take(64).collect()))
        }
    }
}

impl TryFrom<String> for PlaceName {
    type Error = MalformedPlaceName;

    fn try_from(text: String) -> Result<Self, MalformedPlaceName> {
        text.parse()
    }
}

impl From<PlaceName> for String {
    fn from(name: PlaceName) -> Self {
        name.0
    }
}

impl fmt::Display for PlaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pair of words that whoever asks for an export gives, and finds again in the marker of its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// What it is called.
    pub key: String,
    /// What it says.
    pub value: String,
}

/// Where an export stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ExportState {
    /// Asked for; no worker has it. Leaves by `Claimed`, `CancelRequested` (acknowledged at once: nobody writes), `Failed`.
    Queued,
    /// A worker writes files. Leaves by `Finished`, `CancelRequested`, `Failed`.
    InProgress,
    /// It is not wanted any more; a worker may still be writing. Leaves by `Cancelled`, `Failed`.
    Cancelling,
    /// All files are in their place, and the marker that says so. No exit.
    Successful,
    /// It could not be done; the reason is recorded, and the marker is not there. No exit.
    Failed,
    /// Not wanted any more, and no worker writes any more. No exit.
    Cancelled,
}

/// What can happen to an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExportEvent {
    /// A worker took it up (or took it over).
    Claimed,
    /// It is not wanted any more.
    CancelRequested,
    /// The worker has stopped after a cancel.
    Cancelled,
    /// All files are in their place.
    Finished,
    /// It cannot be done.
    Failed,
}

impl ExportState {
    /// All states.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::InProgress, Self::Cancelling, Self::Successful, Self::Failed, Self::Cancelled];

    /// The word in the catalog.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InProgress => "inProgress",
            Self::Cancelling => "cancelling",
            Self::Successful => "successful",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The word of the Atlas API, which knows of no cancel that is under way.
    pub const fn as_atlas_str(self) -> &'static str {
        match self {
            Self::Queued => "Queued",
            Self::InProgress | Self::Cancelling => "InProgress",
            Self::Successful => "Successful",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
        }
    }

    /// Whether nothing happens any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Successful | Self::Failed | Self::Cancelled)
    }

    /// The state after `event`.
    ///
    /// # Errors
    /// [`IllegalTransition`] when this state has no such exit.
    pub fn next(self, event: ExportEvent) -> Result<Self, IllegalTransition> {
        use ExportEvent as E;
        match (self, event) {
            (Self::Queued | Self::InProgress, E::Claimed) => Ok(Self::InProgress),
            (Self::Cancelling, E::Claimed | E::CancelRequested) | (Self::InProgress, E::CancelRequested) => {
                Ok(Self::Cancelling)
            }
            (Self::Queued, E::CancelRequested) | (Self::Cancelling, E::Cancelled) => Ok(Self::Cancelled),
            (Self::InProgress, E::Finished) => Ok(Self::Successful),
            (Self::Queued | Self::InProgress | Self::Cancelling, E::Failed) => Ok(Self::Failed),
            (
                Self::Queued
                | Self::InProgress
                | Self::Cancelling
                | Self::Successful
                | Self::Failed
                | Self::Cancelled,
                _,
            ) => Err(IllegalTransition {
                machine: "export",
                state: self.as_str().to_owned(),
                event: format!("{event:?}"),
            }),
        }
    }
}

impl FromStr for ExportState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or_else(|| format!("unknown export state {text:?}"))
    }
}

/// Whose snapshot is exported, as far as the names of files tell it.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The organization: its id or its name.
    pub organization: &'a str,
    /// The project: its id or its name.
    pub project: &'a str,
    /// Name of the deployment.
    pub deployment: &'a str,
    /// When the snapshot was asked for.
    pub snapshot_requested_at: WallTime,
}

impl Origin<'_> {
    /// What the names of all files of an export begin with, in the form that Atlas has:
    /// `exported_snapshots/<organization>/<project>/<cluster>/<yyyy-MM-ddTHHmm of the snapshot>/<seconds of the export>`.
    pub fn prefix(&self, seconds: i64) -> String {
        let date = self.snapshot_requested_at.to_rfc3339();
        let (hour, minute) = (date.get(..13).unwrap_or_default(), date.get(14..16).unwrap_or_default());
        let [organization, project, deployment] =
            [self.organization, self.project, self.deployment].map(path_part);
        format!("{ROOT}/{organization}/{project}/{deployment}/{hour}{minute}/{seconds}")
    }
}

/// Longest part of a path: of every file system, and with room in the key of a bucket for what else is in it.
const PART_BYTES_MAX: usize = 200;

/// Whether a name, escaped, is short enough for a part of a path.
pub fn fits_a_path(name: &str) -> bool {
    path_part(name).len() <= PART_BYTES_MAX
}

/// A name as one part of a path: names of people's making may hold what no bucket and no file system takes. Escaped as in a URL.
fn path_part(name: &str) -> String {
    let is_dots = name.bytes().all(|byte| byte == b'.');
    let mut part = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) || (byte == b'.' && !is_dots) {
            part.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(part, "%{byte:02X}");
        }
    }
    part
}

/// The directory in a place below which all exports lie.
pub const ROOT: &str = "exported_snapshots";

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [ExportEvent; 5] = [
        ExportEvent::Claimed,
        ExportEvent::CancelRequested,
        ExportEvent::Cancelled,
        ExportEvent::Finished,
        ExportEvent::Failed,
    ];

    #[test]
    fn final_states_stay() {
        for state in ExportState::ALL.into_iter().filter(|s| s.is_final()) {
            for event in EVENTS {
                assert!(state.next(event).is_err(), "{state:?} left by {event:?}");
            }
        }
    }

    #[test]
    fn a_cancelled_export_never_succeeds() {
        assert_eq!(ExportState::Queued.next(ExportEvent::CancelRequested), Ok(ExportState::Cancelled));
        assert_eq!(ExportState::InProgress.next(ExportEvent::CancelRequested), Ok(ExportState::Cancelling));
        assert_eq!(ExportState::Cancelling.next(ExportEvent::Claimed), Ok(ExportState::Cancelling));
        assert!(ExportState::Cancelling.next(ExportEvent::Finished).is_err());
    }

    #[test]
    fn names_of_places_are_those_of_buckets() {
        for good in ["abc", "export-bucket", "a.b-c.0", &"a".repeat(63)] {
            assert_eq!(good.parse::<PlaceName>().map(String::from).as_deref(), Ok(good));
        }
        for bad in ["", "ab", "-abc", "abc.", "Abc", "a/b", "a b", "äbc", &"a".repeat(64)] {
            assert!(bad.parse::<PlaceName>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn the_prefix_is_that_of_atlas() {
        let origin = Origin {
            organization: "5ebb71de0000000000000001",
            project: "000000010202020202020202",
            deployment: "orders",
            snapshot_requested_at: WallTime(1_689_439_968_000),
        };
        assert_eq!(
            origin.prefix(1_689_467_312),
            "exported_snapshots/5ebb71de0000000000000001/000000010202020202020202/orders/2023-07-15T1652/1689467312"
        );
        let named = Origin { organization: "A & B/C", project: "..", ..origin };
        assert_eq!(
            named.prefix(1),
            "exported_snapshots/A%20%26%20B%2FC/%2E%2E/orders/2023-07-15T1652/1",
            "no name leads elsewhere"
        );
        assert!(
            fits_a_path(&"a".repeat(64)) && !fits_a_path(&"é".repeat(64)) && !fits_a_path(&"日".repeat(23))
        );
    }
}
