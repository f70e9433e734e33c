//! Which of the snapshots that a schedule takes are exported by themselves.

use super::{Frequency, FrequencyType, Policy, SnapshotKind};
use crate::id::{ExportBucketId, PolicyItemId};

/// What is exported, and where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExportPolicy {
    /// The bucket.
    pub bucket_id: ExportBucketId,
    /// Snapshots of this type; not hourly ones.
    pub frequency: FrequencyType,
}

impl ExportPolicy {
    /// Whether a snapshot is one that is exported: it counts as of that type, or an item of that type wanted it too.
    pub fn wants(&self, policy: &Policy, counted_as: Frequency, wanted_by: &[PolicyItemId]) -> bool {
        SnapshotKind::Scheduled(self.frequency).is_of(policy, counted_as, wanted_by)
    }
}

/// Whether snapshots are exported by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AutoExport {
    /// Nobody has said what to export.
    #[default]
    Unset,
    /// It is known what to export, and nothing is.
    Off(ExportPolicy),
    /// What is completed from now on is exported.
    On(ExportPolicy),
}

impl AutoExport {
    /// What to export, if that is known.
    pub const fn policy(&self) -> Option<ExportPolicy> {
        match self {
            Self::Unset => None,
            Self::Off(policy) | Self::On(policy) => Some(*policy),
        }
    }

    /// Whether anything is exported.
    pub const fn is_on(&self) -> bool {
        matches!(self, Self::On(_))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        Retention, RetentionUnit,
        schedule::{FrequencyType as F, PolicyItem},
    };

    #[test]
    fn a_snapshot_that_stands_for_several_items_is_exported_for_each_of_them() {
        let item = |number: u8, kind, interval| PolicyItem {
            id: PolicyItemId::from_bytes([number; 12]),
            frequency: Frequency::new(kind, interval).unwrap(),
            retention: Retention::new(RetentionUnit::Years, 2).unwrap(),
        };
        let items = [item(1, F::Daily, 1), item(2, F::Weekly, 6), item(3, F::Monthly, 40)];
        let policy = Policy::new(items.to_vec()).unwrap();
        let wants = |frequency, counted_as: PolicyItem, wanted_by: &[PolicyItem]| {
            let wanted_by: Vec<_> = wanted_by.iter().map(|item| item.id).collect();
            ExportPolicy { bucket_id: ExportBucketId::from_bytes([9; 12]), frequency }.wants(
                &policy,
                counted_as.frequency,
                &wanted_by,
            )
        };
        let [daily, weekly, monthly] = items;
        assert!(wants(F::Monthly, monthly, &[monthly, weekly, daily]));
        assert!(wants(F::Weekly, monthly, &[monthly, weekly, daily]), "it is the weekly one too");
        assert!(!wants(F::Weekly, monthly, &[monthly, daily]));
        assert!(!wants(F::Monthly, daily, &[daily]));
        assert!(!wants(F::Yearly, monthly, &[monthly, weekly]));
    }
}
