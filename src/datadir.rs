//! A server's data directory: what it holds, how it is made, and how its parts are opened.
//!
//! `catalog.db` (SQLite), `master.key` (mode 0600), `vault/`, `spill/`, each of which can be elsewhere; and `lock`.

use std::{
    collections::BTreeMap,
    fmt::Display,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use catalog::Catalog;
use model::{copy::RegionName, export::PlaceName};
use vault::{Location, MasterKey, S3Options, Vault};

use crate::{
    config::{Config, StoreSection},
    lock::{self, Lock},
};

/// The setting that says which vault the catalog is about.
const VAULT_ID: &str = "vault-id";
/// The one that says how it is to be made, until it has been.
const DESCRIPTION: &str = "vault-description";
/// How long another server is waited for that makes the vault. It takes a few requests to the store.
const MADE_WITHIN: Duration = Duration::from_secs(10);

/// An opened data directory.
pub(crate) struct Opened {
    /// The catalog.
    pub(crate) catalog: Catalog,
    /// The vault.
    pub(crate) vault: Vault,
    /// The master key.
    pub(crate) master_key: Arc<MasterKey>,
    /// As long as this is open the master key is not changed.
    _in_use: Lock,
}

/// Opens everything, making what an empty directory lacks.
pub(crate) async fn open(config: &Config) -> anyhow::Result<Opened> {
    make_private(&config.data_dir)?;
    let _in_use = lock::shared(&config.data_dir)?;
    let master_key = master_key_or_new(config)?;
    let catalog = open_catalog(config).await?;
    let location = location(config)?;
    let vault = open_vault(&catalog, &location, &master_key).await?;
    Ok(Opened { catalog, vault, master_key: Arc::new(master_key), _in_use })
}

/// Opens the vault that the catalog is about; makes one only for a catalog that has none yet. An unmounted disk is
/// an empty directory, and must not be taken for a new vault.
///
/// Servers that share the catalog may start at once. Stores do not decide who was first, the catalog does: one makes the vault,
/// and should another one have to take that over, it puts the same description, so it does not matter whose put comes last.
async fn open_vault(catalog: &Catalog, location: &Location, key: &MasterKey) -> anyhow::Result<Vault> {
    let settings = catalog.settings();
    let mut known = settings.get(VAULT_ID).await.context("read the catalog")?;
    let mut agreed = String::new();
    if known.is_none() {
        // Agreed on before anyone looks into the store. The vault's key in it is sealed by the master key.
        let proposal = Vault::propose(key);
        agreed = settings.get_or_set(DESCRIPTION, &proposal).await.context("write the catalog")?;
        if agreed != proposal {
            tracing::info!("another server was to make the vault; waiting until it has");
            known = made_by_another(catalog).await?;
        }
    }
    let vault = match &known {
        Some(_) => Vault::open(location, key).await.context("open the vault (is its disk mounted?)")?,
        None => make_vault(catalog, location, key, &agreed).await.context("open the vault")?,
    };
    let found = vault.id().to_string();
    let expected = settings.get_or_set(VAULT_ID, &found).await.context("write the catalog")?;
    if found != expected {
        bail!(
            "{} holds vault {found}, but this catalog is about vault {expected}: name the right one with --vault, or make \
             a catalog for this one with `ebbtide admin rebuild-catalog`",
            vault.location()
        );
    }
    // The catalog must not keep the vault's key under a master key that is changed later. Nobody needs the proposal any more: the
    // vault's description was in the store before this, so whoever makes a proposal anew after this finds that one when it
    // then looks there, and puts nothing. Whoever looked too early to find it had agreed on the same before. Done at every
    // start, since the first may have been killed just before it.
    settings.remove(DESCRIPTION).await.context("write the catalog")?;
    Ok(vault)
}

/// Makes the vault as was agreed on, or opens what is there.
async fn make_vault(
    catalog: &Catalog,
    location: &Location,
    key: &MasterKey,
    agreed: &str,
) -> anyhow::Result<Vault> {
    match Vault::create_or_open_as(location, key, agreed).await {
        // Left by a first start that failed, whose key is gone: as long as there is no vault, nothing is lost with it.
        Err(vault::Error::WrongKey { .. })
            if matches!(Vault::open(location, key).await, Err(vault::Error::NoVault { .. })) =>
        {
            let proposal = Vault::propose(key);
            catalog.settings().replace(DESCRIPTION, agreed, &proposal).await?;
            let agreed = catalog.settings().get_or_set(DESCRIPTION, &proposal).await?;
            Ok(Vault::create_or_open_as(location, key, &agreed).await?)
        }
        made => Ok(made?),
    }
}

/// Waits for the vault that another server is making, which may be at another place than ours: the id of it. None where that
/// server has not done so, as when it was killed.
async fn made_by_another(catalog: &Catalog) -> anyhow::Result<Option<String>> {
    let begun = Instant::now();
    loop {
        let made = catalog.settings().get(VAULT_ID).await.context("read the catalog")?;
        if made.is_some() || begun.elapsed() >= MADE_WITHIN {
            return Ok(made);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The catalog alone: SQLite in the data directory unless a PostgreSQL URL is configured.
pub(crate) async fn open_catalog(config: &Config) -> anyhow::Result<Catalog> {
    let place = match &config.file.catalog.url {
        Some(url) => url.clone(),
        None => text(&catalog_file(config))?,
    };
    Catalog::open(&place).await.context("open the catalog")
}

/// Where the embedded catalog is.
pub(crate) fn catalog_file(config: &Config) -> PathBuf {
    config.data_dir.join("catalog.db")
}

/// Where the master key is, when it is a file.
pub(crate) fn master_key_file(config: &Config) -> PathBuf {
    config.file.master_key.file.clone().unwrap_or_else(|| config.data_dir.join("master.key"))
}

/// Where a new master key waits until everything is sealed under it.
pub(crate) fn pending_key_file(place: &Path) -> PathBuf {
    beside(place, "new")
}

/// A file in the same directory, with a suffix to its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

/// The master key that is there; never a new one.
pub(crate) fn master_key(config: &Config) -> anyhow::Result<MasterKey> {
    match &config.file.master_key.command {
        Some(command) => MasterKey::from_command(command).context("get the master key"),
        None => MasterKey::from_file(master_key_file(config)).context("read the master key"),
    }
}

/// Where the vault is.
pub(crate) fn location(config: &Config) -> anyhow::Result<Location> {
    let section = &config.file.vault;
    let place = match &section.url {
        Some(url) => url.clone(),
        None => text(&config.data_dir.join("vault"))?,
    };
    Location::parse(&place, s3_options(section)?).context("understand where the vault is")
}

fn s3_options(section: &StoreSection) -> anyhow::Result<S3Options> {
    let secret = match &section.secret_access_key_file {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("read the secret key {}", path.display()))?;
            Some(vault::Secret::new(text.trim()))
        }
    };
    Ok(S3Options {
        endpoint: section.endpoint.clone(),
        region: section.region.clone(),
        access_key_id: section.access_key_id.clone(),
        secret_access_key: secret,
        allow_http: section.allow_http,
    })
}

/// Where snapshots may be exported to. None of it lies in the vault: what is there is the vault's alone.
pub(crate) fn export_places(config: &Config) -> anyhow::Result<BTreeMap<PlaceName, Location>> {
    places(config, "exports", &config.file.exports)
}

/// Where snapshots may be copied to. None of it lies in the vault, nor the vault in it.
pub(crate) fn copy_places(config: &Config) -> anyhow::Result<BTreeMap<RegionName, Location>> {
    let vault = location(config)?;
    let places = places(config, "copies", &config.file.copies)?;
    let all: Vec<_> = places.iter().collect();
    // The same bucket at another service is another place.
    let endpoint =
        |region: &RegionName| config.file.copies.get(region).and_then(|section| section.endpoint.as_ref());
    for (index, (region, place)) in all.iter().enumerate() {
        let others = all[..index].iter().map(|(region, place)| (*place, endpoint(region)));
        for (other, at) in others.chain([(&vault, config.file.vault.endpoint.as_ref())]) {
            if at == endpoint(region) && (lies_in(other, place) || lies_in(place, other)) {
                bail!("[copies.{region}] is or holds {other}, which is another vault: choose another url");
            }
        }
    }
    Ok(places)
}

fn places<N: Clone + Ord + Display>(
    config: &Config,
    table: &str,
    sections: &BTreeMap<N, StoreSection>,
) -> anyhow::Result<BTreeMap<N, Location>> {
    let vault = location(config)?;
    let mut places = BTreeMap::new();
    for (name, section) in sections {
        let Some(url) = &section.url else {
            bail!("[{table}.{name}] names no url: a directory, or s3://BUCKET/PREFIX")
        };
        if section.access_key_id.is_some() != section.secret_access_key_file.is_some() {
            bail!(
                "[{table}.{name}] has one of access_key_id and secret_access_key_file: give both or neither"
            );
        }
        let options = s3_options(section).with_context(|| format!("understand [{table}.{name}]"))?;
        let place =
            Location::parse(url, options).with_context(|| format!("understand where [{table}.{name}] is"))?;
        if section.endpoint == config.file.vault.endpoint && lies_in(&place, &vault) {
            bail!(
                "[{table}.{name}] lies in the vault, which is no place for anything else: choose another url"
            );
        }
        places.insert(name.clone(), place);
    }
    Ok(places)
}

fn lies_in(place: &Location, other: &Location) -> bool {
    Path::new(&place.to_string()).starts_with(other.to_string())
}

/// A new master key is made only where nothing is that another key could have sealed. Whoever makes it is told how to
/// keep it, whichever command came first.
fn master_key_or_new(config: &Config) -> anyhow::Result<MasterKey> {
    let file = master_key_file(config);
    let pending = pending_key_file(&file);
    if config.file.master_key.command.is_none() && pending.exists() {
        bail!(
            "a change of the master key was interrupted: {} is there. Finish it with `ebbtide admin key rotate`, given the \
             same flags as this command",
            pending.display()
        );
    }
    if config.file.master_key.command.is_some() || file.exists() {
        return master_key(config);
    }
    let catalog = catalog_file(config);
    let vault = config.data_dir.join("vault").join("vault.json");
    for sealed in [&catalog, &vault] {
        if sealed.exists() {
            bail!(
                "{} is there but its master key {} is not: put the key back, or name it with --master-key-file",
                sealed.display(),
                file.display()
            );
        }
    }
    let key = MasterKey::generate();
    key.create_file(&file).with_context(|| format!("write the new master key {}", file.display()))?;
    say_how_to_keep_the_key(config);
    Ok(key)
}

fn say_how_to_keep_the_key(config: &Config) {
    let file = master_key_file(config);
    let elsewhere = match &config.file.master_key.file {
        Some(file) => format!(" --master-key-file {}", file.display()),
        None => String::new(),
    };
    eprintln!(
        "A new master key was made: {}\n\
         Keep a copy of it somewhere else, now: without it NO snapshot can be read and no connection string be opened.\n  \
         ebbtide admin key export --data-dir {}{elsewhere} > ebbtide-master-key.txt",
        file.display(),
        config.data_dir.display()
    );
}

/// Makes a directory that only its owner can enter, or checks that it can be used.
pub(crate) fn make_private(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        let mode = std::fs::metadata(path)
            .with_context(|| format!("look at {}", path.display()))?
            .permissions()
            .mode();
        if mode & 0o022 != 0 {
            bail!("{} can be written by others (mode {:o}): chmod it to 0700", path.display(), mode & 0o777);
        }
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("make the data directory {}", path.display()))
}

fn text(path: &Path) -> anyhow::Result<String> {
    let absolute = std::path::absolute(path).with_context(|| format!("find {}", path.display()))?;
    match absolute.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => bail!("{} is not UTF-8: choose another data directory", path.display()),
    }
}
