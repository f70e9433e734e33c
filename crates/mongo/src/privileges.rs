//! The least that an account must be allowed, and what it lacks.
//!
//! The built-in roles do not fit: `backup` may read `config` and `local`, `restore` may run `applyOps` and yet neither
//! rename nor read back. So the roles are custom ones.
//!
//! An empty database and collection name mean every collection that is not a `system.` one; hence the extra resources.

mod needs;

use bson::{Bson, Document, doc};
use needs::{Need, needs};

use crate::{Deployment, Error, Result};

/// What an account is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Take snapshots.
    Backup,
    /// Restore data.
    Restore,
    /// Restore data, users and roles. Who may write users can make themselves anything.
    RestoreUsers,
}

impl Purpose {
    /// The name of the documented role.
    pub fn role(self) -> &'static str {
        match self {
            Self::Backup => "ebbtideBackup",
            Self::Restore => "ebbtideRestore",
            Self::RestoreUsers => "ebbtideRestoreUsers",
        }
    }
}

/// What a privilege is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource {
    /// The deployment as a whole.
    Cluster,
    /// Every collection of every database, but for `system.` ones.
    AnyCollection,
    /// Every `system.buckets.` collection.
    AnyBuckets,
    /// `system.js` of every database.
    AnySystemJs,
    /// `system.views` of every database.
    AnySystemViews,
    /// The oplog.
    Oplog,
    /// The server's table of transactions.
    Transactions,
    /// `admin.system.users`.
    Users,
    /// `admin.system.roles`.
    Roles,
}

impl Resource {
    /// As `createRole` wants it.
    pub fn document(self) -> Document {
        match self {
            Self::Cluster => doc! { "cluster": true },
            Self::AnyCollection => doc! { "db": "", "collection": "" },
            Self::AnyBuckets => doc! { "db": "", "system_buckets": "" },
            Self::AnySystemJs => doc! { "db": "", "collection": "system.js" },
            Self::AnySystemViews => doc! { "db": "", "collection": "system.views" },
            Self::Oplog => doc! { "db": "local", "collection": "oplog.rs" },
            Self::Transactions => doc! { "db": "config", "collection": "transactions" },
            Self::Users => doc! { "db": "admin", "collection": "system.users" },
            Self::Roles => doc! { "db": "admin", "collection": "system.roles" },
        }
    }

    /// Whether a privilege on `granted`, as the server shows it, reaches all of this.
    fn is_covered_by(self, granted: &Document) -> bool {
        if granted.get_bool("anyResource").is_ok_and(|any| any) {
            return true;
        }
        let text = |name: &str| granted.get_str(name).ok();
        let db = text("db");
        match self {
            Self::Cluster => granted.get_bool("cluster").is_ok_and(|cluster| cluster),
            // The server leaves the empty database out when it shows this one.
            Self::AnyBuckets => text("system_buckets") == Some("") && db.is_none_or(str::is_empty),
            // These are no system collections by their names, and reached by a grant on all of their databases.
            Self::Oplog if db == Some("local") && text("collection") == Some("") => true,
            Self::Transactions if db == Some("config") && text("collection") == Some("") => true,
            _ => {
                let wanted = self.document();
                let (collection, wanted_collection) = (text("collection"), wanted.get_str("collection").ok());
                collection.is_some()
                    && collection == wanted_collection
                    && (db == wanted.get_str("db").ok() || self.is_system() && db == Some(""))
            }
        }
    }

    /// Named collections, which a grant on the same name in every database covers as well.
    fn is_system(self) -> bool {
        matches!(self, Self::Users | Self::Roles | Self::Oplog | Self::Transactions)
    }
}

/// One action that an account may not do and should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingPrivilege {
    /// On what.
    pub resource: Resource,
    /// The action's name.
    pub action: String,
    /// What it is needed for.
    pub why: String,
    /// The job works without it, but not as well.
    pub optional: bool,
}

impl std::fmt::Display for MissingPrivilege {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let optional = if self.optional { " (optional)" } else { "" };
        write!(f, "{} on {}{optional}: {}", self.action, self.resource.document(), self.why)
    }
}

