//! From operations to their effects.

use super::{Reason, Scope, Unfoldable, Write};
use crate::{
    ClusterTime, CollectionId, Malformed, SortKey,
    entry::{Command, Kind, Operation, Update},
    raw::{self, Element, write},
};

/// `applyOps` inside `applyOps`: the server itself writes one level.
const NESTING_MAX: usize = 8;

/// What one operation does.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect<'a> {
    /// A document of a collection is written.
    Write {
        /// The collection's name, as the operation gives it.
        namespace: &'a str,
        /// The collection.
        collection: CollectionId,
        /// The document.
        key: SortKey,
        /// What is done to it.
        write: Write<'a>,
        /// Whether it is of a user's `applyOps`, which says less: servers find the document in the collation of the collection,
        /// and an insert replaces one that is there (6.0.5, 5.0.4).
        by_user: bool,
    },
    /// All documents of a collection go away.
    Emptied(CollectionId),
    /// Definitions change; see [`crate::catalog_state`].
    Definition(Operation<'a>),
    /// Something that cannot be folded.
    Unfoldable {
        /// That of the operation, of the inner one where it is one of `applyOps`.
        namespace: &'a str,
        /// What, and why.
        unknown: Unfoldable,
    },
}

/// Shows the effects of an operation, in order; those inside `applyOps` one by one.
///
/// An `applyOps` that comes here is a user's; transactions go through [`crate::transaction`] first, and their operations
/// come here one by one.
///
/// `is_recorded` tells by the namespace what is folded at all. It must not leave out a namespace whose collections may
/// be renamed to one that is folded (staging names, for one), or such a collection is unfoldable.
///
/// # Errors
/// [`Malformed`] when an operation inside `applyOps` is malformed.
pub fn interpret<'a>(
    operation: &Operation<'a>,
    is_recorded: &impl Fn(&str) -> bool,
    visit: &mut impl FnMut(Effect<'a>),
) -> Result<(), Malformed> {
    Interpreter { is_recorded, visit }.operation(operation, 0)
}

struct Interpreter<'f, K, V> {
    is_recorded: &'f K,
    visit: &'f mut V,
}

impl<'a, K: Fn(&str) -> bool, V: FnMut(Effect<'a>)> Interpreter<'_, K, V> {
    fn operation(&mut self, operation: &Operation<'a>, depth: usize) -> Result<(), Malformed> {
        if let Kind::Command(command) = &operation.kind {
            return self.command(operation, command, depth);
        }
        // An operation without a namespace may be about any.
        let recorded = operation.namespace.is_empty() || (self.is_recorded)(operation.namespace);
        if matches!(operation.kind, Kind::Noop) || !recorded {
            return Ok(());
        }
        let found = if depth == 0 { write_of(operation) } else { write_by_user(operation) };
        let effect = match found {
            Ok((collection, key, write)) => {
                Effect::Write { namespace: operation.namespace, collection, key, write, by_user: depth > 0 }
            }
            Err(reason) => unfoldable(operation, scope_of(operation), reason),
        };
        (self.visit)(effect);
        Ok(())
    }

    fn command(
        &mut self,
        operation: &Operation<'a>,
        command: &Command<'a>,
        depth: usize,
    ) -> Result<(), Malformed> {
        match command {
            Command::ApplyOps(inside) if depth < NESTING_MAX => {
                for inner in inside.operations() {
                    self.operation(&inner?, depth + 1)?;
                }
            }
            Command::ApplyOps(_) => self.unfoldable(operation, Scope::Everything, Reason::Nested),
            Command::DbCheck | Command::CommitTransaction { .. } | Command::AbortTransaction => {}
            Command::Rename(rename) => {
                let (from, to) = ((self.is_recorded)(rename.from), (self.is_recorded)(rename.to));
                if from || to {
                    (self.visit)(Effect::Definition(operation.clone()));
                }
                if to && !from {
                    let scope = match operation.collection {
                        Some(collection) => Scope::Collection(collection),
                        None => Scope::Namespace(rename.to.to_owned()),
                    };
                    self.unfoldable(operation, scope, Reason::FromElsewhere);
                }
            }
            Command::DropDatabase => {
                if (self.is_recorded)(operation.namespace) {
                    (self.visit)(Effect::Definition(operation.clone()));
                }
            }
            Command::Unknown { name, target } => {
                let named = target.map(|target| format!("{}.{target}", operation.database()));
                if (self.is_recorded)(named.as_deref().unwrap_or(operation.namespace)) {
                    let scope = match (operation.collection, named) {
                        (Some(collection), _) => Scope::Collection(collection),
                        (None, Some(named)) => Scope::Namespace(named),
                        (None, None) => Scope::Everything,
                    };
                    self.unfoldable(operation, scope, Reason::UnknownCommand((*name).to_owned()));
                }
            }
            Command::Create { collection, .. }
            | Command::Drop { collection }
            | Command::CollMod { collection, .. }
            | Command::CreateIndexes { collection, .. }
            | Command::DropIndexes { collection, .. } => self.definition(operation, collection),
            Command::StartIndexBuild(build)
            | Command::CommitIndexBuild(build)
            | Command::AbortIndexBuild(build) => self.definition(operation, build.collection),
            Command::EmptyCapped { collection } => self.on_collection(operation, collection, Effect::Emptied),
            Command::ConvertToCapped { collection } => {
                self.on_collection(operation, collection, |collection| {
                    let reason = Reason::UnknownCommand("convertToCapped".to_owned());
                    unfoldable(operation, Scope::Collection(collection), reason)
                })
            }
        }
        Ok(())
    }

    fn definition(&mut self, operation: &Operation<'a>, collection: &str) {
        if (self.is_recorded)(&format!("{}.{collection}", operation.database())) {
            (self.visit)(Effect::Definition(operation.clone()));
        }
    }

    fn on_collection(
        &mut self,
        operation: &Operation<'a>,
        collection: &str,
        effect: impl Fn(CollectionId) -> Effect<'a>,
    ) {
        let namespace = format!("{}.{collection}", operation.database());
        match operation.collection {
            _ if !(self.is_recorded)(&namespace) => {}
            Some(collection) => (self.visit)(effect(collection)),
            None => self.unfoldable(operation, Scope::Namespace(namespace), Reason::NoCollection),
        }
    }

    fn unfoldable(&mut self, operation: &Operation<'a>, scope: Scope, reason: Reason) {
        (self.visit)(unfoldable(operation, scope, reason));
    }
}

