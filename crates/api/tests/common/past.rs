//! The past, played: answers are what a test says, and what was asked is noted.

use std::sync::Mutex;

use ebbtide_api::{
    DefinitionChange, DifferenceOf, DocumentAt, DocumentChange, DocumentChanges, Past, PastDifference,
    PastDocument, PastError, PastVersion, PastVersions, VersionsOf,
};
use futures::{FutureExt, future::BoxFuture};
use model::{ClusterTime, WallTime};
use tokio::sync::oneshot;

/// A document whose fields stand in no order, and one of them twice.
pub const DOCUMENT: &str = r#"{"_id":{"$numberInt":"5"},"z":1,"a":{"y":2,"b":3},"z":4}"#;
pub const BSON: &[u8] = &[5, 0, 0, 0, 0];

#[derive(Default)]
pub struct PlayedPast {
    /// What the next question is refused with.
    pub refusal: Mutex<Option<PastError>>,
    pub documents: Mutex<Vec<DocumentAt>>,
    pub versions: Mutex<Vec<VersionsOf>>,
    pub differences: Mutex<Vec<DifferenceOf>>,
    /// Where earlier versions end.
    pub more_until: Mutex<Option<ClusterTime>>,
    /// What the next difference holds; it never has an answer, and lets go of this when nobody waits for it any more.
    pub endless: Mutex<Option<oneshot::Sender<()>>>,
}

impl PlayedPast {
    fn answer<T: Send + 'static>(&self, answer: T) -> BoxFuture<'static, Result<T, PastError>> {
        let refusal = self.refusal.lock().unwrap().take();
        std::future::ready(refusal.map_or(Ok(answer), Err)).boxed()
    }
}

impl Past for PlayedPast {
    fn document(&self, asked: DocumentAt) -> BoxFuture<'static, Result<PastDocument, PastError>> {
        let id = asked.id.clone();
        self.documents.lock().unwrap().push(asked);
        self.answer(PastDocument { id, document: DOCUMENT.into(), bson: BSON.into() })
    }

    fn versions(&self, asked: VersionsOf) -> BoxFuture<'static, Result<PastVersions, PastError>> {
        let (id, documents) = (asked.id.clone(), asked.documents);
        let at = asked.ranges[0].1.from;
        self.versions.lock().unwrap().push(asked);
        let gone = PastVersion {
            at: ClusterTime { increment: 9, ..at },
            wall: Some(WallTime(i64::from(at.seconds) * 1000)),
            operation: "delete",
            exists: false,
            changed_fields: vec![],
            document: None,
        };
        let before = PastVersion {
            at,
            wall: None,
            operation: "update",
            exists: true,
            changed_fields: vec!["z".into(), "a".into()],
            document: documents.then(|| DOCUMENT.into()),
        };
        let more_until = *self.more_until.lock().unwrap();
        self.answer(PastVersions { id, versions: vec![gone, before], more_until })
    }

    fn difference(&self, asked: DifferenceOf) -> BoxFuture<'static, Result<PastDifference, PastError>> {
        let same = asked.namespace == "shop.same";
        self.differences.lock().unwrap().push(asked);
        if let Some(held) = self.endless.lock().unwrap().take() {
            return async move {
                let _held = held;
                std::future::pending().await
            }
            .boxed();
        }
        let change = |change, renamed_to: Option<&str>, after: Option<&str>| DefinitionChange {
            change,
            renamed_to: renamed_to.map(str::to_owned),
            before: None,
            after: after.map(str::to_owned),
        };
        let side = |there: bool| there.then(|| DOCUMENT.to_owned());
        let shown = [(false, true), (true, false), (true, true)].map(|(before, after)| DocumentChange {
            id: "5".into(),
            before: side(before),
            after: side(after),
        });
        let documents = DocumentChanges { added: 1, removed: 1, changed: 7, shown: shown.into() };
        let definition = if same {
            vec![change("indexAdded", None, Some(r#"{"v":2,"key":{"z":1,"a":1}}"#))]
        } else {
            vec![change("renamed", Some("shop.other"), None)]
        };
        self.answer(PastDifference { definition, documents: same.then_some(documents) })
    }
}
