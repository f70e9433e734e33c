//! The vault itself: opened with the master key, then objects in and out.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    Error, Location, MasterKey, ObjectKind, ObjectName, Result, SealedObject, VaultId,
    copies::MARK_PATH,
    crypt::{KEY_BYTES, Key, Keys, Salts, fill_random, random},
    leftovers::sweep,
    object::{HEADER_BYTES, Header},
    recycle::Recycler,
    store::Store,
};

/// Where the vault says what it is.
const DESCRIPTION_PATH: &str = "vault.json";
const DESCRIPTION_FORMAT: &str = "ebbtide-vault";
/// The version of the layout as a whole.
const DESCRIPTION_VERSION: u32 = 1;
/// The first read of an object of many blocks: header and block 0 of nearly every one.
const FIRST_READ_BYTES: u64 = 32 << 10;
/// Below this, objects are put to find out whether one may.
const PROBE_DIRECTORY: &str = "v1/probes";

/// `vault.json`: which vault this is, and its key, wrapped by the master key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    format: String,
    version: u32,
    id: VaultId,
    /// Fingerprint of the master key.
    master_key: String,
    /// The vault key, sealed by the master key for this vault.
    sealed_key: String,
}

impl Description {
    fn new(keys: &Keys, master: &MasterKey, salt: &[u8; 32]) -> Self {
        Self {
            format: DESCRIPTION_FORMAT.to_owned(),
            version: DESCRIPTION_VERSION,
            id: keys.id(),
            master_key: master.fingerprint(),
            sealed_key: master.seal_salted(&purpose(keys.id()), &keys.vault_key()[..], salt),
        }
    }

    fn to_text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a description is plain data");
        text.push('\n');
        text
    }

    fn parse(bytes: &[u8], location: &str) -> Result<Self> {
        let refuse = |why: String| Error::Location { text: location.to_owned(), why };
        let description: Self = serde_json::from_slice(bytes)
            .map_err(|e| refuse(format!("its {DESCRIPTION_PATH} is broken: {e}")))?;
        if description.format != DESCRIPTION_FORMAT {
            return Err(refuse(format!("its {DESCRIPTION_PATH} is not that of a vault")));
        }
        Ok(description)
    }

    fn open(&self, master: &MasterKey, location: &str) -> Result<Key> {
        if self.version > DESCRIPTION_VERSION {
            let what = format!("the vault at {location}");
            return Err(Error::NewerFormat { what, version: self.version, known: DESCRIPTION_VERSION });
        }
        let wrong = || Error::WrongKey {
            location: location.to_owned(),
            expected: self.master_key.clone(),
            given: master.fingerprint(),
        };
        if self.master_key != master.fingerprint() {
            return Err(wrong());
        }
        let plain = master.open(&purpose(self.id), &self.sealed_key)?;
        let key: [u8; KEY_BYTES] = plain.as_slice().try_into().map_err(|_| wrong())?;
        Ok(Zeroizing::new(key))
    }
}

/// What the vault key is sealed for. The id in it keeps the key from being moved to another vault.
fn purpose(id: VaultId) -> String {
    format!("vault key of {id}")
}

struct Inner {
    store: Store,
    keys: Arc<Keys>,
    /// What said which vault this is, and was opened with the master key.
    description: Bytes,
    recycler: Recycler,
}

/// An open vault. Clones are the same vault.
#[derive(Clone)]
pub struct Vault(Arc<Inner>);

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault({} at {})", self.id(), self.location())
    }
}

/// An object that [`Vault::list`] met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Listed {
    /// Its name.
    pub name: ObjectName,
    /// Its size in the store.
    pub stored_bytes: u64,
}

impl Vault {
    /// Opens the vault at `location`, or makes one when nothing is there. Only for those who do that alone: of two who make one at
    /// once, one can be left with a key that is stored nowhere. See [`Vault::create_or_open_as`].
    ///
    /// # Errors
    /// [`Error::WrongKey`] when it belongs to another master key, and whatever the store says.
    pub async fn create_or_open(location: &Location, master: &MasterKey) -> Result<Self> {
        Self::create_or_open_with(location, master, new_keys(), &random()).await
    }

    /// What a new vault could say of itself: which one it is, and its key, sealed by the master key. Everyone who may make the
    /// vault has to agree on one such proposal first.
    pub fn propose(master: &MasterKey) -> String {
        Description::new(&new_keys(), master, &random()).to_text()
    }

