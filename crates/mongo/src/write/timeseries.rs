//! Time-series collections, through their buckets.
//!
//! A time series is a view over `system.buckets.X`. It is never renamed: the server refuses, and `applyOps`, which does
//! not, makes the next `listCollections` abort mongod (measured, 5.0.4 to 6.0.27). So it is dropped and loaded in
//! the cut-over: [`create`], then a [`super::Loader`] on [`buckets_of`], then [`super::indexes::build`] on the same
//! with the buckets' own specifications, which gives the same raw listing of both (measured on 5.0.4 and 6.0.5).

use super::{collections, command::NAMESPACE_EXISTS};
use crate::{Deployment, Error, Namespace, Result, namespace::BUCKETS_PREFIX};

/// Where the documents of a time series lie.
pub fn buckets_of(namespace: &Namespace) -> Namespace {
    Namespace::new(namespace.db.as_str(), format!("{BUCKETS_PREFIX}{}", namespace.collection))
}

/// The time series that the documents of a buckets collection belong to.
pub fn series_of(buckets: &Namespace) -> Option<Namespace> {
    let name = buckets.collection.strip_prefix(BUCKETS_PREFIX)?;
    Some(Namespace::new(buckets.db.as_str(), name))
}

/// Creates an empty time series with the options that `listCollections` shows for it (not those of its buckets),
/// dropping what has its name.
///
/// # Errors
/// The server's, sorted.
pub async fn create(deployment: &Deployment, namespace: &Namespace, options: &[u8]) -> Result<()> {
    let Namespace { db, collection } = namespace;
    collections::drop(deployment, db, collection).await?;
    match collections::create(deployment, db, collection, options, None).await {
        // Buckets whose view is gone: a drop that was interrupted.
        Err(error) if is_name_taken(&error) => {
            collections::drop(deployment, db, &buckets_of(namespace).collection).await?;
            collections::create(deployment, db, collection, options, None).await
        }
        result => result,
    }
}

fn is_name_taken(error: &Error) -> bool {
    error.code() == Some(NAMESPACE_EXISTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_and_its_buckets_know_each_other() {
        let series = Namespace::new("app", "weather.hourly");
        let buckets = buckets_of(&series);
        assert_eq!(buckets.to_string(), "app.system.buckets.weather.hourly");
        assert_eq!(series_of(&buckets), Some(series));
        assert_eq!(series_of(&Namespace::new("app", "x")), None);
    }
}
