//! The object store below the vault: plain puts, gets, lists and deletes under one prefix.
//!
//! Puts overwrite and are durable when they return: a local directory is synced, file and directory. Nothing here
//! is conditional, for some stores ignore conditions silently.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path as FsPath, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use object_store::{
    ClientOptions, GetOptions, GetRange, GetResult, GetResultPayload, ObjectStore, ObjectStoreExt as _,
    RetryConfig,
    aws::{AmazonS3Builder, Checksum},
    local::LocalFileSystem,
    path::Path,
};

use crate::{
    Error, Location, Result, S3Options,
    location::Place,
    page_cache,
    recycle::{Holds, Recycler},
    vault::off_the_runtime,
};

/// Larger than any object that we write. What is larger is not ours and is not read into memory.
pub(crate) const OBJECT_BYTES_MAX: u64 = 160 << 20;

/// A connection that takes longer is held dead.
const S3_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// One object of some 10 MB must get through in this time even on a slow line.
const S3_REQUEST_TIMEOUT: Duration = Duration::from_secs(300);
/// How often, and for how long, a request is tried again.
const S3_RETRIES_MAX: usize = 8;
const S3_RETRY_TIMEOUT: Duration = Duration::from_secs(120);
const S3_DEFAULT_REGION: &str = "us-east-1";

/// What an object's path holds, or that there is none.
pub(crate) type Found = Option<Bytes>;

/// An object store below one prefix.
pub(crate) struct Store {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    location: String,
    /// Where it is, when it is a local directory.
    directory: Option<PathBuf>,
    /// Whether what was put is on the disk.
    synced: bool,
    #[cfg(any(test, feature = "testing"))]
    faults: crate::faults::Faults,
}

impl Store {
    /// Opens the place. `create` makes a missing local directory.
    pub(crate) fn open(location: &Location, create: bool) -> Result<Self> {
        let (store, prefix): (Arc<dyn ObjectStore>, &str) = match &location.place {
            Place::Directory(path) => (Arc::new(open_directory(path, create, location)?), ""),
            Place::S3 { bucket, prefix, options } => {
                (Arc::new(open_bucket(bucket, options, location)?), prefix)
            }
            #[cfg(any(test, feature = "testing"))]
            Place::Memory(store) => (Arc::clone(store) as _, ""),
        };
        let prefix = Path::parse(prefix)
            .map_err(|e| Error::Location { text: location.text.clone(), why: e.to_string() })?;
        Ok(Self {
            store,
            prefix,
            location: location.text.clone(),
            directory: match &location.place {
                Place::Directory(path) => Some(path.clone()),
                _ => None,
            },
            synced: location.fsync,
            #[cfg(any(test, feature = "testing"))]
            faults: location.faults.clone().unwrap_or_default(),
        })
    }

    /// The place, for people.
    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    /// Where it is, when it is a local directory.
    pub(crate) fn directory(&self) -> Option<&FsPath> {
        self.directory.as_deref()
    }

    fn path(&self, relative: &str) -> Path {
        self.prefix.parts().chain(Path::from(relative).parts()).collect()
    }

    pub(crate) fn error(&self, action: &'static str, path: &str, error: object_store::Error) -> Error {
        Error::from_store(error, action, &format!("{}/{path}", self.location))
    }

