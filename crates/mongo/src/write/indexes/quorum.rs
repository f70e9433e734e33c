//! How many members must be ready before an index build commits, and which of them are not there.

use bson::{Bson, doc};

use crate::{Deployment, facts::Member, write::raw::RawBuilder};

/// Members that must be ready before a build commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CommitQuorum {
    /// A majority of the members that vote and bear data: one that is down does not hold a build up.
    #[default]
    Majority,
    /// All members that vote and bear data: the server's own default.
    VotingMembers,
    /// This many.
    Members(u32),
}

impl CommitQuorum {
    pub(super) fn append_to(self, command: RawBuilder) -> RawBuilder {
        match self {
            Self::Majority => command.text("commitQuorum", "majority"),
            Self::VotingMembers => command.text("commitQuorum", "votingMembers"),
            Self::Members(count) => command.int32("commitQuorum", i32::try_from(count).unwrap_or(i32::MAX)),
        }
    }

    fn needs(self, members: usize) -> usize {
        match self {
            Self::Majority => members / 2 + 1,
            Self::VotingMembers => members,
            Self::Members(count) => count as usize,
        }
    }
}

/// Why the quorum cannot be met now; `None` when it can, or when nobody knows.
pub(super) async fn shortage(deployment: &Deployment, quorum: CommitQuorum) -> Option<String> {
    let status = deployment.run_admin(doc! { "replSetGetStatus": 1 }).await.ok()?;
    let members: Vec<_> = status.get_array("members").ok()?.iter().filter_map(member).collect();
    shortage_among(&members, quorum)
}

fn member(member: &Bson) -> Option<Member> {
    let member = member.as_document()?;
    let healthy = member.get_f64("health").is_ok_and(|health| health > 0.0);
    let text = |name| member.get_str(name).ok().map(str::to_owned);
    Some(Member { host: text("name")?, state: text("stateStr")?, healthy })
}

fn shortage_among(members: &[Member], quorum: CommitQuorum) -> Option<String> {
    let bearers: Vec<_> = members.iter().filter(|member| member.state != "ARBITER").collect();
    let down: Vec<_> =
        bearers.iter().filter(|member| !is_up(member)).map(|member| member.host.as_str()).collect();
    let needed = quorum.needs(bearers.len());
    let up = bearers.len() - down.len();
    let missing = if down.is_empty() { String::new() } else { format!("; down: {}", down.join(", ")) };
    (up < needed).then(|| format!("the commit quorum needs {needed} members, {up} are up{missing}"))
}

fn is_up(member: &Member) -> bool {
    member.healthy && matches!(member.state.as_str(), "PRIMARY" | "SECONDARY" | "RECOVERING")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(states: &[&str]) -> Vec<Member> {
        let member = |(port, state): (usize, &&str)| Member {
            host: format!("h:{port}"),
            state: (*state).to_owned(),
            healthy: !state.starts_with('('),
        };
        states.iter().enumerate().map(member).collect()
    }

    #[test]
    fn names_who_is_down_only_when_it_matters() {
        let one_down = members(&["PRIMARY", "SECONDARY", "(not reachable/healthy)"]);
        assert_eq!(shortage_among(&one_down, CommitQuorum::Majority), None);
        let text = shortage_among(&one_down, CommitQuorum::VotingMembers);
        assert_eq!(text.as_deref(), Some("the commit quorum needs 3 members, 2 are up; down: h:2"));
        assert!(shortage_among(&one_down, CommitQuorum::Members(3)).is_some());
        let arbiter = members(&["PRIMARY", "SECONDARY", "ARBITER"]);
        assert_eq!(shortage_among(&arbiter, CommitQuorum::VotingMembers), None);
    }
}
