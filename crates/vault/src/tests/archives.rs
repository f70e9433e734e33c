//! Archives: streamed in, read from anywhere, gone without a trace.

use aws_lc_rs::digest;
use futures::TryStreamExt as _;
use model::id::RestoreJobId;

use super::{Directory, memory};
use crate::{
    ArchiveInfo, ArchiveReader, ArchiveWriter, Error, Location, MasterKey, ObjectKind, Vault,
    archive::PART_BYTES, faults::Faults,
};

fn job(n: u8) -> RestoreJobId {
    RestoreJobId::from_parts(1, [n; 8])
}

fn content(bytes: usize) -> Vec<u8> {
    super::noise(9, bytes).into_bytes()
}

async fn archive(vault: &Vault, content: &[u8]) -> ArchiveInfo {
    let mut writer = ArchiveWriter::new(vault, job(1));
    for piece in content.chunks(1_234_567) {
        writer.write(piece).await.unwrap();
    }
    writer.finish().await.unwrap()
}

async fn read(vault: &Vault, info: &ArchiveInfo, start: u64, end: u64) -> crate::Result<Vec<u8>> {
    let pieces: Vec<_> = ArchiveReader::open(vault, info)?.read_range(start, end).try_collect().await?;
    Ok(pieces.concat())
}

async fn parts(vault: &Vault) -> usize {
    vault.list(ObjectKind::Archive).try_collect::<Vec<_>>().await.unwrap().len()
}

#[tokio::test]
async fn any_range_of_an_archive_can_be_read() {
    let vault = memory().await;
    let content = content(2 * PART_BYTES + 77);
    let info = archive(&vault, &content).await;
    let length = content.len() as u64;
    assert_eq!((info.bytes, info.parts), (length, 3));
    assert_eq!(info.sha256, hex::encode(digest::digest(&digest::SHA256, &content)));
    assert_eq!(info.sha1, hex::encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &content)));
    let part = PART_BYTES as u64;
    let bounds = [0, 1, part - 1, part, part + 1, 2 * part, length - 1, length, length + 9, u64::MAX];
    for start in bounds {
        for end in bounds {
            let (from, to) = (start.min(length) as usize, end.min(length) as usize);
            let expected = if from < to { &content[from..to] } else { &[] };
            assert_eq!(read(&vault, &info, start, end).await.unwrap(), expected, "{start}..{end}");
        }
    }
    let text = serde_json::to_string(&info).unwrap();
    assert_eq!(serde_json::from_str::<ArchiveInfo>(&text).unwrap(), info);
}

#[tokio::test]
async fn an_empty_archive_is_an_archive() {
    let vault = memory().await;
    let info = archive(&vault, &[]).await;
    assert_eq!((info.bytes, info.parts, parts(&vault).await), (0, 0, 0));
    assert!(read(&vault, &info, 0, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn deleting_leaves_nothing_and_touches_no_other() {
    let vault = memory().await;
    let info = archive(&vault, &content(PART_BYTES + 1)).await;
    let mut aborted = ArchiveWriter::new(&vault, job(1));
    aborted.write(&content(PART_BYTES + 1)).await.unwrap();
    aborted.abort().await.unwrap();
    assert_eq!(parts(&vault).await, 2);

    let mut killed = ArchiveWriter::new(&vault, job(2));
    killed.write(&content(PART_BYTES)).await.unwrap();
    killed.finish().await.unwrap();
    vault.delete_archives_of(job(2)).await.unwrap();
    assert_eq!(parts(&vault).await, 2);
    assert_eq!(read(&vault, &info, 0, 5).await.unwrap().len(), 5);
    vault.delete_archive(&info).await.unwrap();
    vault.delete_archive(&info).await.unwrap();
    assert_eq!(parts(&vault).await, 0);
    assert!(matches!(read(&vault, &info, 0, 5).await, Err(Error::Missing { .. })));
}

#[tokio::test]
async fn parts_cannot_be_swapped_changed_or_told_otherwise() {
    let directory = Directory::new().await;
    let vault = &directory.vault;
    let info = archive(vault, &content(2 * PART_BYTES)).await;
    let path = |n| directory.file(&info.id.part(n).path());
    let (first, second) = (std::fs::read(path(0)).unwrap(), std::fs::read(path(1)).unwrap());
    std::fs::write(path(0), &second).unwrap();
    let error = read(vault, &info, 0, 1).await.unwrap_err();
    assert!(error.to_string().contains("another object was put in its place"), "{error}");
    let mut flipped = first.clone();
    flipped[first.len() / 2] ^= 1;
    std::fs::write(path(0), &flipped).unwrap();
    assert!(read(vault, &info, 0, 1).await.unwrap_err().is_damage());
    std::fs::write(path(0), &first).unwrap();
    read(vault, &info, 0, 1).await.unwrap();

    let lying = ArchiveInfo { bytes: info.bytes - 1, ..info.clone() };
    assert!(read(vault, &lying, PART_BYTES as u64, info.bytes).await.unwrap_err().is_damage());
    let lying = ArchiveInfo { parts: 1, ..info };
    assert!(matches!(read(vault, &lying, 0, 1).await, Err(Error::Refused { .. })));
}

#[tokio::test]
async fn a_failed_part_fails_the_archive() {
    let faults = Faults::new();
    let location = Location::memory().with_faults(faults.clone());
    let vault = Vault::create_or_open(&location, &MasterKey::generate()).await.unwrap();
    let mut writer = ArchiveWriter::new(&vault, job(1));
    faults.fail_put(2);
    let mut failed = writer.write(&content(3 * PART_BYTES)).await.is_err();
    if !failed {
        failed = writer.finish().await.is_err();
    }
    assert!(failed);
    vault.delete_archives_of(job(1)).await.unwrap();
    assert_eq!(parts(&vault).await, 0);
}
