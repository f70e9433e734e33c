//! Users and roles, with their credentials as they are.
//!
//! They are read raw from `admin`, and restored by the server's own `_mergeAuthzCollections`, which takes them from two
//! staging collections and needs no write privilege on `admin.system.users`. Measured on 5.0.4 and 6.0.5: without
//! `drop` it only adds what is missing; with `drop` it also changes what differs and removes what is not in the staging
//! collections. So the staging collections always hold the whole wanted state, and `drop` is always said. The account in
//! use and all roles it stands on stay as they are on the target: a restore never locks itself out.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Bson, Document, doc};
use bytes::Bytes;

use crate::{
    Deployment, Error, Namespace, Result,
    wire::Connection,
    write::{LoadOptions, Loader, collections, command, raw::text_field, verify::for_each_document},
};

/// Where users lie.
const USERS: &str = "system.users";
/// Where roles lie.
const ROLES: &str = "system.roles";
/// Staging names; fixed, so that a role can name them as resources.
pub const STAGED_USERS: &str = "ebbtide.staging.users";
/// See [`STAGED_USERS`].
pub const STAGED_ROLES: &str = "ebbtide.staging.roles";

/// All users and all user-defined roles, raw. Holds password hashes: [`std::fmt::Debug`] shows counts only.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Principals {
    /// Documents of `admin.system.users`, in the order of their `_id`s.
    pub users: Vec<Vec<u8>>,
    /// Documents of `admin.system.roles`, in the order of their `_id`s.
    pub roles: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Principals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Principals")
            .field("users", &self.users.len())
            .field("roles", &self.roles.len())
            .finish()
    }
}

/// How to restore.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestorePrincipals {
    /// `(database, user)` of the account in use, from [`crate::Facts`]: it stays as it is.
    pub keep: Option<(String, String)>,
    /// Remove users and roles that the backup does not have. A revoked account comes back only by a restore with users,
    /// and one that is newer than the backup goes only by this.
    pub remove_others: bool,
}

/// What was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RestoredPrincipals {
    /// Users taken from the backup.
    pub users: u64,
    /// Roles taken from the backup.
    pub roles: u64,
    /// Users and roles of the target that stay as they were: those in use, and, unless removed, those of others.
    pub kept: u64,
}

/// Reads all users and roles.
///
/// # Errors
/// The server's, sorted.
pub async fn dump(deployment: &Deployment) -> Result<Principals> {
    let mut connection = deployment.primary_wire().await?;
    let users = read_all(&mut connection, &Namespace::new("admin", USERS)).await?;
    let roles = read_all(&mut connection, &Namespace::new("admin", ROLES)).await?;
    Ok(Principals { users: in_order(&users)?, roles: in_order(&roles)? })
}

/// Sorted by `_id`, so that the same users are the same bytes in every backup.
fn in_order(documents: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    Ok(by_id(documents)?.into_values().collect())
}

async fn read_all(connection: &mut Connection, namespace: &Namespace) -> Result<Vec<Vec<u8>>> {
    let mut documents = Vec::new();
    for_each_document(connection, namespace, |document| documents.push(document.to_vec())).await?;
    Ok(documents)
}

/// Makes the target's users and roles those of a backup.
///
/// # Errors
/// The server's, sorted; run it again then. A user that somebody makes while this runs may be removed again.
pub async fn restore(
    deployment: &Deployment,
    backup: &Principals,
    options: &RestorePrincipals,
) -> Result<RestoredPrincipals> {
    let wanted = Wanted::of(backup, &dump(deployment).await?, options)?;
    stage(deployment, STAGED_USERS, &wanted.users).await?;
    stage(deployment, STAGED_ROLES, &wanted.roles).await?;
    let merge = doc! {
        "_mergeAuthzCollections": 1, "db": "", "drop": true,
        "tempUsersCollection": format!("admin.{STAGED_USERS}"), "tempRolesCollection": format!("admin.{STAGED_ROLES}"),
        "writeConcern": command::majority(),
    };
    let merged = command::run_document(deployment, "admin", &merge).await;
    // The staging collections hold password hashes and must not stay, whatever came of the merge.
    let swept = sweep(deployment).await;
    merged?;
    swept?;
    check(&wanted, &dump(deployment).await?)?;
    Ok(wanted.report)
}

/// Drops the staging collections, which a killed restore may have left.
///
/// # Errors
/// The server's, sorted.
pub async fn sweep(deployment: &Deployment) -> Result<()> {
    collections::drop(deployment, "admin", STAGED_USERS).await?;
    collections::drop(deployment, "admin", STAGED_ROLES).await
}

/// The whole state that the target shall have; keys are `_id`s.
struct Wanted {
    users: BTreeMap<String, Vec<u8>>,
    roles: BTreeMap<String, Vec<u8>>,
    report: RestoredPrincipals,
}

impl Wanted {
    fn of(backup: &Principals, target: &Principals, options: &RestorePrincipals) -> Result<Self> {
        let (mut users, mut roles) = (by_id(&backup.users)?, by_id(&backup.roles)?);
        let (target_users, target_roles) = (by_id(&target.users)?, by_id(&target.roles)?);
        let (kept_user, kept_roles) = in_use(&target_users, &target_roles, options.keep.as_ref())?;
        // What is in use is what the target says it is, or says it is not.
        if let Some((db, user)) = &options.keep {
            users.remove(&format!("{db}.{user}"));
        }
        kept_roles.iter().for_each(|id| drop(roles.remove(id)));
        let mut report = RestoredPrincipals { users: users.len() as u64, roles: roles.len() as u64, kept: 0 };
        for (id, user) in target_users {
            if Some(&id) == kept_user.as_ref() || (!options.remove_others && !users.contains_key(&id)) {
                users.insert(id, user);
                report.kept += 1;
            }
        }
        for (id, role) in target_roles {
            if kept_roles.contains(&id) || (!options.remove_others && !roles.contains_key(&id)) {
                roles.insert(id, role);
                report.kept += 1;
            }
        }
        Ok(Self { users, roles, report })
    }
}

