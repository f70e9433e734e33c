//! Command entries.

use super::Operations;
use crate::{
    ClusterTime, CollectionId, Malformed,
    raw::{self, Element},
};

/// What a command entry does. Collections are named without their database.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Command<'a> {
    /// A collection came into being.
    Create {
        /// Its name.
        collection: &'a str,
        /// The whole command: the name, the options in the order of `listCollections`, `idIndex`.
        body: &'a [u8],
    },
    /// A collection went away.
    Drop {
        /// Its name.
        collection: &'a str,
    },
    /// A database went away. Its collections had entries of their own.
    DropDatabase,
    /// A collection got another name.
    Rename(Rename<'a>),
    /// Options of a collection, or of one of its indexes, changed.
    CollMod {
        /// Its name.
        collection: &'a str,
        /// The whole command.
        body: &'a [u8],
        /// `o2.collectionOptions_old`: its options before, with its UUID in front.
        old_options: Option<&'a [u8]>,
    },
    /// An index of an empty collection.
    CreateIndexes {
        /// The collection.
        collection: &'a str,
        /// The whole command: the name and the specification.
        body: &'a [u8],
    },
    /// Indexes begin to be built; they do not exist yet.
    StartIndexBuild(IndexBuild<'a>),
    /// Indexes exist from here on.
    CommitIndexBuild(IndexBuild<'a>),
    /// Indexes will not exist.
    AbortIndexBuild(IndexBuild<'a>),
    /// An index went away.
    DropIndexes {
        /// The collection.
        collection: &'a str,
        /// `index`: its name; others than servers write are left raw.
        index: Option<Element<'a>>,
    },
    /// A collection became capped. Not written since 4.2, which makes a new collection and renames it.
    ConvertToCapped {
        /// The collection.
        collection: &'a str,
    },
    /// All documents of a capped collection went away.
    EmptyCapped {
        /// The collection.
        collection: &'a str,
    },
    /// A consistency check of the server, which changes nothing.
    DbCheck,
    /// Several operations at once.
    ApplyOps(ApplyOps<'a>),
    /// A prepared transaction takes effect.
    CommitTransaction {
        /// When it takes effect.
        commit_time: ClusterTime,
    },
    /// A transaction is undone.
    AbortTransaction,
    /// A command that this version does not know.
    Unknown {
        /// Its name.
        name: &'a str,
        /// What it is given, if that is text: the name of a collection, most often.
        target: Option<&'a str>,
    },
}

/// A change of name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rename<'a> {
    /// The whole namespace before.
    pub from: &'a str,
    /// The whole namespace after.
    pub to: &'a str,
    /// Whether the collection stays a temporary one, if it is one.
    pub stay_temporary: bool,
    /// The collection that had the new name, and goes away.
    pub dropped: Option<CollectionId>,
}

/// Indexes that are built together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexBuild<'a> {
    /// The collection.
    pub collection: &'a str,
    /// `indexBuildUUID`
    pub build: [u8; 16],
    /// Their specifications: a raw array.
    pub specifications: &'a [u8],
}

/// Several operations at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplyOps<'a> {
    /// The raw array of operations.
    pub operations: &'a [u8],
    /// `partialTxn`: more entries of the transaction are to follow.
    pub partial: bool,
    /// `prepare`: the transaction waits for a commit or an abort.
    pub prepare: bool,
    /// `count`: operations of the whole transaction, in its last entry where there are several.
    pub count: Option<i64>,
}

impl<'a> ApplyOps<'a> {
    /// The operations, in order.
    pub fn operations(&self) -> Operations<'a> {
        Operations::of(self.operations)
    }
}

/// Reads `o` and `o2` of a command entry.
pub(super) fn read<'a>(body: &'a [u8], object2: Option<&'a [u8]>) -> Result<Command<'a>, Malformed> {
    let first = raw::elements(body).next().ok_or(Malformed("an empty command"))??;
    let name = std::str::from_utf8(first.name).map_err(|_| Malformed("the name of a command"))?;
    let collection = || first.text().ok_or(Malformed("a command without a collection"));
    let build = || {
        Ok::<_, Malformed>(IndexBuild {
            collection: collection()?,
            build: field(body, "indexBuildUUID", |element| element.uuid())?,
            specifications: field(body, "indexes", |element| element.array())?,
        })
    };
    Ok(match name {
        "create" => Command::Create { collection: collection()?, body },
        "drop" => Command::Drop { collection: collection()? },
        "dropDatabase" => Command::DropDatabase,
        "renameCollection" => Command::Rename(rename(collection()?, body)?),
        "collMod" => {
            let old = object2.map(|object2| raw::field(object2, "collectionOptions_old")).transpose()?;
            let old_options = old.flatten().and_then(|old| old.document());
            Command::CollMod { collection: collection()?, body, old_options }
        }
        "createIndexes" => Command::CreateIndexes { collection: collection()?, body },
        "startIndexBuild" => Command::StartIndexBuild(build()?),
        "commitIndexBuild" => Command::CommitIndexBuild(build()?),
        "abortIndexBuild" => Command::AbortIndexBuild(build()?),
        "dropIndexes" | "deleteIndexes" | "dropIndex" | "deleteIndex" => {
            Command::DropIndexes { collection: collection()?, index: raw::field(body, "index")? }
        }
        "convertToCapped" => Command::ConvertToCapped { collection: collection()? },
        "emptycapped" => Command::EmptyCapped { collection: collection()? },
        "dbCheck" => Command::DbCheck,
        "applyOps" => Command::ApplyOps(apply_ops(&first, body)?),
        "commitTransaction" => Command::CommitTransaction {
            commit_time: field(body, "commitTimestamp", |element| element.timestamp())?,
        },
        "abortTransaction" => Command::AbortTransaction,
        name => Command::Unknown { name, target: first.text() },
    })
}

fn rename<'a>(from: &'a str, body: &'a [u8]) -> Result<Rename<'a>, Malformed> {
    let dropped = match raw::field(body, "dropTarget")? {
        None => None,
        Some(target) if target.boolean() == Some(false) => None,
        Some(target) => Some(CollectionId(target.uuid().ok_or(Malformed("dropTarget"))?)),
    };
    let stay_temporary = raw::field(body, "stayTemp")?.and_then(|stay| stay.boolean()) == Some(true);
    Ok(Rename { from, to: field(body, "to", |element| element.text())?, stay_temporary, dropped })
}

fn apply_ops<'a>(first: &Element<'a>, body: &'a [u8]) -> Result<ApplyOps<'a>, Malformed> {
    let flag =
        |name| Ok::<_, Malformed>(raw::field(body, name)?.and_then(|flag| flag.boolean()) == Some(true));
    Ok(ApplyOps {
        operations: first.array().ok_or(Malformed("applyOps without operations"))?,
        partial: flag("partialTxn")?,
        prepare: flag("prepare")?,
        count: raw::field(body, "count")?.and_then(|count| count.integer()),
    })
}

/// A field that must be there, in its type.
fn field<'a, T>(
    body: &'a [u8],
    name: &'static str,
    read: impl Fn(&Element<'a>) -> Option<T>,
) -> Result<T, Malformed> {
    raw::field(body, name)?.and_then(|element| read(&element)).ok_or(Malformed(name))
}
