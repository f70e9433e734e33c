//! One connection's share of a load.

use std::sync::Arc;

use bson::RawDocumentBuf;
use bytes::Bytes;
use tokio::sync::{Mutex, mpsc};

use super::{Failure, Written, batch::Batch, session::Session};
use crate::{
    Error, Namespace, Result,
    wire::{Connection, ReplyExt as _},
    write::{
        ConnectionPool,
        raw::{RawBuilder, malformed},
    },
};

/// DuplicateKey.
const DUPLICATE_KEY: i64 = 11_000;

pub(super) struct Worker {
    pub(super) pool: ConnectionPool,
    pub(super) namespace: Namespace,
    pub(super) insertion_order: bool,
    pub(super) session: Option<Session>,
    pub(super) failure: Failure,
    pub(super) written: Arc<Written>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) documents: u64,
    pub(super) bytes: u64,
    pub(super) mended: u64,
}

impl Worker {
    /// Writes batches until there are no more, or until any worker fails.
    pub(super) async fn run(mut self, batches: Arc<Mutex<mpsc::Receiver<Batch>>>) -> Option<Tally> {
        match self.write_all(&batches).await {
            Ok(tally) => Some(tally),
            Err(error) => {
                self.failure.set(error);
                // Whoever waits to send learns of it, and the other workers stop.
                let mut batches = batches.lock().await;
                batches.close();
                while batches.try_recv().is_ok() {}
                None
            }
        }
    }

    async fn write_all(&mut self, batches: &Mutex<mpsc::Receiver<Batch>>) -> Result<Tally> {
        let mut connection = self.pool.take().await?;
        let mut tally = Tally::default();
        loop {
            let next = batches.lock().await.recv().await;
            let Some(batch) = next else { break };
            self.write(&mut connection, &batch).await?;
            let (documents, bytes) = (batch.count as u64, batch.documents.len() as u64);
            self.written.add(documents, bytes);
            tally.documents += documents;
            tally.bytes += bytes;
            tally.mended += if batch.zero_timestamps { batch.count as u64 } else { 0 };
        }
        self.pool.put_back(connection);
        Ok(tally)
    }

    async fn write(&mut self, connection: &mut Connection, batch: &Batch) -> Result<()> {
        let (verb, sequence, documents) = match batch.zero_timestamps {
            false => ("insert", "documents", batch.documents.clone()),
            true => ("update", "updates", upserts(&batch.documents)?),
        };
        let command = self.command(verb)?;
        let reply = connection.command_with_sequence(&command, sequence, &documents).await?;
        if let Some(error) = reply.children("writeErrors").into_iter().next() {
            return Err(self.refused(error.number("code"), error.text("errmsg")));
        }
        if let Some(error) = reply.child("writeConcernError") {
            return Err(self.refused(error.number("code"), error.text("errmsg")));
        }
        if reply.number("n").and_then(|n| usize::try_from(n).ok()) != Some(batch.count) {
            return Err(Error::Protocol(format!(
                "{verb} into {} did not take all documents",
                self.namespace
            )));
        }
        Ok(())
    }

    /// `w: 1` is said, because the default of 5.0 and later is to wait for a majority after every batch.
    fn command(&mut self, verb: &str) -> Result<RawDocumentBuf> {
        let concern = RawBuilder::new().int32("w", 1).finish();
        let mut command = RawBuilder::new()
            .text(verb, &self.namespace.collection)
            .boolean("ordered", self.insertion_order)
            .boolean("bypassDocumentValidation", true)
            .document("writeConcern", &concern)
            .text("$db", &self.namespace.db);
        if let Some(session) = &mut self.session {
            let (id, number) = session.next();
            command = command
                .document("lsid", &RawBuilder::new().uuid("id", id).finish())
                .int64("txnNumber", number);
        }
        command.command()
    }

    fn refused(&self, code: Option<i64>, message: Option<&str>) -> Error {
        let message = message.unwrap_or("no message");
        let hint = match code {
            Some(DUPLICATE_KEY) => "; the collection was not empty: drop it and load it again",
            _ => "",
        };
        Error::Server {
            code: code.and_then(|code| i32::try_from(code).ok()).unwrap_or(0),
            name: "refused document".to_owned(),
            message: format!("loading {}: {message}{hint}", self.namespace),
        }
    }
}

/// For each document an update that matches nothing and inserts the document as a literal: see the module's parent.
fn upserts(documents: &[u8]) -> Result<Bytes> {
    let nothing = RawBuilder::new().int32("$alwaysFalse", 1).finish();
    let mut updates = Vec::with_capacity(documents.len() + documents.len() / 2);
    for document in history::raw::documents(documents) {
        let literal = RawBuilder::new().document("$literal", document.map_err(malformed)?).finish();
        let stage = RawBuilder::new().document("$replaceWith", &literal).finish();
        let update = RawBuilder::new()
            .document("q", &nothing)
            .array("u", [stage.as_slice()])
            .boolean("upsert", true)
            .finish();
        updates.extend_from_slice(&update);
    }
    Ok(updates.into())
}
