//! Days by which snapshots are kept longer than their retention says.

use serde::{Deserialize, Serialize};

use super::SnapshotKind;
use crate::Retention;

/// What `extraRetentionSettings` says: for each kind of snapshots at most one number of days.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<Extra>", into = "Vec<Extra>")]
pub struct ExtraRetention(Vec<Extra>);

/// One setting of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Extra {
    /// Which snapshots.
    pub frequency_type: SnapshotKind,
    /// How many days longer.
    pub retention_days: u32,
}

impl ExtraRetention {
    /// These settings, in the order in which they are given.
    ///
    /// # Errors
    /// [`BadExtra`] when a kind comes twice, or is kept no longer, or for more than a hundred years longer.
    pub fn new(settings: Vec<Extra>) -> Result<Self, BadExtra> {
        for (index, setting) in settings.iter().enumerate() {
            let kind = setting.frequency_type;
            if settings[..index].iter().any(|earlier| earlier.frequency_type == kind) {
                return Err(BadExtra::Twice(kind));
            }
            if !(1..=Retention::DAYS_MAX).contains(&setting.retention_days) {
                return Err(BadExtra::Days(setting.retention_days));
            }
        }
        Ok(Self(settings))
    }

    /// The settings, in the order in which they were given.
    pub fn settings(&self) -> &[Extra] {
        &self.0
    }

    /// How many days longer snapshots of that kind are kept.
    pub fn days(&self, kind: SnapshotKind) -> u32 {
        self.0
            .iter()
            .find(|setting| setting.frequency_type == kind)
            .map_or(0, |setting| setting.retention_days)
    }

    /// So many days, and those that a kind has besides.
    pub fn on_top_of(&self, days: u32, kind: SnapshotKind) -> u32 {
        days.saturating_add(self.days(kind)).min(Retention::DAYS_MAX)
    }
}

impl TryFrom<Vec<Extra>> for ExtraRetention {
    type Error = BadExtra;

    fn try_from(settings: Vec<Extra>) -> Result<Self, BadExtra> {
        Self::new(settings)
    }
}

impl From<ExtraRetention> for Vec<Extra> {
    fn from(extra: ExtraRetention) -> Self {
        extra.0
    }
}

/// No extra retention is like that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadExtra {
    /// Which of the two counts?
    #[error("the extra retention of {} snapshots is given twice", .0.as_str())]
    Twice(SnapshotKind),
    /// Nothing, or rather a slip than a wish.
    #[error("an extra retention is 1 to {most} days, not {0}", most = Retention::DAYS_MAX)]
    Days(u32),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::FrequencyType;

    const WEEKLY: SnapshotKind = SnapshotKind::Scheduled(FrequencyType::Weekly);

    #[test]
    fn each_kind_has_its_own_days() -> Result<(), BadExtra> {
        let extra = |frequency_type, retention_days| Extra { frequency_type, retention_days };
        let kept = ExtraRetention::new(vec![extra(SnapshotKind::OnDemand, 3), extra(WEEKLY, 14)])?;
        assert_eq!((kept.days(WEEKLY), kept.days(SnapshotKind::OnDemand)), (14, 3));
        assert_eq!(kept.on_top_of(7, WEEKLY), 21);
        assert_eq!(kept.on_top_of(7, SnapshotKind::Scheduled(FrequencyType::Daily)), 7);
        assert_eq!(kept.on_top_of(Retention::DAYS_MAX, WEEKLY), Retention::DAYS_MAX);
        let twice = ExtraRetention::new(vec![extra(WEEKLY, 1), extra(WEEKLY, 2)]);
        assert_eq!(twice, Err(BadExtra::Twice(WEEKLY)));
        for days in [0, Retention::DAYS_MAX + 1] {
            assert_eq!(ExtraRetention::new(vec![extra(WEEKLY, days)]), Err(BadExtra::Days(days)));
        }
        Ok(())
    }

    #[test]
    fn what_is_kept_is_checked_when_it_is_read() {
        let text = r#"[{"frequencyType":"ON_DEMAND","retentionDays":3},{"frequencyType":"YEARLY","retentionDays":1}]"#;
        let read = serde_json::from_str::<ExtraRetention>(text);
        assert!(read.is_ok_and(|kept| serde_json::to_string(&kept).is_ok_and(|again| again == text)));
        assert!(serde_json::from_str::<ExtraRetention>(&text.replace("YEARLY", "ON_DEMAND")).is_err());
        assert!(serde_json::from_str::<ExtraRetention>(&text.replace("YEARLY", "yearly")).is_err());
    }
}
