//! Records that do not fit in memory, on local disk for a while: compressed, sealed, gone with the process.
//!
//! A spill file has no name: it is unlinked as soon as it is open, so the disk space comes back when the process
//! ends, however it ends, and nothing is left to sweep but an empty file if it dies between the two calls.
//! Blocks are sealed under a random key that is never written anywhere: what a stolen disk holds is noise.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};

/// A block is closed once it holds this many plain bytes; one long record may make it longer.
pub(crate) const SPILL_BLOCK_BYTES: usize = 256 << 10;
/// Fast levels: the disk is local and the bytes live for minutes.
const SPILL_ZSTD_LEVEL: i32 = -3;
/// Length of the sealed bytes, length of the plain bytes.
const BLOCK_HEADER_BYTES: usize = 8;
/// Length of the key, length of the value.
const RECORD_HEADER_BYTES: usize = 8;
/// Suffix of the short-lived names.
const SUFFIX: &str = ".spill";

/// What went wrong with a spill file.
#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    /// The directory cannot take more.
    #[error("the spill directory {} is full; free space there or set another one", dir.display())]
    Full {
        /// The spill directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused.
    #[error("a file in the spill directory {} cannot be used", dir.display())]
    Io {
        /// The spill directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was read is not what was written.
    #[error("a spill file in {} came back damaged; check the disk", dir.display())]
    Damaged {
        /// The spill directory.
        dir: PathBuf,
    },
}

/// One open spill file: appended to by one writer, read by many.
#[derive(Debug)]
struct SpillFile {
    file: File,
    key: LessSafeKey,
    dir: PathBuf,
}

impl SpillFile {
    fn create(dir: &Path) -> Result<Self, SpillError> {
        let refuse = |source| io_error(dir, source);
        fs::create_dir_all(dir).map_err(refuse)?;
        let mut random = [0_u8; 48];
        rand::fill(&mut random).map_err(|_| refuse(io::Error::other("the system has no randomness")))?;
        let path = dir.join(format!("{}{SUFFIX}", hex::encode(&random[..16])));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(refuse)?;
        // From here on the file has no name and dies with the process.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refuse(error)),
            _ => {}
        }
        let key =
            UnboundKey::new(&AES_256_GCM, &random[16..]).map_err(|_| refuse(io::Error::other("no key")))?;
        Ok(Self { file, key: LessSafeKey::new(key), dir: dir.to_owned() })
    }

    /// A block's offset is its nonce: the file only grows, so no offset comes twice under its key.
    fn nonce(offset: u64) -> Nonce {
        let mut bytes = [0; NONCE_LEN];
        bytes[..8].copy_from_slice(&offset.to_le_bytes());
        Nonce::assume_unique_for_key(bytes)
    }
}

impl From<SpillError> for crate::lease::JobError {
    fn from(error: SpillError) -> Self {
        Self::failed_by("local disk space for the job could not be used", error)
    }
}

fn io_error(dir: &Path, source: io::Error) -> SpillError {
    let dir = dir.to_owned();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            SpillError::Full { dir, source }
        }
        io::ErrorKind::UnexpectedEof => SpillError::Damaged { dir },
        _ => SpillError::Io { dir, source },
    }
}

