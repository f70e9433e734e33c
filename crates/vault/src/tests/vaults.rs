//! The vault as a place: made, opened, refused, full, failing.

use futures::TryStreamExt as _;

use super::{Directory, document, memory, store};
use crate::{Error, Location, MasterKey, ObjectKind, S3Options, Vault, faults::Faults};

#[tokio::test]
async fn a_vault_opens_with_its_own_key_only() {
    let directory = Directory::new().await;
    let entry = store(&directory.vault, &[document(1, "one")]).await;
    let again = Vault::open(&directory.location, &directory.master).await.unwrap();
    assert_eq!(again.id(), directory.vault.id());
    again.verify_segment(&entry).await.unwrap();

    let stranger = MasterKey::generate();
    for opened in [
        Vault::open(&directory.location, &stranger).await,
        Vault::create_or_open(&directory.location, &stranger).await,
    ] {
        let error = opened.unwrap_err();
        assert!(matches!(error, Error::WrongKey { .. }));
        let text = error.to_string();
        assert!(
            text.contains(&stranger.fingerprint()) && text.contains(&directory.master.fingerprint()),
            "{text}"
        );
    }
}

#[tokio::test]
async fn nothing_is_made_by_opening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none");
    let location = Location::parse(path.to_str().unwrap(), S3Options::default()).unwrap();
    assert!(matches!(Vault::open(&location, &MasterKey::generate()).await, Err(Error::NoVault { .. })));
    assert!(!path.exists());
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(Vault::open(&location, &MasterKey::generate()).await, Err(Error::NoVault { .. })));
}

#[tokio::test]
async fn the_key_of_a_vault_in_use_is_never_replaced() {
    let directory = Directory::new().await;
    store(&directory.vault, &[document(1, "one")]).await;
    let description = directory.file("vault.json");
    let good = std::fs::read_to_string(&description).unwrap();

    std::fs::remove_file(&description).unwrap();
    let error = Vault::create_or_open(&directory.location, &directory.master).await.unwrap_err();
    assert!(error.to_string().contains("put that file back"), "{error}");
    assert!(!description.exists());

    for bad in ["", "{}", &good.replace("ebbtide-vault", "something"), &good[..good.len() / 2]] {
        std::fs::write(&description, bad).unwrap();
        let error = Vault::create_or_open(&directory.location, &directory.master).await.unwrap_err();
        assert!(matches!(error, Error::Location { .. }), "{error}");
    }
    std::fs::write(&description, good.replace("\"version\": 1", "\"version\": 2")).unwrap();
    let error = Vault::open(&directory.location, &directory.master).await.unwrap_err();
    assert!(matches!(error, Error::NewerFormat { version: 2, .. }), "{error}");
    // The wrapped key is bound to the id that it was made for.
    let id = directory.vault.id().to_string();
    std::fs::write(&description, good.replace(&id, &"0".repeat(32))).unwrap();
    let error = Vault::open(&directory.location, &directory.master).await.unwrap_err();
    assert!(matches!(error, Error::Sealed { .. }), "{error}");
}

#[tokio::test]
async fn a_vault_can_be_given_another_master_key() {
    let directory = Directory::new().await;
    let entry = store(&directory.vault, &[document(1, "one")]).await;
    let new = MasterKey::generate();
    let wrong = directory.vault.rewrap(&new, &new).await;
    assert!(matches!(wrong, Err(Error::WrongKey { .. })));
    directory.vault.rewrap(&directory.master, &new).await.unwrap();
    assert!(matches!(Vault::open(&directory.location, &directory.master).await, Err(Error::WrongKey { .. })));
    let again = Vault::open(&directory.location, &new).await.unwrap();
    assert_eq!(again.id(), directory.vault.id());
    again.verify_segment(&entry).await.unwrap();
}

