//! Files that a killed process left half-written in a local vault.
//!
//! An object is written beside its place as `name#1` and then renamed. A kill in between leaves that file: no
//! reader ever sees it, but it takes space. Buckets have none, for objects are put there in one request.

use std::{fs, io, path::Path, time::Duration};

/// Deletes staged files below `root` that have not been written to for `min_age`. Gives how many.
pub(crate) fn sweep(root: &Path, min_age: Duration) -> io::Result<u64> {
    let mut swept = 0;
    let mut pending = vec![root.join("v1")];
    while let Some(directory) = pending.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                pending.push(entry.path());
            } else if is_staged(&entry.path()) && is_older(&entry, min_age) {
                swept += remove(&entry.path())?;
            }
        }
    }
    Ok(swept)
}

/// Another process may sweep as well.
fn remove(path: &Path) -> io::Result<u64> {
    match fs::remove_file(path) {
        Ok(()) => Ok(1),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(e) => Err(e),
    }
}

/// `name#1`: the store appends a number to what it is writing.
fn is_staged(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.split_once('#').is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn is_older(entry: &fs::DirEntry, min_age: Duration) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    modified.ok().and_then(|modified| modified.elapsed().ok()).is_some_and(|age| age >= min_age)
}
