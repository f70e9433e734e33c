//! The past as `api` sees it: questions that the engine answers from the vault, in text.

use api::{
    DefinitionChange, DifferenceOf, DocumentAt, DocumentChange, DocumentChanges, Past, PastDifference,
    PastDocument, PastError, PastVersion, PastVersions, VersionsOf,
};
use engine::past::{self, Asked, Definition, DocumentId, Json, Origin};
use futures::{FutureExt, future::BoxFuture};
use model::WallTime;

/// Answers out of what the engine folds.
pub(super) struct EnginePast(pub(super) past::Past);

impl Past for EnginePast {
    fn document(&self, asked: DocumentAt) -> BoxFuture<'static, Result<PastDocument, PastError>> {
        let past = self.0.clone();
        async move {
            let id = DocumentId::parse(&asked.id).map_err(told)?;
            let origin = Origin { timeline: asked.timeline, snapshot: asked.snapshot };
            let shown = past.show(&origin, &asked.namespace, &id, asked.at).await.map_err(told)?;
            let document = form(asked.relaxed).document(&shown.document).map_err(told)?;
            Ok(PastDocument { id: id.shown().to_owned(), document, bson: shown.document })
        }
        .boxed()
    }

    fn versions(&self, asked: VersionsOf) -> BoxFuture<'static, Result<PastVersions, PastError>> {
        let past = self.0.clone();
        async move {
            let id = DocumentId::parse(&asked.id).map_err(told)?;
            let shown = id.shown().to_owned();
            let found = past.versions(Asked {
                deployment: asked.deployment,
                ranges: asked.ranges,
                namespace: asked.namespace,
                id,
                limit: asked.limit,
                documents: asked.documents,
            });
            let found = found.await.map_err(told)?;
            let versions = found.versions.into_iter().map(|version| {
                Ok(PastVersion {
                    at: version.at,
                    wall: version.wall_ms.map(WallTime),
                    operation: version.operation.as_str(),
                    exists: version.exists,
                    changed_fields: version.changed_fields,
                    document: written(version.document.as_deref(), asked.relaxed)?,
                })
            });
            let versions = versions.collect::<Result<_, PastError>>()?;
            Ok(PastVersions { id: shown, versions, more_until: found.more_until })
        }
        .boxed()
    }

    fn difference(&self, asked: DifferenceOf) -> BoxFuture<'static, Result<PastDifference, PastError>> {
        let past = self.0.clone();
        async move {
            let relaxed = asked.relaxed;
            let origin = Origin { timeline: asked.timeline, snapshot: asked.snapshot };
            let found = past.difference(&origin, &asked.namespace, asked.from, asked.to, asked.limit);
            let found = found.await.map_err(told)?;
            let definition = found.definition.into_iter().map(|change| redefined(change, relaxed));
            let documents = found.documents.map(|documents| {
                let shown = documents.shown.iter().map(|change| changed(change, relaxed));
                Ok::<_, PastError>(DocumentChanges {
                    added: documents.added,
                    removed: documents.removed,
                    changed: documents.changed,
                    shown: shown.collect::<Result<_, _>>()?,
                })
            });
            Ok(PastDifference {
                definition: definition.collect::<Result<_, PastError>>()?,
                documents: documents.transpose()?,
            })
        }
        .boxed()
    }
}

fn told(error: past::PastError) -> PastError {
    match error {
        past::PastError::Id(why) => PastError::Id(why),
        error @ past::PastError::Namespace(_) => PastError::Namespace(error.to_string()),
        past::PastError::NoCollection => PastError::NoCollection,
        past::PastError::NoDocument => PastError::NoDocument,
        past::PastError::NotSearchable(why) => PastError::NotSearchable(why),
        past::PastError::Unknown(why) => PastError::Unknown(why),
        past::PastError::Busy => PastError::Busy,
        past::PastError::Failed(error) => PastError::Failed(error.into()),
    }
}

const fn form(relaxed: bool) -> Json {
    if relaxed { Json::Relaxed } else { Json::Canonical }
}

fn written(document: Option<&[u8]>, relaxed: bool) -> Result<Option<String>, PastError> {
    document.map(|document| form(relaxed).document(document).map_err(told)).transpose()
}

fn redefined(change: Definition, relaxed: bool) -> Result<DefinitionChange, PastError> {
    let (word, renamed_to, before, after) = match change {
        Definition::Created => ("created", None, None, None),
        Definition::Dropped => ("dropped", None, None, None),
        Definition::RenamedTo(name) => ("renamed", Some(name), None, None),
        Definition::Replaced => ("replaced", None, None, None),
        Definition::Options { before, after } => ("options", None, Some(before), Some(after)),
        Definition::IndexAdded(index) => ("indexAdded", None, None, Some(index)),
        Definition::IndexDropped(index) => ("indexDropped", None, Some(index), None),
    };
    Ok(DefinitionChange {
        change: word,
        renamed_to,
        before: written(before.as_deref(), relaxed)?,
        after: written(after.as_deref(), relaxed)?,
    })
}

fn changed(change: &past::DocumentChange, relaxed: bool) -> Result<DocumentChange, PastError> {
    Ok(DocumentChange {
        id: change.id().map_err(told)?,
        before: written(change.before.as_deref(), relaxed)?,
        after: written(change.after.as_deref(), relaxed)?,
    })
}
