//! The kernel's page cache, which a backup must not fill: on the host of a database it belongs to the database.

use std::{fs, num::NonZero, ops::Range, path::Path};

use rustix::fs::{Advice, fadvise};

/// Tells the kernel that nobody reads this part of a file soon again (`POSIX_FADV_DONTNEED`), so that it gives the memory to
/// others. Pages that are not on the disk yet it keeps: a file is synced before.
///
/// It is advice. A file system that does not take it, or a file that is gone by now, changes nothing for the vault.
pub(crate) fn let_go(file: &Path, part: Option<Range<u64>>) {
    let (start, end) = part.map_or((0, None), |part| (part.start, Some(part.end)));
    let length = end.and_then(|end| NonZero::new(end.saturating_sub(start)));
    if let Ok(file) = fs::File::open(file) {
        let _ = fadvise(&file, start, length, Advice::DontNeed);
    }
}
