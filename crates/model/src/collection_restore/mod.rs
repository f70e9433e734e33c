//! Restores of databases and collections as Atlas has them asked for: lists of names, suffixes, and what to do about
//! what is there already and about indexes.
//!
//! A [`CollectionRestore`] is one that makes sense as far as that can be told without the state. It is a [`Selection`] with
//! more to it, which is what the worker goes by.

mod beside;
mod progress;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, str::FromStr};

use serde::{Deserialize, Serialize};

pub use beside::{Destination, beside};
pub use progress::{CollectionRestoreState, CollectionState, CollectionStep, IndexState};

use crate::{
    Selection,
    selection::{Name, Pattern, Rename, Said, SaidRename, SelectionError},
};

/// So many databases, and so many collections; Atlas's limit.
pub const NAMES_MAX: usize = 100;

/// What is done about what stands under a name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WriteStrategy {
    /// It stays untouched, and what is restored gets another name.
    CreateNew,
    /// It is replaced.
    OverwriteExisting,
}

/// Which indexes are built; that on `_id` always is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum IndexStrategy {
    /// All of them.
    #[default]
    All,
    /// None.
    None,
    /// All but those under which documents expire.
    AllExceptTtl,
}

impl WriteStrategy {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::CreateNew, Self::OverwriteExisting];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CreateNew => "CREATE_NEW",
            Self::OverwriteExisting => "OVERWRITE_EXISTING",
        }
    }
}

impl FromStr for WriteStrategy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|strategy| strategy.as_str() == text);
        found.ok_or_else(|| format!("unknown write strategy {text:?}"))
    }
}

impl IndexStrategy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::All, Self::None, Self::AllExceptTtl];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "ALL",
            Self::None => "NONE",
            Self::AllExceptTtl => "ALL_EXCEPT_TTL",
        }
    }
}

impl FromStr for IndexStrategy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|strategy| strategy.as_str() == text);
        found.ok_or_else(|| format!("unknown index strategy {text:?}"))
    }
}

/// A database or a collection, and what it is to be called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AskedName {
    /// Which.
    pub source_namespace: String,
    /// As what; under its own name, or with the suffix, when it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_namespace: Option<String>,
}

/// What is asked for, in the words in which it is asked for and kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Asked {
    /// Databases, with everything in them that can be restored so.
    #[serde(default)]
    pub databases: Vec<AskedName>,
    /// Collections.
    #[serde(default)]
    pub collections: Vec<AskedName>,
    /// What the names of the databases get at their end, where they get no other name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_suffix: Option<String>,
    /// The same, for the collections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection_suffix: Option<String>,
    /// Which indexes are built.
    pub index_strategy: IndexStrategy,
    /// What is done about what is there.
    pub write_strategy: WriteStrategy,
}

/// Which part of a request is wrong, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct AskedError {
    /// The field.
    pub field: &'static str,
    /// In words: what was said, what is wrong with it, what to do.
    pub reason: String,
}

const DATABASES: &str = "databases";
const COLLECTIONS: &str = "collections";

/// What is restored, checked as far as that goes without the state. Never empty, and nothing is in it twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Asked", into = "Asked")]
pub struct CollectionRestore {
    asked: Asked,
    selection: Selection,
    databases: BTreeSet<String>,
    collections: BTreeSet<Name>,
}

impl CollectionRestore {
    /// What was asked for, word for word.
    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    /// The same as a selection. It also has views, time series and stored functions of the databases, which are not restored
    /// so.
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// The databases that are restored as a whole.
    pub fn databases(&self) -> &BTreeSet<String> {
        &self.databases
    }

    /// The collections that are asked for by their names.
    pub fn collections(&self) -> &BTreeSet<Name> {
        &self.collections
    }
}

impl From<CollectionRestore> for Asked {
    fn from(restore: CollectionRestore) -> Self {
        restore.asked
    }
}

impl TryFrom<Asked> for CollectionRestore {
    type Error = AskedError;

