//! Backup compliance policies: the least that every deployment of a project is backed up, and for how long nobody deletes that.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    RestoreWindowDays, Retention,
    id::PolicyItemId,
    schedule::{BadPolicy, Frequency, FrequencyType, Policy, PolicyItem},
};

/// Longest name or address of a person, in characters.
pub const PERSON_CHARACTERS_MAX: usize = 254;

/// What nobody in a project may fall short of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompliancePolicy {
    /// Whom to ask about it.
    pub authorized: Person,
    /// What every schedule has to take at least. Where an item says at which times of its kind, that counts for hourly ones only:
    /// a weekly one asks for a snapshot each week, on whatever day.
    pub scheduled: Policy,
    /// How long what is taken on demand is kept at least.
    pub on_demand: Option<OnDemandItem>,
    /// That operations are recorded, and so many days of them kept at least.
    pub continuous: Option<RestoreWindowDays>,
    /// That what is kept is sealed with a key of one's own, which it is, with or without a policy.
    pub encryption_at_rest: bool,
    /// That copies of snapshots in other vaults stay as long as the snapshots, whatever becomes of the setting that made them.
    #[serde(default)]
    pub copies_protected: bool,
    /// What was said besides.
    #[serde(default)]
    pub unheeded: Unheeded,
}

/// What was said with a policy and counts for nothing. It is told back as it came: clients that keep a policy as it should be
/// compare it with what they read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Unheeded {
    /// Intervals of scheduled items that are not hourly, where they are not those of the item itself.
    pub intervals: BTreeMap<PolicyItemId, u8>,
    /// The interval of what is taken on demand, which comes at no times.
    pub on_demand_interval: u8,
    /// The restore window of a policy that does not ask for continuous backup.
    pub restore_window: Option<RestoreWindowDays>,
}

impl Unheeded {
    /// Whether an interval is one that may be said, be it heeded or not: what Atlas knows, and 0 for none.
    pub const fn is_interval(interval: u8) -> bool {
        interval <= 28 || interval == Frequency::LAST_DAY
    }
}

/// Who is responsible for a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The address.
    pub email: Email,
    /// The first name; one was not asked for in the oldest version of the API.
    pub first_name: Option<String>,
    /// The last name.
    pub last_name: Option<String>,
}

/// Something that may be an address for mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Email(String);

impl Email {
    /// The address as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Email {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts = text.rsplit_once('@');
        let is_plain = !text.chars().any(|c| c.is_whitespace() || c.is_control());
        let is_short = text.chars().count() <= PERSON_CHARACTERS_MAX;
        if is_plain && is_short && parts.is_some_and(|(name, host)| !name.is_empty() && !host.is_empty()) {
            Ok(Self(text))
        } else {
            Err("write an address for mail like it@example.com".to_owned())
        }
    }
}

impl From<Email> for String {
    fn from(email: Email) -> Self {
        email.0
    }
}

/// How long what is taken on demand is kept at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnDemandItem {
    /// Its id.
    pub id: PolicyItemId,
    /// How long.
    pub retention: Retention,
}

/// One thing in which something falls short of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortfall {
    /// Nothing is taken as often and kept as long.
    Item {
        /// How often.
        kind: FrequencyType,
        /// Every how many hours, of hourly ones.
        hours: Option<u8>,
        /// How long.
        retention: Retention,
    },
    /// What is taken on demand is kept shorter.
    OnDemand(Retention),
    /// Operations are not recorded.
    NotRecorded,
    /// They are kept for fewer days.
    Window(RestoreWindowDays),
    /// That what is kept is sealed is not asked for any more.
    Encryption,
    /// Copies are not protected any more.
    CopyProtection,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Item { kind, hours: Some(hours), retention } => {
                write!(f, "{} snapshots, every {hours} hours, kept for {retention}", kind.as_str())
            }
            Self::Item { kind, hours: None, retention } => {
                write!(f, "{} snapshots, kept for {retention}", kind.as_str())
            }
            Self::OnDemand(retention) => write!(f, "snapshots on demand, kept for {retention}"),
            Self::NotRecorded => write!(f, "continuous backup"),
            Self::Window(window) => write!(f, "a restore window of {} days", window.days()),
            Self::Encryption => f.write_str("encryption at rest"),
            Self::CopyProtection => f.write_str("the protection of copies"),
        }
    }
}