/// The `_id` of the account in use, and of all roles that it stands on, directly or through other roles.
fn in_use(
    users: &BTreeMap<String, Vec<u8>>,
    roles: &BTreeMap<String, Vec<u8>>,
    keep: Option<&(String, String)>,
) -> Result<(Option<String>, BTreeSet<String>)> {
    let id = keep.map(|(db, user)| format!("{db}.{user}"));
    let user = id.filter(|id| users.contains_key(id));
    let mut found = BTreeSet::new();
    let mut to_look_at = match user.as_ref().and_then(|id| users.get(id)) {
        Some(document) => granted_roles(document)?,
        None => Vec::new(),
    };
    while let Some(role) = to_look_at.pop() {
        if let Some(document) = roles.get(&role)
            && found.insert(role)
        {
            to_look_at.extend(granted_roles(document)?);
        }
    }
    Ok((user, found))
}

/// The `_id`s of the roles that a user or a role is granted.
fn granted_roles(document: &[u8]) -> Result<Vec<String>> {
    let document = Document::from_reader(document).map_err(|error| Error::Protocol(error.to_string()))?;
    let granted = document.get_array("roles").map(Vec::as_slice).unwrap_or_default();
    let id = |role: &Document| Some(format!("{}.{}", role.get_str("db").ok()?, role.get_str("role").ok()?));
    Ok(granted.iter().filter_map(Bson::as_document).filter_map(id).collect())
}

fn by_id(documents: &[Vec<u8>]) -> Result<BTreeMap<String, Vec<u8>>> {
    let id = |document: &Vec<u8>| text_field(document, "_id").map(|id| (id, document.clone()));
    documents
        .iter()
        .map(|document| {
            id(document).ok_or_else(|| Error::Protocol("a user or role without a name".to_owned()))
        })
        .collect()
}

async fn stage(deployment: &Deployment, name: &str, documents: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    let no_options = bson::RawDocumentBuf::new();
    collections::create_anew(deployment, "admin", name, no_options.as_bytes(), None).await?;
    let namespace = Namespace::new("admin", name);
    let options = LoadOptions { connections: 1, ..LoadOptions::default() };
    let mut loader = Loader::open(deployment, &namespace, options).await?;
    loader.insert(Bytes::from(documents.values().flatten().copied().collect::<Vec<_>>())).await?;
    loader.finish().await?;
    Ok(())
}

/// Whether the target has now what it shall have, byte for byte.
fn check(wanted: &Wanted, found: &Principals) -> Result<()> {
    let (users, roles) = (by_id(&found.users)?, by_id(&found.roles)?);
    let wanted =
        wanted.users.iter().map(|user| (user, &users)).chain(wanted.roles.iter().map(|role| (role, &roles)));
    for ((id, document), found) in wanted {
        if found.get(id) != Some(document) {
            return Err(Error::Protocol(format!(
                "{id} is not what the backup has, although the server said it was merged"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bson::rawdoc;

    use super::*;

    fn user(name: &str, role: &str, mark: i32) -> Vec<u8> {
        rawdoc! { "_id": format!("admin.{name}"), "mark": mark, "roles": [{ "role": role, "db": "admin" }] }
            .into_bytes()
    }

    fn role(name: &str, inherits: &str, mark: i32) -> Vec<u8> {
        user(name, inherits, mark)
    }

    fn wanted(remove_others: bool) -> Wanted {
        let backup = Principals {
            users: vec![user("me", "old", 1), user("alice", "x", 1)],
            roles: vec![role("mine", "old", 1), role("x", "y", 1)],
        };
        let target = Principals {
            users: vec![user("me", "mine", 2), user("alice", "x", 2), user("bob", "x", 2)],
            roles: vec![
                role("mine", "deeper", 2),
                role("deeper", "mine", 2),
                role("x", "y", 2),
                role("z", "y", 2),
            ],
        };
        let keep = Some(("admin".to_owned(), "me".to_owned()));
        Wanted::of(&backup, &target, &RestorePrincipals { keep, remove_others }).unwrap()
    }

    fn marks(documents: &BTreeMap<String, Vec<u8>>) -> Vec<(&str, i32)> {
        let mark = |d: &Vec<u8>| bson::RawDocument::from_bytes(d).unwrap().get_i32("mark").unwrap();
        documents.iter().map(|(id, d)| (id.strip_prefix("admin.").unwrap(), mark(d))).collect()
    }

    #[test]
    fn the_account_in_use_and_what_it_stands_on_stay() {
        let wanted = wanted(true);
        assert_eq!(marks(&wanted.users), [("alice", 1), ("me", 2)]);
        assert_eq!(marks(&wanted.roles), [("deeper", 2), ("mine", 2), ("x", 1)]);
        assert_eq!(wanted.report, RestoredPrincipals { users: 1, roles: 1, kept: 3 });
    }

    #[test]
    fn others_are_removed_only_on_request() {
        let wanted = wanted(false);
        assert_eq!(marks(&wanted.users), [("alice", 1), ("bob", 2), ("me", 2)]);
        assert_eq!(marks(&wanted.roles), [("deeper", 2), ("mine", 2), ("x", 1), ("z", 2)]);
    }

    #[test]
    fn debug_shows_no_credentials() {
        let principals = Principals { users: vec![user("me", "secret", 1)], roles: Vec::new() };
        assert_eq!(format!("{principals:?}"), "Principals { users: 1, roles: 0 }");
    }
}
