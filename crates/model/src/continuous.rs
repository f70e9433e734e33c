//! What a deployment's operator asks of continuous backup.

use serde::{Deserialize, Serialize};

use crate::{ClusterTime, WallTime};

const DAY_SECONDS: i64 = 86_400;

/// Whether the operations of a deployment are recorded, and how far back their record reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContinuousBackup {
    /// Whether they are recorded. Atlas calls it `pitEnabled`.
    pub pit_enabled: bool,
    /// So many days back every time can be restored; what is older goes.
    pub restore_window_days: RestoreWindowDays,
}

/// The length of a restore window: 1 to 365 days.
///
/// At least a day, as Atlas asks for a positive number. At most a year: every day of the window keeps all that the
/// deployment wrote in it, so a larger number is rather a slip than a wish, and whoever wants to go back further keeps
/// snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct RestoreWindowDays(u32);

impl RestoreWindowDays {
    /// The shortest window.
    pub const MIN: Self = Self(1);
    /// The longest window.
    pub const MAX: Self = Self(365);
    /// What Atlas begins with.
    pub const DEFAULT: Self = Self(7);

    /// A window of so many days.
    ///
    /// # Errors
    /// [`BadRestoreWindow`] when it is shorter or longer than any window may be.
    pub const fn new(days: u32) -> Result<Self, BadRestoreWindow> {
        if days < Self::MIN.0 || days > Self::MAX.0 { Err(BadRestoreWindow(days)) } else { Ok(Self(days)) }
    }

    /// So many days.
    pub const fn days(self) -> u32 {
        self.0
    }

    /// Where the window begins at `now`, as a cluster time: before all operations of that second. `now` by the clock of
    /// the deployment, which need not go as ours.
    pub fn begins(self, now: WallTime) -> ClusterTime {
        let seconds = now.seconds().saturating_sub(i64::from(self.0) * DAY_SECONDS).max(0);
        ClusterTime { seconds: u32::try_from(seconds).unwrap_or(u32::MAX), increment: 0 }
    }

    /// Where the window begins at `now`, on our own clock.
    pub fn begins_at(self, now: WallTime) -> WallTime {
        now.plus_ms(i64::from(self.0) * DAY_SECONDS * -1_000)
    }
}

impl Default for RestoreWindowDays {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl TryFrom<u32> for RestoreWindowDays {
    type Error = BadRestoreWindow;

    fn try_from(days: u32) -> Result<Self, BadRestoreWindow> {
        Self::new(days)
    }
}

impl From<RestoreWindowDays> for u32 {
    fn from(window: RestoreWindowDays) -> Self {
        window.0
    }
}

/// No window is so short, or so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a restore window has {min} to {max} days, not {0}", min = RestoreWindowDays::MIN.0, max = RestoreWindowDays::MAX.0)]
pub struct BadRestoreWindow(pub u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_have_bounds() {
        for days in [1, 7, 365] {
            assert_eq!(RestoreWindowDays::new(days).map(RestoreWindowDays::days), Ok(days));
        }
        for days in [0, 366, u32::MAX] {
            assert_eq!(RestoreWindowDays::new(days), Err(BadRestoreWindow(days)));
            assert!(serde_json::from_str::<RestoreWindowDays>(&days.to_string()).is_err());
        }
        assert_eq!(BadRestoreWindow(0).to_string(), "a restore window has 1 to 365 days, not 0");
    }

    #[test]
    fn a_window_begins_so_many_days_ago() {
        let week = RestoreWindowDays::DEFAULT;
        let now = WallTime(8 * DAY_SECONDS * 1000 + 999);
        assert_eq!(week.begins(now), ClusterTime { seconds: 86_400, increment: 0 });
        assert_eq!(week.begins_at(now), WallTime(DAY_SECONDS * 1000 + 999));
        assert_eq!(week.begins(WallTime(5)), ClusterTime::default(), "no deployment is older than the epoch");
        assert_eq!(week.begins(WallTime(i64::MAX)).seconds, u32::MAX);
    }
}