    /// Stores an object; durable on return. An object of that name is replaced as a whole.
    pub(crate) async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.put_as(&Path::from(path), bytes).await
    }

    /// The same, for a name of which nothing is encoded any more.
    pub(crate) async fn put_as(&self, path: &Path, bytes: Bytes) -> Result<()> {
        let place: Path = self.prefix.parts().chain(path.parts()).collect();
        let failed = |e| self.error("write", path.as_ref(), e);
        #[cfg(any(test, feature = "testing"))]
        let bytes = match self.faults.on_put(bytes) {
            (Some(bytes), None) => bytes,
            (torn, failure) => {
                if let Some(torn) = torn {
                    self.store.put(&place, torn.into()).await.map_err(failed)?;
                }
                return failure.map_or(Ok(()), |e| Err(failed(e)));
            }
        };
        self.store.put(&place, bytes.into()).await.map(drop).map_err(failed)
    }

    /// Reads an object, or a range of it that may reach past its end.
    pub(crate) async fn get(&self, path: &str, range: Option<std::ops::Range<u64>>) -> Result<Found> {
        let Some(result) = self.begin_get(path, range).await? else { return Ok(None) };
        result.bytes().await.map(Some).map_err(|e| self.error("read", path, e))
    }

    /// Reads a whole object into memory that was used before, where it is a file: the kernel need not clear megabytes for each one.
    pub(crate) async fn get_into(&self, path: &str, recycler: &Recycler) -> Result<Found> {
        let Some(mut result) = self.begin_get(path, None).await? else { return Ok(None) };
        let (file, range) = match result.payload {
            GetResultPayload::File(file, _) => (file, result.range),
            payload => {
                result.payload = payload;
                return result.bytes().await.map(Some).map_err(|e| self.error("read", path, e));
            }
        };
        let recycler = recycler.clone();
        let read = off_the_runtime(move || {
            let mut buffer = recycler.buffer(Holds::Sealed);
            match read_whole(&file, range.end.saturating_sub(range.start), &mut buffer) {
                Ok(()) => Ok(recycler.lend(Holds::Sealed, buffer)),
                Err(error) => {
                    recycler.give_buffer(Holds::Sealed, buffer);
                    Err(error)
                }
            }
        });
        read.await.map(Some).map_err(|source| {
            self.error(
                "read",
                path,
                object_store::Error::Generic { store: "a directory", source: source.into() },
            )
        })
    }

    async fn begin_get(&self, path: &str, range: Option<std::ops::Range<u64>>) -> Result<Option<GetResult>> {
        #[cfg(any(test, feature = "testing"))]
        self.faults.on_get().map_err(|e| self.error("read", path, e))?;
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        let result = match self.store.get_opts(&self.path(path), options).await {
            Ok(result) => result,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(self.error("read", path, e)),
        };
        if result.range.end.saturating_sub(result.range.start) > OBJECT_BYTES_MAX {
            let why = format!("{path} is larger than anything that Ebbtide writes");
            return Err(Error::Location { text: self.location.clone(), why });
        }
        Ok(Some(result))
    }

    /// Tells that nobody reads this part of an object soon again, or all of it: in a local directory it leaves the kernel's
    /// cache.
    pub(crate) async fn let_go(&self, path: &str, part: Option<std::ops::Range<u64>>) {
        if let Some(directory) = self.directory.as_ref().filter(|_| self.synced) {
            let file = directory.join(path);
            off_the_runtime(move || page_cache::let_go(&file, part)).await;
        }
    }

    /// The size of an object.
    pub(crate) async fn size(&self, path: &str) -> Result<Option<u64>> {
        match self.store.head(&self.path(path)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.error("read", path, e)),
        }
    }

    /// Deletes an object; it may be gone already.
    pub(crate) async fn delete(&self, path: &str) -> Result<()> {
        match self.store.delete(&self.path(path)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.error("delete", path, e)),
        }
    }

    /// Lists what lies below a directory: the last part of each path, and its size.
    pub(crate) fn list(&self, directory: &str) -> BoxStream<'static, Result<(String, u64)>> {
        let location = format!("{}/{directory}", self.location);
        self.store
            .list(Some(&self.path(directory)))
            .map_err(move |e| Error::from_store(e, "list", &location))
            .map_ok(|meta| (meta.location.filename().unwrap_or_default().to_owned(), meta.size))
            .boxed()
    }
}

