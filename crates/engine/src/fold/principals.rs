//! Users and roles at the time of a fold.

use std::collections::BTreeMap;

use history::SortKey;
use vault::Principals;

use super::{
    FoldFailure, Unfoldable,
    base::Base,
    definitions::unfoldable,
    delta::{
        Delta,
        overlay::{ROLES, USERS},
    },
};

/// Users and roles, by `_id`; none when the base has none. What cannot be folded is told by name.
pub(super) fn fold(
    base: &Base,
    delta: &Delta,
) -> Result<Result<Option<Principals>, Vec<Unfoldable>>, FoldFailure> {
    let Some(principals) = &base.principals else { return Ok(Ok(None)) };
    let mut obstacles = Vec::new();
    let mut folded = [Vec::new(), Vec::new()];
    for ((namespace, documents), out) in
        [(USERS, &principals.users), (ROLES, &principals.roles)].into_iter().zip(&mut folded)
    {
        match fold_one(base, delta, namespace, documents)? {
            Ok(documents) => *out = documents,
            Err(obstacle) => obstacles.push(obstacle),
        }
    }
    let [users, roles] = folded;
    Ok(if obstacles.is_empty() { Ok(Some(Principals { users, roles })) } else { Err(obstacles) })
}

fn fold_one(
    base: &Base,
    delta: &Delta,
    namespace: &str,
    documents: &[Vec<u8>],
) -> Result<Result<Vec<Vec<u8>>, Unfoldable>, FoldFailure> {
    if let Some(found) = delta.obstacles.find(None, namespace) {
        return Ok(Err(found));
    }
    let Some(overlay) = delta.overlays.get(namespace) else { return Ok(Ok(documents.to_vec())) };
    let mut by_key = BTreeMap::new();
    for document in documents {
        let key = SortKey::of_document(document);
        let key = key.map_err(|error| FoldFailure::damaged(base.manifest.name(), error.to_string()))?;
        by_key.insert(key, document.clone());
    }
    Ok(match overlay.onto(by_key) {
        Ok(documents) => Ok(documents.into_values().collect()),
        Err(obstacle) => Err(unfoldable(namespace, None, obstacle)),
    })
}
