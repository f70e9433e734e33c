//! Databases and collections of a snapshot, by name: what a restore of a part of it may ask for.

use std::sync::Arc;

use catalog::{Deployment, Snapshot};
use http::Method;
use model::{role::Action, snapshot::SnapshotState};
use serde_json::{Value, json};

use super::{Operation, SINCE_MARCH_2025, clusters::cluster, links, snapshots};
use crate::{
    access::Scope,
    contents::ContentsError,
    error::{Answer, Code, Problem},
    gate::Call,
    page::{Location, PageRequest, page},
    rate::Set,
    reply::Reply,
};

const DATABASES: &str = "/groups/{groupId}/clusters/{clusterName}/backup/snapshots/{snapshotId}/databases";
const DATABASE: &str =
    "/groups/{groupId}/clusters/{clusterName}/backup/snapshots/{snapshotId}/databases/{databaseName}";
const COLLECTIONS: &str = "/groups/{groupId}/clusters/{clusterName}/backup/snapshots/{snapshotId}/databases/{databaseName}/collections";
const COLLECTION: &str = "/groups/{groupId}/clusters/{clusterName}/backup/snapshots/{snapshotId}/databases/{databaseName}/collections/{collectionName}";
/// So much of a name is shown back.
const SHOWN_CHARACTERS: usize = 256;

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listGroupClusterBackupSnapshotDatabases",
        method: Method::GET,
        path: DATABASES,
        versions: SINCE_MARCH_2025,
        scope: Scope::Project(&[Action::ReadRestores]),
        limit: Set::Backups,
        run: |call| Box::pin(list_databases(call)),
    },
    Operation {
        id: "getGroupClusterBackupSnapshotDatabase",
        method: Method::GET,
        path: DATABASE,
        versions: SINCE_MARCH_2025,
        scope: Scope::Project(&[Action::ReadRestores]),
        limit: Set::Backups,
        run: |call| Box::pin(get_database(call)),
    },
    Operation {
        id: "listGroupClusterBackupSnapshotDatabaseCollections",
        method: Method::GET,
        path: COLLECTIONS,
        versions: SINCE_MARCH_2025,
        scope: Scope::Project(&[Action::ReadRestores]),
        limit: Set::Backups,
        run: |call| Box::pin(list_collections(call)),
    },
    Operation {
        id: "getGroupClusterBackupSnapshotDatabaseCollection",
        method: Method::GET,
        path: COLLECTION,
        versions: SINCE_MARCH_2025,
        scope: Scope::Project(&[Action::ReadRestores]),
        limit: Set::Backups,
        run: |call| Box::pin(get_collection(call)),
    },
];

async fn list_databases(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let about = About::of(&call).await?;
    Ok(about.page(asked, about.databases().await?, |name| about.database(name)))
}

async fn get_database(call: Call) -> Answer<Reply> {
    let about = About::of(&call).await?;
    let name = about.parameter("databaseName");
    if !about.databases().await?.iter().any(|other| other == name) {
        return Err(about.no_database(name));
    }
    Ok(Reply::object(about.database(name)))
}

async fn list_collections(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    let about = About::of(&call).await?;
    let db = about.parameter("databaseName");
    Ok(about.page(asked, about.collections(db).await?, |name| about.collection(db, name)))
}

async fn get_collection(call: Call) -> Answer<Reply> {
    let about = About::of(&call).await?;
    let (db, name) = (about.parameter("databaseName"), about.parameter("collectionName"));
    if !about.collections(db).await?.iter().any(|other| other == name) {
        return Err(Problem::new(Code::CollectionNotFound)
            .with(shown(&format!("{db}.{name}")))
            .with(about.deployment.name.as_str())
            .with(format!("in snapshot {}", about.snapshot.id)));
    }
    Ok(Reply::object(about.collection(db, name)))
}

/// The snapshot that is looked into.
struct About<'a> {
    call: &'a Call,
    deployment: Arc<Deployment>,
    snapshot: Snapshot,
}

impl<'a> About<'a> {
    async fn of(call: &'a Call) -> Answer<Self> {
        let deployment = cluster(call).await?;
        let snapshot = snapshots::one(call, &deployment).await?;
        let about = Self { call, deployment, snapshot };
        let why = match about.snapshot.state {
            SnapshotState::Completed => return Ok(about),
            SnapshotState::Queued | SnapshotState::InProgress => {
                "It is not completed yet; ask again when it is."
            }
            SnapshotState::Failed | SnapshotState::Deleted => "It holds nothing.",
        };
        Err(about.no_snapshot().because(why))
    }

    fn parameter(&self, name: &str) -> &'a str {
        self.call.params.get(name).unwrap_or_default()
    }

    async fn databases(&self) -> Answer<Vec<String>> {
        let found = self.call.server.state.contents.databases(self.snapshot.clone()).await;
        found.map_err(|error| self.problem(error))
    }

    async fn collections(&self, db: &str) -> Answer<Vec<String>> {
        let contents = &self.call.server.state.contents;
        let found = contents.collections(self.snapshot.clone(), db.to_owned()).await;
        found.map_err(|error| self.problem(error))?.ok_or_else(|| self.no_database(db))
    }

    fn page(&self, asked: PageRequest, names: Vec<String>, view: impl Fn(&str) -> Value) -> Reply {
        let listed = asked.slice(names);
        let results = listed.items.iter().map(|name| view(name)).collect();
        let at = Location { base: &self.call.base, path: self.call.uri.path(), query: &self.call.query };
        Reply::page(page(&at, asked, results, listed.total))
    }

    fn path(&self) -> String {
        let deployment = links::deployment_path(&self.deployment);
        format!("{deployment}/backup/snapshots/{}/databases", self.snapshot.id)
    }

    /// `DiskBackupDatabaseResponse`.
    fn database(&self, name: &str) -> Value {
        let path = format!("{}/{}", self.path(), links::segment(name));
        json!({"links": [links::own(self.call.link(&path))], "name": name})
    }

    /// `DiskBackupCollectionResponse`.
    fn collection(&self, db: &str, name: &str) -> Value {
        let (db, collection) = (links::segment(db), links::segment(name));
        let path = format!("{}/{db}/collections/{collection}", self.path());
        json!({"links": [links::own(self.call.link(&path))], "name": name})
    }

    fn no_snapshot(&self) -> Problem {
        let (id, cluster) = (self.snapshot.id.to_string(), self.deployment.name.as_str());
        Problem::new(Code::SnapshotNotFound).with(id).with(cluster)
    }

    fn no_database(&self, name: &str) -> Problem {
        Problem::new(Code::DatabaseNotFound).with(shown(name)).with(self.snapshot.id.to_string())
    }

    fn problem(&self, error: ContentsError) -> Problem {
        match error {
            ContentsError::Gone => self.no_snapshot(),
            ContentsError::Damaged(ref why) => {
                let why = why.clone();
                Problem::internal("look into a snapshot", &error).because(format!("{why}."))
            }
            ContentsError::Failed(source) => Problem::internal("look into a snapshot", source.as_ref()),
        }
    }
}

fn shown(name: &str) -> String {
    name.chars().take(SHOWN_CHARACTERS).collect()
}
