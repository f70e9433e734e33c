//! `system.js`: functions stored in the server.
//!
//! It can be neither renamed nor staged nor dropped (measured on 5.0.4 and 6.0.5). It is small, and its documents are
//! replaced in the cut-over; where the snapshot has no functions, an empty collection may stay.

use bson::doc;
use bytes::Bytes;

use super::{
    LoadOptions, LoadReport, Loader, collections,
    command::{self, NAMESPACE_EXISTS},
};
use crate::{Deployment, Namespace, Result};

/// The collection's name.
pub const NAME: &str = "system.js";

/// Replaces all functions of a database by `documents`, which lie back to back. See [`super::LoadOptions`] for `mark_as`.
///
/// # Errors
/// The server's, sorted; run it again then.
pub async fn replace(
    deployment: &Deployment,
    db: &str,
    documents: Bytes,
    mark_as: Option<String>,
) -> Result<LoadReport> {
    const NO_OPTIONS: &[u8] = b"\x05\0\0\0\0";
    match collections::create(deployment, db, NAME, NO_OPTIONS, None).await {
        Err(error) if error.code() == Some(NAMESPACE_EXISTS) => clear(deployment, db).await?,
        result => result?,
    }
    let options = LoadOptions { connections: 1, mark_as, ..LoadOptions::default() };
    let mut loader = Loader::open(deployment, &Namespace::new(db, NAME), options).await?;
    loader.insert(documents).await?;
    loader.finish().await
}

/// Deletes all functions of a database, if it has any.
///
/// # Errors
/// The server's, sorted.
pub async fn clear(deployment: &Deployment, db: &str) -> Result<()> {
    let delete = doc! {
        "delete": NAME, "deletes": [{ "q": {}, "limit": 0 }], "writeConcern": command::majority(),
    };
    command::run_document(deployment, db, &delete).await?;
    Ok(())
}
