//! `system.js`: functions stored in the server.
//!
//! It can be neither renamed nor staged. It is small, and its documents are replaced in the cut-over.

use bson::doc;
use bytes::Bytes;

use super::{LoadOptions, LoadReport, Loader, command};
use crate::{Deployment, Namespace, Result};

/// The collection's name.
pub const NAME: &str = "system.js";

/// Replaces all functions of a database by `documents`, which lie back to back.
///
/// # Errors
/// The server's, sorted; run it again then.
pub async fn replace(
    deployment: &Deployment,
    db: &str,
    documents: Bytes,
    mark_as: Option<String>,
) -> Result<LoadReport> {
    let delete = doc! {
        "delete": NAME, "deletes": [{ "q": {}, "limit": 0 }], "writeConcern": command::majority(),
    };
    command::run_document(deployment, db, &delete).await?;
    let options = LoadOptions { connections: 1, mark_as, ..LoadOptions::default() };
    let mut loader = Loader::open(deployment, &Namespace::new(db, NAME), options).await?;
    loader.insert(documents).await?;
    loader.finish().await
}
