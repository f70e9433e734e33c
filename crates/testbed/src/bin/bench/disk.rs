//! A disk that gives so many reads a second, by the kernel's control groups (version 1, controller `blkio`).
//!
//! Virtual machines whose host keeps the disk in its memory answer a random read in microseconds, which no disk does:
//! what is measured on them says little of a database that is larger than its memory.

use std::{
    fs,
    os::linux::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context;

const CONTROLLER: &str = "/sys/fs/cgroup/blkio";

/// Processes whose reads from one disk are limited. Gone when dropped, if no process is in it any more.
pub(crate) struct SlowDisk {
    group: PathBuf,
}

impl SlowDisk {
    /// Limits reads from the disk that holds `directory`.
    ///
    /// # Errors
    /// Where the kernel has no such group, or the caller is not root.
    pub(crate) fn of(directory: &Path, reads_per_second: u64) -> anyhow::Result<Self> {
        let device = fs::metadata(directory)?.st_dev();
        let (major, minor) = whole_disk(rustix::fs::major(device), rustix::fs::minor(device))?;
        let group = Path::new(CONTROLLER).join(format!("ebbtide-bench-{}", std::process::id()));
        fs::create_dir_all(&group)
            .with_context(|| format!("make the control group {} (needs root)", group.display()))?;
        let limit = group.join("blkio.throttle.read_iops_device");
        fs::write(&limit, format!("{major}:{minor} {reads_per_second}"))
            .with_context(|| format!("write {}: is there the controller blkio?", limit.display()))?;
        Ok(Self { group })
    }

    /// Limits a process from now on.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn limit(&self, pid: u32) -> anyhow::Result<()> {
        fs::write(self.group.join("cgroup.procs"), pid.to_string()).context("limit the reads of the server")
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        // While the server still runs the group cannot go; an empty one costs nothing.
        let _ = fs::remove_dir(&self.group);
    }
}

/// Limits hold for disks, not for their partitions.
fn whole_disk(major: u32, minor: u32) -> anyhow::Result<(u32, u32)> {
    let device = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    if !device.join("partition").exists() {
        return Ok((major, minor));
    }
    let numbers = fs::read_to_string(device.join("../dev")).context("find the disk of a partition")?;
    let (major, minor) = numbers.trim().split_once(':').context("a disk has two numbers")?;
    Ok((major.parse()?, minor.parse()?))
}