/// What the account in use lacks for `purpose`; nothing where the server checks no privileges.
///
/// # Errors
/// The server's.
pub async fn check(deployment: &Deployment, purpose: Purpose) -> Result<Vec<MissingPrivilege>> {
    if !deployment.identity().auth_enabled {
        return Ok(Vec::new());
    }
    let status = deployment.run_admin(doc! { "connectionStatus": 1, "showPrivileges": true }).await?;
    let granted = status
        .get_document("authInfo")
        .and_then(|info| info.get_array("authenticatedUserPrivileges"))
        .map_err(|_| Error::protocol("connectionStatus without privileges"))?;
    let granted: Vec<&Document> = granted.iter().filter_map(Bson::as_document).collect();
    Ok(missing(&needs(purpose, deployment.version()), &granted))
}

fn missing(needs: &[Need], granted: &[&Document]) -> Vec<MissingPrivilege> {
    let has = |need: &Need| {
        granted.iter().any(|privilege| {
            let covers = privilege
                .get_document("resource")
                .is_ok_and(|resource| need.resource.is_covered_by(resource));
            covers && allows(privilege, need.action)
        })
    };
    let missing = |need: &Need| MissingPrivilege {
        resource: need.resource,
        action: need.action.to_owned(),
        why: need.why.to_owned(),
        optional: need.optional,
    };
    needs.iter().filter(|need| !has(need)).map(missing).collect()
}

fn allows(privilege: &Document, action: &str) -> bool {
    let actions = privilege.get_array("actions").map(Vec::as_slice).unwrap_or_default();
    actions.iter().any(
        |granted| matches!(granted.as_str(), Some(granted) if granted == action || granted == "anyAction"),
    )
}

