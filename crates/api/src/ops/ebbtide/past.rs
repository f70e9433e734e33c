//! Documents as they were: one at a time, all its versions, what differs between two times. Answered from the vault while
//! the caller waits; whoever may download a backup may ask.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use catalog::{Deployment, Timeline};
use http::Method;
use model::{
    ClusterTime, WallTime,
    role::Action,
    timeline::{PointInTime, RestorableRange},
};
use serde_json::{Value, json};

use super::{UNVERSIONED, timeline::time};
use crate::{
    access::Scope,
    error::{Answer, Code, Problem},
    gate::Call,
    json::Tree,
    ops::{
        Operation,
        clusters::any,
        point_in_time::{self, Record},
    },
    past::{
        DefinitionChange, DifferenceOf, DocumentAt, DocumentChange, DocumentChanges, PastError, PastVersion,
        VersionsOf,
    },
    rate::Set,
    reply::Reply,
};

/// So many versions or documents are shown unless another number is asked for.
const LIMIT_DEFAULT: u64 = 100;
const LIMIT_MAX: u64 = 1000;
/// More than any server takes for a name; it is shown back in answers.
const NAMESPACE_BYTES_MAX: usize = 512;
/// So much of an id is shown back.
const SHOWN_CHARACTERS: usize = 64;

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "ebbtideGetDocument",
        method: Method::GET,
        path: "/groups/{groupId}/clusters/{clusterName}/document",
        versions: UNVERSIONED,
        scope: Scope::Project(&[Action::Download]),
        limit: Set::Backups,
        run: |call| Box::pin(document(call)),
    },
    Operation {
        id: "ebbtideListDocumentVersions",
        method: Method::GET,
        path: "/groups/{groupId}/clusters/{clusterName}/document/versions",
        versions: UNVERSIONED,
        scope: Scope::Project(&[Action::Download]),
        limit: Set::Backups,
        run: |call| Box::pin(versions(call)),
    },
    Operation {
        id: "ebbtideCompareCollection",
        method: Method::GET,
        path: "/groups/{groupId}/clusters/{clusterName}/diff",
        versions: UNVERSIONED,
        scope: Scope::Project(&[Action::Download]),
        limit: Set::Backups,
        run: |call| Box::pin(difference(call)),
    },
];

async fn document(call: Call) -> Answer<Reply> {
    let deployment = any(&call, call.params.cluster()).await?;
    let (namespace, id) = (namespace(&call)?, required(&call, "id")?);
    let at = required_point(&call, "at")?;
    let (relaxed, bson) = (call.query.flag("relaxed", false)?, call.query.flag("bson", false)?);
    let (timeline, snapshot) = point_in_time::recorded(&call, &deployment, at).await?;
    let about = About { deployment: &deployment, namespace, id: Some(id), when: format!("at {at}") };
    let asked = DocumentAt {
        timeline: timeline.clone(),
        snapshot: snapshot.clone(),
        namespace: namespace.to_owned(),
        id: id.to_owned(),
        at: at.time(),
        relaxed,
    };
    let found = call.server.state.past.document(asked).await.map_err(|error| about.problem(error))?;
    let mut object = about.object(found.id);
    object.push(("at", time(at.time()).into()));
    object.push(("document", Tree::Text(found.document)));
    object.push(("snapshotId", snapshot.id.to_string().into()));
    object.push(("timelineId", timeline.id.to_string().into()));
    if bson {
        object.push(("bson", STANDARD.encode(&found.bson).into()));
    }
    Ok(Reply::tree(Tree::Object(object)))
}

async fn versions(call: Call) -> Answer<Reply> {
    let deployment = any(&call, call.params.cluster()).await?;
    let (namespace, id) = (namespace(&call)?, required(&call, "id")?);
    let (from, to) = (point(&call, "from")?, point(&call, "to")?);
    let limit = limit(&call)?;
    let (documents, relaxed) = (call.query.flag("documents", false)?, call.query.flag("relaxed", false)?);
    let ranges = ranges(&call, &deployment, from, to).await?;
    let covered: Vec<Value> = ranges
        .iter()
        .map(|(timeline, range)| {
            json!({"from": time(range.from), "timelineId": timeline.id.to_string(), "to": time(range.to)})
        })
        .collect();
    let when = "in the times that were looked at".to_owned();
    let about = About { deployment: &deployment, namespace, id: Some(id), when };
    let asked = VersionsOf {
        deployment: deployment.id,
        ranges,
        namespace: namespace.to_owned(),
        id: id.to_owned(),
        limit,
        documents,
        relaxed,
    };
    let found = call.server.state.past.versions(asked).await.map_err(|error| about.problem(error))?;
    let mut object = about.object(found.id);
    object.push(("hasMore", found.more_until.is_some().into()));
    if let Some(until) = found.more_until {
        object.push(("next", PointInTime::from(until).to_string().into()));
    }
    object.push(("searched", Value::Array(covered).into()));
    object.push(("versions", Tree::List(found.versions.into_iter().map(version).collect())));
    Ok(Reply::tree(Tree::Object(object)))
}

