//! What has to be put back, document by document: what each was at the time that is restored, and what it is now by the
//! record. Kept on local disk, sealed, in the order of the keys.

use serde::{Deserialize, Serialize};

use crate::{
    lease::JobError,
    spill::{Run, RunReader, SpillError, SpillWriter},
};

/// Stands for the length of a document that is not there.
const ABSENT: u32 = u32::MAX;

/// One document that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    /// Its key.
    pub(super) key: Vec<u8>,
    /// What it was; nothing when it was not there.
    pub(super) want: Option<Vec<u8>>,
    /// What it is; nothing when it is not there.
    pub(super) now: Option<Vec<u8>>,
}

/// How many documents, by what has to be done to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Counts {
    /// Removed meanwhile; they come back.
    pub(crate) inserted: u64,
    /// Inserted meanwhile; they go.
    pub(crate) removed: u64,
    /// Changed meanwhile; they become what they were.
    pub(crate) replaced: u64,
    /// Bytes that are written.
    pub(crate) bytes: u64,
    /// Bytes that were read from the vault to find out.
    pub(crate) bytes_read: u64,
    /// Documents that were written to and are what they were all the same.
    pub(crate) unchanged: u64,
}

impl Counts {
    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            inserted: self.inserted + other.inserted,
            removed: self.removed + other.removed,
            replaced: self.replaced + other.replaced,
            bytes: self.bytes + other.bytes,
            bytes_read: self.bytes_read + other.bytes_read,
            unchanged: self.unchanged + other.unchanged,
        }
    }

    /// All documents that are touched.
    pub(crate) fn documents(self) -> u64 {
        self.inserted + self.removed + self.replaced
    }
}

/// Takes differences, in the order of their keys.
pub(super) struct Writer<'a> {
    spill: &'a mut SpillWriter,
    counts: Counts,
}

impl<'a> Writer<'a> {
    /// For one collection.
    pub(super) fn new(spill: &'a mut SpillWriter) -> Self {
        Self { spill, counts: Counts::default() }
    }

    /// Takes the next document, unless it is what it was.
    pub(super) fn push(&mut self, difference: &Difference) -> Result<(), SpillError> {
        let Difference { key, want, now } = difference;
        if want == now {
            self.counts.unchanged += 1;
            return Ok(());
        }
        match (want, now) {
            (Some(_), Some(_)) => self.counts.replaced += 1,
            (Some(_), None) => self.counts.inserted += 1,
            _ => self.counts.removed += 1,
        }
        let want = want.as_deref();
        self.counts.bytes += want.map_or(0, |want| want.len() as u64);
        // Documents are far below 4 GiB.
        let length = want.map_or(ABSENT, |want| want.len() as u32);
        let mut value = length.to_le_bytes().to_vec();
        value.extend(want.unwrap_or_default());
        value.extend(now.as_deref().unwrap_or_default());
        self.spill.push(key, &value)
    }

    /// Counts what was read to find out.
    pub(super) fn read(&mut self, bytes: u64) {
        self.counts.bytes_read += bytes;
    }

    /// All of the collection.
    pub(super) fn finish(self) -> Result<Differences, SpillError> {
        Ok(Differences { run: self.spill.end_run()?, counts: self.counts })
    }
}

/// The differences of one collection; can be read as often as needed.
pub(super) struct Differences {
    run: Run,
    pub(super) counts: Counts,
}

impl Differences {
    /// From the first one on.
    pub(super) fn batches(&self) -> Batches {
        Batches { reader: Some(self.run.reader()) }
    }
}

/// Reads differences a few at a time.
pub(super) struct Batches {
    reader: Option<RunReader>,
}

/// A batch holds so many documents at most.
const BATCH_DOCUMENTS: usize = 1_000;
/// And ends when it holds so much.
const BATCH_BYTES: usize = 4 << 20;

impl Batches {
    /// The next batch; an empty one at the end. Reads from disk.
    pub(super) async fn next(&mut self) -> Result<Vec<Difference>, JobError> {
        let lost = || JobError::failed("a bug in Ebbtide lost the plan of a rewind");
        let mut reader = self.reader.take().ok_or_else(lost)?;
        let read = tokio::task::spawn_blocking(move || {
            let batch = read_batch(&mut reader);
            (reader, batch)
        });
        let (reader, batch) =
            read.await.map_err(|e| JobError::failed_by("a bug in Ebbtide stopped a rewind", e))?;
        self.reader = Some(reader);
        batch
    }
}

fn read_batch(reader: &mut RunReader) -> Result<Vec<Difference>, JobError> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH_DOCUMENTS && bytes < BATCH_BYTES && reader.advance()? {
        bytes += reader.value().len();
        let read = read_one(reader.key(), reader.value());
        batch.push(read.ok_or_else(|| {
            JobError::failed("a bug in Ebbtide: the plan of a rewind does not read back as it was written")
        })?);
    }
    Ok(batch)
}

fn read_one(key: &[u8], value: &[u8]) -> Option<Difference> {
    let (length, rest) = value.split_first_chunk::<4>()?;
    let (want, now) = match u32::from_le_bytes(*length) {
        ABSENT => (None, rest),
        length => {
            let (want, now) = rest.split_at_checked(length as usize)?;
            (Some(want.to_vec()), now)
        }
    };
    let now = (!now.is_empty()).then(|| now.to_vec());
    Some(Difference { key: key.to_vec(), want, now })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn what_differs_comes_back_as_often_as_it_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut spill = SpillWriter::create(dir.path()).unwrap();
        let difference = |key: u8, want: Option<&str>, now: Option<&str>| Difference {
            key: vec![key],
            want: want.map(|text| text.as_bytes().to_vec()),
            now: now.map(|text| text.as_bytes().to_vec()),
        };
        let all = [
            difference(1, Some("was"), None),
            difference(2, None, Some("is")),
            difference(3, Some("was"), Some("is")),
            difference(4, Some("same"), Some("same")),
            difference(5, None, None),
        ];
        let mut writer = Writer::new(&mut spill);
        all.iter().for_each(|one| writer.push(one).unwrap());
        let differences = writer.finish().unwrap();
        let counts = differences.counts;
        assert_eq!((counts.inserted, counts.removed, counts.replaced, counts.unchanged), (1, 1, 1, 2));
        assert_eq!((counts.bytes, counts.documents()), (6, 3));
        for _ in 0..2 {
            let mut batches = differences.batches();
            assert_eq!(batches.next().await.unwrap(), all[..3]);
            assert!(batches.next().await.unwrap().is_empty());
        }
    }
}
