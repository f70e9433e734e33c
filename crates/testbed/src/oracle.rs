//! What a deployment holds, told by the server itself: [`state`] before, [`state`] after, [`diff`].
//!
//! Documents are compared by the server's own `dbHash`, definitions by the raw bytes of `listCollections` and
//! `listIndexes`. Ebbtide's own hashes and listings are not used: they are what is being tested.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hasher;

use anyhow::Context;
use bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};
use futures::TryStreamExt;
use mongodb::{Client, Database};

/// Databases that belong to the server, not to the user.
const SERVER_DATABASES: [&str; 2] = ["local", "config"];
const NAMESPACE_NOT_FOUND: i32 = 26;

/// Everything that a backup has to keep.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// By name.
    pub databases: BTreeMap<String, DatabaseState>,
    /// The documents of `admin.system.users`, without `userId`, by `_id`.
    pub users: BTreeMap<String, Document>,
    /// The documents of `admin.system.roles`, by `_id`.
    pub roles: BTreeMap<String, Document>,
}

/// One database; by collection name in each part.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DatabaseState {
    /// Collections, views and time series as `listCollections` tells them.
    pub collections: BTreeMap<String, CollectionState>,
    /// The MD5 of each collection out of `dbHash`.
    pub hashes: BTreeMap<String, String>,
    /// Number and hash of the documents of each capped collection in natural order, which `dbHash` cannot see.
    pub capped_sequences: BTreeMap<String, String>,
}

/// One collection's definition.
#[derive(Clone, Debug, PartialEq)]
pub struct CollectionState {
    /// `collection`, `view` or `timeseries`.
    pub kind: String,
    /// `options` as raw BSON.
    pub options: Raw,
    /// `idIndex` as raw BSON.
    pub id_index: Option<Raw>,
    /// Raw index specifications, sorted by name.
    pub indexes: Vec<Raw>,
}

/// A raw document, shown as text.
#[derive(Clone, PartialEq)]
pub struct Raw(pub RawDocumentBuf);

impl fmt::Debug for Raw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Document::try_from(self.0.clone()) {
            Ok(document) => fmt::Display::fmt(&document, formatter),
            Err(_) => write!(formatter, "{}", hex::encode(self.0.as_bytes())),
        }
    }
}

impl State {
    /// Without these databases.
    pub fn without_databases(mut self, names: &[&str]) -> Self {
        self.databases.retain(|name, _| !names.contains(&name.as_str()));
        self
    }

    /// Without users and roles.
    pub fn without_principals(mut self) -> Self {
        self.users.clear();
        self.roles.clear();
        self
    }

    /// With every `expireAfterSeconds` blanked: a restore parks TTL on purpose.
    pub fn without_ttl(mut self) -> Self {
        for collection in self.databases.values_mut().flat_map(|database| database.collections.values_mut()) {
            collection.options = without_field(&collection.options, "expireAfterSeconds");
            for index in &mut collection.indexes {
                *index = without_field(index, "expireAfterSeconds");
            }
        }
        self
    }
}

fn without_field(raw: &Raw, name: &str) -> Raw {
    let Ok(mut document) = Document::try_from(raw.0.clone()) else { return raw.clone() };
    if document.remove(name).is_none() {
        return raw.clone();
    }
    RawDocumentBuf::try_from(document).map_or_else(|_| raw.clone(), Raw)
}

/// Reads the state of a deployment. Needs a user who may do everything, and no writers meanwhile.
pub async fn state(client: &Client) -> anyhow::Result<State> {
    let mut state = State::default();
    let listed = client.list_database_names().await.context("list the databases")?;
    for name in listed.iter().filter(|name| !SERVER_DATABASES.contains(&name.as_str())) {
        let database =
            database_state(&client.database(name)).await.with_context(|| format!("read {name}"))?;
        if name != "admin" || !database.collections.is_empty() {
            state.databases.insert(name.clone(), database);
        }
    }
    state.users = principals(client, "system.users").await?;
    state.roles = principals(client, "system.roles").await?;
    Ok(state)
}

async fn database_state(database: &Database) -> anyhow::Result<DatabaseState> {
    let is_admin = database.name() == "admin";
    let is_ours = |name: &str| name != "system.profile" && !(is_admin && name.starts_with("system."));
    let mut state = DatabaseState::default();
    let listing =
        raw_cursor(database, doc! { "listCollections": 1 }).await.context("list the collections")?;
    for raw in listing {
        let name = raw.get_str("name")?.to_owned();
        if !is_ours(&name) {
            continue;
        }
        let collection =
            collection_state(database, &name, &raw).await.with_context(|| format!("read {name}"))?;
        if collection.options.0.get_bool("capped").unwrap_or(false) {
            let sequence = natural_sequence(database, &name).await.with_context(|| format!("read {name}"))?;
            state.capped_sequences.insert(name.clone(), sequence);
        }
        state.collections.insert(name, collection);
    }
    let hashed = database.run_command(doc! { "dbHash": 1 }).await.context("hash the database")?;
    for (name, hash) in hashed.get_document("collections")? {
        if is_ours(name) {
            state.hashes.insert(name.clone(), hash.as_str().unwrap_or_default().to_owned());
        }
    }
    Ok(state)
}