    /// Opens the vault at `location`, or makes the one that was agreed on, a [proposal](Self::propose), when nothing is there.
    /// Stores need not know conditional puts, so whoever comes late puts the description again: it must be the very same one.
    ///
    /// # Errors
    /// [`Error::WrongKey`] when the vault, or what was agreed on, belongs to another master key; [`Error::Location`] when it is
    /// broken; and whatever the store says.
    pub async fn create_or_open_as(
        location: &Location,
        master: &MasterKey,
        description: &str,
    ) -> Result<Self> {
        let description = Bytes::copy_from_slice(description.as_bytes());
        Self::create_or_open_described(location, master, description, Salts::Random).await
    }

    pub(crate) async fn create_or_open_with(
        location: &Location,
        master: &MasterKey,
        new_keys: Keys,
        salt: &[u8; 32],
    ) -> Result<Self> {
        let description = Description::new(&new_keys, master, salt).to_text().into();
        Self::create_or_open_described(location, master, description, new_keys.salts()).await
    }

    async fn create_or_open_described(
        location: &Location,
        master: &MasterKey,
        description: Bytes,
        salts: Salts,
    ) -> Result<Self> {
        let store = Store::open(location, true)?;
        if store.get(DESCRIPTION_PATH, None).await?.is_none() {
            if store.get(MARK_PATH, None).await?.is_some() {
                let why = "it is a place of copies that was begun; choose another one".to_owned();
                return Err(Error::Location { text: store.location().to_owned(), why });
            }
            refuse_orphans(&store).await?;
            // What this key does not open must not be put in the way of the right one.
            Description::parse(&description, store.location())?.open(master, store.location())?;
            store.put(DESCRIPTION_PATH, description).await?;
        }
        // Read back what is there: it counts, not what was to be put.
        Self::open_store(store, master, salts).await?.refuse_copy().await
    }

    /// Opens the vault at `location`.
    ///
    /// # Errors
    /// [`Error::NoVault`], [`Error::WrongKey`], [`Error::Location`] when it is a copy, and whatever the store says.
    pub async fn open(location: &Location, master: &MasterKey) -> Result<Self> {
        Self::open_store(Store::open(location, false)?, master, Salts::Random).await?.refuse_copy().await
    }

    /// Opens what is at `location`, a vault or a copy of one.
    pub(crate) async fn open_marked(location: &Location, master: &MasterKey) -> Result<Self> {
        Self::open_store(Store::open(location, false)?, master, Salts::Random).await
    }

    /// Whoever writes to a copy as to the vault itself loses it to those who copy there.
    async fn refuse_copy(self) -> Result<Self> {
        let Some(mark) = self.copy_mark().await? else { return Ok(self) };
        let why = format!(
            "it holds the copies of a vault, in {}; to go on with them as the vault, make a catalog of them with \
             `ebbtide admin rebuild-catalog`",
            mark.region
        );
        Err(Error::Location { text: self.location().to_owned(), why })
    }

    async fn open_store(store: Store, master: &MasterKey, salts: Salts) -> Result<Self> {
        let (description, bytes) = read_description(&store).await?;
        let key = description.open(master, store.location())?;
        let keys = Arc::new(Keys::new(description.id, key, salts));
        Ok(Self(Arc::new(Inner { store, keys, description: bytes, recycler: Recycler::default() })))
    }

    /// A vault with the same id and key at another place, whatever is there.
    pub(crate) fn beside(&self, location: &Location, make: bool) -> Result<Self> {
        let store = Store::open(location, make)?;
        let (keys, description) = (Arc::clone(&self.0.keys), self.0.description.clone());
        Ok(Self(Arc::new(Inner { store, keys, description, recycler: Recycler::default() })))
    }

    /// A file beside the objects.
    pub(crate) async fn file(&self, path: &str) -> Result<Option<Bytes>> {
        self.0.store.get(path, None).await
    }

    pub(crate) async fn put_file(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.0.store.put(path, bytes).await
    }

    pub(crate) async fn delete_file(&self, path: &str) -> Result<()> {
        self.0.store.delete(path).await
    }

    /// What said which vault this is when it was opened. What lies there now may be something else.
    pub(crate) fn own_description(&self) -> Bytes {
        self.0.description.clone()
    }

    /// What says which vault is here, as it is stored.
    pub(crate) async fn description_bytes(&self) -> Result<Option<Bytes>> {
        self.0.store.get(DESCRIPTION_PATH, None).await
    }