impl CompliancePolicy {
    /// In what a schedule falls short of this policy; nothing when it meets it.
    pub fn missing_in(&self, schedule: &Policy) -> Vec<Shortfall> {
        let items = self.scheduled.items().iter();
        items.filter(|item| !is_met(item, schedule.items())).map(shortfall).collect()
    }

    /// In what another policy, which is to replace this one, asks for less; nothing when it asks for as much.
    pub fn missing_in_successor(&self, after: &Self) -> Vec<Shortfall> {
        let mut missing = self.missing_in(&after.scheduled);
        let on_demand = after.on_demand.map(|item| item.retention.nominal());
        missing.extend(self.on_demand.and_then(|item| {
            let is_less = on_demand.is_none_or(|after| after < item.retention.nominal());
            is_less.then_some(Shortfall::OnDemand(item.retention))
        }));
        missing.extend(self.continuous.and_then(|window| match after.continuous {
            None => Some(Shortfall::NotRecorded),
            Some(after) => (after.days() < window.days()).then_some(Shortfall::Window(window)),
        }));
        missing
            .extend((self.encryption_at_rest && !after.encryption_at_rest).then_some(Shortfall::Encryption));
        missing
            .extend((self.copies_protected && !after.copies_protected).then_some(Shortfall::CopyProtection));
        missing
    }

    /// The schedule that is like this one and meets the policy: what is kept too short is kept longer, and what is not taken is
    /// taken. Items that are there keep their ids.
    ///
    /// # Errors
    /// [`BadPolicy`] when the two contradict one another, which they do not as long as each of them is one.
    pub fn met_by(
        &self,
        schedule: &Policy,
        mut new_id: impl FnMut() -> PolicyItemId,
    ) -> Result<Policy, BadPolicy> {
        let mut items = schedule.items().to_vec();
        for wanted in self.scheduled.items() {
            let kind = wanted.frequency.kind();
            if is_met(wanted, &items) {
                continue;
            }
            match items.iter_mut().find(|item| item.frequency.kind() == kind) {
                None => items.push(PolicyItem { id: new_id(), ..*wanted }),
                Some(item) => {
                    if !is_often_enough(wanted, item) {
                        item.frequency = wanted.frequency;
                    }
                    item.retention = longer(item.retention, wanted.retention);
                }
            }
        }
        // What is taken more seldom is kept at least as long.
        let kept = items.clone();
        for item in &mut items {
            let more_often = kept.iter().filter(|other| other.frequency.kind() < item.frequency.kind());
            item.retention = more_often.fold(item.retention, |kept, other| longer(kept, other.retention));
        }
        if items.is_empty() { Ok(Policy::none()) } else { Policy::new(items) }
    }
}

fn longer(one: Retention, other: Retention) -> Retention {
    if other.nominal() > one.nominal() { other } else { one }
}

fn is_met(wanted: &PolicyItem, items: &[PolicyItem]) -> bool {
    let fits = |item: &&PolicyItem| {
        is_often_enough(wanted, item) && item.retention.nominal() >= wanted.retention.nominal()
    };
    items.iter().any(|item| fits(&item))
}

/// Whether an item is of the wanted kind, and in case of hourly ones at least as often.
fn is_often_enough(wanted: &PolicyItem, item: &PolicyItem) -> bool {
    let (wanted, is) = (wanted.frequency, item.frequency);
    let is_hourly = wanted.kind() == FrequencyType::Hourly;
    is.kind() == wanted.kind() && (!is_hourly || is.interval() <= wanted.interval())
}

