//! Data that goes into a vault, or comes out of it, does not stay in the kernel's cache.

use std::{fs::File, io::IoSliceMut, path::Path};

use rustix::{
    fs::fstatfs,
    io::{Errno, ReadWriteFlags, preadv2},
};

use super::{Directory, document, noise, store};

/// File systems that live in the cache and take no advice: `TMPFS_MAGIC` and `RAMFS_MAGIC` of Linux.
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// Whether the first bytes of a file can be read without a look at the disk.
fn is_cached(path: &Path) -> bool {
    let file = File::open(path).unwrap();
    let mut bytes = [0; 16];
    match preadv2(&file, &mut [IoSliceMut::new(&mut bytes)], 0, ReadWriteFlags::NOWAIT) {
        Ok(_) => true,
        Err(Errno::AGAIN) => false,
        Err(other) => panic!("{}: {other}", path.display()),
    }
}

#[tokio::test]
async fn segments_do_not_stay_in_the_page_cache() {
    let directory = Directory::new().await;
    let entry = store(&directory.vault, &[document(1, &noise(1, 1 << 20))]).await;
    let path = directory.file(&entry.name.path());
    if IN_MEMORY.contains(&fstatfs(File::open(&path).unwrap()).unwrap().f_type) {
        eprintln!(
            "SKIPPED: {} is in memory, as is all of its file system; set TMPDIR to a disk",
            path.display()
        );
        return;
    }
    assert!(!is_cached(&path), "after it was put");

    std::fs::read(&path).unwrap();
    assert!(is_cached(&path), "after somebody else read it");
    directory.vault.verify_segment(&entry).await.unwrap();
    assert!(!is_cached(&path), "after it was read from the vault");
}