    /// Whether what is here says to be the vault of that id.
    pub(crate) async fn is_described_as(&self, id: VaultId) -> Result<bool> {
        Ok(read_description(&self.0.store).await?.0.id == id)
    }

    /// Whether the place still holds this vault's description. It does not when the vault was deleted, or its disk is not mounted
    /// any more, or another vault took its place.
    ///
    /// # Errors
    /// [`Error::Location`] when the description is broken, and whatever the store says.
    pub async fn is_here(&self) -> Result<bool> {
        match self.is_described_as(self.id()).await {
            Err(Error::NoVault { .. }) => Ok(false),
            answer => answer,
        }
    }

    /// Says which vault is here.
    pub(crate) async fn describe(&self, description: Bytes) -> Result<()> {
        self.0.store.put(DESCRIPTION_PATH, description).await
    }

    /// Objects without a description are what is left of another vault.
    pub(crate) async fn refuse_objects(&self) -> Result<()> {
        refuse_orphans(&self.0.store).await
    }

    /// The error of a vault that is not there.
    pub(crate) fn gone(&self) -> Error {
        Error::NoVault { location: self.location().to_owned() }
    }

    /// Which vault this is.
    pub fn id(&self) -> VaultId {
        self.0.keys.id()
    }

    /// Where it is, for people.
    pub fn location(&self) -> &str {
        self.0.store.location()
    }

    /// Lets go of memory that is kept to be used again and was not needed since the last call.
    pub fn trim_memory(&self) {
        self.0.recycler.trim();
    }

    pub(crate) fn recycler(&self) -> &Recycler {
        &self.0.recycler
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// Wraps the vault key by another master key. Objects stay as they are; the old key opens the vault no more. Open it anew before
    /// its copies are told.
    ///
    /// # Errors
    /// [`Error::WrongKey`] when `old` is not the key of this vault, and whatever the store says.
    pub async fn rewrap(&self, old: &MasterKey, new: &MasterKey) -> Result<()> {
        read_description(&self.0.store).await?.0.open(old, self.location())?;
        let wrapped = Description::new(self.keys(), new, &random());
        self.0.store.put(DESCRIPTION_PATH, wrapped.to_text().into()).await?;
        read_description(&self.0.store).await?.0.open(new, self.location()).map(drop)
    }

    /// Finds out whether objects can be put, read and deleted here.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Denied`] or [`Error::Store`] when they cannot.
    pub async fn check_writable(&self) -> Result<()> {
        let probe: [u8; 16] = random();
        let path = format!("{PROBE_DIRECTORY}/{}", hex::encode(probe));
        self.0.store.put(&path, Bytes::copy_from_slice(&probe)).await?;
        let read = self.0.store.get(&path, None).await?;
        self.0.store.delete(&path).await?;
        if read.as_deref() == Some(&probe) {
            return Ok(());
        }
        let source = "an object that was just written reads back as something else".into();
        Err(Error::Store { action: "keep an object", location: self.location().to_owned(), source })
    }

    /// Stores an object and tells how many bytes it takes. It is durable when this returns. Storing it again is
    /// harmless.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Denied`] or [`Error::Store`].
    pub async fn put(&self, object: &SealedObject) -> Result<u64> {
        self.0.store.put(&object.name.path(), object.bytes.clone()).await?;
        if is_bulk(object.name) {
            self.0.store.let_go(&object.name.path(), None).await;
        }
        Ok(object.bytes.len() as u64)
    }

    /// Whether an object is there. Its content is not looked at.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn contains(&self, name: &ObjectName) -> Result<bool> {
        Ok(self.stored_bytes(name).await?.is_some())
    }