/// Reads a file that had so many bytes a moment ago.
fn read_whole(file: &fs::File, bytes: u64, out: &mut Vec<u8>) -> io::Result<()> {
    out.reserve(usize::try_from(bytes).unwrap_or(0));
    let read = file.take(bytes).read_to_end(out)?;
    if read as u64 == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn open_directory(path: &FsPath, create: bool, location: &Location) -> Result<LocalFileSystem> {
    let failed = |source: std::io::Error| Error::Store {
        action: "open the directory",
        location: location.text.clone(),
        source: Box::new(source),
    };
    if create {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        if let Some(parent) = path.parent() {
            fs::File::open(parent).and_then(|directory| directory.sync_all()).map_err(failed)?;
        }
    }
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => {
            return Err(Error::Location {
                text: location.text.clone(),
                why: "it is not a directory".to_owned(),
            });
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::NoVault { location: location.text.clone() });
        }
        Err(e) => return Err(failed(e)),
    }
    LocalFileSystem::new_with_prefix(path)
        .map(|store| store.with_fsync(location.fsync))
        .map_err(|e| Error::from_store(e, "open the directory", &location.text))
}

fn open_bucket(bucket: &str, options: &S3Options, location: &Location) -> Result<impl ObjectStore> {
    let client = ClientOptions::new()
        .with_timeout(S3_REQUEST_TIMEOUT)
        .with_connect_timeout(S3_CONNECT_TIMEOUT)
        .with_allow_http(options.allow_http);
    let retry = RetryConfig {
        max_retries: S3_RETRIES_MAX,
        retry_timeout: S3_RETRY_TIMEOUT,
        ..RetryConfig::default()
    };
    let environment = AmazonS3Builder::from_env();
    let mut builder = environment.with_bucket_name(bucket).with_client_options(client).with_retry(retry);
    // The store compares what arrived with it and keeps it beside the object. Signing computes the same hash anyway.
    builder = builder.with_checksum_algorithm(Checksum::SHA256);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint).with_virtual_hosted_style_request(false);
    }
    let region = options.region.clone().or_else(region_of_environment);
    builder = builder.with_region(region.as_deref().unwrap_or(S3_DEFAULT_REGION));
    match (&options.access_key_id, &options.secret_access_key) {
        (Some(id), Some(secret)) => {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret.expose());
        }
        (None, None) => {}
        _ => {
            let why = "an access key id and a secret access key go together; give both or neither".to_owned();
            return Err(Error::Location { text: location.text.clone(), why });
        }
    }
    builder.build().map_err(|e| Error::from_store(e, "open the bucket", &location.text))
}

fn region_of_environment() -> Option<String> {
    ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(|name| std::env::var(name).ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn what_is_read_into_used_memory_is_the_object_and_nothing_before_it() {
        let directory = tempfile::tempdir().unwrap();
        let place = Location::parse(directory.path().to_str().unwrap(), S3Options::default()).unwrap();
        let (store, recycler) = (Store::open(&place, false).unwrap(), Recycler::default());
        let objects = [vec![1; 3 << 20], vec![2; 10], vec![], vec![3; 100_000]];
        for (at, object) in objects.iter().enumerate() {
            store.put(&at.to_string(), object.clone().into()).await.unwrap();
        }
        let mut places = Vec::new();
        for (at, object) in objects.iter().enumerate() {
            let read = store.get_into(&at.to_string(), &recycler).await.unwrap().unwrap();
            assert!(read == object, "object {at}");
            places.push(read.as_ptr());
        }
        places.dedup();
        assert_eq!(places.len(), 1, "each had memory of its own");
        assert!(store.get_into("missing", &recycler).await.unwrap().is_none());
    }

    #[test]
    fn a_file_that_became_shorter_is_not_taken_for_the_object() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"0123456789").unwrap();
        for (bytes, read) in [(10, true), (4, true), (11, false)] {
            io::Seek::rewind(&mut file).unwrap();
            let mut out = Vec::new();
            assert_eq!(read_whole(&file, bytes, &mut out).is_ok(), read);
            assert!(!read || out.len() as u64 == bytes);
        }
    }
}
