//! The command line, as `cargo xtask demo` writes it.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, bail};

/// What to run and where.
#[derive(Debug)]
pub(crate) struct Args {
    /// The `ebbtide` program.
    pub(crate) ebbtide: PathBuf,
    /// The MongoDB server.
    pub(crate) mongod: PathBuf,
    /// The directory of the data set's CSV files.
    pub(crate) data: PathBuf,
    /// Where everything is kept; a temporary directory if absent.
    pub(crate) data_dir: Option<PathBuf>,
    /// Leave everything running.
    pub(crate) keep: bool,
}

impl Args {
    /// Reads the arguments.
    pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> anyhow::Result<Self> {
        let (mut ebbtide, mut mongod, mut data, mut data_dir, mut keep) = (None, None, None, None, false);
        let mut words = words;
        while let Some(word) = words.next() {
            let name = word.to_string_lossy().into_owned();
            let place = match name.as_str() {
                "--ebbtide" => &mut ebbtide,
                "--mongod" => &mut mongod,
                "--data" => &mut data,
                "--data-dir" => &mut data_dir,
                "--keep" => {
                    keep = true;
                    continue;
                }
                _ => bail!("unknown argument {name:?}; run `cargo xtask demo [--keep] [--data-dir D]`"),
            };
            *place = Some(PathBuf::from(words.next().with_context(|| format!("{name} needs a value"))?));
        }
        Ok(Self {
            ebbtide: ebbtide.context("--ebbtide is missing: run `cargo xtask demo`")?,
            mongod: mongod.context("--mongod is missing: run `cargo xtask demo`")?,
            data: data.context("--data is missing: run `cargo xtask demo`")?,
            data_dir,
            keep,
        })
    }
}