    /// The size of an object in the store, when it is there.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn stored_bytes(&self, name: &ObjectName) -> Result<Option<u64>> {
        self.0.store.size(&name.path()).await
    }

    /// Deletes an object; it may be gone already.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn delete(&self, name: &ObjectName) -> Result<()> {
        self.0.store.delete(&name.path()).await
    }

    /// Lists the objects of one kind, in no order. What is not ours is passed over.
    pub fn list(&self, kind: ObjectKind) -> BoxStream<'static, Result<Listed>> {
        let listed = self.0.store.list(kind.directory());
        listed
            .filter_map(move |item| {
                let listed = match item {
                    Ok((file, stored_bytes)) => {
                        ObjectName::from_file(kind, &file).map(|name| Ok(Listed { name, stored_bytes }))
                    }
                    Err(e) => Some(Err(e)),
                };
                std::future::ready(listed)
            })
            .boxed()
    }

    /// Lists the manifests, in no order: enough to rebuild a catalog.
    pub fn list_manifests(&self) -> BoxStream<'static, Result<Listed>> {
        self.list(ObjectKind::Manifest)
    }

    /// Lists the slices, in no order: with the manifests enough to rebuild a catalog.
    pub fn list_slices(&self) -> BoxStream<'static, Result<Listed>> {
        self.list(ObjectKind::Slice)
    }

    /// Deletes what killed processes left half-written for at least `min_age`, and gives how many files that were.
    /// Nothing refers to them. An hour is long enough: a put takes seconds.
    ///
    /// # Errors
    /// [`Error::Store`] when the directory cannot be read or written.
    pub async fn sweep_unfinished(&self, min_age: Duration) -> Result<u64> {
        let Some(directory) = self.0.store.directory().map(ToOwned::to_owned) else { return Ok(0) };
        let swept = off_the_runtime(move || sweep(&directory, min_age)).await;
        swept.map_err(|source| Error::Store {
            action: "sweep unfinished files",
            location: self.location().to_owned(),
            source: Box::new(source),
        })
    }

    /// The sealed bytes of an object.
    pub(crate) async fn get(&self, name: &ObjectName) -> Result<Bytes> {
        self.get_some(name, None).await
    }

    /// A range of the sealed bytes of an object, or as much of it as there is.
    pub(crate) async fn get_range(&self, name: &ObjectName, range: std::ops::Range<u64>) -> Result<Bytes> {
        let start = range.start;
        match self.get_some(name, Some(range)).await {
            // Stores answer a range that begins behind the end with an error of no kind in particular.
            Err(error @ Error::Store { .. }) => match self.stored_bytes(name).await {
                Ok(Some(stored_bytes)) if stored_bytes <= start => Ok(Bytes::new()),
                _ => Err(error),
            },
            other => other,
        }
    }

    /// What the header of an object says, and its bytes from there on, block 0 included when the object is not cut short.
    pub(crate) async fn get_front(&self, name: &ObjectName) -> Result<(Header, Bytes)> {
        let mut front = self.get_range(name, 0..FIRST_READ_BYTES).await?;
        let header = Header::read(name, &front)?;
        let front_bytes = HEADER_BYTES + header.first_bytes;
        if front.len() < front_bytes {
            front = self.get_range(name, 0..front_bytes as u64).await?;
        }
        Ok((header, front))
    }

    async fn get_some(&self, name: &ObjectName, range: Option<std::ops::Range<u64>>) -> Result<Bytes> {
        let found = match &range {
            None if is_bulk(*name) => self.0.store.get_into(&name.path(), self.recycler()).await?,
            range => self.0.store.get(&name.path(), range.clone()).await?,
        };
        if is_bulk(*name) {
            self.0.store.let_go(&name.path(), range).await;
        }
        found.ok_or_else(|| Error::Missing { object: *name, location: self.location().to_owned() })
    }
}

/// The keys of a vault that is not there yet.
fn new_keys() -> Keys {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    fill_random(&mut key[..]);
    Keys::new(VaultId(random()), key, Salts::Random)
}

/// Whether objects like it are the data itself: as large as the database, written once and read seldom.
fn is_bulk(name: ObjectName) -> bool {
    matches!(name.kind, ObjectKind::Segment | ObjectKind::Archive)
}

async fn read_description(store: &Store) -> Result<(Description, Bytes)> {
    let missing = || Error::NoVault { location: store.location().to_owned() };
    let bytes = store.get(DESCRIPTION_PATH, None).await?.ok_or_else(missing)?;
    Ok((Description::parse(&bytes, store.location())?, bytes))
}

/// Objects without a `vault.json` are a vault that lost its key. A new key must not bury that.
async fn refuse_orphans(store: &Store) -> Result<()> {
    for kind in ObjectKind::ALL {
        if store.list(kind.directory()).next().await.transpose()?.is_some() {
            let why = format!("it holds objects but no {DESCRIPTION_PATH}; put that file back from a copy");
            return Err(Error::Location { text: store.location().to_owned(), why });
        }
    }
    Ok(())
}

/// Runs work that would hold up other tasks on a thread of its own.
pub(crate) async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    }
}
