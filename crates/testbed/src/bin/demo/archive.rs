//! The downloaded archive: fetched, unpacked, and compared with what the deployment held.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use aws_lc_rs::digest::{Context as Hasher, SHA256};
use md5::{Digest, Md5};
use serde_json::Value;
use testbed::oracle::State;

use crate::dataset::DATABASE;
use crate::http;
use crate::screen::Bar;

/// Fetches the archive; returns its SHA-256 in hexadecimal.
pub(crate) fn fetch(url: &str, file: &Path) -> anyhow::Result<String> {
    let mut answer = http::get(url)?;
    ensure!(answer.status == 200, "GET {url} was answered by {}", answer.status);
    let total = answer.length().unwrap_or(0);
    let (mut bar, mut bytes, mut hasher) = (Bar::new("fetching"), 0_u64, Hasher::new(&SHA256));
    let mut sink = File::create(file).with_context(|| format!("create {}", file.display()))?;
    answer.read_body(|piece| {
        sink.write_all(piece).context("write the archive")?;
        hasher.update(piece);
        bytes += piece.len() as u64;
        bar.show(bytes, total, &format!("{:.1} MB", bytes as f64 / 1e6));
        Ok(())
    })?;
    bar.finish(&format!("{:.1} MB", bytes as f64 / 1e6));
    Ok(hex::encode(hasher.finish()))
}

/// The first value of this name, however deep.
pub(crate) fn find_text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    match value {
        Value::Object(fields) => {
            let here = fields.get(name).and_then(Value::as_str);
            here.or_else(|| fields.values().find_map(|inner| find_text(inner, name)))
        }
        Value::Array(items) => items.iter().find_map(|inner| find_text(inner, name)),
        _ => None,
    }
}

/// Unpacks the archive; returns the directory that `mongorestore` wants.
pub(crate) fn unpack(file: &Path, into: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(into).with_context(|| format!("make {}", into.display()))?;
    let mut command = Command::new("tar");
    command.arg("-xzf").arg(file).arg("-C").arg(into).stdin(Stdio::null());
    let output = command.output().context("run tar")?;
    ensure!(output.status.success(), "tar: {}", String::from_utf8_lossy(&output.stderr).trim());
    let mut waiting = vec![into.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        if directory.join(DATABASE).is_dir() {
            return Ok(directory);
        }
        let entries = std::fs::read_dir(&directory)?.filter_map(|entry| Some(entry.ok()?.path()));
        waiting.extend(entries.filter(|path| path.is_dir()));
    }
    bail!("the archive has no directory {DATABASE}")
}

/// Compares every file with the hash that MongoDB gave for its collection: both are the MD5 of all documents in
/// `_id` order. Returns the number of documents.
pub(crate) fn compare(directory: &Path, state: &State) -> anyhow::Result<u64> {
    let database = state.databases.get(DATABASE).context("the state lacks the database")?;
    let mut documents = 0;
    for (name, hash) in database.hashes.iter().filter(|(name, _)| *name != "system.views") {
        let path = directory.join(DATABASE).join(format!("{name}.bson"));
        let (count, found) = read_documents(&path).with_context(|| format!("read {}", path.display()))?;
        ensure!(
            &found == hash,
            "{name}: the {count} documents in the archive are not those of the deployment"
        );
        documents += count;
    }
    Ok(documents)
}

fn read_documents(path: &Path) -> anyhow::Result<(u64, String)> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    let (mut rest, mut count) = (bytes.as_slice(), 0);
    while let Some(length) = rest.first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length))?;
        rest = rest.get(length..).context("the last document is cut off")?;
        count += 1;
    }
    ensure!(rest.is_empty(), "{} bytes after the last document", rest.len());
    Ok((count, hex::encode(Md5::digest(&bytes))))
}

/// `mongorestore`, if it is on PATH.
pub(crate) fn mongorestore() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join("mongorestore")).find(|file| file.is_file())
}

/// Runs the stock `mongorestore`.
pub(crate) fn restore(program: &Path, uri: &str, directory: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command.arg("--uri").arg(uri).arg("--quiet").arg("--dir").arg(directory).stdin(Stdio::null());
    let output = command.output().context("run mongorestore")?;
    ensure!(output.status.success(), "mongorestore: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
