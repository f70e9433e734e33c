//! A copy of a vault is the same vault: byte for byte, and nothing damaged gets into it.

use futures::TryStreamExt as _;

use super::{Directory, document, golden::golden_vault, memory, store};
use crate::{Error, Listed, Location, MasterKey, ObjectKind, S3Options, SealedObject, Vault};

const COPIED: [ObjectKind; 5] =
    [ObjectKind::Segment, ObjectKind::Page, ObjectKind::Manifest, ObjectKind::Slice, ObjectKind::Delta];

fn elsewhere(directory: &Directory) -> Location {
    let path = directory.file("../copy");
    Location::parse(path.to_str().unwrap(), S3Options::default()).unwrap()
}

#[tokio::test]
async fn every_kind_of_object_is_copied_as_it_is_and_checked_on_the_way() {
    let golden = golden_vault().await;
    let place = Location::memory();
    let (copy, _, _) = golden.open_copy(&place, "EU", None, 1).await.unwrap();
    for kind in COPIED {
        let listed: Vec<Listed> = golden.list(kind).try_collect().await.unwrap();
        assert!(!listed.is_empty(), "no {} to copy", kind.as_str());
        for Listed { name, .. } in listed {
            let object = golden.sealed(&name).await.unwrap();
            copy.put(&object).await.unwrap();
            assert_eq!(copy.sealed(&name).await.unwrap().bytes, object.bytes);
            // One bit of every hundredth byte, the first and the last ones, and what is cut off or added.
            let length = object.bytes.len();
            let near = (0..64.min(length)).chain(length.saturating_sub(20)..length);
            let mut damaged: Vec<Vec<u8>> = near
                .chain((0..length).step_by(1 + length / 40))
                .map(|at| {
                    let mut bytes = object.bytes.to_vec();
                    bytes[at] ^= 1 << (at % 8);
                    bytes
                })
                .collect();
            damaged.push(object.bytes[..length - 1].to_vec());
            damaged.push([&object.bytes[..], b"x"].concat());
            for bytes in damaged {
                copy.put(&SealedObject { name, bytes: bytes.into() }).await.unwrap();
                let error = copy.sealed(&name).await.unwrap_err();
                let is_told =
                    error.damaged_object() == Some(&name) || matches!(error, Error::NewerFormat { .. });
                assert!(is_told, "{name}: {error}");
            }
            copy.put(&object).await.unwrap();
        }
    }
    let archive = golden.list(ObjectKind::Archive).try_next().await.unwrap().unwrap().name;
    assert!(matches!(golden.sealed(&archive).await, Err(Error::Refused { .. })));
}

#[tokio::test]
async fn a_copy_opens_with_the_same_key_and_follows_a_new_one() {
    let directory = Directory::new().await;
    let place = elsewhere(&directory);
    let entry = store(&directory.vault, &[document(1, "one")]).await;
    let (copy, before, mark) = directory.vault.open_copy(&place, "EU", None, 1).await.unwrap();
    assert_eq!((before, mark.generation), (None, 1));
    copy.put(&directory.vault.sealed(&entry.name).await.unwrap()).await.unwrap();
    let alone = Vault::open_to_read(&place, &directory.master).await.unwrap();
    assert_eq!(alone.id(), directory.vault.id());
    alone.verify_segment(&entry).await.unwrap();
    // Nobody works there as in the vault itself, before it has become one.
    for opened in
        [Vault::open(&place, &directory.master).await, Vault::create_or_open(&place, &directory.master).await]
    {
        assert!(opened.unwrap_err().to_string().contains("rebuild-catalog"));
    }

    let new = MasterKey::generate();
    directory.vault.rewrap(&directory.master, &new).await.unwrap();
    assert!(Vault::open_to_read(&place, &new).await.is_err(), "nobody has told the copy");
    let rewrapped = Vault::open(&directory.location, &new).await.unwrap();
    rewrapped.tell_copy(&place).await.unwrap();
    Vault::open_to_read(&place, &new).await.unwrap().verify_segment(&entry).await.unwrap();
    rewrapped.rewrap(&new, &directory.master).await.unwrap();
    // What has become of the first one's description since it was opened does not get about.
    std::fs::write(directory.file("vault.json"), "nonsense").unwrap();
    let (_, before, again) = directory.vault.open_copy(&place, "EU", Some(&mark.place), 2).await.unwrap();
    assert_eq!((before.unwrap().generation, again.generation, &again.place), (1, 2, &mark.place));

    let alone = Vault::open_to_read(&place, &directory.master).await.unwrap();
    assert!(alone.is_place(&again).await.unwrap());
    alone.become_first().await.unwrap();
    assert!(!alone.is_place(&again).await.unwrap());
    Vault::open(&place, &directory.master).await.unwrap().verify_segment(&entry).await.unwrap();
    for known in [None, Some(mark.place.as_str())] {
        let error = directory.vault.open_copy(&place, "EU", known, 3).await.unwrap_err();
        assert!(error.to_string().contains("no place of copies"), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_place_for_copies_is_left_alone() {
    let directory = Directory::new().await;
    let vault = &directory.vault;
    // The first vault under another name, or another one.
    let link = directory.file("../link");
    std::os::unix::fs::symlink(directory.file(""), &link).unwrap();
    let link = Location::parse(link.to_str().unwrap(), S3Options::default()).unwrap();
    let stranger = Directory::new().await;
    store(&stranger.vault, &[document(1, "of somebody else")]).await;
    for place in [&link, &directory.location, &stranger.location] {
        let error = vault.open_copy(place, "EU", None, 1).await.unwrap_err();
        assert!(error.to_string().contains("no place of copies"), "{error}");
    }
    assert!(!directory.file("copy.json").exists() && !stranger.file("copy.json").exists());
    std::fs::remove_file(stranger.file("vault.json")).unwrap();
    let error = vault.open_copy(&stranger.location, "EU", None, 1).await.unwrap_err();
    assert!(error.to_string().contains("put that file back"), "{error}");
    assert!(!stranger.file("vault.json").exists());

    // Another region's place, another vault's, one that is away, and one of another catalog.
    let place = elsewhere(&directory);
    let (_, _, mark) = vault.open_copy(&place, "EU", None, 1).await.unwrap();
    for (region, known, why) in [
        ("US", None, "the place of the copies in EU"),
        ("US", Some(mark.place.as_str()), "the place of the copies in EU"),
        ("EU", Some("another"), "of another catalog"),
    ] {
        let error = vault.open_copy(&place, region, known, 2).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    let another = memory().await;
    let error = another.open_copy(&place, "EU", None, 2).await.unwrap_err();
    assert!(error.to_string().contains("another vault"), "{error}");
    std::fs::remove_file(directory.file("../copy/copy.json")).unwrap();
    std::fs::remove_file(directory.file("../copy/vault.json")).unwrap();
    let away = vault.open_copy(&place, "EU", Some(&mark.place), 2).await;
    assert!(matches!(away, Err(Error::NoVault { .. })), "{away:?}");
    assert!(!directory.file("../copy/copy.json").exists());
    // One that another catalog has begun is taken up, however far that got.
    let (_, _, mark) = vault.open_copy(&place, "EU", None, 1).await.unwrap();
    std::fs::remove_file(directory.file("../copy/vault.json")).unwrap();
    let (_, before, again) = vault.open_copy(&place, "EU", None, 5).await.unwrap();
    assert_eq!((before, again.place), (Some(mark.clone()), mark.place));
    assert!(directory.file("../copy/vault.json").exists());
}
