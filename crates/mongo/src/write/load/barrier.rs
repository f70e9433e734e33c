//! A point behind which everything is safe from an election.

use crate::{ClusterTime, Deployment, Error, Result, time};

/// Remembers the term in which work began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barrier {
    term: i64,
}

impl Barrier {
    /// Before the first write.
    ///
    /// # Errors
    /// The server's, sorted.
    pub async fn begin(deployment: &Deployment) -> Result<Self> {
        Ok(Self { term: deployment.term().await? })
    }

    /// The term in which the work began.
    pub fn term(&self) -> i64 {
        self.term
    }

    /// Waits until a majority knows everything that the primary acknowledged so far. One primary serves one term, so
    /// an unchanged term after the wait means that nothing was rolled back in between.
    ///
    /// # Errors
    /// [`Error::TermChanged`]; or the wait took too long.
    pub async fn wait(&self, deployment: &Deployment) -> Result<ClusterTime> {
        let at = time::majority_now(deployment).await?;
        let after = deployment.term().await?;
        if after == self.term { Ok(at) } else { Err(Error::TermChanged { before: self.term, after }) }
    }
}
