//! What snapshots hold, played: the names are what a test says.

use std::{collections::BTreeMap, sync::Mutex};

use catalog::Snapshot;
use ebbtide_api::{Contents, ContentsError};
use futures::{FutureExt, future::BoxFuture};

#[derive(Default)]
pub struct PlayedContents {
    /// Databases and what is in them.
    pub names: Mutex<BTreeMap<String, Vec<String>>>,
    /// What the next question is refused with.
    pub refusal: Mutex<Option<ContentsError>>,
    /// The manifests that were looked into.
    pub asked: Mutex<Vec<String>>,
}

impl PlayedContents {
    pub fn hold(&self, database: &str, collections: &[&str]) {
        let collections = collections.iter().map(|name| (*name).to_owned()).collect();
        self.names.lock().unwrap().insert(database.to_owned(), collections);
    }

    fn answer<T: Send + 'static>(
        &self,
        snapshot: Snapshot,
        answer: T,
    ) -> BoxFuture<'static, Result<T, ContentsError>> {
        self.asked.lock().unwrap().push(snapshot.manifest.unwrap());
        let refusal = self.refusal.lock().unwrap().take();
        std::future::ready(refusal.map_or(Ok(answer), Err)).boxed()
    }
}

impl Contents for PlayedContents {
    fn databases(&self, snapshot: Snapshot) -> BoxFuture<'static, Result<Vec<String>, ContentsError>> {
        let names = self.names.lock().unwrap().keys().cloned().collect();
        self.answer(snapshot, names)
    }

    fn collections(
        &self,
        snapshot: Snapshot,
        database: String,
    ) -> BoxFuture<'static, Result<Option<Vec<String>>, ContentsError>> {
        let names = self.names.lock().unwrap().get(&database).cloned();
        self.answer(snapshot, names)
    }
}
