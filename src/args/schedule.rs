//! `ebbtide schedule …`: when snapshots are taken by themselves, as words.

use std::str::FromStr;

use clap::{Args, Subcommand};
use model::{
    Retention, RetentionUnit,
    copy::RegionName,
    schedule::{CopySettings, Frequency, FrequencyType, ReferenceTime, SnapshotKind},
};

use super::Target;

/// `ebbtide schedule …`.
#[derive(Debug, Subcommand)]
pub(crate) enum Schedule {
    /// Show when snapshots of a deployment are taken by themselves, and how long they are kept.
    #[command(after_help = "Example:\n  ebbtide schedule show orders --project 68a7…")]
    Show {
        #[command(flatten)]
        target: Target,
    },
    /// Have snapshots of a deployment taken by themselves, from the next time on.
    #[command(after_help = "\
All times are in UTC. What is given stands for the whole schedule: what it has else is taken no more. With --at alone only
the time of day changes. Where several snapshots are due at one time, one is taken and kept as long as the longest of them.
KEEP is a number of days, weeks, months or years: 7d, 4w, 12m, 1y. What is taken more seldom is kept at least as long.

Examples:
  ebbtide schedule set orders --project 68a7… --default
  ebbtide schedule set orders --project 68a7… --daily 7d --at 02:30
  ebbtide schedule set orders --project 68a7… --hourly 6=2d --daily 7d --weekly sat=4w --monthly last=12m --yearly jan=7y
  ebbtide schedule set orders --project 68a7… --daily 14d --weekly mon=8w --weekly thu=8w --update-snapshots --delete-snapshots
  ebbtide schedule set orders --project 68a7… --at 03:00")]
    Set {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        plan: Plan,
        /// Keep the snapshots that were taken already as long as the new ones.
        #[arg(long)]
        update_snapshots: bool,
        /// Delete the snapshots of what is taken no more; without it they stay until they expire.
        #[arg(long)]
        delete_snapshots: bool,
    },
    /// Have snapshots of a deployment copied to another vault, or no more.
    #[command(after_help = "\
A region is another vault that the server's configuration names, such as [copies.EU_WEST_1]. A copy is as whole and as sealed
as the snapshot, and is kept as long: with the master key it can be restored from when the first vault is lost.
What is given stands for all that is copied there; other regions stay as they are.

Examples:
  ebbtide schedule copy orders --project 68a7… --to EU_WEST_1 --of daily,weekly,on-demand
  ebbtide schedule copy orders --project 68a7… --to EU_WEST_1 --latest 3 --oplogs
  ebbtide schedule copy orders --project 68a7… --to EU_WEST_1 --stop --delete-copies")]
    Copy {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        what: CopyWhat,
    },
    /// Have no more snapshots taken by themselves; those that were taken stay until they expire.
    #[command(after_help = "Example:\n  ebbtide schedule delete orders --project 68a7…")]
    Delete {
        #[command(flatten)]
        target: Target,
    },
}

/// What is to be copied, and where to.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct CopyWhat {
    /// The region, as the server's configuration names it.
    #[arg(long, value_name = "REGION")]
    pub(crate) to: RegionName,
    /// Snapshots of these kinds that are completed from now on: hourly, daily, weekly, monthly, yearly, on-demand.
    #[arg(long, value_name = "KINDS", value_delimiter = ',', value_parser = kind)]
    #[arg(required_unless_present_any = ["latest", "stop"], conflicts_with_all = ["latest", "stop"])]
    pub(crate) of: Vec<SnapshotKind>,
    /// The last so many snapshots, whenever they were taken, and no others.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=i64::from(CopySettings::LATEST_MAX)))]
    #[arg(conflicts_with = "stop")]
    pub(crate) latest: Option<u32>,
    /// Copy the record of operations too, for restores to a point in time.
    #[arg(long, conflicts_with = "stop")]
    pub(crate) oplogs: bool,
    /// Copy nothing there any more; copies stay as long as their snapshots.
    #[arg(long)]
    pub(crate) stop: bool,
    /// Delete the copies that are there.
    #[arg(long, requires = "stop")]
    pub(crate) delete_copies: bool,
}

