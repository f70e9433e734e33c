//! Small file systems in memory, which stand for disks that become full.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use tempfile::TempDir;

/// Set to make a test that cannot mount a failure.
const REQUIRE: &str = "EBBTIDE_TEST_REQUIRE_MOUNT";

/// A file system of so many megabytes, gone with the test.
#[derive(Debug)]
pub struct Disk {
    place: PathBuf,
    // After the file system, which is taken away from it first.
    _temporary: Option<TempDir>,
}

impl Disk {
    /// Mounts one in a directory of its own. None, and a word about it, where this may not be done.
    ///
    /// # Errors
    /// When it has to be possible, by the environment, and is not.
    pub fn mount(megabytes: u32) -> anyhow::Result<Option<Self>> {
        let made = tempfile::tempdir().context("make a directory to mount on")?;
        let place = made.path().to_path_buf();
        Ok(is_mounted(&place, megabytes)?.then_some(Self { place, _temporary: Some(made) }))
    }

    /// Mounts one over this directory, which is made where there is none.
    ///
    /// # Errors
    /// As of [`Disk::mount`].
    pub fn mount_at(place: &Path, megabytes: u32) -> anyhow::Result<Option<Self>> {
        std::fs::create_dir_all(place).with_context(|| format!("make {}", place.display()))?;
        let place = place.to_path_buf();
        Ok(is_mounted(&place, megabytes)?.then_some(Self { place, _temporary: None }))
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.place
    }

    /// Fills it to the last byte; what to delete to get the space back.
    ///
    /// # Errors
    /// When no file can be made on it.
    pub fn fill(&self) -> anyhow::Result<PathBuf> {
        let ballast = self.place.join("ballast");
        let mut file =
            std::fs::File::create(&ballast).with_context(|| format!("make {}", ballast.display()))?;
        let block = vec![0_u8; 1 << 12];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
        Ok(ballast)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.place).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} was not unmounted", self.place.display());
        }
    }
}

fn is_mounted(place: &Path, megabytes: u32) -> anyhow::Result<bool> {
    let options = format!("size={megabytes}m,mode=0700");
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", &options, "ebbtide-test"]).arg(place).output();
    if mounted.as_ref().is_ok_and(|output| output.status.success()) {
        return Ok(true);
    }
    ensure!(std::env::var_os(REQUIRE).is_none(), "{REQUIRE} is set: {mounted:?}");
    eprintln!("SKIPPED: no small file system can be mounted here (it takes root): {mounted:?}");
    Ok(false)
}
