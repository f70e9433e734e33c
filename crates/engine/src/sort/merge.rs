//! Brings sorted runs together.

use std::path::{Path, PathBuf};

use super::{MERGE_BYTES, RunBuffer};
use crate::spill::{Run, RunReader, SpillError, SpillWriter};

/// Fewer runs than this are never merged at once, whatever they hold in memory.
const FAN_IN_MIN: usize = 2;

/// Sorted runs, on disk and in memory, to be read as one sorted stream.
#[derive(Debug)]
pub struct Merge {
    dir: PathBuf,
    memory: usize,
    runs: Vec<Run>,
    rest: Vec<RunBuffer>,
}

/// One input of a merge.
enum Input {
    Spilled(RunReader),
    Memory(RunBuffer),
}

impl Input {
    fn key(&self) -> &[u8] {
        match self {
            Self::Spilled(reader) => reader.key(),
            Self::Memory(buffer) => buffer.current().unwrap_or_default().0,
        }
    }

    fn document(&self) -> &[u8] {
        match self {
            Self::Spilled(reader) => reader.value(),
            Self::Memory(buffer) => buffer.current().unwrap_or_default().1,
        }
    }

    /// Moves on; false at the end.
    fn advance(&mut self) -> Result<bool, SpillError> {
        match self {
            Self::Spilled(reader) => reader.advance(),
            Self::Memory(buffer) => {
                buffer.advance();
                Ok(buffer.current().is_some())
            }
        }
    }
}

impl Merge {
    /// A merge that spills to `dir`.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), memory: MERGE_BYTES, runs: vec![], rest: vec![] }
    }

    /// The same with another cap on the bytes of open runs.
    pub fn with_memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// Adds a spilled run.
    pub fn add_run(&mut self, run: Run) {
        self.runs.push(run);
    }

    /// Adds a buffer that was never spilled.
    pub fn add_rest(&mut self, mut buffer: RunBuffer) {
        if !buffer.is_empty() {
            buffer.sort();
            self.rest.push(buffer);
        }
    }

    /// Gives every document to `sink`, in the order of the keys.
    ///
    /// # Errors
    /// What the disk or the sink says.
    pub fn for_each<E: From<SpillError>>(
        mut self,
        mut sink: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while self.runs.len() > self.fan_in() {
            self.one_pass()?;
        }
        let spilled = self.runs.iter().map(|run| Input::Spilled(run.reader()));
        let inputs = spilled.chain(self.rest.into_iter().map(Input::Memory)).collect();
        merge(inputs, &mut sink)
    }

    /// How many of the first runs may be open at once.
    fn fan_in(&self) -> usize {
        let mut held = 0;
        let fitting = self.runs.iter().take_while(|run| {
            held += run.reader_bytes();
            held <= self.memory
        });
        fitting.count().max(FAN_IN_MIN)
    }

    /// Merges groups of runs into longer ones, in a new file; the old file goes when its last run does.
    fn one_pass(&mut self) -> Result<(), SpillError> {
        let mut writer = SpillWriter::create(&self.dir)?;
        let mut longer = vec![];
        while !self.runs.is_empty() {
            let group = self.fan_in().min(self.runs.len());
            let inputs = self.runs.drain(..group).map(|run| Input::Spilled(run.reader())).collect();
            merge(inputs, &mut |key, document| writer.push(key, document))?;
            longer.push(writer.end_run()?);
        }
        self.runs = longer;
        Ok(())
    }
}

fn merge<E: From<SpillError>>(
    mut inputs: Vec<Input>,
    sink: &mut impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    // A heap of indices into `inputs`, least key on top. Written out because `BinaryHeap` wants owned keys.
    let mut heap = Vec::with_capacity(inputs.len());
    for (at, input) in inputs.iter_mut().enumerate() {
        let filled = match input {
            Input::Spilled(reader) => reader.advance()?,
            Input::Memory(buffer) => buffer.current().is_some(),
        };
        if filled {
            heap.push(at);
        }
    }
    for root in (0..heap.len() / 2).rev() {
        sift_down(&mut heap, root, &inputs);
    }
    while let Some(&least) = heap.first() {
        sink(inputs[least].key(), inputs[least].document())?;
        if !inputs[least].advance()? {
            heap.swap_remove(0);
        }
        sift_down(&mut heap, 0, &inputs);
    }
    Ok(())
}

fn sift_down(heap: &mut [usize], mut root: usize, inputs: &[Input]) {
    loop {
        let left = 2 * root + 1;
        if left >= heap.len() {
            return;
        }
        let right = left + 1;
        let less = |a: usize, b: usize| inputs[heap[a]].key() < inputs[heap[b]].key();
        let child = if right < heap.len() && less(right, left) { right } else { left };
        if !less(child, root) {
            return;
        }
        heap.swap(root, child);
        root = child;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn sort_through(
        dir: &Path,
        documents: &[(Vec<u8>, Vec<u8>)],
        buffer_bytes: usize,
        merge_bytes: usize,
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut merge = Merge::new(dir).with_memory(merge_bytes);
        let mut spill = crate::sort::Spill::create(dir).unwrap();
        let mut buffer = RunBuffer::new(buffer_bytes);
        for (key, document) in documents {
            if buffer.is_full_for(key, document) {
                merge.add_run(spill.write(&mut buffer).unwrap());
            }
            buffer.push(key, document);
        }
        merge.add_rest(buffer);
        let mut sorted = vec![];
        merge
            .for_each(|key, document| {
                sorted.push((key.to_vec(), document.to_vec()));
                Ok::<_, SpillError>(())
            })
            .unwrap();
        sorted
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_cap_gives_the_sorted_documents(
            keys in proptest::collection::btree_map(proptest::collection::vec(any::<u8>(), 0..12), 0usize..3000, 0..300),
            shuffle in any::<u64>(),
            buffer_bytes in 1usize..40_000,
            // Down to a fan-in of two, so that several passes are needed.
            merge_bytes in prop_oneof![Just(1usize), Just(3 * crate::spill::SPILL_BLOCK_BYTES), Just(MERGE_BYTES)],
        ) {
            let sorted: Vec<_> = keys.into_iter().map(|(key, length)| { let fill = key.len() as u8; (key, vec![fill; length]) }).collect();
            let mut shuffled = sorted.clone();
            shuffled.sort_by_key(|(key, _)| *blake3::hash(&[&shuffle.to_le_bytes(), key.as_slice()].concat()).as_bytes());
            let dir = tempfile::tempdir().unwrap();
            prop_assert_eq!(sort_through(dir.path(), &shuffled, buffer_bytes, merge_bytes), sorted);
            prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn long_documents_lower_the_number_of_open_runs() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = SpillWriter::create(dir.path()).unwrap();
        let mut merge = Merge::new(dir.path()).with_memory(4 << 20);
        for n in 0..8_u8 {
            writer.push(&[n], &vec![n; 1 << 20]).unwrap();
            merge.add_run(writer.end_run().unwrap());
        }
        assert!(merge.fan_in() <= 4, "{}", merge.fan_in());
    }
}
