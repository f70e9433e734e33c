//! `ebbtide admin …` and `ebbtide verify`: work on a server's data directory, without HTTP.

mod access;
mod audit;
mod bootstrap;
mod compliance;
mod copies;
mod key;
mod live;
mod mend;
mod rebuild;
pub(crate) mod verify;

use std::process::ExitCode;

use crate::{
    args::{Admin, Output},
    out::say,
};

/// Runs one of the commands.
pub(crate) async fn run(command: Admin, output: Output) -> anyhow::Result<ExitCode> {
    match command {
        Admin::CreateProject { name, data } => bootstrap::create_project(&name, &data, output).await?,
        Admin::CreateKey { grant, data } => bootstrap::create_key(&grant, &data, output).await?,
        Admin::CreateServiceAccount { grant, secret_expires_after_hours, data } => {
            bootstrap::create_service_account(&grant, secret_expires_after_hours, &data, output).await?
        }
        Admin::ReleaseCompliancePolicy { within, data } => {
            compliance::release(&within.project, &data, output).await?;
        }
        Admin::AccessList { change, data } => access::run(&change, &data, output).await?,
        Admin::ForgetCopies { region, data } => copies::forget(&region, &data, output).await?,
        Admin::Key(command) => key::run(command, output).await?,
        Admin::RebuildCatalog { data } => rebuild::run(&data, output).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints JSON for programs or a sentence for people.
fn say(output: Output, value: &serde_json::Value, sentence: &str) {
    match output {
        Output::Json => say!("{value}"),
        Output::Text => say!("{sentence}"),
    }
}