async fn difference(call: Call) -> Answer<Reply> {
    let deployment = any(&call, call.params.cluster()).await?;
    let namespace = namespace(&call)?;
    let (from, to) = (required_point(&call, "from")?, required_point(&call, "to")?);
    if to.time() < from.time() {
        return Err(backwards());
    }
    let (limit, relaxed) = (limit(&call)?, call.query.flag("relaxed", false)?);
    let (timeline, snapshot) = point_in_time::recorded(&call, &deployment, from).await?;
    let (later, _) = point_in_time::recorded(&call, &deployment, to).await?;
    if later.id != timeline.id {
        let reason = format!(
            "{from} lies on the timeline {} and {to} on {}: what happened between the two was not recorded as a whole.",
            timeline.id, later.id
        );
        return Err(Problem::new(Code::StateNotKnown).because(reason));
    }
    let about =
        About { deployment: &deployment, namespace, id: None, when: format!("at {from} and at {to}") };
    let asked = DifferenceOf {
        timeline,
        snapshot,
        namespace: namespace.to_owned(),
        from: from.time(),
        to: to.time(),
        limit,
        relaxed,
    };
    let found = call.server.state.past.difference(asked).await.map_err(|error| about.problem(error))?;
    let mut object = about.outer();
    object.push(("definition", Tree::List(found.definition.into_iter().map(redefined).collect())));
    object.push(("from", time(from.time()).into()));
    object.push(("to", time(to.time()).into()));
    if let Some(documents) = found.documents {
        object.push(("documents", changes(documents)));
    }
    Ok(Reply::tree(Tree::Object(object)))
}

/// What a question is about, for the answer and for a refusal.
struct About<'a> {
    deployment: &'a Arc<Deployment>,
    namespace: &'a str,
    id: Option<&'a str>,
    when: String,
}

impl About<'_> {
    fn outer(&self) -> Vec<(&'static str, Tree)> {
        vec![
            ("clusterName", self.deployment.name.as_str().into()),
            ("groupId", self.deployment.project_id.to_string().into()),
            ("namespace", self.namespace.into()),
        ]
    }

    fn object(&self, id: String) -> Vec<(&'static str, Tree)> {
        let mut object = self.outer();
        object.push(("id", Tree::Text(id)));
        object
    }

    fn problem(&self, error: PastError) -> Problem {
        let shown: String = self.namespace.chars().take(256).collect();
        match error {
            PastError::Id(why) => Problem::new(Code::InvalidDocumentId).because(sentence(&why)),
            PastError::Namespace(why) => {
                Problem::new(Code::InvalidQueryParameter).with("namespace").because(sentence(&why))
            }
            PastError::NoCollection => Problem::new(Code::CollectionNotFound)
                .with(shown)
                .with(self.deployment.name.as_str())
                .with(self.when.as_str()),
            PastError::NoDocument => {
                let id: String = self.id.unwrap_or_default().chars().take(SHOWN_CHARACTERS).collect();
                Problem::new(Code::DocumentNotFound).with(id).with(shown).with(self.when.as_str())
            }
            PastError::NotSearchable(why) => {
                Problem::new(Code::CollectionNotSearchable).with(shown).because(sentence(&why))
            }
            PastError::Unknown(why) => Problem::new(Code::StateNotKnown).because(sentence(&why)),
            PastError::Busy => Problem::new(Code::ServiceUnavailable)
                .with("other questions about the past are being answered, try again in a moment"),
            PastError::Failed(source) => Problem::internal("look into the past", source.as_ref()),
        }
    }
}

/// With a capital and a full stop, as explanations have them.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first: String = characters.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    let end = if text.ends_with('.') { "" } else { "." };
    format!("{first}{}{end}", characters.as_str())
}

