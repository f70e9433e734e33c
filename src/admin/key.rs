//! `ebbtide admin key export|rotate`.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use catalog::{Catalog, Sealed, SealedKind};
use engine::crash;
use serde_json::json;
use vault::{MasterKey, Vault};

use super::{
    audit::{Change, Line},
    say,
};
use crate::{
    args::{Key, Output},
    config::Config,
    datadir, lock,
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

/// Seals everything under a new key, while nobody uses the old one. The order makes a crash harmless, and the same
/// command finishes what was interrupted: the new key is durable before anything is sealed with it; the catalog changes
/// in one transaction, the vault's envelope in one put; the old key is kept under another name before one rename puts the
/// new one in its place. So there is a key file at every moment.
async fn rotate(config: &Config, new_key_file: Option<PathBuf>, output: Output) -> anyhow::Result<()> {
    if config.file.master_key.command.is_some() {
        bail!(
            "the master key comes from a command: change it where it is kept, then seal with --master-key-file"
        );
    }
    let _alone = lock::alone(&config.data_dir)?;
    let current = datadir::master_key_file(config);
    let replaces = new_key_file.is_none();
    let place = new_key_file.unwrap_or_else(|| current.clone());
    if !replaces && place.exists() {
        bail!("{} is there already: name a file that does not exist", place.display());
    }
    let pending = datadir::pending_key_file(&place);
    let old_key = datadir::master_key(config)?;
    let catalog = datadir::open_catalog(config).await?;
    let line = Line::begin(&catalog, "key rotate").await?;
    let rotated = async {
        let new_key = pending_key(&pending)?;
        crash::point("rotate.after-new-key");
        reseal_catalog(&catalog, &old_key, &new_key).await?;
        crash::point("rotate.after-catalog");
        rewrap_vault(config, &old_key, &new_key).await?;
        crash::point("rotate.after-vault");
        if replaces {
            keep(&old_key, &datadir::beside(&current, "old"))?;
            crash::point("rotate.after-old-key");
        }
        put_in_place(&pending, &place)?;
        crash::point("rotate.after-switch");
        Ok::<_, anyhow::Error>(new_key)
    };
    let told = |new_key: &MasterKey| Change {
        action: "masterKey.rotate",
        subject: new_key.fingerprint().to_string(),
        project: None,
        detail: json!({ "before": old_key.fingerprint() }),
    };
    let new_key = line.end(&catalog, rotated.await, told).await?;
    catalog.close().await;
    let sentence = format!(
        "the master key is now {} ({}); keep a copy of it elsewhere",
        place.display(),
        new_key.fingerprint()
    );
    say(output, &json!({ "file": place, "fingerprint": new_key.fingerprint() }), &sentence);
    Ok(())
}

/// The key that an interrupted rotation made, or a new one; durable in `file`.
fn pending_key(file: &Path) -> anyhow::Result<MasterKey> {
    let length = std::fs::metadata(file).map(|metadata| metadata.len());
    match length {
        // Made and never written: nothing was sealed with what it was to hold.
        Ok(0) => {
            std::fs::remove_file(file).with_context(|| format!("remove the empty {}", file.display()))?
        }
        Ok(_) => {
            return MasterKey::from_file(file).context("read the new key of an interrupted rotation");
        }
        Err(_) => {}
    }
    let key = MasterKey::generate();
    key.create_file(file).with_context(|| format!("write the new master key {}", file.display()))?;
    Ok(key)
}

/// Writes the old key to a file of its own, in place of one that an earlier rotation left there.
fn keep(old_key: &MasterKey, file: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(file) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("remove {}", file.display())),
    }
    old_key.create_file(file).with_context(|| format!("keep the old master key as {}", file.display()))
}

/// One rename, durable when this returns.
fn put_in_place(pending: &Path, place: &Path) -> anyhow::Result<()> {
    let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::rename(pending, place)
        .and_then(|()| std::fs::File::open(parent)?.sync_all())
        .with_context(|| format!("put the new master key in place as {}", place.display()))
}

async fn reseal_catalog(catalog: &Catalog, old_key: &MasterKey, new_key: &MasterKey) -> anyhow::Result<()> {
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
    catalog.replace_sealed(&changes).await.context("seal the catalog's secrets with the new key")
}

async fn rewrap_vault(config: &Config, old_key: &MasterKey, new_key: &MasterKey) -> anyhow::Result<()> {
    let location = datadir::location(config)?;
    let vault = match Vault::open(&location, new_key).await {
        Ok(vault) => vault,
        Err(_) => {
            let vault = Vault::open(&location, old_key).await.context("open the vault with the old key")?;
            vault.rewrap(old_key, new_key).await.context("wrap the vault's key with the new master key")?;
            Vault::open(&location, new_key).await.context("open the vault with the new key")?
        }
    };
    for (region, place) in datadir::copy_places(config)? {
        // One that is away, or not begun yet, must not keep the key from being changed: the server tells it when it is back.
        if let Err(error) = vault.tell_copy(&place).await {
            eprintln!(
                "The copies in {region} are not told of the new key: {error}\nUntil a server has reached them they open with the \
                 old key, so keep that for them."
            );
        }
    }
    Ok(())
}
