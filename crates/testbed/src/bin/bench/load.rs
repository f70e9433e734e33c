//! Filling a server with the data set.

use std::sync::Arc;

use anyhow::Context;
use bson::{RawDocumentBuf, doc};
use mongodb::{Client, Collection, IndexModel};

use crate::dataset::{self, SHAPES, Words};

/// Documents sent at once.
const BATCH: u64 = 2000;
/// Connections that load one collection.
const LOADERS: u64 = 2;

/// Loads the whole set into the database `bench`, then builds its three secondary indexes.
pub(crate) async fn standard(client: &Client, megabytes: u64) -> anyhow::Result<()> {
    let words = Arc::new(Words::new());
    for shape in SHAPES {
        let words = Arc::clone(&words);
        let collection = client.database("bench").collection(shape.name);
        fill(collection, shape.documents(megabytes), Arc::new(move |n| shape.document(&words, n))).await?;
    }
    let orders: Collection<bson::Document> = client.database("bench").collection("orders");
    let indexes = [doc! { "customerId": 1, "createdAt": -1 }, doc! { "status": 1 }, doc! { "items.sku": 1 }];
    orders
        .create_indexes(indexes.map(|keys| IndexModel::builder().keys(keys).build()))
        .await
        .context("build indexes")?;
    Ok(())
}

/// Loads documents with random text `_id`s into `bench.scattered`.
pub(crate) async fn scattered(client: &Client, documents: u64) -> anyhow::Result<()> {
    let words = Arc::new(Words::new());
    let collection = client.database("bench").collection("scattered");
    fill(collection, documents, Arc::new(move |n| dataset::scattered(&words, n))).await
}

type Maker = Arc<dyn Fn(u64) -> RawDocumentBuf + Send + Sync>;

/// Inserts documents by several connections in step, so that they are stored about in the order in which they are
/// numbered, as the documents of an application are.
async fn fill(collection: Collection<RawDocumentBuf>, documents: u64, make: Maker) -> anyhow::Result<()> {
    let mut from = 0;
    while from < documents {
        let batches = (0..LOADERS).map(|loader| {
            let start = documents.min(from + loader * BATCH);
            let (collection, make) = (collection.clone(), Arc::clone(&make));
            tokio::spawn(async move {
                let batch: Vec<_> = (start..documents.min(start + BATCH)).map(|n| make(n)).collect();
                if !batch.is_empty() {
                    collection.insert_many(batch).ordered(false).await?;
                }
                mongodb::error::Result::Ok(())
            })
        });
        for batch in futures::future::join_all(batches).await {
            batch?.with_context(|| format!("load {}", collection.name()))?;
        }
        from += LOADERS * BATCH;
    }
    Ok(())
}
