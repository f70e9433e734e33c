//! The write side against real servers: what goes in comes out byte for byte.
#![allow(clippy::unwrap_used)]

extern crate ebbtide_mongo as mongo;

#[path = "write_side/copy.rs"]
mod copy;
#[path = "write_side/corpus.rs"]
mod corpus;
#[path = "write_side/fences.rs"]
mod fences;
#[path = "write_side/indexes.rs"]
mod indexes;
#[path = "write_side/loads.rs"]
mod loads;
#[path = "write_side/places.rs"]
mod places;
#[path = "write_side/users.rs"]
mod users;

use bson::{Document, RawDocumentBuf, doc};
use futures::TryStreamExt as _;
use mongo::{ConnectOptions, Deployment, Namespace, Uri};
use testbed::{Options, Server};

/// Runs an async test on each of the versions that differ in what they write.
macro_rules! on_versions {
    ($name:ident) => {
        mod $name {
            #[tokio::test]
            async fn mongod_6_0_5() {
                super::$name("6.0.5").await;
            }
            #[tokio::test]
            async fn mongod_6_0_27() {
                super::$name("6.0.27").await;
            }
            #[tokio::test]
            async fn mongod_5_0_4() {
                super::$name("5.0.4").await;
            }
        }
    };
}
pub(crate) use on_versions;

/// A replica set of one without authentication, and a deployment on it.
async fn start(version: &str) -> (Server, Deployment) {
    let server = Server::start(Options::version(version)).await.unwrap();
    let deployment = connect(&server.uri()).await;
    (server, deployment)
}

async fn start_with_auth(version: &str) -> (Server, Deployment) {
    let server = Server::start(Options::version(version).with_auth()).await.unwrap();
    let deployment = connect(&server.uri()).await;
    (server, deployment)
}

async fn connect(uri: &str) -> Deployment {
    Deployment::connect(&Uri::parse(uri).unwrap(), &ConnectOptions::default()).await.unwrap()
}

/// An account with exactly these privileges, and a deployment that uses it.
async fn connect_with(server: &Server, privileges: Vec<Document>, roles: Vec<&str>) -> Deployment {
    server.admin(doc! { "createRole": "exactly", "privileges": privileges, "roles": roles }).await.unwrap();
    server.admin(doc! { "createUser": "tester", "pwd": "secret", "roles": ["exactly"] }).await.unwrap();
    connect(&server.uri_for("tester", "secret")).await
}

/// All documents in natural order, through the official driver.
async fn documents(deployment: &Deployment, namespace: &Namespace) -> Vec<Vec<u8>> {
    let collection =
        deployment.driver().database(&namespace.db).collection::<RawDocumentBuf>(&namespace.collection);
    let found: Vec<_> = collection
        .find(doc! {})
        .hint(mongodb::options::Hint::Keys(doc! { "$natural": 1 }))
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    found.into_iter().map(RawDocumentBuf::into_bytes).collect()
}

async fn insert(deployment: &Deployment, namespace: &Namespace, documents: Vec<Document>) {
    deployment
        .driver()
        .database(&namespace.db)
        .collection(&namespace.collection)
        .insert_many(documents)
        .await
        .unwrap();
}
