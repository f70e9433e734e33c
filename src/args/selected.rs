//! What of a state is restored, and as what.

use clap::Args as ClapArgs;
use model::selection::{Said, SaidRename};

/// A part of the state, and other names for it. Without any of these everything is restored.
#[derive(Debug, Default, ClapArgs)]
pub(crate) struct Selected {
    /// Restore this and nothing else, and remove nothing: db.collection, db.prefix*, or db or db.* for a whole database.
    /// May be given several times.
    #[arg(long = "namespace", value_name = "DB.COLLECTION", conflicts_with = "with_users")]
    pub(crate) namespaces: Vec<String>,
    /// Restore it under another name: db.coll=db.coll_old, db=db2, or db.*=db.old_*. May be given several times.
    #[arg(long = "rename", value_name = "FROM=TO", requires = "namespaces", value_parser = rename)]
    pub(crate) renames: Vec<SaidRename>,
    /// Replace what stands under the other name. Without it such a restore is refused.
    #[arg(long, requires = "renames")]
    pub(crate) overwrite: bool,
}

fn rename(text: &str) -> Result<SaidRename, String> {
    SaidRename::parse(text).map_err(|error| error.to_string())
}

impl Selected {
    /// As the server is asked; nothing when everything is restored.
    pub(crate) fn said(&self) -> Option<Said> {
        let Self { namespaces, renames, overwrite } = self;
        let said =
            || Said { namespaces: namespaces.clone(), renames: renames.clone(), overwrite: *overwrite };
        (!namespaces.is_empty()).then(said)
    }
}