async fn collection_state(
    database: &Database,
    name: &str,
    listed: &RawDocument,
) -> anyhow::Result<CollectionState> {
    let kind = listed.get_str("type")?.to_owned();
    let mut indexes = match kind.as_str() {
        "view" => Vec::new(),
        _ => match raw_cursor(database, doc! { "listIndexes": name }).await {
            Ok(indexes) => indexes,
            // `system.views` and the like may have none.
            Err(error) if is_not_found(&error) => Vec::new(),
            Err(error) => return Err(error).context("list the indexes"),
        },
    };
    indexes.sort_by_key(|index| index.get_str("name").unwrap_or_default().to_owned());
    Ok(CollectionState {
        kind,
        options: Raw(listed.get_document("options")?.to_owned()),
        id_index: listed.get_document("idIndex").ok().map(|index| Raw(index.to_owned())),
        indexes: indexes.into_iter().map(Raw).collect(),
    })
}

fn is_not_found(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<mongodb::error::Error>().map(|error| error.kind.as_ref());
    matches!(error, Some(mongodb::error::ErrorKind::Command(command)) if command.code == NAMESPACE_NOT_FOUND)
}

async fn raw_cursor(database: &Database, command: Document) -> anyhow::Result<Vec<RawDocumentBuf>> {
    let cursor = database.run_cursor_command(command).await?;
    Ok(cursor.with_type::<RawDocumentBuf>().try_collect().await?)
}

async fn natural_sequence(database: &Database, name: &str) -> anyhow::Result<String> {
    let collection = database.collection::<RawDocumentBuf>(name);
    let mut cursor = collection.find(doc! {}).sort(doc! { "$natural": 1 }).await?;
    // Fixed keys: the same in every process of one build, which is all that a comparison needs.
    let mut hasher = std::hash::DefaultHasher::new();
    let mut documents = 0_u64;
    while cursor.advance().await? {
        hasher.write(cursor.current().as_bytes());
        documents += 1;
    }
    Ok(format!("{documents} documents, {:016x}", hasher.finish()))
}

async fn principals(client: &Client, collection: &str) -> anyhow::Result<BTreeMap<String, Document>> {
    let collection = client.database("admin").collection::<Document>(collection);
    let found: Vec<Document> =
        collection.find(doc! {}).await?.try_collect().await.context("read users and roles")?;
    let mut principals = BTreeMap::new();
    for mut document in found {
        // Made anew by createUser; it means nothing to the user.
        document.remove("userId");
        for list in ["roles", "privileges"] {
            if let Ok(values) = document.get_array_mut(list) {
                values.sort_by_key(Bson::to_string);
            }
        }
        principals.insert(document.get_str("_id").unwrap_or_default().to_owned(), document);
    }
    Ok(principals)
}

/// Every difference, one line each; empty when the two are equal.
pub fn diff(left: &State, right: &State) -> Vec<String> {
    let mut lines = Vec::new();
    compare_maps("user", "", &left.users, &right.users, &mut lines);
    compare_maps("role", "", &left.roles, &right.roles, &mut lines);
    let names: std::collections::BTreeSet<&String> =
        left.databases.keys().chain(right.databases.keys()).collect();
    for name in names {
        match (left.databases.get(name), right.databases.get(name)) {
            (Some(left), Some(right)) => {
                compare_maps("definition of", name, &left.collections, &right.collections, &mut lines);
                compare_maps("content of", name, &left.hashes, &right.hashes, &mut lines);
                let (left, right) = (&left.capped_sequences, &right.capped_sequences);
                compare_maps("order of", name, left, right, &mut lines);
            }
            (Some(_), None) => lines.push(format!("database {name}: only on the left")),
            (None, _) => lines.push(format!("database {name}: only on the right")),
        }
    }
    lines
}

fn compare_maps<V: PartialEq + fmt::Debug>(
    what: &str,
    database: &str,
    left: &BTreeMap<String, V>,
    right: &BTreeMap<String, V>,
    lines: &mut Vec<String>,
) {
    let dot = if database.is_empty() { "" } else { "." };
    for (name, left) in left {
        match right.get(name) {
            None => lines.push(format!("{what} {database}{dot}{name}: only on the left")),
            Some(right) if left != right => {
                lines.push(format!(
                    "{what} {database}{dot}{name} differs:\n  left  {left:?}\n  right {right:?}"
                ));
            }
            Some(_) => {}
        }
    }
    for name in right.keys().filter(|name| !left.contains_key(*name)) {
        lines.push(format!("{what} {database}{dot}{name}: only on the right"));
    }
}

/// Panics with every difference between two states.
pub fn assert_same(left: &State, right: &State) {
    let lines = diff(left, right);
    assert!(lines.is_empty(), "{} differences:\n{}", lines.len(), lines.join("\n"));
}