#[tokio::test]
async fn neither_key_nor_content_lies_in_the_vault() {
    let directory = Directory::new().await;
    store(&directory.vault, &[document(1, "a telling sentence")]).await;
    let key = directory.master.to_text();
    let key = key.rsplit(':').next().unwrap().as_bytes();
    let mut pending = vec![directory.file("")];
    let mut files = 0;
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        files += 1;
        let bytes = std::fs::read(&path).unwrap();
        let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        assert!(!holds(b"telling") && !holds(key), "{}", path.display());
    }
    assert_eq!(files, 2);
}

#[tokio::test]
async fn objects_are_listed_found_and_deleted() {
    let directory = Directory::new().await;
    let vault = &directory.vault;
    vault.check_writable().await.unwrap();
    let entry = store(vault, &[document(1, "one")]).await;
    std::fs::write(directory.file("v1/segments/README"), "not ours").unwrap();
    let listed: Vec<_> = vault.list(ObjectKind::Segment).try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].name, listed[0].stored_bytes), (entry.name, entry.stored_bytes));
    let manifests: Vec<_> = vault.list_manifests().try_collect().await.unwrap();
    assert!(manifests.is_empty());
    assert!(vault.contains(&entry.name).await.unwrap());
    vault.delete(&entry.name).await.unwrap();
    vault.delete(&entry.name).await.unwrap();
    assert!(!vault.contains(&entry.name).await.unwrap());
    assert!(std::fs::read_dir(directory.file("v1/probes")).unwrap().next().is_none());
}

#[tokio::test]
async fn what_a_kill_left_half_written_is_swept() {
    let directory = Directory::new().await;
    let entry = store(&directory.vault, &[document(1, "one")]).await;
    let object = directory.file(&entry.name.path());
    let staged = object.with_file_name(format!("{}#1", entry.name.hex()));
    std::fs::write(&staged, "half").unwrap();
    let hour = std::time::Duration::from_secs(3600);
    assert_eq!(directory.vault.sweep_unfinished(hour).await.unwrap(), 0, "it may be in the making");
    assert_eq!(directory.vault.list(ObjectKind::Segment).try_collect::<Vec<_>>().await.unwrap().len(), 1);
    assert_eq!(directory.vault.sweep_unfinished(std::time::Duration::ZERO).await.unwrap(), 1);
    assert!(object.exists() && !staged.exists());
    assert_eq!(memory().await.sweep_unfinished(hour).await.unwrap(), 0);
}

#[tokio::test]
async fn a_failing_store_is_told_and_a_torn_object_never_believed() {
    let faults = Faults::new();
    let location = Location::memory().with_faults(faults.clone());
    let vault = Vault::create_or_open(&location, &MasterKey::generate()).await.unwrap();
    let draft = super::builder(&[document(1, &super::noise(1, 10_000))]).finish(&vault).unwrap();
    let sealed = draft.seal(&vault).unwrap();

    faults.fail_put(1);
    assert!(vault.put(&sealed).await.unwrap_err().is_transient());
    assert!(!vault.contains(&sealed.name).await.unwrap());
    faults.tear_put(1);
    assert!(vault.put(&sealed).await.is_err());
    assert!(vault.read_segment(&draft.entry).await.unwrap_err().is_damage());
    vault.put(&sealed).await.unwrap();
    faults.fail_get(1);
    assert!(vault.read_segment(&draft.entry).await.unwrap_err().is_transient());
    vault.verify_segment(&draft.entry).await.unwrap();

    faults.set_full(true);
    assert!(matches!(vault.put(&sealed).await, Err(Error::Full { .. })));
    assert!(matches!(vault.check_writable().await, Err(Error::Full { .. })));
    faults.set_full(false);
    vault.check_writable().await.unwrap();
}