fn kind(text: &str) -> Result<SnapshotKind, String> {
    let word = text.to_ascii_uppercase().replace('-', "_");
    word.parse().map_err(|_| {
        format!("{text:?} is no kind of snapshots: write hourly, daily, weekly, monthly, yearly or on-demand")
    })
}

/// What is to be taken: at least one thing.
#[derive(Debug, Args)]
#[group(id = "plan", required = true, multiple = true)]
pub(crate) struct Plan {
    /// What Atlas takes: every 6 hours and daily, kept for 7 days; on Saturdays, 4 weeks; on the last day of the month, 12
    /// months; on December 1st, a year.
    #[arg(long, conflicts_with_all = ["hourly", "daily", "weekly", "monthly", "yearly"])]
    pub(crate) default: bool,
    /// Every so many hours: 1, 2, 4, 6, 8 or 12.
    #[arg(long, value_name = "HOURS=KEEP", value_parser = hourly)]
    hourly: Option<Rule>,
    /// Every day.
    #[arg(long, value_name = "KEEP", value_parser = daily)]
    daily: Option<Rule>,
    /// On a day of the week, mon to sun; may be given several times.
    #[arg(long, value_name = "DAY=KEEP", value_parser = weekly)]
    weekly: Vec<Rule>,
    /// On a day of the month, 1 to 28 or last; may be given several times.
    #[arg(long, value_name = "DAY=KEEP", value_parser = monthly)]
    monthly: Vec<Rule>,
    /// On the first day of a month, jan to dec; may be given several times.
    #[arg(long, value_name = "MONTH=KEEP", value_parser = yearly)]
    yearly: Vec<Rule>,
    /// Time of day, in UTC; hours are counted from it.
    #[arg(long, value_name = "HH:MM", value_parser = time_of_day)]
    pub(crate) at: Option<ReferenceTime>,
}

impl Plan {
    /// What is to be taken; nothing when only the time of day changes.
    pub(crate) fn rules(&self) -> Vec<Rule> {
        if self.default {
            let default = model::schedule::Schedule::DEFAULT_ITEMS.into_iter();
            let rule = |(kind, interval, unit, value): (_, u8, _, _)| {
                let frequency = Frequency::new(kind, interval.into()).ok()?;
                Some(Rule { frequency, retention: Retention::new(unit, value).ok()? })
            };
            return default.filter_map(rule).collect();
        }
        let once = self.hourly.iter().chain(&self.daily);
        once.chain(&self.weekly).chain(&self.monthly).chain(&self.yearly).copied().collect()
    }
}

/// How often, and how long it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) frequency: Frequency,
    pub(crate) retention: Retention,
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

pub(super) fn hourly(text: &str) -> Result<Rule, String> {
    rule(FrequencyType::Hourly, text, "6=2d", number)
}

pub(super) fn daily(text: &str) -> Result<Rule, String> {
    rule(FrequencyType::Daily, &format!("1={text}"), "7d", |_| Some(1))
}

pub(super) fn weekly(text: &str) -> Result<Rule, String> {
    rule(FrequencyType::Weekly, text, "sat=4w", |day| place(&DAYS, day))
}

pub(super) fn monthly(text: &str) -> Result<Rule, String> {
    rule(FrequencyType::Monthly, text, "1=12m or last=12m", |day| match day {
        "last" => Some(Frequency::LAST_DAY.into()),
        // The API's number of the last day is no day of the month.
        day => number(day).filter(|day| *day <= 31),
    })
}

pub(super) fn yearly(text: &str) -> Result<Rule, String> {
    rule(FrequencyType::Yearly, text, "jan=7y", |month| place(&MONTHS, month))
}

