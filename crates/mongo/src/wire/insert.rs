//! Inserting documents as they are.

use bson::{
    Binary,
    raw::{RawDocument, cstr},
    rawdoc,
    spec::BinarySubtype,
};

use super::{Connection, ReplyExt as _};
use crate::{ClusterTime, Error, Result};

/// How documents are inserted.
#[derive(Debug, Clone, Default)]
pub struct InsertOptions {
    /// Stop at the first error.
    pub ordered: bool,
    /// Let documents in that the collection's validator would refuse.
    pub bypass_document_validation: bool,
    /// Wait for a majority and its journal.
    pub majority: bool,
    /// Session and transaction number, which make the entries in the oplog known as ours.
    pub session: Option<([u8; 16], i64)>,
}

/// What became of an insert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InsertReply {
    /// Documents inserted.
    pub inserted: u64,
    /// Documents refused.
    pub errors: Vec<WriteError>,
    /// The write concern was not met; the documents may be lost in an election.
    pub write_concern_error: Option<String>,
    /// The deployment's time after the insert.
    pub operation_time: Option<ClusterTime>,
    /// Identity of the primary's term of office.
    pub election_id: Option<bson::oid::ObjectId>,
}

/// One document that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteError {
    /// Its place in the insert.
    pub index: usize,
    /// The server's code.
    pub code: i32,
    /// The server's words.
    pub message: String,
}

impl Connection {
    /// Inserts documents that lie back to back. The caller keeps within [`super::Limits`].
    ///
    /// # Errors
    /// As [`Connection::command`]; refused documents are in the reply.
    pub async fn insert_sequence(
        &mut self,
        db: &str,
        collection: &str,
        documents: &[u8],
        options: &InsertOptions,
    ) -> Result<InsertReply> {
        let mut command = rawdoc! { "insert": collection, "ordered": options.ordered, "$db": db };
        if options.bypass_document_validation {
            command.append(cstr!("bypassDocumentValidation"), true);
        }
        if options.majority {
            command.append(cstr!("writeConcern"), rawdoc! { "w": "majority", "j": true });
        }
        if let Some((session, number)) = options.session {
            let id = Binary { subtype: BinarySubtype::Uuid, bytes: session.to_vec() };
            command.append(cstr!("lsid"), rawdoc! { "id": id });
            command.append(cstr!("txnNumber"), number);
        }
        InsertReply::of(self.command_with_sequence(&command, "documents", documents).await?)
    }
}

impl InsertReply {
    fn of(reply: &RawDocument) -> Result<Self> {
        let inserted = reply.number("n").and_then(|n| u64::try_from(n).ok());
        Ok(Self {
            inserted: inserted.ok_or_else(|| Error::protocol("an insert without a count"))?,
            errors: reply.children("writeErrors").into_iter().map(WriteError::of).collect(),
            write_concern_error: reply
                .child("writeConcernError")
                .map(|error| error.text("errmsg").unwrap_or("write concern not met").to_owned()),
            operation_time: reply.timestamp("operationTime"),
            election_id: reply.get_object_id("electionId").ok(),
        })
    }
}

impl WriteError {
    fn of(error: &RawDocument) -> Self {
        Self {
            index: error.number("index").and_then(|index| usize::try_from(index).ok()).unwrap_or(usize::MAX),
            code: error.number("code").and_then(|code| i32::try_from(code).ok()).unwrap_or(0),
            message: error.text("errmsg").unwrap_or("no message").to_owned(),
        }
    }
}
