//! Definitions that change: what contradicts the base makes a collection unfoldable.

use history::{
    ClusterTime, CollectionId,
    catalog_state::{CatalogError, CatalogState, Collection},
    entry::{Command, Kind, Operation, Rename},
    raw::write,
};

use super::obstacles::Obstacles;
use crate::fold::{FoldFailure, Obstacle};

/// Applies an operation that changes definitions.
pub(super) fn apply(
    catalog: &mut CatalogState,
    obstacles: &mut Obstacles,
    operation: &Operation<'_>,
    at: ClusterTime,
) -> Result<(), FoldFailure> {
    let error = match catalog.apply(operation, at) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let text = error.to_string();
    match (error, &operation.kind) {
        (CatalogError::Malformed(malformed), _) => {
            return Err(FoldFailure::BrokenRecord { at, what: malformed.to_string() });
        }
        (CatalogError::UnknownCollection { .. }, Kind::Command(Command::Rename(rename))) => {
            arrive(catalog, obstacles, operation, rename, at);
        }
        // Temporary collections and those of the server are in no base, and what becomes of them is of no concern.
        (CatalogError::UnknownCollection { namespace, .. }, _) => {
            if let Some(other) = catalog.named(&namespace) {
                obstacles.of_collection(other, at, Obstacle::Definition(text));
            }
        }
        (CatalogError::NameTaken { namespace, .. }, _) => {
            obstacles.of_name(&namespace, at, Obstacle::Definition(text));
        }
    }
    Ok(())
}

/// A collection that is not known gets a name: a temporary one, or one that was being restored when the base was taken.
fn arrive(
    catalog: &mut CatalogState,
    obstacles: &mut Obstacles,
    operation: &Operation<'_>,
    rename: &Rename<'_>,
    at: ClusterTime,
) {
    let obstacle = Obstacle::NotInBase(rename.from.to_owned());
    if let Some(dropped) = rename.dropped {
        drop_collection(catalog, rename.to, dropped, at);
    }
    let Some(id) = operation.collection else { return obstacles.of_name(rename.to, at, obstacle) };
    let mut options = Vec::new();
    let start = write::open(&mut options);
    write::close(&mut options, start);
    let namespace = rename.to.to_owned();
    catalog.insert(id, Collection { namespace, options, id_index: None, indexes: Vec::new(), doubt: None });
    obstacles.of_collection(id, at, obstacle);
}

fn drop_collection(catalog: &mut CatalogState, namespace: &str, id: CollectionId, at: ClusterTime) {
    let Some((database, collection)) = namespace.split_once('.') else { return };
    let command = format!("{database}.$cmd");
    let operation = Operation {
        namespace: &command,
        collection: Some(id),
        from_migrate: false,
        kind: Kind::Command(Command::Drop { collection }),
    };
    // One that is not known is gone as well.
    let _ = catalog.apply(&operation, at);
}
