//! Views, in an order in which each finds what it stands on.

use super::collections;
use crate::{Deployment, Error, Namespace, Result};

/// A view as `listCollections` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its options: `viewOn`, `pipeline`, maybe `collation`.
    pub options: &'a [u8],
}

/// Creates views of one database, replacing what has their names. A missing base is no error; a view that the server
/// refuses (an invalid pipeline once let in by an older version, say) is reported and the others are made.
///
/// # Errors
/// Those that are not about one view.
pub async fn create_in_order(
    deployment: &Deployment,
    db: &str,
    views: &[View<'_>],
) -> Result<Vec<(Namespace, Error)>> {
    let mut waiting: Vec<_> = views.to_vec();
    // A view refused because of one that is still to come fits in a later round: each round makes one, or is the last.
    loop {
        let mut refused = Vec::new();
        for view in &waiting {
            match collections::create_anew(deployment, db, view.name, view.options, None).await {
                Ok(()) => {}
                Err(error) if error.is_transient() || matches!(error, Error::Privilege(_)) => {
                    return Err(error);
                }
                Err(error) => refused.push((*view, error)),
            }
        }
        if refused.is_empty() || refused.len() == waiting.len() {
            return Ok(refused
                .into_iter()
                .map(|(view, error)| (Namespace::new(db, view.name), error))
                .collect());
        }
        waiting = refused.into_iter().map(|(view, _)| view).collect();
    }
}