/// `WHEN=KEEP`, with what WHEN means.
fn rule(
    kind: FrequencyType,
    text: &str,
    example: &str,
    interval: impl Fn(&str) -> Option<i64>,
) -> Result<Rule, String> {
    let malformed = || format!("write it like {example}");
    let (when, keep) = text.split_once('=').ok_or_else(malformed)?;
    let interval = interval(when).ok_or_else(malformed)?;
    let frequency = Frequency::new(kind, interval).map_err(|bad| bad.to_string())?;
    Ok(Rule { frequency, retention: kept(keep)? })
}

/// The number of a name, from 1 on.
fn place(names: &[&str], name: &str) -> Option<i64> {
    let place = names.iter().position(|known| known.eq_ignore_ascii_case(name))?;
    i64::try_from(place + 1).ok()
}

pub(super) fn kept(text: &str) -> Result<Retention, String> {
    let malformed = || format!("{text:?} is no time to keep a snapshot: write 7d, 4w, 12m or 1y");
    let units = [
        ('d', RetentionUnit::Days),
        ('w', RetentionUnit::Weeks),
        ('m', RetentionUnit::Months),
        ('y', RetentionUnit::Years),
    ];
    let found = units.iter().find_map(|(letter, unit)| Some((text.strip_suffix(*letter)?, *unit)));
    let (value, unit) = found.ok_or_else(malformed)?;
    Retention::new(unit, number(value).ok_or_else(malformed)?).map_err(|bad| bad.to_string())
}

/// Digits, and nothing else.
fn number<N: FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn time_of_day(text: &str) -> Result<ReferenceTime, String> {
    let parts = text.split_once(':').and_then(|(hour, minute)| {
        let is_short = hour.len() <= 2 && minute.len() == 2;
        is_short.then_some((number(hour)?, number(minute)?))
    });
    let (hour, minute) = parts.ok_or_else(|| format!("{text:?} is no time of day such as 02:30"))?;
    ReferenceTime::new(hour, minute).map_err(|bad| bad.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(rule: Result<Rule, String>) -> Result<String, String> {
        rule.map(|rule| format!("{} {}", rule.frequency, rule.retention))
    }

    #[test]
    fn rules_are_read_as_a_person_writes_them() {
        for (read, expected) in [
            (hourly("6=2d"), "hourly/6 2 days"),
            (daily("7d"), "daily/1 7 days"),
            (weekly("sat=4w"), "weekly/6 4 weeks"),
            (weekly("Mon=1w"), "weekly/1 1 week"),
            (monthly("last=12m"), "monthly/40 12 months"),
            (monthly("28=12m"), "monthly/28 12 months"),
            (yearly("dec=1y"), "yearly/12 1 year"),
        ] {
            assert_eq!(told(read).as_deref(), Ok(expected));
        }
        for bad in [
            hourly("5=2d"),
            hourly("2d"),
            daily("0d"),
            daily("7"),
            daily("d"),
            daily("-7d"),
            daily("+7d"),
            weekly("8=4w"),
            weekly("someday=4w"),
            monthly("29=1y"),
            monthly("40=1y"),
            yearly("13=1y"),
            yearly("jan=101y"),
            yearly("jan"),
        ] {
            assert!(bad.is_err(), "{bad:?}");
        }
        assert_eq!(kind("on-demand"), Ok(SnapshotKind::OnDemand));
        assert_eq!(kind("Weekly"), Ok(SnapshotKind::Scheduled(FrequencyType::Weekly)));
        assert!(kind("sometimes").is_err());
        assert_eq!(time_of_day("02:30").map(|at| (at.hour(), at.minute())), Ok((2, 30)));
        for bad in ["24:00", "02:60", "2", "2:3", "02:30:00", "+2:30", "é:30"] {
            assert!(time_of_day(bad).is_err(), "{bad}");
        }
    }
}