/// Removes what a process left that died between naming and unlinking a file. Files in use have no name.
pub(crate) fn sweep(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(SUFFIX) {
            match fs::remove_file(entry.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Writes runs of records, one after the other, into one file.
pub(crate) struct SpillWriter {
    file: Arc<SpillFile>,
    at: u64,
    run_start: u64,
    run_records: u64,
    longest_block: usize,
    plain: Vec<u8>,
    compressor: zstd::bulk::Compressor<'static>,
}

impl SpillWriter {
    /// Opens a fresh file in `dir`.
    pub(crate) fn create(dir: &Path) -> Result<Self, SpillError> {
        let compressor = zstd::bulk::Compressor::new(SPILL_ZSTD_LEVEL).map_err(|e| io_error(dir, e))?;
        Ok(Self {
            file: Arc::new(SpillFile::create(dir)?),
            at: 0,
            run_start: 0,
            run_records: 0,
            longest_block: 0,
            plain: Vec::with_capacity(SPILL_BLOCK_BYTES + (SPILL_BLOCK_BYTES >> 2)),
            compressor,
        })
    }

    /// Appends one record to the run at hand.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), SpillError> {
        let record = RECORD_HEADER_BYTES + key.len() + value.len();
        if !self.plain.is_empty() && self.plain.len() + record > SPILL_BLOCK_BYTES {
            self.close_block()?;
        }
        self.plain.extend_from_slice(&(key.len() as u32).to_le_bytes());
        self.plain.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.plain.extend_from_slice(key);
        self.plain.extend_from_slice(value);
        self.run_records += 1;
        Ok(())
    }

    /// Ends the run at hand; the next record begins another.
    pub(crate) fn end_run(&mut self) -> Result<Run, SpillError> {
        if !self.plain.is_empty() {
            self.close_block()?;
        }
        let run = Run {
            file: Arc::clone(&self.file),
            start: self.run_start,
            end: self.at,
            records: self.run_records,
            longest_block: self.longest_block,
        };
        self.run_start = self.at;
        self.run_records = 0;
        self.longest_block = 0;
        Ok(run)
    }

    fn close_block(&mut self) -> Result<(), SpillError> {
        let file = &self.file;
        let refuse = |source| io_error(&file.dir, source);
        let bound = zstd::zstd_safe::compress_bound(self.plain.len());
        let mut block = vec![0; BLOCK_HEADER_BYTES + bound];
        let length = self
            .compressor
            .compress_to_buffer(&self.plain, &mut block[BLOCK_HEADER_BYTES..])
            .map_err(refuse)?;
        block.truncate(BLOCK_HEADER_BYTES + length);
        let tag = file
            .key
            .seal_in_place_separate_tag(
                SpillFile::nonce(self.at),
                Aad::empty(),
                &mut block[BLOCK_HEADER_BYTES..],
            )
            .map_err(|_| refuse(io::Error::other("sealing failed")))?;
        block.extend_from_slice(tag.as_ref());
        let sealed = (block.len() - BLOCK_HEADER_BYTES) as u32;
        block[..4].copy_from_slice(&sealed.to_le_bytes());
        block[4..8].copy_from_slice(&(self.plain.len() as u32).to_le_bytes());
        file.file.write_all_at(&block, self.at).map_err(refuse)?;
        self.at += block.len() as u64;
        self.longest_block = self.longest_block.max(self.plain.len());
        self.plain.clear();
        Ok(())
    }
}

/// A finished run of records. The file goes away with the last run in it.
#[derive(Debug, Clone)]
pub struct Run {
    file: Arc<SpillFile>,
    start: u64,
    end: u64,
    records: u64,
    longest_block: usize,
}

impl Run {
    /// Records in it.
    #[cfg(test)]
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// What a reader of it holds in memory at most.
    pub(crate) fn reader_bytes(&self) -> usize {
        self.longest_block.max(SPILL_BLOCK_BYTES)
    }

    /// Reads it from the start.
    pub(crate) fn reader(&self) -> RunReader {
        RunReader {
            run: self.clone(),
            at: self.start,
            block: vec![],
            sealed: vec![],
            next: 0,
            left: self.records,
        }
    }
}

/// Reads one run, record by record.
pub(crate) struct RunReader {
    run: Run,
    at: u64,
    block: Vec<u8>,
    sealed: Vec<u8>,
    next: usize,
    left: u64,
}

/// Where a record lies in the block that its reader holds.
#[derive(Debug, Clone, Copy)]
struct Lengths {
    key: usize,
    value: usize,
}

impl RunReader {
    /// Moves to the next record; false at the end of the run.
    pub(crate) fn advance(&mut self) -> Result<bool, SpillError> {
        if self.next < self.block.len() {
            let lengths = self.lengths();
            self.next += RECORD_HEADER_BYTES + lengths.key + lengths.value;
        }
        if self.next >= self.block.len() {
            if self.at >= self.run.end {
                self.block = vec![];
                return if self.left == 0 { Ok(false) } else { Err(self.damaged()) };
            }
            self.read_block()?;
        }
        self.left = self.left.checked_sub(1).ok_or_else(|| self.damaged())?;
        Ok(true)
    }

    /// Key of the record at hand. Empty before the first [`RunReader::advance`].
    pub(crate) fn key(&self) -> &[u8] {
        let start = self.next + RECORD_HEADER_BYTES;
        self.block.get(start..start + self.lengths().key).unwrap_or_default()
    }

    /// Value of the record at hand.
    pub(crate) fn value(&self) -> &[u8] {
        let lengths = self.lengths();
        let start = self.next + RECORD_HEADER_BYTES + lengths.key;
        self.block.get(start..start + lengths.value).unwrap_or_default()
    }

    fn lengths(&self) -> Lengths {
        let word = |at: usize| {
            let bytes = self.block.get(at..at + 4).and_then(|b| b.try_into().ok()).unwrap_or_default();
            u32::from_le_bytes(bytes) as usize
        };
        Lengths { key: word(self.next), value: word(self.next + 4) }
    }

    fn read_block(&mut self) -> Result<(), SpillError> {
        let file = &self.run.file;
        let refuse = |source| io_error(&file.dir, source);
        let mut header = [0; BLOCK_HEADER_BYTES];
        file.file.read_exact_at(&mut header, self.at).map_err(refuse)?;
        let [a, b, c, d, e, f, g, h] = header;
        let sealed = u32::from_le_bytes([a, b, c, d]) as usize;
        let plain = u32::from_le_bytes([e, f, g, h]) as usize;
        if plain > self.run.longest_block || self.at + (BLOCK_HEADER_BYTES + sealed) as u64 > self.run.end {
            return Err(self.damaged());
        }
        self.sealed.resize(sealed, 0);
        file.file.read_exact_at(&mut self.sealed, self.at + BLOCK_HEADER_BYTES as u64).map_err(refuse)?;
        let damaged = || SpillError::Damaged { dir: file.dir.clone() };
        let compressed = file
            .key
            .open_in_place(SpillFile::nonce(self.at), Aad::empty(), &mut self.sealed)
            .map_err(|_| damaged())?;
        self.block.resize(plain, 0);
        let length = zstd::bulk::decompress_to_buffer(compressed, &mut self.block).map_err(|_| damaged())?;
        if length != plain {
            return Err(damaged());
        }
        self.at += (BLOCK_HEADER_BYTES + sealed) as u64;
        self.next = 0;
        Ok(())
    }

    fn damaged(&self) -> SpillError {
        SpillError::Damaged { dir: self.run.file.dir.clone() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn runs_come_back_as_they_went_and_leave_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = SpillWriter::create(dir.path()).unwrap();
        let mut runs = vec![];
        for run in 0..3_u32 {
            for n in 0..2000_u32 {
                let value = vec![n as u8; (n % 700) as usize];
                writer.push(&(run * 10_000 + n).to_be_bytes(), &value).unwrap();
            }
            runs.push(writer.end_run().unwrap());
        }
        drop(writer);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "a spill file kept its name");
        for (number, run) in (0_u32..).zip(&runs) {
            assert_eq!(run.records(), 2000);
            let mut reader = run.reader();
            for n in 0..2000_u32 {
                assert!(reader.advance().unwrap());
                assert_eq!(reader.key(), (number * 10_000 + n).to_be_bytes());
                assert_eq!(reader.value(), vec![n as u8; (n % 700) as usize]);
            }
            assert!(!reader.advance().unwrap());
        }
    }

    #[test]
    fn the_bytes_on_disk_are_sealed_and_damage_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = SpillWriter::create(dir.path()).unwrap();
        writer.push(b"key", b"a very secret value, a very secret value").unwrap();
        let run = writer.end_run().unwrap();
        let mut bytes = vec![0; run.end as usize];
        run.file.file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(!bytes.windows(6).any(|w| w == b"secret"), "plain text on disk");
        run.file.file.write_all_at(&[bytes[20] ^ 1], 20).unwrap();
        assert!(matches!(run.reader().advance(), Err(SpillError::Damaged { .. })));
    }

    #[test]
    fn a_start_sweeps_what_a_crash_left() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("00.spill"), b"").unwrap();
        fs::write(dir.path().join("kept.txt"), b"").unwrap();
        sweep(dir.path()).unwrap();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["kept.txt"]);
        sweep(&dir.path().join("missing")).unwrap();
    }
}
