//! API keys and service accounts, and the roles that they were granted.

use model::{
    WallTime,
    account::{AccountSecret, AccountSecrets, SecretHash, SecretHours},
    id::{AccountSecretId, CredentialId, ProjectId},
    network::{AccessList, AddressBlock},
    role::{Action, Role},
};

use sqlx::{Any, Transaction, any::AnyRow, query};

use crate::{
    Catalog, Conflict, Error, Listing, Page, Result, Sealed,
    error::{is_duplicate, is_orphan},
    new_id,
    row::{Columns, plain, statement, to_json},
};

/// A credential with its grants: one row per grant, at least one row.
pub(crate) const COLUMNS: &str = "c.id, c.kind, c.public_name, c.secret, c.secrets, c.name, c.description, c.created_at, \
                                  c.access_list, g.project_id AS grant_project, g.role AS grant_role";
pub(crate) const WITH_GRANTS: &str = "credentials c LEFT JOIN grants g ON g.credential_id = c.id";

/// How a credential proves itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CredentialKind {
    /// HTTP digest.
    ApiKey,
    /// OAuth2 client credentials.
    ServiceAccount,
}

impl CredentialKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "apiKey",
            Self::ServiceAccount => "serviceAccount",
        }
    }

    const fn noun(self) -> &'static str {
        match self {
            Self::ApiKey => "API key",
            Self::ServiceAccount => "service account",
        }
    }
}

impl std::str::FromStr for CredentialKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::ApiKey, Self::ServiceAccount]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("unknown kind of credential {text:?}"))
    }
}

/// A role, given in one project or everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// The project, or the whole organization.
    pub project: Option<ProjectId>,
}

/// What a credential is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// HA1 of an API key, sealed with the master key.
    ApiKey(Sealed),
    /// The hashes of the secrets of a service account.
    ServiceAccount(AccountSecrets),
}

/// An API key or a service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its id.
    pub id: CredentialId,
    /// What it is checked against.
    pub proof: Proof,
    /// The public key or the client id: the part that is not secret. Unique per kind.
    pub public_name: String,
    /// What a service account is called; an API key has a description alone.
    pub name: String,
    /// What people say of it.
    pub description: String,
    /// Its roles.
    pub grants: Vec<Grant>,
    /// From where it may be used.
    pub access: AccessList,
    /// When it was made.
    pub created_at: WallTime,
}

impl Credential {
    /// How it proves itself.
    pub const fn kind(&self) -> CredentialKind {
        match self.proof {
            Proof::ApiKey(_) => CredentialKind::ApiKey,
            Proof::ServiceAccount(_) => CredentialKind::ServiceAccount,
        }
    }

    /// Its secrets, if it is a service account.
    pub const fn secrets(&self) -> Option<&AccountSecrets> {
        match &self.proof {
            Proof::ApiKey(_) => None,
            Proof::ServiceAccount(secrets) => Some(secrets),
        }
    }

    /// The roles that count in `project`: those granted there and those of the organization.
    pub fn roles_in(&self, project: ProjectId) -> impl Iterator<Item = Role> + '_ {
        self.grants
            .iter()
            .filter(move |grant| grant.project.is_none_or(|p| p == project))
            .map(|grant| grant.role)
    }

    /// Whether it has any role in `project`, or an organization role that reaches into it.
    pub fn is_member_of(&self, project: ProjectId) -> bool {
        self.roles_in(project).any(Role::reaches_projects)
    }

    /// Whether one of its roles allows `action` in `project`.
    pub fn allows(&self, project: ProjectId, action: Action) -> bool {
        self.roles_in(project).any(|role| role.allows(action))
    }

    /// Whether a role of the organization reaches every project.
    pub fn reaches_all_projects(&self) -> bool {
        self.grants.iter().any(|grant| grant.project.is_none() && grant.role.reaches_projects())
    }
}

/// Which credentials to list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CredentialFilter {
    /// Only those of this kind.
    pub kind: Option<CredentialKind>,
    /// Only those with a role of their own in this project.
    pub project: Option<ProjectId>,
}

impl CredentialFilter {
    /// All that have a role of their own in a project.
    pub const fn of(project: ProjectId) -> Self {
        Self { kind: None, project: Some(project) }
    }
}

/// What is to be changed of a credential.
#[derive(Debug, Clone, Copy, Default)]
pub struct CredentialChange<'a> {
    /// What a service account is called.
    pub name: Option<&'a str>,
    /// What people say of it.
    pub description: Option<&'a str>,
    /// Its roles in a project, or in the organization.
    pub roles: Option<(Option<ProjectId>, &'a [Role])>,
}

/// A secret of a service account that was just drawn.
#[derive(Debug, Clone)]
pub struct NewSecret {
    /// What it is checked against.
    pub sha256: SecretHash,
    /// How it ends.
    pub ending: String,
    /// How long it works; none for one that works until another one is made.
    pub hours: Option<SecretHours>,
}

