//! One document at a cluster time.

use history::skim::Wanted;
use model::ClusterTime;

use super::{DocumentId, Origin, Past, PastError, base::Lookup, place, sift::off_the_runtime};
use crate::fold::{Obstacle, definitions::unfoldable, delta::ApplyError};

/// A document as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its bytes, as the server stored them.
    pub document: Vec<u8>,
    /// Entries of the record that were folded; the others were passed over.
    pub entries: u64,
}

impl Past {
    /// The document of this id in the collection that had this name at `at`.
    ///
    /// # Errors
    /// [`PastError`]; never another state than the one at that time.
    pub async fn show(
        &self,
        origin: &Origin,
        namespace: &str,
        id: &DocumentId,
        at: ClusterTime,
    ) -> Result<Shown, PastError> {
        let namespace = place::parse(namespace)?;
        let _permit = self.permit().await?;
        let base = self.open(&origin.snapshot).await?;
        let wanted = Wanted::Key(id.key().clone());
        let [delta] = self.gather(origin, &base, &wanted, &namespace.to_string(), [at]).await?;
        let (collection, _) = place::find(&base, &delta, &namespace, at)?;
        let (entries, mut changes) = (delta.entries, delta.changes);
        let before = Lookup::new(self, &base, collection).await?.find(id.key()).await?;
        let name = namespace.to_string();
        let document = off_the_runtime(move || {
            changes.skip_to(collection)?;
            if changes.key_in(collection).is_none() {
                return Ok(before);
            }
            match changes.apply_next(before.as_deref()) {
                Ok(applied) => Ok(applied.and_then(|(_, after)| after)),
                Err(ApplyError::Job(error)) => Err(error.into()),
                Err(ApplyError::Defect { key, defect }) => {
                    Err(unfoldable(&name, None, Obstacle::Document { key, defect }).into())
                }
            }
        });
        let document = document.await?.ok_or(PastError::NoDocument)?;
        Ok(Shown { document, entries })
    }
}
