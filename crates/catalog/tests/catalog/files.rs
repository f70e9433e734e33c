//! The SQLite file: who may read it, several processes on it, damage.

use std::os::unix::fs::PermissionsExt;

use catalog::{Catalog, Error, Page};

use crate::support::{self, T0};

#[tokio::test]
async fn only_the_owner_reads_the_file_and_its_companions() {
    let directory = support::directory();
    let path = directory.path().join("a catalog?#%.db");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let catalog = Catalog::open(path.to_str().unwrap()).await.unwrap();
    support::source(&catalog).await;
    let mut seen = 0;
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        seen += 1;
    }
    assert_eq!(seen, 3, "the file, its -wal and its -shm");
    catalog.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_open_the_same_new_file_at_once() {
    let directory = support::directory();
    let path = directory.path().join("catalog.db").to_str().unwrap().to_owned();
    let openings: Vec<_> = (0..4)
        .map(|_| {
            let path = path.clone();
            tokio::spawn(async move { Catalog::open(&path).await.unwrap() })
        })
        .collect();
    let mut catalogs = Vec::new();
    for opening in openings {
        catalogs.push(opening.await.unwrap());
    }
    let writers: Vec<_> = catalogs
        .iter()
        .cloned()
        .enumerate()
        .map(|(number, catalog)| {
            tokio::spawn(async move {
                for n in 0..25 {
                    catalog.projects().create(&format!("p{number}-{n}"), T0).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(catalogs[0].projects().list(Page::default()).await.unwrap().total, Some(100));
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_opening_again() {
    let directory = support::directory();
    let path = directory.path().join("catalog.db").to_str().unwrap().to_owned();
    let project = {
        let catalog = Catalog::open(&path).await.unwrap();
        // Not closed: dropped, as by a process that ends.
        support::project(&catalog).await
    };
    let catalog = Catalog::open(&format!("sqlite://{path}")).await.unwrap();
    assert_eq!(catalog.projects().get(project.id).await.unwrap(), Some(project));
}

#[tokio::test]
async fn damage_and_wrong_places_are_named() {
    let directory = support::directory();
    let not_one = directory.path().join("notes.txt");
    std::fs::write(
        &not_one,
        "this is not a database, and long enough to have a header of the wrong kind ".repeat(20),
    )
    .unwrap();
    let error = Catalog::open(not_one.to_str().unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().contains("rebuild-catalog"), "{error}");

    for (location, said) in [
        (directory.path().join("missing/catalog.db").to_str().unwrap(), "cannot be opened"),
        (directory.path().to_str().unwrap(), "cannot be opened"),
        ("mysql://localhost/ebbtide", "postgres://"),
        ("postgres://ebbtide:geheim@127.0.0.1:1/ebbtide", "cannot be reached"),
    ] {
        let error = Catalog::open(location).await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().contains(said), "{error}");
        assert!(!format!("{error} {error:?}").contains("geheim"), "a password is told");
    }
}

#[tokio::test]
async fn a_broken_page_is_noticed() {
    let directory = support::directory();
    let path = directory.path().join("catalog.db");
    let catalog = Catalog::open(path.to_str().unwrap()).await.unwrap();
    for number in 0..500 {
        catalog.projects().create(&format!("{number:0>100}"), T0).await.unwrap();
    }
    catalog.close().await;
    let mut bytes = std::fs::read(&path).unwrap();
    let length = bytes.len();
    // All but the first page, which has the header and the schema.
    bytes[4096..length].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    let error = match Catalog::open(path.to_str().unwrap()).await {
        Err(error) => error,
        Ok(catalog) => catalog.projects().list(Page::default()).await.unwrap_err(),
    };
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
}
