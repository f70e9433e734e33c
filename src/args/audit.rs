//! `ebbtide audit …`: who changed what.

use clap::Subcommand;
use model::WallTime;

/// `ebbtide audit …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// List changes, newest first: who made them or tried to, from where, and how it ended.
    #[command(after_help = "\
Without --project, the changes in all projects and those to the server itself, for owners of the organization. --organization
says so where EBBTIDE_PROJECT names a project. What is refused is listed as well. An outcome that is `unknown` is that of a
change which is under way, or which the server did not live to see the end of.

TIME is a time (RFC 3339), or so long ago: 30min, 12h, 7d.

Examples:
  ebbtide audit list --project 68a7…
  ebbtide audit list --project 68a7… --since 7d --limit 1000 --output json
  ebbtide audit list --organization --since 2026-01-02T00:00:00Z --until 2026-01-03T00:00:00Z --operation ebbtideAddCluster")]
    List {
        /// The project.
        #[arg(long, env = "EBBTIDE_PROJECT")]
        project: Option<String>,
        /// All projects, and what belongs to none.
        #[arg(long)]
        organization: bool,
        /// Nothing from before this time.
        #[arg(long, value_name = "TIME", value_parser = since)]
        since: Option<Since>,
        /// Nothing from after this time.
        #[arg(long, value_name = "TIME", value_parser = since)]
        until: Option<Since>,
        /// Only this operation, such as createGroupClusterBackupRestoreJob, or a command such as 'admin create-key'.
        #[arg(long)]
        operation: Option<String>,
        /// So many lines at most.
        #[arg(long, default_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
}

/// A time, or one that is so long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// This one.
    Time(WallTime),
    /// So many milliseconds ago.
    Ago(i64),
}

impl Since {
    /// The time that is meant, when it is `now`.
    pub(crate) fn time(self, now: WallTime) -> WallTime {
        match self {
            Self::Time(time) => time,
            Self::Ago(milliseconds) => now.plus_ms(-milliseconds),
        }
    }
}

fn since(text: &str) -> Result<Since, String> {
    const UNITS: [(&str, i64); 3] = [("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    if let Some(time) = WallTime::parse_rfc3339(text) {
        return Ok(Since::Time(time));
    }
    let ago = UNITS.into_iter().find_map(|(unit, length)| {
        let count: u32 = text.strip_suffix(unit)?.parse().ok()?;
        i64::from(count).checked_mul(length)
    });
    ago.map(Since::Ago).ok_or_else(|| {
        format!("{text:?} is neither a time such as 2026-01-02T03:04:05Z nor so long ago, such as 30min, 12h or 7d")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let now = WallTime(1_000_000_000_000);
        for (text, expected) in [
            ("1970-01-01T00:00:01Z", Some(WallTime(1000))),
            ("30min", Some(now.plus_ms(-1_800_000))),
            ("12h", Some(now.plus_ms(-43_200_000))),
            ("7d", Some(now.plus_ms(-604_800_000))),
            ("7", None),
            ("d", None),
            ("-7d", None),
            ("7w", None),
            ("yesterday", None),
            ("99999999999d", None),
        ] {
            assert_eq!(since(text).ok().map(|since| since.time(now)), expected, "{text}");
        }
    }
}
