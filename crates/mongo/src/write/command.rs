//! Commands of the control plane whose parts are raw, through the official driver.

use bson::{Document, RawDocumentBuf, doc};

use crate::{Deployment, Error, Result};

/// Longest wait for a majority to know of one DDL operation.
pub(super) const DDL_WTIMEOUT_MS: i64 = 120_000;

/// NamespaceExists.
pub(super) const NAMESPACE_EXISTS: i32 = 48;

/// Runs a command on the primary; a write concern that was not met is an error too.
pub(crate) async fn run(deployment: &Deployment, db: &str, command: RawDocumentBuf) -> Result<Document> {
    deployment.permitted()?;
    let about = describe(db, &command);
    let reply = deployment
        .driver()
        .database(db)
        .run_raw_command(command)
        .await
        .map_err(|error| sorted(deployment, &about, &error))?;
    match reply.get_document("writeConcernError") {
        Ok(error) => Err(Error::TimedOut {
            what: format!(
                "{about} (waiting for a majority: {})",
                error.get_str("errmsg").unwrap_or("no message")
            ),
            limit_seconds: DDL_WTIMEOUT_MS.unsigned_abs() / 1000,
        }),
        Err(_) => Ok(reply),
    }
}

/// [`run`] for commands without raw parts.
pub(crate) async fn run_document(deployment: &Deployment, db: &str, command: &Document) -> Result<Document> {
    let raw = RawDocumentBuf::try_from(command).map_err(|error| Error::Protocol(error.to_string()))?;
    run(deployment, db, raw).await
}

/// The write concern of DDL: known to a majority when it returns.
pub(crate) fn majority() -> Document {
    doc! { "w": "majority", "wtimeout": DDL_WTIMEOUT_MS }
}

/// `create app.orders`, for messages: the command's name and its first value when that is a name.
fn describe(db: &str, command: &RawDocumentBuf) -> String {
    match command.iter().next() {
        Some(Ok((name, value))) => match value.as_str() {
            Some(target) => format!("{} {db}.{target}", name.as_str()),
            None => format!("{} on {db}", name.as_str()),
        },
        _ => db.to_owned(),
    }
}

/// Sorts the driver's error; where the server's words do not say what it was about, we do.
fn sorted(deployment: &Deployment, about: &str, error: &mongodb::error::Error) -> Error {
    match Error::from_driver(&deployment.identity().replica_set_name, about, error) {
        Error::Server { code, name, message } => {
            Error::Server { code, name, message: format!("{about}: {message}") }
        }
        other => other,
    }
}
