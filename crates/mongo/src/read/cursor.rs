//! A cursor on the data plane.

use bson::{RawDocumentBuf, raw::cstr, rawdoc};

use super::{Batch, DocumentId};
use crate::{Error, Namespace, Result, wire::Connection};

/// Bytes wanted in one batch: measured best, larger ones fall out of the processor's cache.
const BATCH_BYTES_TARGET: usize = 1024 * 1024;
/// Documents of the first batch, when their size is unknown.
const FIRST_BATCH_DOCUMENTS: i32 = 101;
/// Of one batch, for tiny documents.
const BATCH_DOCUMENTS_MAX: usize = 50_000;

/// Reads a collection batch by batch, and asks for the next batch before it gives one: the server works on it while the
/// caller works on this one. Dropped early it leaves a cursor that the server forgets in ten minutes;
/// [`Cursor::close`] is kinder.
#[derive(Debug)]
pub struct Cursor<'c> {
    connection: &'c mut Connection,
    namespace: Namespace,
    /// 0 when the server has no more.
    id: i64,
    first: Option<Batch>,
    /// The request for the next batch, which was sent.
    asked: Option<RawDocumentBuf>,
    /// Memory for batches to come.
    spare: Vec<Vec<u8>>,
    next_batch_documents: i32,
    through: Option<DocumentId>,
    /// The document that the range ends with was met.
    met: bool,
    /// A find to be run when all else has been read.
    tail: Option<RawDocumentBuf>,
}

impl<'c> Cursor<'c> {
    pub(crate) async fn open(
        connection: &'c mut Connection,
        namespace: &Namespace,
        mut find: RawDocumentBuf,
        through: Option<DocumentId>,
    ) -> Result<Self> {
        find.append(cstr!("batchSize"), FIRST_BATCH_DOCUMENTS);
        let mut cursor = Self {
            connection,
            namespace: namespace.clone(),
            id: 0,
            first: None,
            asked: None,
            spare: Vec::new(),
            next_batch_documents: FIRST_BATCH_DOCUMENTS,
            through,
            met: false,
            tail: None,
        };
        cursor.first = Some(cursor.fetch(&find).await?);
        Ok(cursor)
    }

    /// A cursor on nothing.
    pub(super) fn empty(connection: &'c mut Connection, namespace: &Namespace) -> Self {
        Self {
            connection,
            namespace: namespace.clone(),
            id: 0,
            first: None,
            asked: None,
            spare: Vec::new(),
            next_batch_documents: 0,
            through: None,
            met: false,
            tail: None,
        }
    }

    /// Lets the documents of one more find, of one batch, follow the others.
    #[must_use]
    pub(super) fn followed_by(mut self, tail: RawDocumentBuf) -> Self {
        self.tail = Some(tail);
        self
    }

    /// The next batch; `None` at the end of the collection or of the range.
    ///
    /// # Errors
    /// `SnapshotTooOld`, `SnapshotUnavailable`, `CursorLost`, network.
    pub async fn next(&mut self) -> Result<Option<Batch>> {
        let batch = if let Some(first) = self.first.take() {
            first
        } else if self.id != 0 {
            self.ask().await?;
            self.answer().await?
        } else if let Some(tail) = self.tail.take() {
            self.fetch(&tail).await?
        } else {
            return self.end();
        };
        if batch.ended {
            self.met = true;
            self.kill().await?;
        }
        if self.id != 0 {
            self.ask().await?;
        }
        if !batch.is_empty() || self.id != 0 {
            return Ok(Some(batch));
        }
        let Some(tail) = self.tail.take() else {
            return self.end();
        };
        let batch = self.fetch(&tail).await?;
        Ok((!batch.is_empty()).then_some(batch))
    }

    /// A range whose last document never came has gone on into what is not its own: nothing of it counts.
    fn end(&self) -> Result<Option<Batch>> {
        if self.through.is_none() || self.met {
            return Ok(None);
        }
        Err(Error::CursorLost {
            namespace: self.namespace.to_string(),
            message: "the last document of the range is not there any more".to_owned(),
        })
    }

    fn more(&self) -> RawDocumentBuf {
        let mut more = rawdoc! { "getMore": self.id };
        more.append(cstr!("collection"), self.namespace.collection.as_str());
        more.append(cstr!("$db"), self.namespace.db.as_str());
        more.append(cstr!("batchSize"), self.next_batch_documents);
        more
    }

    /// Gives a batch's buffer back, so that a batch to come needs no new one.
    pub fn recycle(&mut self, batch: Batch) {
        self.spare.push(batch.into_buffer());
    }

    /// Tells the server that no more is wanted.
    ///
    /// # Errors
    /// Network.
    pub async fn close(mut self) -> Result<()> {
        self.kill().await
    }

    /// Asks for the next batch, unless it was asked for.
    async fn ask(&mut self) -> Result<()> {
        if self.asked.is_none() {
            let more = self.more();
            self.connection.begin(&more).await?;
            self.asked = Some(more);
        }
        Ok(())
    }

    /// The batch that was asked for.
    async fn answer(&mut self) -> Result<Batch> {
        let asked = self.asked.take().ok_or_else(|| Error::protocol("an answer that nobody asked for"))?;
        self.connection.complete(&asked).await?;
        self.batch()
    }

    async fn fetch(&mut self, command: &RawDocumentBuf) -> Result<Batch> {
        self.connection.command(command).await?;
        self.batch()
    }

    fn batch(&mut self) -> Result<Batch> {
        let (buffer, body) = self.connection.swap_reply(self.spare.pop().unwrap_or_default())?;
        let (batch, id) = Batch::new(buffer, body, self.through.as_ref())?;
        self.id = id;
        if let Some(average) = batch.bytes().checked_div(batch.len()) {
            let wanted = (BATCH_BYTES_TARGET / average.max(1)).clamp(1, BATCH_DOCUMENTS_MAX);
            self.next_batch_documents = i32::try_from(wanted).unwrap_or(FIRST_BATCH_DOCUMENTS);
        }
        Ok(batch)
    }

    async fn kill(&mut self) -> Result<()> {
        if self.asked.is_some() {
            // Its reply stands between us and the next one. What the server says of documents that nobody wants, such
            // as that their history is gone, is no matter.
            match self.answer().await {
                Err(error @ (Error::Unreachable { .. } | Error::TimedOut { .. })) => return Err(error),
                Err(_) => self.id = 0,
                Ok(_) => {}
            }
        }
        let id = std::mem::take(&mut self.id);
        if id == 0 {
            return Ok(());
        }
        let mut kill = rawdoc! { "killCursors": self.namespace.collection.as_str(), "cursors": [id] };
        kill.append(cstr!("$db"), self.namespace.db.as_str());
        self.connection.command(&kill).await.map(drop)
    }
}
