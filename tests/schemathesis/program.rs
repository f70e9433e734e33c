//! schemathesis: where it comes from, and how it is run.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

const REQUIREMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis/requirements.txt");
const HOOKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis/hooks.py");
/// Its version, as `requirements.txt` has it.
const VERSION: &str = "4.32.0";

/// A Python with schemathesis in it.
pub struct Program {
    python: PathBuf,
}

impl Program {
    /// In a virtual environment in the cache, which is made when it is not there; or why there is none.
    pub fn find() -> Result<Self, String> {
        let cache = cache()?;
        let place = cache.join(format!("schemathesis-{VERSION}"));
        let found = Self { python: place.join("bin").join("python3") };
        if found.runs() {
            return Ok(found);
        }
        let made = tempfile::Builder::new().prefix(".new-").tempdir_in(&cache).map_err(|e| e.to_string())?;
        let environment = made.path().join("environment");
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
        let python = environment.join("bin").join("python3");
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"];
        // Nothing is built here: what has no wheel for this machine is not there.
        run(Command::new(&python).args(pip).args(["--only-binary", ":all:", "--requirement", REQUIREMENTS]))?;
        // Where another run was faster, its environment is as good; one that does not run is of no use to anybody.
        if !found.runs() {
            let _ = std::fs::remove_dir_all(&place);
            std::fs::rename(&environment, &place).map_err(|e| e.to_string())?;
        }
        if found.runs() { Ok(found) } else { Err(format!("{} does not run", place.display())) }
    }

    fn runs(&self) -> bool {
        let output = self.command().arg("--version").output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(VERSION))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.python);
        // By its module: the scripts of an environment name the place that it was made in.
        command.args(["-m", "schemathesis.cli"]).env("PYTHONDONTWRITEBYTECODE", "1");
        command.stdin(Stdio::null());
        command
    }

    /// Runs it over a document; what it said, and how long it took.
    pub fn run(&self, place: &Path, run: &Run<'_>) -> (Output, Duration) {
        let begun = Instant::now();
        let directory = place.join(run.name);
        std::fs::create_dir(&directory).unwrap();
        let (document, config) = (directory.join("document.json"), directory.join("schemathesis.toml"));
        std::fs::write(&document, run.document.to_string()).unwrap();
        std::fs::write(&config, toml::to_string(run.config).unwrap()).unwrap();
        let mut command = self.command();
        command.current_dir(&directory).arg("--config-file").arg(config).arg("run").arg(document);
        command.args(["--url", run.url, "--no-color"]).args(run.arguments);
        command.env("SCHEMATHESIS_HOOKS", HOOKS).env("PYTHONIOENCODING", "utf-8");
        if let Some(key) = &run.digest {
            command.env("EBBTIDE_DIGEST", key);
        }
        (command.output().unwrap(), begun.elapsed())
    }
}

/// One run over one document.
pub struct Run<'a> {
    pub name: &'a str,
    pub document: &'a serde_json::Value,
    pub config: &'a serde_json::Value,
    pub url: &'a str,
    pub arguments: &'a [&'a str],
    /// `PUBLIC:PRIVATE`, where it asks by digest.
    pub digest: Option<String>,
}

fn cache() -> Result<PathBuf, String> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let place = cache.ok_or("neither XDG_CACHE_HOME nor HOME is set")?.join("ebbtide");
    std::fs::create_dir_all(&place).map_err(|e| format!("make {}: {e}", place.display()))?;
    Ok(place)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}", said.lines().last().unwrap_or("no reason given")))
}
