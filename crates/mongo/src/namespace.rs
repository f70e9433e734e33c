//! Names of collections, and which of them are never taken.

use std::fmt;

/// Collections whose names start so are Ebbtide's own, on their way in; they are never listed, read or compared.
pub const STAGING_PREFIX: &str = "ebbtide.staging.";

/// Documents of a time-series collection live under this prefix.
pub const BUCKETS_PREFIX: &str = "system.buckets.";

/// A database and a collection of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace {
    /// The database.
    pub db: String,
    /// The collection, without the database.
    pub collection: String,
}

impl Namespace {
    /// Joins the two names.
    pub fn new(db: impl Into<String>, collection: impl Into<String>) -> Self {
        Self { db: db.into(), collection: collection.into() }
    }

    /// Splits `db.collection` at the first dot, as the server does: databases have no dot in their names.
    pub fn parse(text: &str) -> Option<Self> {
        let (db, collection) = text.split_once('.')?;
        (!db.is_empty() && !collection.is_empty()).then(|| Self::new(db, collection))
    }

    /// Why a backup never takes this collection, whatever it holds; `None` when it does take it.
    pub fn never_taken(&self) -> Option<&'static str> {
        if never_taken_database(&self.db) {
            return Some("the databases local and config belong to the server");
        }
        if self.collection.starts_with(STAGING_PREFIX) {
            return Some("a staging collection of a restore");
        }
        let system = self.collection.strip_prefix("system.")?;
        if self.db == "admin"
            && !system.starts_with("js")
            && !system.starts_with("views")
            && !system.starts_with("buckets.")
        {
            return Some("users, roles and keys are kept apart from the collections of admin");
        }
        match system {
            "js" | "views" => None,
            "profile" => Some("the profiler's own collection"),
            _ if system.starts_with("buckets.") => None,
            _ => Some("internal to the server"),
        }
    }
}

/// Databases that belong to the server.
pub fn never_taken_database(db: &str) -> bool {
    matches!(db, "local" | "config")
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.db, self.collection)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_collection_keeps_its_dots() {
        let namespace = Namespace::parse("app.system.buckets.x").unwrap();
        assert_eq!(namespace, Namespace::new("app", "system.buckets.x"));
        assert_eq!(namespace.to_string(), "app.system.buckets.x");
        assert_eq!(Namespace::parse("app"), None);
        assert_eq!(Namespace::parse(".x"), None);
    }

    #[test]
    fn takes_what_users_own_and_nothing_else() {
        for taken in [
            "app.x",
            "app.system.js",
            "app.system.views",
            "app.system.buckets.x",
            "admin.mine",
            "app.systemx",
            "admin.system.js",
        ] {
            assert_eq!(Namespace::parse(taken).unwrap().never_taken(), None, "{taken}");
        }
        let own = format!("app.{STAGING_PREFIX}1");
        for refused in [
            "local.oplog.rs",
            "local.mine",
            "config.transactions",
            "admin.system.version",
            "admin.system.keys",
            "admin.system.users",
            "admin.system.roles",
            "app.system.profile",
            "app.system.resharding.x",
            &own,
        ] {
            assert!(Namespace::parse(refused).unwrap().never_taken().is_some(), "{refused}");
        }
    }
}
