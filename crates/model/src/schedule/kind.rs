//! Kinds of snapshots, as settings of a schedule tell them apart.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Frequency, FrequencyType, Policy};
use crate::id::PolicyItemId;

/// A kind of snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum SnapshotKind {
    /// Those that a schedule counts as of this type.
    Scheduled(FrequencyType),
    /// Those that somebody asks for.
    OnDemand,
}

impl SnapshotKind {
    /// The word on the wire, which Atlas writes in capitals here.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled(FrequencyType::Hourly) => "HOURLY",
            Self::Scheduled(FrequencyType::Daily) => "DAILY",
            Self::Scheduled(FrequencyType::Weekly) => "WEEKLY",
            Self::Scheduled(FrequencyType::Monthly) => "MONTHLY",
            Self::Scheduled(FrequencyType::Yearly) => "YEARLY",
            Self::OnDemand => "ON_DEMAND",
        }
    }

    /// Whether a snapshot that a schedule took is of this kind: it counts as of that type, or an item of that type wanted it too.
    pub fn is_of(self, policy: &Policy, counted_as: Frequency, wanted_by: &[PolicyItemId]) -> bool {
        let Self::Scheduled(kind) = self else { return false };
        let of_type = |id: &PolicyItemId| policy.item(*id).is_some_and(|item| item.frequency.kind() == kind);
        counted_as.kind() == kind || wanted_by.iter().any(of_type)
    }
}

impl FromStr for SnapshotKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = FrequencyType::ALL.into_iter().map(Self::Scheduled).chain([Self::OnDemand]);
        let found = { all }.find(|kind| kind.as_str() == text);
        found.ok_or_else(|| {
            format!("snapshots are HOURLY, DAILY, WEEKLY, MONTHLY, YEARLY or ON_DEMAND, not {text:?}")
        })
    }
}

impl TryFrom<String> for SnapshotKind {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<SnapshotKind> for &'static str {
    fn from(kind: SnapshotKind) -> Self {
        kind.as_str()
    }
}