fn shortfall(item: &PolicyItem) -> Shortfall {
    let (kind, interval) = (item.frequency.kind(), item.frequency.interval());
    let hours = (kind == FrequencyType::Hourly).then_some(interval);
    Shortfall::Item { kind, hours, retention: item.retention }
}

/// What a compliance policy forbids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// To delete a snapshot before its time.
    #[error("its time is not over")]
    Deletion,
    /// To delete the copy of a snapshot before the time of that.
    #[error("copies stay as long as their snapshots")]
    CopyDeletion,
    /// To keep a snapshot shorter than it is kept.
    #[error("it would be kept shorter than it is")]
    ShorterRetention,
    /// To take a snapshot that is kept shorter than the policy says.
    #[error("the policy asks for {0} at least")]
    ShortSnapshot(Retention),
    /// A schedule that takes less, or keeps it shorter.
    #[error("the policy asks for {}", listed(.0))]
    Schedule(Vec<Shortfall>),
    /// To record operations no more, or not yet.
    #[error("the policy asks for continuous backup")]
    NotRecorded,
    /// To keep fewer days of them.
    #[error("the policy asks for a restore window of {} days", .0.days())]
    Window(RestoreWindowDays),
    /// A policy that deployments fall short of.
    #[error("{}", .0.join("; "))]
    Unmet(Vec<String>),
    /// A policy that asks for less than the one that it replaces.
    #[error("the policy that holds asks for {}", listed(.0))]
    Weaker(Vec<Shortfall>),
    /// To lift a policy that was not released.
    #[error("it was not released")]
    NotReleased,
}

