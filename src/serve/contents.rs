//! What snapshots hold as `api` asks for it: names, which the engine reads out of manifests.

use api::{Contents, ContentsError};
use catalog::Snapshot;
use engine::contents;
use futures::{FutureExt, future::BoxFuture};

/// Looks where the engine looks.
pub(super) struct EngineContents(pub(super) contents::Contents);

impl Contents for EngineContents {
    fn databases(&self, snapshot: Snapshot) -> BoxFuture<'static, Result<Vec<String>, ContentsError>> {
        let contents = self.0.clone();
        async move { contents.databases(&snapshot).await.map_err(told) }.boxed()
    }

    fn collections(
        &self,
        snapshot: Snapshot,
        database: String,
    ) -> BoxFuture<'static, Result<Option<Vec<String>>, ContentsError>> {
        let contents = self.0.clone();
        async move { contents.collections(&snapshot, &database).await.map_err(told) }.boxed()
    }
}

fn told(error: contents::ContentsError) -> ContentsError {
    match error {
        contents::ContentsError::Gone => ContentsError::Gone,
        contents::ContentsError::Damaged(why) => ContentsError::Damaged(why),
        contents::ContentsError::Failed(error) => ContentsError::Failed(error.into()),
    }
}
