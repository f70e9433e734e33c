//! What touched documents were, looked up before the fence: behind it nobody can write, so little should be left to do.
//!
//! What was at the time that is restored never changes. So what was found before is true behind the fence as well, whatever
//! is written in between; only what was touched since has to be looked up there.

use std::collections::{BTreeMap, VecDeque};

use mongo::Namespace;

use super::differences::{Batches, Difference, Differences};
use crate::lease::JobError;

/// A document as it was; nothing when it was not there.
pub(super) type Was = Option<Vec<u8>>;

/// What is known of some collections. Nothing, by default.
#[derive(Default)]
pub(crate) struct Known(BTreeMap<Namespace, Differences>);

impl Known {
    /// What was found in each of these.
    pub(super) fn new(found: BTreeMap<Namespace, Differences>) -> Self {
        Self(found)
    }

    /// What is known of one collection, from its first key on.
    pub(super) fn of(&self, namespace: &Namespace) -> KnownDocuments {
        let differences = self.0.get(namespace);
        KnownDocuments {
            batches: differences.map(Differences::batches),
            read: VecDeque::new(),
            bytes_read: differences.map_or(0, |differences| differences.counts.bytes_read),
        }
    }
}

/// What is known of the documents of one collection, read in the order of their keys.
pub(super) struct KnownDocuments {
    batches: Option<Batches>,
    read: VecDeque<Difference>,
    /// Bytes that were read from the vault to find it out.
    pub(super) bytes_read: u64,
}

impl KnownDocuments {
    /// What the document with this key was, if that is known. Keys ascend from call to call.
    pub(super) async fn was(&mut self, key: &[u8]) -> Result<Option<Was>, JobError> {
        loop {
            while self.read.front().is_some_and(|first| first.key.as_slice() < key) {
                self.read.pop_front();
            }
            if !self.read.is_empty() {
                return Ok(self.read.pop_front_if(|first| first.key == key).map(|found| found.want));
            }
            let Some(batches) = &mut self.batches else { return Ok(None) };
            self.read = batches.next().await?.into();
            if self.read.is_empty() {
                self.batches = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{jobs::restore::rewind::differences::Writer, spill::SpillWriter};

    #[tokio::test]
    async fn what_was_found_is_known_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut spill = SpillWriter::create(dir.path()).unwrap();
        let mut writer = Writer::new(&mut spill);
        // More than a batch.
        for n in 0..5_000_u32 {
            let want = (n % 3 > 0).then(|| n.to_le_bytes().to_vec());
            let key = (2 * n).to_be_bytes().to_vec();
            writer.push(&Difference { key, want, now: Some(vec![1]) }).unwrap();
        }
        writer.read(77);
        let namespace = Namespace::new("app", "flights");
        let known = Known::new([(namespace.clone(), writer.finish().unwrap())].into());
        for _ in 0..2 {
            let mut documents = known.of(&namespace);
            assert_eq!(documents.bytes_read, 77);
            for n in (0..10_010_u32).filter(|n| n % 7 != 0) {
                let is_known = n % 2 == 0 && n < 10_000;
                let was = (n / 2 % 3 > 0).then(|| (n / 2).to_le_bytes().to_vec());
                let found = documents.was(&n.to_be_bytes()).await.unwrap();
                assert_eq!(found, is_known.then_some(was), "{n}");
            }
        }
        assert_eq!(known.of(&Namespace::new("app", "planes")).was(&[0]).await.unwrap(), None);
    }
}
