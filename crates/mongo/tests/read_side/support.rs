//! What the tests share.

use bson::{Document, doc};
use history::SortKey;
use mongo::{
    ClusterTime, CollectionInfo, ConnectOptions, Deployment, Error, Namespace, Result, Uri, listing, read,
    wire,
};
use testbed::{Options, Server};

/// One test function per server version, so that a failure names the version.
macro_rules! on_each_version {
    ($($test:ident),* $(,)?) => {
        $(mod $test {
            #[tokio::test]
            async fn on_5_0_4() {
                super::$test("5.0.4").await;
            }
            #[tokio::test]
            async fn on_6_0_5() {
                super::$test("6.0.5").await;
            }
            #[tokio::test]
            async fn on_6_0_27() {
                super::$test("6.0.27").await;
            }
        })*
    };
}
pub(crate) use on_each_version;

pub(crate) async fn server(version: &str) -> Server {
    Server::start(Options::version(version)).await.unwrap()
}

pub(crate) async fn connect(uri: &str) -> Result<Deployment> {
    Deployment::connect(&Uri::parse(uri)?, &ConnectOptions::default()).await
}

pub(crate) async fn connected(version: &str) -> (Server, mongodb::Client, Deployment) {
    let server = server(version).await;
    let client = server.client().await.unwrap();
    let deployment = connect(&server.uri()).await.unwrap();
    (server, client, deployment)
}

/// What an error says; panics on success.
pub(crate) fn said<T: std::fmt::Debug>(result: Result<T>) -> (Error, String) {
    let error = result.unwrap_err();
    let text = error.to_string();
    (error, text)
}

pub(crate) async fn info(deployment: &Deployment, namespace: &str) -> CollectionInfo {
    let namespace = Namespace::parse(namespace).unwrap();
    let mut connection = deployment.primary_wire().await.unwrap();
    let (collections, _) = listing::of_database(&mut connection, &namespace.db).await.unwrap();
    collections.into_iter().find(|collection| collection.namespace == namespace).unwrap()
}

/// Reads a cursor to its end.
pub(crate) async fn drain(mut cursor: read::Cursor<'_>) -> Result<Vec<Vec<u8>>> {
    let mut documents = Vec::new();
    while let Some(batch) = cursor.next().await? {
        documents.extend(batch.documents().map(<[u8]>::to_vec));
        cursor.recycle(batch);
    }
    Ok(documents)
}

pub(crate) async fn sorted(
    connection: &mut wire::Connection,
    collection: &CollectionInfo,
    at: ClusterTime,
) -> Result<Vec<Vec<u8>>> {
    drain(read::sorted(connection, collection, at, None).await?).await
}

pub(crate) async fn natural(
    connection: &mut wire::Connection,
    collection: &CollectionInfo,
    at: ClusterTime,
) -> Result<Vec<Vec<u8>>> {
    drain(read::natural(connection, collection, at, &read::NaturalRange::whole()).await?).await
}

pub(crate) fn in_key_order(mut documents: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    documents.sort_by_cached_key(|document| SortKey::of_document(document).unwrap());
    documents
}

pub(crate) fn decoded(document: &[u8]) -> Document {
    bson::RawDocument::from_bytes(document).unwrap().try_into().unwrap()
}

pub(crate) async fn fill(client: &mongodb::Client, namespace: &str, count: i32, padding: usize) {
    let Namespace { db, collection } = Namespace::parse(namespace).unwrap();
    let collection = client.database(&db).collection::<Document>(&collection);
    let documents: Vec<i32> = (0..count).collect();
    for chunk in documents.chunks(1000) {
        let documents = chunk.iter().map(|id| doc! { "_id": *id, "x": "y".repeat(padding) });
        collection.insert_many(documents).await.unwrap();
    }
}