fn unfoldable<'a>(operation: &Operation<'a>, scope: Scope, reason: Reason) -> Effect<'a> {
    Effect::Unfoldable { namespace: operation.namespace, unknown: Unfoldable { scope, reason } }
}

/// What cannot be told any more when this operation is not understood.
fn scope_of(operation: &Operation<'_>) -> Scope {
    match operation.collection {
        Some(collection) => Scope::Collection(collection),
        None if operation.namespace.is_empty() || operation.namespace.ends_with(".$cmd") => Scope::Everything,
        None => Scope::Namespace(operation.namespace.to_owned()),
    }
}

fn write_of<'a>(operation: &Operation<'a>) -> Result<(CollectionId, SortKey, Write<'a>), Reason> {
    let (key, write) = match &operation.kind {
        Kind::Insert { document } => (key_of_document(document)?, Write::Insert((*document).into())),
        Kind::Delete { id } => (key_of_value(id)?, Write::Delete),
        Kind::Update { id, update } => {
            let key = key_of_value(id)?;
            let write = match update {
                Update::Replacement(document) if key_of_document(document)? != key => {
                    return Err(Reason::OtherId);
                }
                Update::Replacement(document) => Write::Replace((*document).into()),
                Update::Diff(diff) => Write::Patch((*diff).into()),
                Update::Modifiers(_) => return Err(Reason::Modifiers),
            };
            (key, write)
        }
        Kind::Unknown(what) => return Err(Reason::Unknown(what.clone())),
        Kind::Noop | Kind::Command(_) => return Err(Reason::Unknown("the operation".to_owned())),
    };
    Ok((operation.collection.ok_or(Reason::NoCollection)?, key, write))
}

/// The same inside an `applyOps` that is no transaction: a user's command, which the server's applier executes.
fn write_by_user<'a>(operation: &Operation<'a>) -> Result<(CollectionId, SortKey, Write<'a>), Reason> {
    let (collection, key, write) = write_of(operation)?;
    let write = match (write, &operation.kind) {
        (Write::Insert(document) | Write::Replace(document), _) if has_unlogged_time(&document) => {
            return Err(Reason::UnloggedTime);
        }
        (Write::Patch(diff), Kind::Update { id, .. }) => {
            let mut new = Vec::new();
            let start = write::open(&mut new);
            write::push_as(&mut new, id.kind, b"_id", id.value);
            write::close(&mut new, start);
            Write::Reapply { new: new.into(), diff }
        }
        (write, _) => write,
    };
    Ok((collection, key, write))
}

/// Whether the server replaced a field: it does so at the top level, not in `_id`.
fn has_unlogged_time(document: &[u8]) -> bool {
    raw::elements(document)
        .map_while(Result::ok)
        .any(|element| element.name != b"_id" && element.timestamp() == Some(ClusterTime::NONE))
}

fn key_of_document(document: &[u8]) -> Result<SortKey, Reason> {
    SortKey::of_document(document).map_err(|Malformed(what)| Reason::NoId(what))
}

fn key_of_value(id: &Element<'_>) -> Result<SortKey, Reason> {
    SortKey::of_value(id.kind, id.value).map_err(|Malformed(what)| Reason::NoId(what))
}