/// The `createRole` command of the documented role, to be run on `admin`.
pub fn role_definition(purpose: Purpose, version: (u32, u32, u32)) -> Document {
    let mut privileges: Vec<(Resource, Vec<&'static str>)> = Vec::new();
    for need in needs(purpose, version) {
        match privileges.iter_mut().find(|(resource, _)| *resource == need.resource) {
            Some((_, actions)) => actions.push(need.action),
            None => privileges.push((need.resource, vec![need.action])),
        }
    }
    let privileges: Vec<Document> = privileges
        .into_iter()
        .map(|(resource, actions)| doc! { "resource": resource.document(), "actions": actions })
        .collect();
    doc! { "createRole": purpose.role(), "privileges": privileges, "roles": [] }
}

/// The same as relaxed extended JSON, for `mongosh` and for people.
pub fn role_command_json(purpose: Purpose, version: (u32, u32, u32)) -> serde_json::Value {
    Bson::Document(role_definition(purpose, version)).into_relaxed_extjson()
}

/// Commands for `mongosh` that give `account` (database and name; a new one where there is none) what it lacks.
/// Empty when nothing is missing.
pub fn remedy(
    missing: &[MissingPrivilege],
    purpose: Purpose,
    version: (u32, u32, u32),
    account: Option<(&str, &str)>,
) -> String {
    if missing.is_empty() {
        return String::new();
    }
    let mut role = role_definition(purpose, version);
    role.remove("createRole");
    let name = purpose.role();
    let role = serde_json::to_string(&Bson::Document(role).into_relaxed_extjson()).unwrap_or_default();
    let role = role.replacen('{', &format!("{{\"role\":\"{name}\","), 1);
    let grant = match account {
        Some((db, user)) => format!(
            "db.getSiblingDB({}).grantRolesToUser({}, [{{\"role\":\"{name}\",\"db\":\"admin\"}}])",
            quoted(db),
            quoted(user)
        ),
        None => format!(
            "db.getSiblingDB(\"admin\").createUser({{\"user\":\"ebbtide\",\"pwd\":passwordPrompt(),\"roles\":[{{\"role\":\"{name}\",\"db\":\"admin\"}}]}})"
        ),
    };
    format!("db.getSiblingDB(\"admin\").createRole({role})\n{grant}")
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ALL: [Purpose; 3] = [Purpose::Backup, Purpose::Restore, Purpose::RestoreUsers];

    fn granted(role: &Document) -> Vec<&Document> {
        role.get_array("privileges").unwrap().iter().filter_map(Bson::as_document).collect()
    }

    #[test]
    fn each_role_has_what_it_needs_and_no_more() {
        for purpose in ALL {
            for version in [(5, 0, 4), (6, 0, 5)] {
                let role = role_definition(purpose, version);
                assert_eq!(missing(&needs(purpose, version), &granted(&role)), []);
                let text = role.to_string();
                for never in ["anyAction", "anyResource", "applyOps", "root"] {
                    assert!(!text.contains(never), "{never} in {text}");
                }
                assert_eq!(
                    text.contains("bypassWriteBlockingMode"),
                    version.0 == 6 && purpose != Purpose::Backup
                );
            }
        }
    }

    #[test]
    fn each_privilege_taken_away_is_missed_by_name() {
        let version = (6, 0, 5);
        for purpose in ALL {
            let role = role_definition(purpose, version);
            for need in needs(purpose, version) {
                let mut poorer = role.clone();
                for privilege in poorer.get_array_mut("privileges").unwrap() {
                    let privilege = privilege.as_document_mut().unwrap();
                    if privilege.get_document("resource").unwrap() == &need.resource.document() {
                        privilege
                            .get_array_mut("actions")
                            .unwrap()
                            .retain(|action| action.as_str() != Some(need.action));
                    }
                }
                let missed = missing(&needs(purpose, version), &granted(&poorer));
                assert_eq!(missed.len(), 1);
                assert_eq!((missed[0].resource, missed[0].action.as_str()), (need.resource, need.action));
            }
        }
    }

    #[test]
    fn wide_grants_cover_and_narrow_ones_do_not() {
        let local = doc! { "db": "local", "collection": "" };
        let root = doc! { "anyResource": true };
        let any = doc! { "db": "", "collection": "" };
        let one = doc! { "db": "app", "collection": "" };
        let shown = doc! { "system_buckets": "" };
        let js = doc! { "db": "", "collection": "system.js" };
        assert!(Resource::Cluster.is_covered_by(&root) && Resource::Users.is_covered_by(&root));
        assert!(Resource::AnyCollection.is_covered_by(&any) && !Resource::AnyCollection.is_covered_by(&one));
        assert!(Resource::Oplog.is_covered_by(&local) && !Resource::Oplog.is_covered_by(&any));
        // A grant on any collection does not reach the server's own databases (measured).
        let config = doc! { "db": "config", "collection": "" };
        assert!(Resource::Transactions.is_covered_by(&config) && !Resource::Transactions.is_covered_by(&any));
        assert!(!Resource::Transactions.is_covered_by(&local));
        assert!(Resource::AnyBuckets.is_covered_by(&shown) && !Resource::AnyBuckets.is_covered_by(&any));
        assert!(Resource::AnySystemJs.is_covered_by(&js) && !Resource::AnySystemJs.is_covered_by(&any));
        assert!(!Resource::Users.is_covered_by(&any) && !Resource::Cluster.is_covered_by(&any));
    }

    #[test]
    fn the_remedy_quotes_what_people_call_their_users() {
        let version = (6, 0, 5);
        let missing = missing(&needs(Purpose::Backup, version), &[]);
        let text = remedy(&missing, Purpose::Backup, version, Some(("admin", "o\"neil")));
        assert!(
            text.starts_with(
                "db.getSiblingDB(\"admin\").createRole({\"role\":\"ebbtideBackup\",\"privileges\":["
            ),
            "{text}"
        );
        assert!(text.contains(r#"grantRolesToUser("o\"neil""#), "{text}");
        assert!(remedy(&missing, Purpose::Backup, version, None).contains("createUser"));
        assert_eq!(remedy(&[], Purpose::Backup, version, None), "");
    }
}
