//! The vault on S3-compatible storage: a real S3 server, inside the test.
#![allow(clippy::unwrap_used)]

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD};
use ebbtide_vault::{
    ArchiveReader, ArchiveWriter, Error, Location, MasterKey, ObjectKind, Order, S3Options, Secret,
    SegmentBuilder, Vault,
};
use futures::TryStreamExt as _;
use history::SortKey;
use model::id::RestoreJobId;
use testbed::s3::{BUCKET, ID, PREFIX, S3, SECRET};

fn options(server: &S3) -> S3Options {
    S3Options {
        endpoint: Some(server.endpoint.clone()),
        region: None,
        access_key_id: Some(ID.to_owned()),
        secret_access_key: Some(Secret::new(SECRET)),
        allow_http: true,
    }
}

fn location(options: S3Options) -> Location {
    Location::parse(&S3::url(), options).unwrap()
}

/// What the server keeps beside an object.
fn kept_beside(server: &S3, path: &str) -> String {
    let [bucket, key] =
        [BUCKET.to_owned(), format!("{PREFIX}/{path}")].map(|name| URL_SAFE_NO_PAD.encode(name));
    let objects = server.objects();
    let root = objects.ancestors().nth(1 + PREFIX.split('/').count()).unwrap();
    std::fs::read_to_string(root.join(format!(".bucket-{bucket}.object-{key}.internal.json"))).unwrap()
}

/// `{_id: NumberLong(id)}`.
fn document(id: i64) -> Vec<u8> {
    [&18u32.to_le_bytes()[..], b"\x12_id\0", &id.to_le_bytes(), b"\0"].concat()
}

#[tokio::test]
async fn a_vault_lives_in_a_bucket() {
    let server = S3::start().await.unwrap();
    let location = location(options(&server));
    let master = MasterKey::generate();
    assert!(matches!(Vault::open(&location, &master).await, Err(Error::NoVault { .. })));
    let vault = Vault::create_or_open(&location, &master).await.unwrap();
    vault.check_writable().await.unwrap();
    assert_eq!(Vault::open(&location, &master).await.unwrap().id(), vault.id());
    assert!(matches!(Vault::open(&location, &MasterKey::generate()).await, Err(Error::WrongKey { .. })));

    let mut builder = SegmentBuilder::new(Order::Sorted);
    for id in 0..50_000 {
        let document = document(id);
        builder.push(SortKey::of_document(&document).unwrap().as_bytes(), &document);
    }
    let draft = builder.finish(&vault).unwrap();
    assert!(!vault.contains(&draft.entry.name).await.unwrap());
    for _twice in 0..2 {
        let stored_bytes = vault.put(&draft.seal(&vault).unwrap()).await.unwrap();
        assert_eq!(vault.stored_bytes(&draft.entry.name).await.unwrap(), Some(stored_bytes));
    }
    vault.verify_segment(&draft.entry).await.unwrap();
    let key = SortKey::of_document(&document(31_337)).unwrap();
    let found = vault.read_document(&draft.entry, key.as_bytes()).await.unwrap();
    assert_eq!(found, Some(document(31_337)));

    let listed: Vec<_> = vault.list(ObjectKind::Segment).try_collect().await.unwrap();
    assert_eq!(listed.iter().map(|object| object.name).collect::<Vec<_>>(), [draft.entry.name]);
    let file = server.objects().join(draft.entry.name.path());
    assert!(file.exists(), "below the prefix");
    let kept = kept_beside(&server, &draft.entry.name.path());
    assert!(kept.contains("checksum_sha256"), "what arrives is compared with a hash: {kept}");

    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert!(matches!(vault.read_segment(&draft.entry).await, Err(Error::Damaged { block: Some(_), .. })));
    vault.delete(&draft.entry.name).await.unwrap();
    vault.delete(&draft.entry.name).await.unwrap();
    assert!(matches!(vault.read_segment(&draft.entry).await, Err(Error::Missing { .. })));
}

#[tokio::test]
async fn an_archive_goes_through_a_bucket() {
    let server = S3::start().await.unwrap();
    let vault = Vault::create_or_open(&location(options(&server)), &MasterKey::generate()).await.unwrap();
    let content: Vec<u8> = (0..9_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut writer = ArchiveWriter::new(&vault, RestoreJobId::from_parts(1, [1; 8]));
    writer.write(&content).await.unwrap();
    let info = writer.finish().await.unwrap();
    let reader = ArchiveReader::open(&vault, &info).unwrap();
    let pieces: Vec<_> = reader.read_range(4_000_000, 8_999_999).try_collect().await.unwrap();
    assert!(pieces.concat() == content[4_000_000..8_999_999]);
    vault.delete_archive(&info).await.unwrap();
    assert!(vault.list(ObjectKind::Archive).try_collect::<Vec<_>>().await.unwrap().is_empty());
}

#[tokio::test]
async fn wrong_credentials_are_told_and_never_shown() {
    let server = S3::start().await.unwrap();
    let wrong = S3Options { secret_access_key: Some(Secret::new("not the secret")), ..options(&server) };
    let error = Vault::create_or_open(&location(wrong), &MasterKey::generate()).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    assert!(!format!("{error:?} {error}").contains("not the secret"));
}

#[tokio::test]
async fn half_of_the_credentials_is_refused() {
    let server = S3::start().await.unwrap();
    let wrong = S3Options { secret_access_key: None, ..options(&server) };
    let error = Vault::create_or_open(&location(wrong), &MasterKey::generate()).await.unwrap_err();
    assert!(matches!(error, Error::Location { .. }), "{error:?}");
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_told() {
    let server = S3::start().await.unwrap();
    let location = Location::parse("s3://nothing-here/prefix", options(&server)).unwrap();
    let error = Vault::create_or_open(&location, &MasterKey::generate()).await.unwrap_err();
    assert!(error.to_string().contains("s3://nothing-here/prefix"), "{error}");
}
