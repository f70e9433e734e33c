//! Users and roles in a manifest.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use model::ClusterTime;
use serde::{Deserialize, Serialize};

/// The users and roles of a deployment: documents of `admin.system.users` and `admin.system.roles`, raw.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Principals {
    /// One raw document per user.
    pub users: Vec<Vec<u8>>,
    /// One raw document per role.
    pub roles: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Principals {
    /// Users carry password hashes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Principals({} users, {} roles)", self.users.len(), self.roles.len())
    }
}

/// One of them as a line of a page.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum PrincipalLine {
    User(String),
    Role(String),
}

/// One of them.
pub(super) enum Principal {
    User(Vec<u8>),
    Role(Vec<u8>),
}

impl PrincipalLine {
    pub(super) fn user(document: &[u8]) -> Self {
        Self::User(BASE64.encode(document))
    }

    pub(super) fn role(document: &[u8]) -> Self {
        Self::Role(BASE64.encode(document))
    }

    pub(super) fn into_principal(self, _page_as_of: ClusterTime) -> Option<Principal> {
        Some(match self {
            Self::User(text) => Principal::User(BASE64.decode(text).ok()?),
            Self::Role(text) => Principal::Role(BASE64.decode(text).ok()?),
        })
    }
}
