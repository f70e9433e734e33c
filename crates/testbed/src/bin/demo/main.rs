//! `cargo xtask demo`: a real MongoDB, a real data set, a real accident, and the way back through the Atlas API.
//!
//! The demonstration uses Ebbtide as a user would: the program as a subprocess, the API by HTTP. That everything is
//! back is told by MongoDB itself ([`testbed::oracle`]).

mod account;
mod api;
mod archive;
mod args;
mod csv;
mod dataset;
mod http;
mod program;
mod screen;
mod steps;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let args = match args::Args::parse(std::env::args_os().skip(1)) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(2);
        }
    };
    match steps::run(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nthe demonstration failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
