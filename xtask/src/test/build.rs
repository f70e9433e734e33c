//! Builds all test programs once and reads from cargo's messages where they are.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail};
use serde_json::Value;

use super::program::{Kind, Program};
use super::{cargo, locked};

/// Builds; what the compiler says is shown as cargo shows it. `quick`: the unit tests only.
pub(super) fn programs(quick: bool) -> anyhow::Result<Vec<Program>> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]);
    command.args(locked());
    if quick {
        command.args(["--lib", "--bins"]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("run cargo test --no-run")?;
    let mut found = Vec::new();
    if let Some(messages) = child.stdout.take() {
        for line in BufReader::new(messages).lines() {
            let line = line.context("read what cargo tells")?;
            found.extend(program_of(&line).with_context(|| format!("understand what cargo tells: {line}"))?);
        }
    }
    if !child.wait().context("wait for cargo")?.success() {
        bail!("the tests were not built");
    }
    if !quick {
        found.push(Program::documentation());
    }
    Ok(found)
}

/// The test program that a message of cargo tells of; None when it tells something else.
fn program_of(message: &str) -> anyhow::Result<Option<Program>> {
    let message: Value = serde_json::from_str(message).context("it is not JSON")?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return Ok(None);
    }
    let Some(executable) = message["executable"].as_str() else { return Ok(None) };
    let text = |value: &Value| value.as_str().map(str::to_owned).context("something is missing");
    let manifest = PathBuf::from(text(&message["manifest_path"])?);
    let (package, version) = package_of(&text(&message["package_id"])?)?;
    let target = text(&message["target"]["name"])?;
    let name = match message["target"]["kind"][0].as_str() {
        Some("test") => target,
        Some("bin") => format!("bin-{target}"),
        Some("example") => format!("example-{target}"),
        _ => "unit".to_owned(),
    };
    let name = format!("{package}/{name}");
    let kind = Kind::Built { executable: executable.into(), manifest, package, version };
    Ok(Some(Program { name, kind }))
}

/// Name and version in a package's id: `path+file:///place/of/it#name@1.0.0`, or `…/name#1.0.0`.
fn package_of(id: &str) -> anyhow::Result<(String, String)> {
    let (place, rest) = id.rsplit_once('#').context("the package has no version")?;
    let (name, version) = match rest.split_once('@') {
        Some(both) => both,
        None => (Path::new(place).file_name().and_then(|name| name.to_str()).context("no name")?, rest),
    };
    Ok((name.to_owned(), version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{Kind, package_of, program_of};

    const ARTIFACT: &str = r#"{
        "reason": "compiler-artifact", "package_id": "path+file:///w/crates/engine#ebbtide-engine@0.1.0",
        "manifest_path": "/w/crates/engine/Cargo.toml", "target": { "kind": ["KIND"], "name": "capture" },
        "profile": { "test": true }, "executable": "/w/target/debug/deps/capture-1" }"#;

    #[test]
    fn programs_are_named_by_package_and_target() {
        for (kind, name) in [
            ("test", "ebbtide-engine/capture"),
            ("bin", "ebbtide-engine/bin-capture"),
            ("lib", "ebbtide-engine/unit"),
        ] {
            let program = program_of(&ARTIFACT.replace("KIND", kind)).expect("it is understood");
            let program = program.expect("it is a program");
            assert_eq!(program.name, name);
            let Kind::Built { executable, manifest, package, version } = program.kind else {
                panic!("it is built")
            };
            assert_eq!(executable.to_str(), Some("/w/target/debug/deps/capture-1"));
            assert_eq!(manifest.to_str(), Some("/w/crates/engine/Cargo.toml"));
            assert_eq!((package.as_str(), version.as_str()), ("ebbtide-engine", "0.1.0"));
        }
    }

    #[test]
    fn what_is_no_test_program_is_passed_over() {
        for other in [
            ARTIFACT.replace("\"test\": true", "\"test\": false"),
            ARTIFACT.replace("\"/w/target/debug/deps/capture-1\"", "null"),
            r#"{ "reason": "build-finished", "success": true }"#.to_owned(),
        ] {
            assert!(program_of(&other).expect("it is understood").is_none(), "{other}");
        }
        assert!(program_of("warning: not JSON").is_err());
    }

    #[test]
    fn a_package_named_as_its_directory_is_not_named_twice() {
        let read = package_of("path+file:///w/xtask#0.1.0").expect("it is understood");
        assert_eq!(read, ("xtask".to_owned(), "0.1.0".to_owned()));
    }
}
