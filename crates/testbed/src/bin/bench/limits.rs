//! A server that has less than the machine: so many reads of its disk a second, so much memory, by the kernel's control groups
//! (version 1, controllers `blkio` and `memory`).
//!
//! Virtual machines whose host keeps the disk in its memory answer a random read in microseconds, which no disk does; and
//! a machine whose memory holds the whole of a collection reads no block of it twice: what is measured there says little
//! of a database that is larger than its memory.

use std::{
    fs,
    os::linux::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context;

const CONTROLLERS: &str = "/sys/fs/cgroup";

/// What a server may have. Gone when dropped, if no process is limited any more.
#[derive(Default)]
pub(crate) struct Limits {
    groups: Vec<PathBuf>,
}

impl Limits {
    /// Limits reads a second from the disk that holds `directory`, and memory, in megabytes: the server's own and what the kernel
    /// keeps of its files.
    ///
    /// # Errors
    /// Where the kernel has no such groups, or the caller is not root.
    pub(crate) fn of(
        directory: &Path,
        reads_per_second: Option<u64>,
        megabytes: Option<u64>,
    ) -> anyhow::Result<Self> {
        let mut limits = Self::default();
        if let Some(reads) = reads_per_second {
            let device = fs::metadata(directory)?.st_dev();
            let (major, minor) = whole_disk(rustix::fs::major(device), rustix::fs::minor(device))?;
            let value = format!("{major}:{minor} {reads}");
            limits.groups.push(group("blkio", "blkio.throttle.read_iops_device", &value)?);
        }
        if let Some(megabytes) = megabytes {
            let value = (megabytes << 20).to_string();
            limits.groups.push(group("memory", "memory.limit_in_bytes", &value)?);
        }
        Ok(limits)
    }

    /// Limits a process from now on.
    ///
    /// # Errors
    /// When it is gone.
    pub(crate) fn hold(&self, pid: u32) -> anyhow::Result<()> {
        self.groups.iter().try_for_each(|group| {
            fs::write(group.join("cgroup.procs"), pid.to_string())
                .with_context(|| format!("put the server into {}", group.display()))
        })
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        for group in &self.groups {
            // While the server still runs the group cannot go; an empty one costs nothing.
            let _ = fs::remove_dir(group);
        }
    }
}

fn group(controller: &str, limit: &str, value: &str) -> anyhow::Result<PathBuf> {
    let group = Path::new(CONTROLLERS).join(controller).join(format!("ebbtide-bench-{}", std::process::id()));
    fs::create_dir_all(&group)
        .with_context(|| format!("make the control group {} (needs root)", group.display()))?;
    let limit = group.join(limit);
    fs::write(&limit, value)
        .with_context(|| format!("write {}: is there the controller {controller}?", limit.display()))?;
    Ok(group)
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
