//! On which terms the archive of a download is offered.

use std::fmt;

/// How long a link lives, from when its archive is ready, and how many complete downloads it is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkTerms {
    hours: u32,
    downloads: u32,
}

const HOUR_MS: i64 = 3_600_000;

impl LinkTerms {
    /// The longest life of a link: a year. Its archive takes up room in the vault for so long.
    pub const HOURS_MAX: u32 = 8_760;
    /// The most downloads: as many as Atlas can write.
    pub const DOWNLOADS_MAX: u32 = i32::MAX as u32;
    /// What a link of Cloud Backup is: used once, within an hour.
    pub const ONCE_WITHIN_AN_HOUR: Self = Self { hours: 1, downloads: 1 };
    /// What a link of a flex cluster is: used for four hours.
    pub const FOUR_HOURS: Self = Self { hours: 4, downloads: Self::DOWNLOADS_MAX };

    /// A link for so many hours and downloads.
    ///
    /// # Errors
    /// [`BadLinkTerms`] when one of them is nothing, or more than a link may have.
    pub const fn new(hours: u32, downloads: u32) -> Result<Self, BadLinkTerms> {
        if hours < 1 || hours > Self::HOURS_MAX {
            return Err(BadLinkTerms::Hours(hours));
        }
        if downloads < 1 || downloads > Self::DOWNLOADS_MAX {
            return Err(BadLinkTerms::Downloads(downloads));
        }
        Ok(Self { hours, downloads })
    }

    /// How long it lives, in hours.
    pub const fn hours(self) -> u32 {
        self.hours
    }

    /// How long it lives, in milliseconds.
    pub const fn life_ms(self) -> i64 {
        self.hours as i64 * HOUR_MS
    }

    /// How many complete downloads it is good for.
    pub const fn downloads(self) -> u32 {
        self.downloads
    }
}

impl Default for LinkTerms {
    fn default() -> Self {
        Self::ONCE_WITHIN_AN_HOUR
    }
}

/// No link is like that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadLinkTerms {
    /// It lives for no time, or for longer than a year.
    Hours(u32),
    /// It is good for nothing, or for more downloads than can be told.
    Downloads(u32),
}

impl fmt::Display for BadLinkTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hours(hours) => {
                write!(f, "a link lives for 1 to {} hours, not {hours}", LinkTerms::HOURS_MAX)
            }
            Self::Downloads(downloads) => {
                let most = LinkTerms::DOWNLOADS_MAX;
                write!(f, "a link is good for 1 to {most} downloads, not {downloads}")
            }
        }
    }
}

impl std::error::Error for BadLinkTerms {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_good_for_something_and_not_for_ever() {
        assert_eq!(LinkTerms::new(1, 1), Ok(LinkTerms::ONCE_WITHIN_AN_HOUR));
        assert!(LinkTerms::new(LinkTerms::HOURS_MAX, LinkTerms::DOWNLOADS_MAX).is_ok());
        for hours in [0, LinkTerms::HOURS_MAX + 1, u32::MAX] {
            assert_eq!(LinkTerms::new(hours, 1), Err(BadLinkTerms::Hours(hours)));
        }
        for downloads in [0, LinkTerms::DOWNLOADS_MAX + 1, u32::MAX] {
            assert_eq!(LinkTerms::new(1, downloads), Err(BadLinkTerms::Downloads(downloads)));
        }
        assert_eq!(LinkTerms::FOUR_HOURS.life_ms(), 4 * 3_600_000);
    }
}