fn required<'a>(call: &'a Call, name: &'static str) -> Answer<&'a str> {
    let given = call.query.get(name).filter(|text| !text.is_empty());
    given.ok_or_else(|| Problem::new(Code::MissingQueryParameter).with(name))
}

fn namespace(call: &Call) -> Answer<&str> {
    let given = required(call, "namespace")?;
    if given.len() <= NAMESPACE_BYTES_MAX {
        return Ok(given);
    }
    let why = "It is longer than any name of a collection.";
    Err(Problem::new(Code::InvalidQueryParameter).with("namespace").because(why))
}

fn point(call: &Call, name: &'static str) -> Answer<Option<PointInTime>> {
    let Some(text) = call.query.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    let refused = |why: String| Problem::new(Code::InvalidQueryParameter).with(name).because(sentence(&why));
    text.parse().map(Some).map_err(refused)
}

fn required_point(call: &Call, name: &'static str) -> Answer<PointInTime> {
    point(call, name)?.ok_or_else(|| Problem::new(Code::MissingQueryParameter).with(name))
}

fn limit(call: &Call) -> Answer<usize> {
    let limit = call.query.number("limit", 1, LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT);
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}

fn backwards() -> Problem {
    Problem::new(Code::InvalidQueryParameter).with("to").because("It lies before the time of `from`.")
}

/// What can be restored between two times; a refusal when that is nothing.
async fn ranges(
    call: &Call,
    deployment: &Deployment,
    from: Option<PointInTime>,
    to: Option<PointInTime>,
) -> Answer<Vec<(Timeline, RestorableRange)>> {
    let [from, to] = [from, to].map(|point| point.map(PointInTime::time));
    if from.zip(to).is_some_and(|(from, to)| to < from) {
        return Err(backwards());
    }
    let (record, now) = (Record::read(call, deployment).await?, call.server.now());
    let clipped = record.restorable(deployment, now).into_iter().map(|(timeline, range)| {
        let from = from.map_or(range.from, |from| from.max(range.from));
        let to = to.map_or(range.to, |to| to.min(range.to));
        (timeline.clone(), RestorableRange { from, to })
    });
    let ranges: Vec<_> = clipped.filter(|(_, range)| range.from <= range.to).collect();
    if ranges.is_empty() {
        let seconds = u32::try_from(now.seconds()).unwrap_or(u32::MAX);
        let time = to.or(from).unwrap_or(ClusterTime { seconds, increment: 0 });
        return Err(record.refusal(deployment, time, None, now));
    }
    Ok(ranges)
}

fn version(version: PastVersion) -> Tree {
    let mut object = vec![
        ("at", time(version.at).into()),
        ("exists", version.exists.into()),
        ("operation", version.operation.into()),
    ];
    if let Some(wall) = version.wall {
        object.push(("wallTime", WallTime::to_rfc3339(wall).into()));
    }
    if !version.changed_fields.is_empty() {
        object.push(("changedFields", version.changed_fields.into()));
    }
    if let Some(document) = version.document {
        object.push(("document", Tree::Text(document)));
    }
    Tree::Object(object)
}

fn redefined(change: DefinitionChange) -> Tree {
    let mut object = vec![("change", change.change.into())];
    if let Some(name) = change.renamed_to {
        object.push(("renamedTo", name.into()));
    }
    object.extend(change.before.map(|before| ("before", Tree::Text(before))));
    object.extend(change.after.map(|after| ("after", Tree::Text(after))));
    Tree::Object(object)
}

fn changes(documents: DocumentChanges) -> Tree {
    let DocumentChanges { added, removed, changed, shown } = documents;
    let has_more = added + removed + changed > shown.len() as u64;
    Tree::Object(vec![
        ("added", added.into()),
        ("changed", changed.into()),
        ("hasMore", has_more.into()),
        ("removed", removed.into()),
        ("shown", Tree::List(shown.into_iter().map(change).collect())),
    ])
}

fn change(change: DocumentChange) -> Tree {
    let what = match (&change.before, &change.after) {
        (None, _) => "added",
        (_, None) => "removed",
        _ => "changed",
    };
    let mut object = vec![("change", what.into()), ("id", Tree::Text(change.id))];
    object.extend(change.before.map(|before| ("before", Tree::Text(before))));
    object.extend(change.after.map(|after| ("after", Tree::Text(after))));
    Tree::Object(object)
}
