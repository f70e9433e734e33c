//! Slices that wait on local disk while the vault is away.
//!
//! A file holds what the vault will hold: sealed bytes under the object's name. It is durable before the catalog says
//! that the slice exists, so a crash loses nothing; a file that the catalog does not name is what a crash left, and is
//! removed at the next start.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use model::id::DeploymentId;
use vault::{ObjectName, SealedObject};

/// Suffix of a file that is being written.
const UNFINISHED: &str = ".unfinished";
/// What is done when a slice is put.
const WRITTEN: &str = "written";

/// The slices of one deployment that wait.
#[derive(Debug, Clone)]
pub(super) struct Spool {
    dir: PathBuf,
}

/// The spool cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the spool for captured operations at {} cannot be {action} ({source}): {}", path.display(), advice(action))]
pub(super) struct SpoolError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// What follows from it, and what to do.
fn advice(action: &str) -> &'static str {
    match action {
        WRITTEN => {
            "nothing is recorded while neither it nor the vault takes what is read, and what the oplog loses meanwhile \
             is lost to the record; make room there, or bring the vault back"
        }
        _ => "see to that disk, and to who may read and write there",
    }
}

impl Spool {
    /// The spool of a deployment below `root`.
    pub(super) fn of(root: &Path, deployment: DeploymentId) -> Self {
        Self { dir: root.join(deployment.to_string()) }
    }

    /// Where the slices lie.
    pub(super) fn place(&self) -> &Path {
        &self.dir
    }

    /// Puts a slice. It is durable when this returns.
    pub(super) async fn put(&self, object: SealedObject) -> Result<(), SpoolError> {
        let (dir, path) = (self.dir.clone(), self.path(&object.name));
        self.blocking(WRITTEN, move || {
            make_durably(&dir)?;
            let unfinished = path.with_extension(UNFINISHED.trim_start_matches('.'));
            if let Err(error) = write_durably(&unfinished, &object.bytes) {
                // Half a slice takes room on a disk that has none.
                gone_is_fine(fs::remove_file(&unfinished)).ok();
                return Err(error);
            }
            fs::rename(&unfinished, &path)?;
            fs::File::open(&dir)?.sync_all()
        })
        .await
    }

    /// A slice that waits; none when it is not here.
    pub(super) async fn get(&self, name: ObjectName) -> Result<Option<SealedObject>, SpoolError> {
        let path = self.path(&name);
        self.blocking("read", move || match fs::read(path) {
            Ok(bytes) => Ok(Some(SealedObject { name, bytes: Bytes::from(bytes) })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    /// Removes a slice that is in the vault now.
    pub(super) async fn remove(&self, name: ObjectName) -> Result<(), SpoolError> {
        let path = self.path(&name);
        self.blocking("cleared", move || gone_is_fine(fs::remove_file(path))).await
    }

    /// Whether a slice waits here. Its content is not looked at.
    pub(super) async fn has(&self, name: ObjectName) -> Result<bool, SpoolError> {
        let path = self.path(&name);
        self.blocking("read", move || path.try_exists()).await
    }

    /// What lies here. To be asked before the catalog is asked what is needed: what another holder puts here later is
    /// not among it, so it is not removed by [`Spool::keep_only`].
    pub(super) async fn present(&self) -> Result<Present, SpoolError> {
        let dir = self.dir.clone();
        let listed = self.blocking("read", move || match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
            entries => entries?.map(|entry| entry.map(|entry| entry.path())).collect(),
        });
        listed.await.map(Present)
    }

    /// Removes what was here, but for these.
    pub(super) async fn keep_only(&self, present: Present, names: &[ObjectName]) -> Result<(), SpoolError> {
        let keep: HashSet<PathBuf> = names.iter().map(|name| self.path(name)).collect();
        self.blocking("cleared", move || {
            present
                .0
                .into_iter()
                .filter(|path| !keep.contains(path))
                .try_for_each(|path| gone_is_fine(fs::remove_file(path)))
        })
        .await
    }

    fn path(&self, name: &ObjectName) -> PathBuf {
        self.dir.join(name.hex())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, SpoolError> {
        let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(io::Error::other(e)));
        done.map_err(|source| SpoolError { action, path: self.dir.clone(), source })
    }
}

/// Files that lay in a spool.
#[derive(Debug)]
pub(super) struct Present(Vec<PathBuf>);

/// Makes a directory that is there after a loss of power as well.
fn make_durably(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    fs::create_dir_all(dir)?;
    for made in missing {
        if let Some(parent) = made.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::File::open(parent)?.sync_all()?;
        }
    }
    Ok(())
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()
}

fn gone_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
