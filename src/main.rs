//! `ebbtide`: backup and restore for MongoDB, spoken through the Atlas Administration API.
//!
//! This crate is the command line and the wiring of one process; everything that works is in `crates/`.

#![deny(clippy::print_stdout)]

mod admin;
mod allocator;
mod args;
mod client;
mod config;
mod datadir;
mod failure;
mod lock;
mod logging;
mod out;
mod registrar;
mod secrets;
mod serve;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

/// What the process ends with. Documented in `docs/cli.md`.
pub(crate) mod exit {
    /// Something failed; the reason is on standard error.
    pub(crate) const FAILED: u8 = 1;
    /// The command line was not understood; clap ends the process itself.
    #[cfg(test)]
    pub(crate) const WRONG_USAGE: u8 = 2;
    /// A job that was watched ended as failed, cancelled or expired.
    pub(crate) const JOB_NOT_DONE: u8 = 3;
    /// Ended by Ctrl-C.
    pub(crate) const INTERRUPTED: u8 = 130;
}

fn main() -> ExitCode {
    allocator::hold_little();
    let args = args::Args::parse();
    // The one rustls provider of the process; a second one would make TLS panic when it is first used.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("error: a TLS provider was installed before the program's own");
        return ExitCode::from(exit::FAILED);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: start threads: {error}");
            return ExitCode::from(exit::FAILED);
        }
    };
    let output = args.output;
    match runtime.block_on(run(args)) {
        Ok(code) => code,
        Err(error) => {
            failure::report(&error, output);
            ExitCode::from(exit::FAILED)
        }
    }
}

async fn run(args: args::Args) -> anyhow::Result<ExitCode> {
    use args::Command;
    match args.command {
        Command::Serve(serve) => serve::run(serve).await,
        Command::Admin(command) => admin::run(command, args.output).await,
        Command::Verify(verify) => admin::verify::run(verify, args.output).await,
        Command::Cluster(command) => client::cluster::run(command, &args.server, args.output).await,
        Command::Timeline(command) => client::timeline::run(command, &args.server, args.output).await,
        Command::Doc(command) => client::past::doc(command, &args.server, args.output).await,
        Command::Diff(command) => client::past::diff(command, &args.server, args.output).await,
        Command::Snapshot(command) => client::snapshot::run(command, &args.server, args.output).await,
        Command::Schedule(command) => client::schedule::run(command, &args.server, args.output).await,
        Command::CompliancePolicy(command) => {
            client::compliance::run(command, &args.server, args.output).await
        }
        Command::Export(command) => client::export::run(command, &args.server, args.output).await,
        Command::Restore(command) => client::restore::run(command, &args.server, args.output).await,
        Command::Audit(command) => client::audit::run(command, &args.server, args.output).await,
        Command::Openapi(asked) => {
            out::text(&openapi(&asked)?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What is served, as a document for programs or a page for people.
fn openapi(asked: &args::Openapi) -> anyhow::Result<String> {
    if asked.coverage {
        return Ok(api::coverage_page());
    }
    let document = api::document(env!("CARGO_PKG_VERSION"));
    Ok(serde_json::to_string_pretty(&document).context("write the document")? + "\n")
}
