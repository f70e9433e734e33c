//! `ebbtide admin key export|rotate`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use catalog::{Sealed, SealedKind};
use serde_json::json;
use vault::{MasterKey, Vault};

use super::say;
use crate::{
    args::{Key, Output},
    config::Config,
    datadir,
};

/// Runs one of the commands.
pub(super) async fn run(command: Key, output: Output) -> anyhow::Result<()> {
    match command {
        Key::Export { data } => {
            let key = datadir::master_key(&Config::read(&data)?)?;
            let text = key.to_text();
            say(
                output,
                &json!({ "masterKey": text.as_str(), "fingerprint": key.fingerprint() }),
                text.as_str(),
            );
            Ok(())
        }
        Key::Rotate { data, new_key_file } => rotate(&Config::read(&data)?, new_key_file, output).await,
    }
}

/// Seals everything under a new key. The order makes a crash harmless: the new key is on disk before anything is
/// sealed with it, the catalog changes in one transaction, the vault's envelope in one put, and the old key is kept.
async fn rotate(config: &Config, new_key_file: Option<PathBuf>, output: Output) -> anyhow::Result<()> {
    if config.file.master_key.command.is_some() {
        bail!(
            "the master key comes from a command: change it where it is kept, then seal with --master-key-file"
        );
    }
    let current = datadir::master_key_file(config);
    let next = new_key_file.clone().unwrap_or_else(|| beside(&current, "new"));
    let old_key = datadir::master_key(config)?;
    let new_key = if next.exists() && new_key_file.is_none() {
        // An earlier rotation was interrupted: it goes on with the key that it made.
        MasterKey::from_file(&next).context("read the key of an interrupted rotation")?
    } else {
        let key = MasterKey::generate();
        key.create_file(&next).with_context(|| format!("write the new master key {}", next.display()))?;
        key
    };
    reseal_catalog(config, &old_key, &new_key).await?;
    rewrap_vault(config, &old_key, &new_key).await?;
    let place = if new_key_file.is_some() {
        next
    } else {
        std::fs::rename(&current, beside(&current, "old")).context("keep the old master key")?;
        std::fs::rename(&next, &current).context("put the new master key in place")?;
        current
    };
    let sentence = format!(
        "the master key is now {} ({}); keep a copy of it elsewhere",
        place.display(),
        new_key.fingerprint()
    );
    say(output, &json!({ "file": place, "fingerprint": new_key.fingerprint() }), &sentence);
    Ok(())
}

async fn reseal_catalog(config: &Config, old_key: &MasterKey, new_key: &MasterKey) -> anyhow::Result<()> {
    let catalog = datadir::open_catalog(config).await?;
    let mut changes = Vec::new();
    for value in catalog.sealed_values().await.context("list what is sealed")? {
        let purpose = match value.kind {
            SealedKind::DeploymentUri => api::PURPOSE_URI,
            SealedKind::ApiKeyHa1 => api::PURPOSE_HA1,
            SealedKind::DownloadToken => api::PURPOSE_DOWNLOAD_TOKEN,
        };
        if new_key.open(purpose, &value.sealed.0).is_ok() {
            continue;
        }
        let plain = match old_key.open(purpose, &value.sealed.0) {
            Ok(plain) => plain,
            // A link that nobody could be shown any more is no reason to keep the old key.
            Err(_) if value.kind == SealedKind::DownloadToken => continue,
            Err(error) => {
                return Err(error).with_context(|| format!("open the sealed value of {}", value.id));
            }
        };
        let sealed = Sealed(new_key.seal(purpose, &plain));
        changes.push((value, sealed));
    }
    catalog.replace_sealed(&changes).await.context("seal the catalog's secrets with the new key")?;
    catalog.close().await;
    Ok(())
}

async fn rewrap_vault(config: &Config, old_key: &MasterKey, new_key: &MasterKey) -> anyhow::Result<()> {
    let location = datadir::location(config)?;
    if Vault::open(&location, new_key).await.is_ok() {
        return Ok(());
    }
    let vault = Vault::open(&location, old_key).await.context("open the vault with the old key")?;
    vault.rewrap(old_key, new_key).await.context("wrap the vault's key with the new master key")
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}
