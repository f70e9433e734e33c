//! What a schedule asks for: its items, and what they have to be to one another.

use serde::{Deserialize, Serialize};

use super::{Frequency, FrequencyType};
use crate::{
    Retention, WallTime,
    id::{DeploymentId, PolicyId, PolicyItemId},
};

/// One rule: how often a snapshot is taken, and how long it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PolicyItem {
    /// Its id.
    pub id: PolicyItemId,
    /// How often.
    pub frequency: Frequency,
    /// How long.
    pub retention: Retention,
}

/// The items of a schedule; none when nothing is to be taken.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<PolicyItem>", into = "Vec<PolicyItem>")]
pub struct Policy(Vec<PolicyItem>);

/// The id of a deployment's policy. A deployment has one for all its life, so it is made of the deployment's own: it is
/// known before anybody has set a schedule, and comes back with the deployment.
pub const fn policy_id(deployment: DeploymentId) -> PolicyId {
    PolicyId::from_bytes(*deployment.as_bytes())
}

impl Policy {
    /// A policy that takes nothing.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// A policy of these items.
    ///
    /// # Errors
    /// [`BadPolicy`] when there are none, or when they contradict one another.
    pub fn new(items: Vec<PolicyItem>) -> Result<Self, BadPolicy> {
        if items.is_empty() {
            return Err(BadPolicy::Empty);
        }
        check(&items)?;
        Ok(Self(items))
    }

    /// The items, in the order in which they were given.
    pub fn items(&self) -> &[PolicyItem] {
        &self.0
    }

    /// Whether it takes nothing.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// The item of that id.
    pub fn item(&self, id: PolicyItemId) -> Option<&PolicyItem> {
        self.0.iter().find(|item| item.id == id)
    }

    /// What becomes of one of our items in a policy that replaces this one: the item with its id, or else one that takes
    /// snapshots at the same times. Clients leave ids out and mean the same item all the same.
    fn successor<'a>(&self, item: &PolicyItem, after: &'a Self) -> Option<&'a PolicyItem> {
        after.item(item.id).or_else(|| after.0.iter().find(|other| other.frequency == item.frequency))
    }

    /// Our items that have a successor when `after` replaces this policy, each with it.
    pub(super) fn successors<'a>(
        &'a self,
        after: &'a Self,
    ) -> impl Iterator<Item = (&'a PolicyItem, &'a PolicyItem)> {
        self.0.iter().filter_map(|item| Some((item, self.successor(item, after)?)))
    }

    /// Which of our items are gone when `after` replaces this policy.
    pub fn gone(&self, after: &Self) -> Vec<TakenBy> {
        let gone = self.0.iter().filter(|item| self.successor(item, after).is_none());
        gone.map(|item| TakenBy { id: item.id, frequency: item.frequency }).collect()
    }

    /// Whether both take snapshots at the same times.
    pub fn is_as_often_as(&self, other: &Self) -> bool {
        let times = |policy: &Self| {
            let mut times: Vec<_> = policy.0.iter().map(|item| item.frequency).collect();
            times.sort_unstable();
            times
        };
        times(self) == times(other)
    }
}

/// Tells the snapshots of one item apart: those of its frequency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenBy {
    /// The item's id.
    pub id: PolicyItemId,
    /// Its frequency.
    pub frequency: Frequency,
}

/// Snapshots of one item are kept for another time than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionChange {
    /// Which snapshots.
    pub taken_by: TakenBy,
    /// For how long from now on, counted from when they were taken.
    pub retention: Retention,
    /// And so many days longer.
    pub extra_days: u32,
    /// Whether the change only makes it longer: then nothing is shortened that somebody has had kept for longer still.
    pub is_longer: bool,
}

impl RetentionChange {
    /// How many days they are kept that were due at `from`.
    pub fn days_from(&self, from: WallTime) -> u32 {
        self.retention.days_from(from).saturating_add(self.extra_days).min(Retention::DAYS_MAX)
    }
}

impl TryFrom<Vec<PolicyItem>> for Policy {
    type Error = BadPolicy;

    fn try_from(items: Vec<PolicyItem>) -> Result<Self, BadPolicy> {
        check(&items)?;
        Ok(Self(items))
    }
}

impl From<Policy> for Vec<PolicyItem> {
    fn from(policy: Policy) -> Self {
        policy.0
    }
}

/// Items that cannot stand beside one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPolicy {
    /// There are none.
    #[error("a policy has at least one item")]
    Empty,
    /// Hourly and daily items come once.
    #[error("a policy has one {kind} item at most", kind = .0.as_str())]
    TwoOf(FrequencyType),
    /// Two items take snapshots at the same times.
    #[error("two {kind} items have the interval {interval}", kind = .0.kind().as_str(), interval = .0.interval())]
    Twice(Frequency),
    /// Two items have one id.
    #[error("two items have the id {0}")]
    OneId(PolicyItemId),
    /// A snapshot would go before the next one comes.
    #[error("{kind} snapshots are kept for {retention}, which ends before the next one is taken", kind = kind.as_str())]
    TooShort {
        /// The type of the item.
        kind: FrequencyType,
        /// How long it keeps.
        retention: Retention,
    },
    /// What is taken more seldom has to be kept at least as long.
    #[error(
        "{rarer} snapshots are kept for {kept}, and {often} ones longer: what is taken more seldom is kept at least as long",
        rarer = rarer.as_str(), often = often.as_str()
    )]
    RarerIsShorter {
        /// The type of the item that keeps too short.
        rarer: FrequencyType,
        /// How long it keeps.
        kept: Retention,
        /// The type of the item that keeps longer.
        often: FrequencyType,
    },
}

fn check(items: &[PolicyItem]) -> Result<(), BadPolicy> {
    for (index, item) in items.iter().enumerate() {
        let (kind, retention) = (item.frequency.kind(), item.retention);
        for earlier in &items[..index] {
            if earlier.id == item.id {
                return Err(BadPolicy::OneId(item.id));
            }
            if earlier.frequency.kind() == kind && kind.comes_once() {
                return Err(BadPolicy::TwoOf(kind));
            }
            if earlier.frequency == item.frequency {
                return Err(BadPolicy::Twice(item.frequency));
            }
        }
        if retention.nominal() < Retention::nominal_days(kind.days_min()) {
            return Err(BadPolicy::TooShort { kind, retention });
        }
        let longer = items
            .iter()
            .find(|other| other.frequency.kind() < kind && other.retention.nominal() > retention.nominal());
        if let Some(longer) = longer {
            let often = longer.frequency.kind();
            return Err(BadPolicy::RarerIsShorter { rarer: kind, kept: retention, often });
        }
    }
    Ok(())
}
