//! Where fetched things are kept, and how they get there: complete or not at all.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// `$XDG_CACHE_HOME/ebbtide`, `~/.cache/ebbtide`.
pub(crate) fn directory() -> anyhow::Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    Ok(cache.join("ebbtide"))
}

/// The root of this workspace.
pub(crate) fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// A directory beside the final place, on the same file system, removed on drop: things are made in it and moved
/// into place by a rename, so that an interrupted fetch leaves nothing half done.
pub(crate) struct Staging {
    path: PathBuf,
}

impl Staging {
    pub(crate) fn inside(parent: &Path) -> anyhow::Result<Self> {
        let path = parent.join(format!(".new-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What stays behind is only untidy.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Moves a finished file or directory into place.
pub(crate) fn put(from: &Path, to: &Path) -> anyhow::Result<()> {
    match std::fs::rename(from, to) {
        Ok(()) => Ok(()),
        // A directory cannot replace a full one: another run was faster, with the same content.
        Err(_) if to.is_dir() => Ok(()),
        Err(error) => Err(error).with_context(|| format!("move {} to {}", from.display(), to.display())),
    }
}