    fn try_from(asked: Asked) -> Result<Self, AskedError> {
        if asked.databases.is_empty() && asked.collections.is_empty() {
            let reason = "nothing is asked for: name a database or a collection".to_owned();
            return Err(AskedError { field: COLLECTIONS, reason });
        }
        for (field, names) in [(DATABASES, &asked.databases), (COLLECTIONS, &asked.collections)] {
            if names.len() > NAMES_MAX {
                let reason =
                    format!("{} are named, and {NAMES_MAX} are the most in one restore", names.len());
                return Err(AskedError { field, reason });
            }
        }
        let mut said =
            Said { overwrite: asked.write_strategy == WriteStrategy::OverwriteExisting, ..Said::default() };
        let mut databases = BTreeSet::new();
        for name in &asked.databases {
            let from = database(&name.source_namespace)?;
            if !databases.insert(from.clone()) {
                return Err(refused(DATABASES, &from, "it is named twice"));
            }
            let to = match target(name, asked.database_suffix.as_deref()) {
                Some(Target::Named(to)) => database(to)?,
                Some(Target::Suffixed(suffix)) => format!("{from}{suffix}"),
                None => from.clone(),
            };
            said.select(DATABASES, Pattern::all_of(&from), Pattern::all_of(&to))?;
        }
        let mut collections = BTreeSet::new();
        for name in &asked.collections {
            let from = collection(&name.source_namespace)?;
            if databases.contains(&from.db) {
                let why = "its database is restored as a whole; name one of the two";
                return Err(refused(COLLECTIONS, &from.to_string(), why));
            }
            let to = match target(name, asked.collection_suffix.as_deref()) {
                Some(Target::Named(to)) => collection(to)?,
                Some(Target::Suffixed(suffix)) => Name::new(&from.db, format!("{}{suffix}", from.collection)),
                None => from.clone(),
            };
            said.select(COLLECTIONS, Pattern::just(&from), Pattern::just(&to))?;
            if !collections.insert(from.clone()) {
                return Err(refused(COLLECTIONS, &from.to_string(), "it is named twice"));
            }
        }
        // What is left to be wrong is two names with one destination; a collection is one of them where there are any.
        let selection = Selection::try_from(said).map_err(|error| {
            let field = if collections.is_empty() { DATABASES } else { COLLECTIONS };
            AskedError { field, reason: error.to_string() }
        })?;
        Ok(Self { asked, selection, databases, collections })
    }
}

impl Said {
    fn select(&mut self, field: &'static str, from: Pattern, to: Pattern) -> Result<(), AskedError> {
        let refused = |error: SelectionError| AskedError { field, reason: error.to_string() };
        let (is_renamed, from, to) = (from != to, from.to_string(), to.to_string());
        Pattern::to_select(&from).map_err(refused)?;
        if is_renamed {
            Rename::parse(&from, &to).map_err(refused)?;
            self.renames.push(SaidRename { from: from.clone(), to });
        }
        self.namespaces.push(from);
        Ok(())
    }
}

/// What something is to be called.
enum Target<'a> {
    Named(&'a str),
    Suffixed(&'a str),
}

/// The name that is given, else the suffix, else nothing.
fn target<'a>(name: &'a AskedName, suffix: Option<&'a str>) -> Option<Target<'a>> {
    let given = name.target_namespace.as_deref().filter(|text| !text.is_empty()).map(Target::Named);
    given.or_else(|| suffix.filter(|text| !text.is_empty()).map(Target::Suffixed))
}

fn database(text: &str) -> Result<String, AskedError> {
    if text.is_empty() || text.contains('.') {
        return Err(refused(DATABASES, text, "it is the name of no database, which has no dot in it"));
    }
    Ok(text.to_owned())
}

fn collection(text: &str) -> Result<Name, AskedError> {
    let split = text.split_once('.').filter(|(db, name)| !db.is_empty() && !name.is_empty());
    let (db, name) = split
        .ok_or_else(|| refused(COLLECTIONS, text, "it names no collection; one is database.collection"))?;
    if name.starts_with("system.") {
        let why = "names that begin with `system.` belong to the server, and are not restored by themselves";
        return Err(refused(COLLECTIONS, text, why));
    }
    Ok(Name::new(db, name))
}

fn refused(field: &'static str, said: &str, why: &str) -> AskedError {
    // Bodies of requests may hold anything.
    let shown: String = said.chars().take(512).collect();
    AskedError { field, reason: format!("{shown:?}: {why}") }
}
