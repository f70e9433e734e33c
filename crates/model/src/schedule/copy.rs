//! Which snapshots of a deployment are copied to other vaults.

use serde::{Deserialize, Serialize};

use super::SnapshotKind;
use crate::{
    WallTime,
    copy::{CloudProvider, RegionName},
};

/// Which snapshots are copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Copied {
    /// Those of these kinds that are completed from the time of the setting on, for as long as they are kept.
    Kinds(Vec<SnapshotKind>),
    /// Those that were completed last, this many.
    Latest(u32),
}

/// What is copied to one region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CopySetting {
    /// Whose region it is said to be.
    pub provider: CloudProvider,
    /// The region.
    pub region: RegionName,
    /// The zone, or the replication specification, that the client has said; a replica set has only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Which snapshots.
    pub copied: Copied,
    /// Whether the record of operations is copied too.
    pub oplogs: bool,
    /// From when on it holds.
    pub since: WallTime,
}

impl CopySetting {
    /// Whether both ask for the same copies.
    pub fn is_like(&self, other: &Self) -> bool {
        let Self { provider, region, zone: _, copied, oplogs, since: _ } = self;
        (provider, region, copied, oplogs) == (&other.provider, &other.region, &other.copied, &other.oplogs)
    }
}

/// What `copySettings` says: at most one setting for each region.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<CopySetting>", into = "Vec<CopySetting>")]
pub struct CopySettings(Vec<CopySetting>);

impl CopySettings {
    /// Most snapshots that are the last ones.
    pub const LATEST_MAX: u32 = 500;

    /// These settings, in the order in which they are given.
    ///
    /// # Errors
    /// [`BadCopySettings`] when a region comes twice, or one is to get nothing, or a kind twice.
    pub fn new(settings: Vec<CopySetting>) -> Result<Self, BadCopySettings> {
        for (index, setting) in settings.iter().enumerate() {
            let region = &setting.region;
            if settings[..index].iter().any(|earlier| earlier.region == *region) {
                return Err(BadCopySettings::Twice(region.clone()));
            }
            match &setting.copied {
                Copied::Latest(count) if !(1..=Self::LATEST_MAX).contains(count) => {
                    return Err(BadCopySettings::Latest(*count));
                }
                Copied::Kinds(kinds) if kinds.is_empty() => {
                    return Err(BadCopySettings::Nothing(region.clone()));
                }
                Copied::Kinds(kinds) => {
                    let twice = kinds.iter().enumerate().find(|(at, kind)| kinds[..*at].contains(kind));
                    if let Some((_, kind)) = twice {
                        return Err(BadCopySettings::KindTwice(*kind));
                    }
                }
                Copied::Latest(_) => {}
            }
        }
        Ok(Self(settings))
    }

    /// The settings, in the order in which they were given.
    pub fn settings(&self) -> &[CopySetting] {
        &self.0
    }

    /// What holds for a region.
    pub fn of(&self, region: &RegionName) -> Option<&CopySetting> {
        self.0.iter().find(|setting| setting.region == *region)
    }

    /// The same settings, where those that `before` had like that hold since then.
    #[must_use]
    pub fn following(mut self, before: &Self) -> Self {
        for setting in &mut self.0 {
            if let Some(earlier) =
                before.of(&setting.region).filter(|earlier| earlier.copied == setting.copied)
            {
                setting.since = earlier.since;
            }
        }
        self
    }
}

impl TryFrom<Vec<CopySetting>> for CopySettings {
    type Error = BadCopySettings;

    fn try_from(settings: Vec<CopySetting>) -> Result<Self, BadCopySettings> {
        Self::new(settings)
    }
}

impl From<CopySettings> for Vec<CopySetting> {
    fn from(settings: CopySettings) -> Self {
        settings.0
    }
}

/// No copy settings are like that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCopySettings {
    /// Which of the two counts?
    #[error("the region {0} has two copy settings")]
    Twice(RegionName),
    /// A setting that copies nothing is a slip.
    #[error("nothing is to be copied to {0}: name frequencies, or lastNumberOfSnapshots")]
    Nothing(RegionName),
    /// The same.
    #[error("the frequency {} is given twice", .0.as_str())]
    KindTwice(SnapshotKind),
    /// Out of what Atlas allows.
    #[error("the last 1 to {most} snapshots can be copied, not {0}", most = CopySettings::LATEST_MAX)]
    Latest(u32),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn setting(region: &str, copied: Copied, since: i64) -> CopySetting {
        CopySetting {
            provider: CloudProvider::Aws,
            region: region.parse().unwrap(),
            zone: None,
            copied,
            oplogs: false,
            since: WallTime(since),
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let kinds = |kinds: &[SnapshotKind]| Copied::Kinds(kinds.to_vec());
        let one = |copied| CopySettings::new(vec![setting("EU_WEST_1", copied, 0)]);
        assert!(one(kinds(&[SnapshotKind::OnDemand])).is_ok() && one(Copied::Latest(500)).is_ok());
        assert!(matches!(one(kinds(&[])), Err(BadCopySettings::Nothing(_))));
        let twice = kinds(&[SnapshotKind::OnDemand, SnapshotKind::OnDemand]);
        assert_eq!(one(twice), Err(BadCopySettings::KindTwice(SnapshotKind::OnDemand)));
        for count in [0, 501] {
            assert_eq!(one(Copied::Latest(count)), Err(BadCopySettings::Latest(count)));
        }
        let both = [1, 2].map(|count| setting("EU_WEST_1", Copied::Latest(count), 0));
        assert!(matches!(CopySettings::new(both.to_vec()), Err(BadCopySettings::Twice(_))));
    }

    #[test]
    fn what_stays_as_it_was_holds_since_then() {
        let settings = |copied: Copied, oplogs, since| {
            let one = CopySetting { oplogs, ..setting("EU_WEST_1", copied, since) };
            CopySettings::new(vec![one]).unwrap()
        };
        let daily = || Copied::Kinds(vec![SnapshotKind::OnDemand]);
        let before = settings(daily(), false, 1);
        let since = |after: CopySettings| after.following(&before).settings()[0].since;
        assert_eq!(since(settings(daily(), true, 2)), WallTime(1), "the record comes besides");
        assert_eq!(since(settings(Copied::Latest(3), false, 2)), WallTime(2));
        let text = serde_json::to_string(&before).unwrap();
        assert_eq!(serde_json::from_str::<CopySettings>(&text).unwrap(), before);
        assert!(serde_json::from_str::<CopySettings>(&text.replace("EU_WEST_1", "eu")).is_err());
    }
}
