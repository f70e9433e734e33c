//! The organization: a server has one.

use serde::{Deserialize, Serialize};

/// The one organization that all projects of a server belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Organization {
    /// 24 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
}

impl Default for Organization {
    fn default() -> Self {
        Self { id: "5ebb71de0000000000000001".to_owned(), name: "Ebbtide".to_owned() }
    }
}
