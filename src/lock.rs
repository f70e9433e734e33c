//! Who works on a data directory: many processes that use the master key, or one that changes it.
//!
//! An advisory lock on a file in the directory, held by the kernel for as long as the process lives: nothing is left
//! behind by one that is killed. It tells of processes on this machine only.

use std::{fs::File, os::unix::fs::OpenOptionsExt, path::Path};

use anyhow::{Context, bail};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// A lock that lives as long as this does.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

/// Uses the data directory beside others who do. Refused while its master key is being changed.
///
/// # Errors
/// When the key is being changed, or the directory cannot be locked.
pub(crate) fn shared(directory: &Path) -> anyhow::Result<Lock> {
    match take(directory, FlockOperation::NonBlockingLockShared)? {
        Some(lock) => Ok(lock),
        None => bail!(
            "the master key of {} is being changed by another process; try again when it has ended",
            directory.display()
        ),
    }
}

/// Has the data directory alone. Refused while anybody uses it.
///
/// # Errors
/// When it is in use, or cannot be locked.
pub(crate) fn alone(directory: &Path) -> anyhow::Result<Lock> {
    match take(directory, FlockOperation::NonBlockingLockExclusive)? {
        Some(lock) => Ok(lock),
        None => {
            bail!("{} is in use; stop the server that works on it, then try again", directory.display())
        }
    }
}

fn take(directory: &Path, operation: FlockOperation) -> anyhow::Result<Option<Lock>> {
    let path = directory.join("lock");
    let mut options = File::options();
    let file = options.create(true).write(true).truncate(false).mode(0o600).open(&path);
    let file = file.with_context(|| format!("open the lock {}", path.display()))?;
    match flock(&file, operation) {
        Ok(()) => Ok(Some(Lock(file))),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("take the lock {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn many_use_a_directory_and_one_changes_it() {
        let directory = tempfile::tempdir().unwrap();
        let users = [shared(directory.path()).unwrap(), shared(directory.path()).unwrap()];
        let said = alone(directory.path()).unwrap_err().to_string();
        assert!(said.contains("stop the server"), "{said}");
        drop(users);
        let changing = alone(directory.path()).unwrap();
        assert!(shared(directory.path()).unwrap_err().to_string().contains("is being changed"));
        drop(changing);
        shared(directory.path()).unwrap();
        assert!(shared(&directory.path().join("nowhere")).is_err());
    }
}