fn listed(missing: &[Shortfall]) -> String {
    missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", and for ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::RetentionUnit;

    fn item(number: u8, kind: FrequencyType, interval: i64, days: u32) -> PolicyItem {
        PolicyItem {
            id: PolicyItemId::from_bytes([number; 12]),
            frequency: Frequency::new(kind, interval).unwrap(),
            retention: Retention::new(RetentionUnit::Days, days).unwrap(),
        }
    }

    fn policy(items: &[PolicyItem]) -> Policy {
        if items.is_empty() { Policy::none() } else { Policy::new(items.to_vec()).unwrap() }
    }

    fn compliance(items: &[PolicyItem]) -> CompliancePolicy {
        CompliancePolicy {
            authorized: Person {
                email: Email::try_from("it@example.com".to_owned()).unwrap(),
                first_name: None,
                last_name: None,
            },
            scheduled: policy(items),
            on_demand: None,
            continuous: None,
            encryption_at_rest: false,
            copies_protected: false,
            unheeded: Unheeded::default(),
        }
    }

    const KINDS: [(FrequencyType, i64); 4] = [
        (FrequencyType::Hourly, 6),
        (FrequencyType::Daily, 1),
        (FrequencyType::Weekly, 6),
        (FrequencyType::Monthly, 40),
    ];

    #[test]
    fn a_schedule_meets_a_policy_that_takes_as_much_and_keeps_it_as_long() {
        let wanted =
            compliance(&[item(1, FrequencyType::Hourly, 6, 3), item(2, FrequencyType::Weekly, 1, 28)]);
        let is_met = |items: &[PolicyItem]| wanted.missing_in(&policy(items)).is_empty();
        assert!(is_met(&[item(3, FrequencyType::Hourly, 4, 3), item(4, FrequencyType::Weekly, 6, 30)]));
        assert!(!is_met(&[item(3, FrequencyType::Hourly, 8, 3), item(4, FrequencyType::Weekly, 6, 30)]));
        assert!(!is_met(&[item(3, FrequencyType::Hourly, 6, 2), item(4, FrequencyType::Weekly, 6, 30)]));
        assert!(!is_met(&[item(3, FrequencyType::Hourly, 6, 3), item(4, FrequencyType::Weekly, 6, 27)]));
        assert_eq!(wanted.missing_in(&Policy::none()).len(), 2);
    }

    #[test]
    fn a_schedule_is_brought_into_line_whatever_it_is() {
        let mut next = 100;
        // All schedules and policies of these kinds, with three retentions each.
        let choices = |seed: usize, first: u8| {
            let mut seed = seed;
            let mut items = vec![];
            for (number, (kind, interval)) in (first..).zip(KINDS) {
                let days = [0, 31, 40, 50][seed % 4];
                seed /= 4;
                if days > 0 {
                    items.push(item(number, kind, interval, days));
                }
            }
            Policy::new(items).ok()
        };
        let mut tried = 0;
        for schedule in (0..256).filter_map(|seed| choices(seed, 1)).chain([Policy::none()]) {
            for wanted in (0..256).filter_map(|seed| choices(seed, 20)) {
                let wanted = CompliancePolicy { scheduled: wanted, ..compliance(&[]) };
                let met = wanted.met_by(&schedule, || {
                    next = if next == 200 { 100 } else { next + 1 };
                    PolicyItemId::from_bytes([next; 12])
                });
                let met = met.unwrap();
                assert_eq!(wanted.missing_in(&met), [], "{schedule:?} {wanted:?}");
                for before in schedule.items() {
                    let after = met.item(before.id).unwrap();
                    assert!(after.retention.nominal() >= before.retention.nominal());
                }
                if wanted.missing_in(&schedule).is_empty() {
                    assert_eq!(met, schedule, "what meets it stays as it is");
                }
                tried += 1;
            }
        }
        assert!(tried > 1_000, "only {tried}");
    }

    #[test]
    fn a_policy_that_asks_for_less_is_told_in_what() {
        let mut before = compliance(&[item(1, FrequencyType::Daily, 1, 7)]);
        let retention = Retention::new(RetentionUnit::Weeks, 1).unwrap();
        before.on_demand = Some(OnDemandItem { id: PolicyItemId::from_bytes([9; 12]), retention });
        before.continuous = Some(RestoreWindowDays::new(5).unwrap());
        before.encryption_at_rest = true;
        before.copies_protected = true;
        assert_eq!(before.missing_in_successor(&before), []);
        let none = compliance(&[]);
        assert_eq!(none.missing_in_successor(&before), []);
        let told = before.missing_in_successor(&none).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            told,
            [
                "daily snapshots, kept for 7 days",
                "snapshots on demand, kept for 1 week",
                "continuous backup",
                "encryption at rest",
                "the protection of copies"
            ]
        );
        let window = RestoreWindowDays::new(4).unwrap();
        let shorter = CompliancePolicy { continuous: Some(window), ..before.clone() };
        assert_eq!(before.missing_in_successor(&shorter).len(), 1);
    }

    #[test]
    fn what_is_not_heeded_is_kept_and_asks_for_nothing() {
        let mut said = compliance(&[item(1, FrequencyType::Weekly, 6, 28)]);
        let written = serde_json::to_value(&said).unwrap();
        said.unheeded = Unheeded {
            intervals: [(PolicyItemId::from_bytes([1; 12]), 0)].into(),
            on_demand_interval: 1,
            restore_window: Some(RestoreWindowDays::MAX),
        };
        let read: CompliancePolicy = serde_json::from_value(serde_json::to_value(&said).unwrap()).unwrap();
        assert_eq!(read, said);
        assert_eq!(said.missing_in_successor(&compliance(&[item(1, FrequencyType::Weekly, 6, 28)])), []);
        // One that was written down before any of it was kept.
        let mut older = written;
        older.as_object_mut().unwrap().remove("unheeded").unwrap();
        assert_eq!(serde_json::from_value::<CompliancePolicy>(older).unwrap().unheeded, Unheeded::default());
    }

    #[test]
    fn an_address_has_two_sides() {
        for bad in ["", "it", "@example.com", "it@", "i t@example.com", "it@example.com\n"] {
            assert!(Email::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
        assert!(Email::try_from(format!("it@{}", "x".repeat(300))).is_err());
        assert!(serde_json::from_str::<Email>("\"it\"").is_err());
        assert_eq!(Email::try_from("a@b".to_owned()).map(|email| email.as_str().len()), Ok(3));
    }
}
