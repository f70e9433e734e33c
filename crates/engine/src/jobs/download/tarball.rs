//! A gzipped tar made while its content arrives, in bounded memory.
//!
//! Compressing is work for a processor, so it runs on a blocking thread between two short channels: pieces of
//! files in, pieces of the archive out. The size of each file is told before its content, because a tar header
//! comes first; content that turns out longer or shorter is an error, never a broken archive.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};
use flate2::{Compression, write::GzEncoder};
use tokio::sync::mpsc;

/// Level 1: the archive is fetched once, soon; a higher level costs many times more for a tenth of the size.
const GZIP_LEVEL: u32 = 1;
/// Pieces of the archive are about this long.
const OUT_PIECE_BYTES: usize = 1 << 20;

/// What goes in.
#[derive(Debug)]
pub(crate) enum Piece {
    /// A file begins; the one before must be complete.
    File {
        /// Its path in the archive.
        path: String,
        /// Its length.
        bytes: u64,
    },
    /// More of the file.
    Data(Bytes),
}

/// Reads pieces until the channel closes, and sends the archive on.
///
/// Blocks; belongs on a blocking thread. The archive is complete only if this returns without an error.
pub(crate) fn build(
    mut pieces: mpsc::Receiver<Piece>,
    out: mpsc::Sender<Bytes>,
    modified_seconds: u64,
) -> io::Result<()> {
    let gzip = GzEncoder::new(
        Outlet { out, held: Vec::with_capacity(OUT_PIECE_BYTES) },
        Compression::new(GZIP_LEVEL),
    );
    let mut archive = tar::Builder::new(gzip);
    while let Some(piece) = pieces.blocking_recv() {
        let Piece::File { path, bytes } = piece else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more content than was announced"));
        };
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_mtime(modified_seconds);
        header.set_size(bytes);
        archive.append_data(
            &mut header,
            &path,
            Content { pieces: &mut pieces, held: Bytes::new(), left: bytes },
        )?;
    }
    archive.into_inner()?.finish()?.flush()
}

/// The content of one file, as it arrives.
struct Content<'a> {
    pieces: &'a mut mpsc::Receiver<Piece>,
    held: Bytes,
    left: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.held.is_empty() {
            if self.left == 0 {
                return Ok(0);
            }
            match self.pieces.blocking_recv() {
                Some(Piece::Data(data)) if data.len() as u64 <= self.left => self.held = data,
                Some(Piece::Data(_)) => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "more content than was announced",
                    ));
                }
                Some(Piece::File { .. }) | None => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "less content than was announced",
                    ));
                }
            }
        }
        let taken = self.held.len().min(buffer.len());
        self.held.copy_to_slice(&mut buffer[..taken]);
        self.left -= taken as u64;
        Ok(taken)
    }
}

/// Hands the compressed bytes on in pieces.
struct Outlet {
    out: mpsc::Sender<Bytes>,
    held: Vec<u8>,
}

impl Outlet {
    fn send(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.held, Vec::with_capacity(OUT_PIECE_BYTES));
        self.out
            .blocking_send(piece.into())
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody takes the archive any more"))
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= OUT_PIECE_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use flate2::read::GzDecoder;

    use super::*;

    fn file(path: &str, bytes: u64) -> Piece {
        Piece::File { path: path.to_owned(), bytes }
    }

    /// Feeds the pieces; the archive's bytes, or the error.
    fn built(pieces: Vec<Piece>) -> io::Result<Vec<u8>> {
        let (input, receiver) = mpsc::channel(2);
        let (sender, mut output) = mpsc::channel(2);
        let feeder = std::thread::spawn(move || {
            for piece in pieces {
                if input.blocking_send(piece).is_err() {
                    return;
                }
            }
        });
        let builder = std::thread::spawn(move || build(receiver, sender, 1_700_000_000));
        let mut bytes = Vec::new();
        while let Some(piece) = output.blocking_recv() {
            bytes.extend_from_slice(&piece);
        }
        feeder.join().unwrap();
        builder.join().unwrap()?;
        Ok(bytes)
    }

    #[test]
    fn what_goes_in_comes_out_also_under_long_names() {
        let long = format!("dump/{}/{}.bson", "d".repeat(60), "c".repeat(238));
        let big = Bytes::from(
            (0..3_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect::<Vec<_>>(),
        );
        let archive = built(vec![
            file("dump/a/empty.bson", 0),
            file(&long, big.len() as u64),
            Piece::Data(big.slice(..1_000_000)),
            Piece::Data(big.slice(1_000_000..)),
            file("dump/a/x.metadata.json", 2),
            Piece::Data(Bytes::from_static(b"{}")),
        ])
        .unwrap();
        let mut archive = tar::Archive::new(GzDecoder::new(archive.as_slice()));
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            found.push((entry.path().unwrap().to_string_lossy().into_owned(), content));
        }
        assert_eq!(found[0], ("dump/a/empty.bson".to_owned(), vec![]));
        assert_eq!(found[1].0, long);
        assert!(found[1].1 == big);
        assert_eq!(found[2], ("dump/a/x.metadata.json".to_owned(), b"{}".to_vec()));
    }

    #[test]
    fn content_of_the_wrong_length_is_an_error() {
        let data = || Piece::Data(Bytes::from_static(b"abc"));
        assert!(built(vec![file("a", 4), data()]).is_err(), "too short at the end");
        assert!(built(vec![file("a", 4), data(), file("b", 0)]).is_err(), "too short before another");
        assert!(built(vec![file("a", 2), data()]).is_err(), "too long");
        assert!(built(vec![file("a", 3), data(), data()]).is_err(), "too long, in another piece");
    }

    #[test]
    fn sizes_beyond_eight_gigabytes_fit_a_header() {
        let mut header = tar::Header::new_gnu();
        header.set_size(20 << 30);
        assert_eq!(header.size().unwrap(), 20 << 30);
    }
}