impl NewSecret {
    fn made(self, now: WallTime) -> AccountSecret {
        AccountSecret {
            id: new_id(now),
            sha256: self.sha256,
            ending: self.ending,
            created_at: now,
            expires_at: self.hours.map(|hours| now.plus_ms(hours.milliseconds())),
            last_used_at: None,
        }
    }
}

/// What a new credential is checked against.
#[derive(Debug, Clone)]
pub enum NewProof {
    /// HA1 of an API key, sealed with the master key.
    ApiKey(Sealed),
    /// The first secret of a service account.
    ServiceAccount(NewSecret),
}

/// What is needed to make a credential.
#[derive(Debug, Clone)]
pub struct NewCredential {
    /// What it is checked against.
    pub proof: NewProof,
    /// The public key or the client id.
    pub public_name: String,
    /// What a service account is called.
    pub name: String,
    /// What people say of it.
    pub description: String,
    /// Its roles.
    pub grants: Vec<Grant>,
}

/// Operations on credentials.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'a>(pub(crate) &'a Catalog);

impl Credentials<'_> {
    /// Makes a credential.
    ///
    /// # Errors
    /// [`crate::Error::AlreadyExists`] when the public name is taken, [`crate::Error::NotFound`] when a grant
    /// names a project that is not there.
    pub async fn create(&self, new: NewCredential, now: WallTime) -> Result<Credential> {
        let proof = match new.proof {
            NewProof::ApiKey(sealed) => Proof::ApiKey(sealed),
            NewProof::ServiceAccount(secret) => {
                let secrets = AccountSecrets::default().with(secret.made(now));
                Proof::ServiceAccount(secrets.map_err(Conflict::SecretsFull)?)
            }
        };
        let credential = Credential {
            id: new_id(now),
            proof,
            public_name: plain(&new.public_name),
            name: plain(&new.name),
            description: plain(&new.description),
            grants: new.grants,
            access: AccessList::default(),
            created_at: now,
        };
        let sealed = match &credential.proof {
            Proof::ApiKey(sealed) => sealed.0.as_str(),
            Proof::ServiceAccount(_) => "",
        };
        let mut transaction = self.0.database.begin().await?;
        let inserted = query(
            "INSERT INTO credentials (id, kind, public_name, secret, secrets, name, description, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(credential.id.to_string())
        .bind(credential.kind().as_str())
        .bind(&credential.public_name)
        .bind(sealed)
        .bind(to_json(credential.secrets().unwrap_or(&AccountSecrets::default())))
        .bind(&credential.name)
        .bind(&credential.description)
        .bind(now.0)
        .execute(&mut *transaction)
        .await;
        match inserted {
            Err(error) if is_duplicate(&error) => {
                return Err(Error::AlreadyExists {
                    what: credential.kind().noun(),
                    name: credential.public_name,
                });
            }
            other => other?,
        };
        for grant in &credential.grants {
            insert_grant(&mut transaction, credential.id, *grant).await?;
        }
        transaction.commit().await?;
        Ok(credential)
    }

    /// The credential with that public key or client id, with its roles, in one statement.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn by_public_name(
        &self,
        kind: CredentialKind,
        public_name: &str,
    ) -> Result<Option<Credential>> {
        let rows = statement(format!(
            "SELECT {COLUMNS} FROM {WITH_GRANTS} WHERE c.kind = $1 AND c.public_name = $2"
        ))
        .bind(kind.as_str())
        .bind(plain(public_name))
        .fetch_all(self.0.database.reader())
        .await?;
        Ok(credentials(&rows)?.pop())
    }

    /// The credential of that id.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn get(&self, id: CredentialId) -> Result<Option<Credential>> {
        let rows = statement(format!("SELECT {COLUMNS} FROM {WITH_GRANTS} WHERE c.id = $1"))
            .bind(id.to_string())
            .fetch_all(self.0.database.reader())
            .await?;
        Ok(credentials(&rows)?.pop())
    }

    /// Credentials, oldest first.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn list(&self, filter: CredentialFilter, page: Page) -> Result<Listing<Credential>> {
        const WANTED: &str = "FROM credentials w WHERE ($2 IS NULL OR w.kind = $2) AND ($1 IS NULL OR EXISTS \
                              (SELECT 1 FROM grants p WHERE p.credential_id = w.id AND p.project_id = $1))";
        let (project, kind) =
            (filter.project.map(|id| id.to_string()), filter.kind.map(CredentialKind::as_str));
        let rows = statement(format!(
            "SELECT {COLUMNS} FROM {WITH_GRANTS} WHERE c.id IN \
             (SELECT w.id {WANTED} ORDER BY w.created_at, w.id LIMIT $3 OFFSET $4) ORDER BY c.created_at, c.id"
        ))
        .bind(project.as_deref())
        .bind(kind)
        .bind(page.limit())
        .bind(page.offset())
        .fetch_all(self.0.database.reader())
        .await?;
        let count =
            statement(format!("SELECT COUNT(*) AS total {WANTED}")).bind(project.as_deref()).bind(kind);
        let total = self.0.total(page, count).await?;
        Ok(Listing { items: credentials(&rows)?, total })
    }

    /// Changes what is given of a credential, all or nothing: what it is called, what people say of it, and its roles in one place, in place
    /// of those that it has there.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`], also when the project is not there.
    pub async fn change(&self, id: CredentialId, change: CredentialChange<'_>) -> Result<()> {
        let place = change.roles.map(|(project, _)| project);
        let mut grants = Vec::new();
        if let Some((project, roles)) = change.roles {
            grants.extend(roles.iter().map(|role| Grant { role: *role, project }));
        }
        let mut transaction = self.0.database.begin().await?;
        if let Some(Some(project)) = place {
            hold_project(&mut transaction, project).await?;
        }
        // Held, so that two of these do not mix.
        let update = "UPDATE credentials SET name = COALESCE($2, name), \
                      description = COALESCE($3, description) WHERE id = $1 RETURNING id";
        query(update)
            .bind(id.to_string())
            .bind(change.name.map(plain))
            .bind(change.description.map(plain))
            .fetch_optional(&mut *transaction)
            .await?
            .ok_or_else(|| Error::not_found("credential", id))?;
        if let Some(project) = place {
            take_grants(&mut transaction, id, project).await?;
        }
        for grant in grants {
            insert_grant(&mut transaction, id, grant).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Gives a credential more roles, all or none of them; it is harmless to give one twice.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`].
    pub async fn give(&self, id: CredentialId, grants: &[Grant]) -> Result<()> {
        let mut transaction = self.0.database.begin().await?;
        for grant in grants {
            insert_grant(&mut transaction, id, *grant).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Takes all roles away that a credential has in a project, and deletes it with its tokens if it has none elsewhere, all or
    /// nothing; `false` when it has none there.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn remove_from(&self, id: CredentialId, project: ProjectId) -> Result<bool> {
        let mut transaction = self.0.database.begin().await?;
        hold_project(&mut transaction, project).await?;
        // Held also against whoever gives it a role elsewhere in this moment, which an update would let pass.
        statement(format!("SELECT id FROM credentials WHERE id = $1{}", self.0.database.locked()))
            .bind(id.to_string())
            .fetch_optional(&mut *transaction)
            .await?;
        if take_grants(&mut transaction, id, Some(project)).await? == 0 {
            return Ok(false);
        }
        query(
            "DELETE FROM credentials WHERE id = $1 \
             AND NOT EXISTS (SELECT 1 FROM grants g WHERE g.credential_id = credentials.id)",
        )
        .bind(id.to_string())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Changes from where a credential may be used; the list afterwards.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`], [`crate::Conflict::AccessListFull`].
    pub async fn change_access(
        &self,
        id: CredentialId,
        remove: &[AddressBlock],
        add: &[AddressBlock],
        now: WallTime,
    ) -> Result<AccessList> {
        let mut transaction = self.0.database.begin().await?;
        let row =
            query("UPDATE credentials SET access_list = access_list WHERE id = $1 RETURNING access_list")
                .bind(id.to_string())
                .fetch_optional(&mut *transaction)
                .await?
                .ok_or_else(|| Error::not_found("credential", id))?;
        let list: AccessList = row.json("access_list")?;
        let changed = list.changed(remove, add, now).map_err(|_| Conflict::AccessListFull)?;
        query("UPDATE credentials SET access_list = $2 WHERE id = $1")
            .bind(id.to_string())
            .bind(to_json(&changed))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(changed)
    }

    /// Gives a service account one more secret; see [`AccountSecrets::with`] for what becomes of the other one.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`], [`crate::Conflict::SecretsFull`].
    pub async fn add_secret(&self, id: CredentialId, new: NewSecret, now: WallTime) -> Result<AccountSecret> {
        let mut transaction = self.0.database.begin().await?;
        let secret = new.made(now);
        let secrets = secrets_held(&mut transaction, id).await?.with(secret.clone());
        let secrets = secrets.map_err(Conflict::SecretsFull)?;
        set_secrets(&mut transaction, id, &secrets).await?;
        transaction.commit().await?;
        Ok(secret)
    }

    /// Deletes a secret with the tokens that were made with it; `false` when it was not there.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] when the account is not there.
    pub async fn remove_secret(&self, id: CredentialId, secret: AccountSecretId) -> Result<bool> {
        let mut transaction = self.0.database.begin().await?;
        let Some(left) = secrets_held(&mut transaction, id).await?.without(secret) else { return Ok(false) };
        set_secrets(&mut transaction, id, &left).await?;
        query("DELETE FROM tokens WHERE credential_id = $1 AND secret_id = $2")
            .bind(id.to_string())
            .bind(secret.to_string())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Deletes a credential with its roles and tokens; `false` when it was not there.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn delete(&self, id: CredentialId) -> Result<bool> {
        let done = query("DELETE FROM credentials WHERE id = $1")
            .bind(id.to_string())
            .execute(self.0.database.writer())
            .await?;
        Ok(done.rows_affected() > 0)
    }
}

/// The secrets of a service account, which nobody else changes before the transaction has ended.
pub(crate) async fn secrets_held(
    transaction: &mut Transaction<'static, Any>,
    id: CredentialId,
) -> Result<AccountSecrets> {
    let held = "UPDATE credentials SET secrets = secrets WHERE id = $1 AND kind = $2 RETURNING secrets";
    let row = query(held)
        .bind(id.to_string())
        .bind(CredentialKind::ServiceAccount.as_str())
        .fetch_optional(&mut **transaction)
        .await?
        .ok_or_else(|| Error::not_found(CredentialKind::ServiceAccount.noun(), id))?;
    row.json("secrets")
}

pub(crate) async fn set_secrets(
    transaction: &mut Transaction<'static, Any>,
    id: CredentialId,
    secrets: &AccountSecrets,
) -> Result<()> {
    query("UPDATE credentials SET secrets = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(to_json(secrets))
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// A grant's project in its column: empty stands for the organization.
fn scope(project: Option<ProjectId>) -> String {
    project.map(|id| id.to_string()).unwrap_or_default()
}

/// Locks a project before one of its credentials is, in the order in which whoever deletes a project does.
async fn hold_project(transaction: &mut Transaction<'static, Any>, project: ProjectId) -> Result<()> {
    query("UPDATE projects SET name = name WHERE id = $1")
        .bind(project.to_string())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// Takes all roles away that a credential has in one place; how many.
async fn take_grants(
    transaction: &mut Transaction<'static, Any>,
    id: CredentialId,
    project: Option<ProjectId>,
) -> Result<u64> {
    let done = query("DELETE FROM grants WHERE credential_id = $1 AND project_id = $2")
        .bind(id.to_string())
        .bind(scope(project))
        .execute(&mut **transaction)
        .await?;
    Ok(done.rows_affected())
}

async fn insert_grant(
    transaction: &mut Transaction<'static, Any>,
    id: CredentialId,
    grant: Grant,
) -> Result<()> {
    if let Some(project) = grant.project {
        // Locked, so that it is not deleted before the role in it is there.
        query("UPDATE projects SET name = name WHERE id = $1 AND deleted_at IS NULL RETURNING id")
            .bind(project.to_string())
            .fetch_optional(&mut **transaction)
            .await?
            .ok_or_else(|| Error::not_found("project", project))?;
    }
    let inserted = query(
        "INSERT INTO grants (credential_id, project_id, role) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(id.to_string())
    .bind(scope(grant.project))
    .bind(grant.role.as_str())
    .execute(&mut **transaction)
    .await;
    match inserted {
        Err(error) if is_orphan(&error) => Err(Error::not_found("credential", id)),
        other => Ok(other.map(drop)?),
    }
}

/// Folds rows of one grant each, those of one credential side by side.
pub(crate) fn credentials(rows: &[AnyRow]) -> Result<Vec<Credential>> {
    let mut all: Vec<Credential> = Vec::new();
    for row in rows {
        let id = row.parsed("id")?;
        if all.last().is_none_or(|last| last.id != id) {
            let proof = match row.parsed("kind")? {
                CredentialKind::ApiKey => Proof::ApiKey(Sealed(row.text("secret")?)),
                CredentialKind::ServiceAccount => Proof::ServiceAccount(row.json("secrets")?),
            };
            all.push(Credential {
                id,
                proof,
                public_name: row.text("public_name")?,
                name: row.text("name")?,
                description: row.text("description")?,
                grants: Vec::new(),
                access: row.json("access_list")?,
                created_at: row.time("created_at")?,
            });
        }
        if let (Some(role), Some(last)) = (row.maybe_parsed("grant_role")?, all.last_mut()) {
            last.grants.push(Grant { role, project: granted_project(row)? });
        }
    }
    Ok(all)
}

fn granted_project(row: &AnyRow) -> Result<Option<ProjectId>> {
    match row.maybe_text("grant_project")? {
        Some(text) if !text.is_empty() => {
            text.parse().map(Some).map_err(|_| Error::corrupt("a grant names no project"))
        }
        _ => Ok(None),
    }
}