/// Unmounts when the test is over, however it ends.
struct Mount(std::path::PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

/// A file system of 256 KiB, where that is allowed.
fn small_disk(path: &std::path::Path) -> Option<Mount> {
    let mut mount = std::process::Command::new("mount");
    let status =
        mount.args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(path).stderr(std::process::Stdio::null());
    status.status().is_ok_and(|status| status.success()).then(|| Mount(path.to_owned()))
}

#[tokio::test]
async fn a_full_disk_is_told_as_such_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let Some(_mount) = small_disk(directory.path()) else {
        eprintln!("SKIPPED: a_full_disk_is_told_as_such_and_loses_nothing needs to mount a tmpfs (root)");
        return;
    };
    let location = Location::parse(directory.path().to_str().unwrap(), S3Options::default()).unwrap();
    let vault = Vault::create_or_open(&location, &MasterKey::generate()).await.unwrap();
    let kept = store(&vault, &[document(1, "one")]).await;
    let draft = super::builder(&[document(2, &super::noise(2, 1 << 20))]).finish(&vault).unwrap();
    let error = vault.put(&draft.seal(&vault).unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert!(error.to_string().contains("free space"), "{error}");
    assert!(!vault.contains(&draft.entry.name).await.unwrap());
    vault.verify_segment(&kept).await.unwrap();
    // What the failed put left behind is not in the way.
    store(&vault, &[document(3, "three")]).await;
}

#[tokio::test]
async fn a_vault_in_memory_is_one_vault_for_all_who_share_the_place() {
    let location = Location::memory();
    let master = MasterKey::generate();
    let one = Vault::create_or_open(&location, &master).await.unwrap();
    let two = Vault::create_or_open(&location, &master).await.unwrap();
    assert_eq!(one.id(), two.id());
    assert_ne!(one.id(), memory().await.id());
}

#[tokio::test]
async fn those_who_make_a_vault_at_once_make_the_one_that_they_agreed_on() {
    let location = Location::memory();
    let master = MasterKey::generate();
    let [agreed, other] = [Vault::propose(&master), Vault::propose(&master)];
    assert_ne!(agreed, other);
    let make = || Vault::create_or_open_as(&location, &master, &agreed);
    let (one, two) = tokio::join!(make(), make());
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.id(), two.id());
    let of_one = store(&one, &[document(1, "one")]).await;
    // Another had looked before anything was there, and puts after all of that.
    one.describe(agreed.clone().into()).await.unwrap();
    let three = make().await.unwrap();
    let of_three = store(&three, &[document(2, "three")]).await;
    // What is there stays, whatever is proposed later.
    let late = Vault::create_or_open_as(&location, &master, &other).await.unwrap();
    assert_eq!(late.description_bytes().await.unwrap().unwrap(), agreed);
    let again = Vault::open(&location, &master).await.unwrap();
    for vault in [&one, &two, &three, &late, &again] {
        assert_eq!(vault.id(), one.id());
        vault.verify_segment(&of_one).await.unwrap();
        vault.verify_segment(&of_three).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_agreed_on_is_put_only_where_the_key_opens_it() {
    let location = Location::memory();
    let master = MasterKey::generate();
    let stranger = MasterKey::generate();
    let agreed = Vault::propose(&stranger);
    let refused = Vault::create_or_open_as(&location, &master, &agreed).await;
    assert!(matches!(refused, Err(Error::WrongKey { .. })));
    for bad in ["", "{}", &agreed[..agreed.len() / 2]] {
        let refused = Vault::create_or_open_as(&location, &master, bad).await;
        assert!(matches!(refused, Err(Error::Location { .. })));
    }
    assert!(matches!(Vault::open(&location, &master).await, Err(Error::NoVault { .. })));
    Vault::create_or_open_as(&location, &stranger, &agreed).await.unwrap();
}

#[tokio::test]
async fn a_vault_knows_whether_it_is_still_where_it_was() {
    let directory = Directory::new().await;
    let vault = &directory.vault;
    assert!(vault.is_here().await.unwrap());
    vault.rewrap(&directory.master, &MasterKey::generate()).await.unwrap();
    assert!(vault.is_here().await.unwrap(), "under whatever key");
    let description = directory.file("vault.json");
    std::fs::write(&description, Vault::propose(&directory.master)).unwrap();
    assert!(!vault.is_here().await.unwrap(), "it is another one");
    std::fs::write(&description, "{").unwrap();
    assert!(matches!(vault.is_here().await, Err(Error::Location { .. })));
    std::fs::remove_dir_all(directory.file("")).unwrap();
    assert!(!vault.is_here().await.unwrap());
}
