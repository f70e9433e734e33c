//! Connections, transactions and the schema: the only place that knows which database it is.

use std::{
    fs,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use sqlx::{
    Any, AnyConnection, AnyPool, ConnectOptions, Connection, Executor, SqlSafeStr, Transaction,
    any::{AnyConnectOptions, AnyPoolOptions},
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};

use crate::{Error, Result};

/// Connections that read while the writer writes (SQLite). More than a few only queue for the CPU.
const SQLITE_READERS: u32 = 4;
/// Connections to PostgreSQL per process.
const POSTGRES_CONNECTIONS: u32 = 16;
/// How long a statement waits for another process's lock.
const SQLITE_BUSY_MS: u32 = 15_000;
/// Pause before a file is opened again that others were busy with.
const SQLITE_OPEN_AGAIN: Duration = Duration::from_millis(20);
/// How long a caller waits for a connection.
const ACQUIRE_SECONDS: u64 = 30;

/// Every migration, in order; the file of a released one never changes.
const MIGRATIONS: [(i64, &str, &str); 18] = [
    (1, "init", include_str!("../migrations/0001_init.sql")),
    (2, "damage", include_str!("../migrations/0002_damage.sql")),
    (3, "replica sets", include_str!("../migrations/0003_replica_sets.sql")),
    (4, "timelines", include_str!("../migrations/0004_timelines.sql")),
    (5, "point in time", include_str!("../migrations/0005_point_in_time.sql")),
    (6, "live checks", include_str!("../migrations/0006_live_checks.sql")),
    (7, "amid restore", include_str!("../migrations/0007_amid_restore.sql")),
    (8, "schedules", include_str!("../migrations/0008_schedules.sql")),
    (9, "collection restores", include_str!("../migrations/0009_collection_restores.sql")),
    (10, "exports", include_str!("../migrations/0010_exports.sql")),
    (11, "compliance", include_str!("../migrations/0011_compliance.sql")),
    (12, "legacy", include_str!("../migrations/0012_legacy.sql")),
    (13, "audit", include_str!("../migrations/0013_audit.sql")),
    (14, "extra retention", include_str!("../migrations/0014_extra_retention.sql")),
    (15, "deleted projects", include_str!("../migrations/0015_deleted_projects.sql")),
    (16, "access lists", include_str!("../migrations/0016_access_lists.sql")),
    (17, "copies", include_str!("../migrations/0017_copies.sql")),
    (18, "account secrets", include_str!("../migrations/0018_account_secrets.sql")),
];

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

/// The pools of connections. SQLite has one writer, so that writers queue here instead of failing there.
pub(crate) struct Database {
    backend: Backend,
    readers: AnyPool,
    writers: AnyPool,
}

impl Database {
    pub(crate) async fn open(location: &str) -> Result<Self> {
        sqlx::any::install_default_drivers();
        if location.starts_with("postgres://") || location.starts_with("postgresql://") {
            Self::open_postgres(location).await
        } else {
            Self::open_sqlite(&sqlite_path(location)?).await
        }
    }

    async fn open_postgres(url: &str) -> Result<Self> {
        let options = options(url)?;
        // Alone first: a pool would go on trying and then say only that it took too long.
        let mut connection = options.connect().await?;
        migrate(&mut connection).await?;
        connection.close().await?;
        let pool = AnyPoolOptions::new()
            .max_connections(POSTGRES_CONNECTIONS)
            .acquire_timeout(Duration::from_secs(ACQUIRE_SECONDS))
            .connect_with(options)
            .await?;
        Ok(Self { backend: Backend::Postgres, readers: pool.clone(), writers: pool })
    }

    /// Switching a new file to WAL, and the last one to close it, take locks that SQLite's own patience does not wait
    /// for: the busy handler could deadlock there. So the whole opening is tried again.
    async fn open_sqlite(path: &Path) -> Result<Self> {
        prepare_file(path)?;
        let patience = Instant::now() + Duration::from_millis(SQLITE_BUSY_MS.into());
        loop {
            match Self::try_open_sqlite(path).await {
                Err(Error::Busy(_)) if Instant::now() < patience => {
                    tokio::time::sleep(SQLITE_OPEN_AGAIN).await;
                }
                opened => return opened,
            }
        }
    }

    async fn try_open_sqlite(path: &Path) -> Result<Self> {
        let options = options(&sqlite_url(path))?;
        // Alone first, as above. Another process may be opening the same file: whoever has the lock makes the
        // schema, the other one finds it made.
        let mut connection = options.connect().await?;
        configure(&mut connection, false).await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        migrate(&mut transaction).await?;
        transaction.commit().await?;
        connection.close().await?;
        let writers = sqlite_pool(1, false).connect_with(options.clone()).await?;
        let readers = sqlite_pool(SQLITE_READERS, true).connect_with(options).await?;
        Ok(Self { backend: Backend::Sqlite, readers, writers })
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writers.close().await;
    }

    pub(crate) const fn backend(&self) -> Backend {
        self.backend
    }

    /// Where to read what need not be consistent with a write.
    pub(crate) const fn reader(&self) -> &AnyPool {
        &self.readers
    }

    /// Where to run a single statement that writes.
    pub(crate) const fn writer(&self) -> &AnyPool {
        &self.writers
    }

    /// Begins a transaction that writes. On SQLite it has the write lock from its first moment, so that what it
    /// reads stays true and it never fails for having read first.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Any>> {
        Ok(match self.backend {
            Backend::Sqlite => self.writers.begin_with("BEGIN IMMEDIATE").await?,
            Backend::Postgres => self.writers.begin().await?,
        })
    }

    /// What a `SELECT` of rows that the same transaction will change ends with.
    pub(crate) const fn locked(&self) -> &'static str {
        match self.backend {
            Backend::Sqlite => "",
            Backend::Postgres => " FOR UPDATE",
        }
    }

    /// What a `SELECT` of rows to work on ends with.
    pub(crate) const fn skip_locked(&self) -> &'static str {
        match self.backend {
            Backend::Sqlite => "",
            Backend::Postgres => " FOR UPDATE SKIP LOCKED",
        }
    }
}

fn options(url: &str) -> Result<AnyConnectOptions> {
    // The driver would log statements, and warn of slow ones; whoever calls knows better what is slow.
    Ok(url.parse::<AnyConnectOptions>()?.disable_statement_logging())
}

fn sqlite_pool(connections: u32, read_only: bool) -> AnyPoolOptions {
    AnyPoolOptions::new()
        .max_connections(connections)
        .min_connections(connections)
        .acquire_timeout(Duration::from_secs(ACQUIRE_SECONDS))
        // A file does not go away: keep the connections and their prepared statements, and do not ping.
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        // SQLite ends a transaction by itself when the disk is full, and the driver goes on counting it as open: on
        // such a connection no other could ever begin.
        .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
        .after_connect(move |connection, _| Box::pin(configure(connection, read_only)))
}

async fn configure(connection: &mut AnyConnection, read_only: bool) -> sqlx::Result<()> {
    // `journal_mode` and `synchronous`: an acknowledged transaction survives a loss of power.
    let pragmas = format!(
        "PRAGMA busy_timeout = {SQLITE_BUSY_MS}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
         PRAGMA foreign_keys = ON; PRAGMA query_only = {};",
        u8::from(read_only)
    );
    connection.execute(sqlx::AssertSqlSafe(pragmas)).await?;
    Ok(())
}

/// The path in `sqlite:PATH`, `sqlite://PATH` or `PATH`, absolute.
fn sqlite_path(location: &str) -> Result<PathBuf> {
    let path = match location.strip_prefix("sqlite:") {
        Some(rest) => rest.strip_prefix("//").unwrap_or(rest),
        None if location.contains("://") || location.is_empty() => {
            return Err(Error::Unavailable {
                problem: "its location is neither a path nor a postgres:// URL".to_owned(),
                remedy: "give the path of a file or a postgres:// URL",
                source: "unknown location".into(),
            });
        }
        None => location,
    };
    std::path::absolute(path).map_err(|error| file_error(Path::new(path), error))
}

/// As the driver wants it; anything but the plainest characters encoded.
fn sqlite_url(path: &Path) -> String {
    let mut url = String::from("sqlite://");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                url.push(char::from(*byte))
            }
            other => url.push_str(&format!("%{other:02X}")),
        }
    }
    url
}

/// Makes the file before SQLite does, so that nobody else can read it, not even for a moment. SQLite gives its
/// companions (`-wal`, `-shm`) the same mode.
fn prepare_file(path: &Path) -> Result<()> {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| file_error(path, error))?;
    let metadata = file.metadata().map_err(|error| file_error(path, error))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(|error| file_error(path, error))?;
    }
    Ok(())
}

fn file_error(path: &Path, error: std::io::Error) -> Error {
    Error::Unavailable {
        problem: format!("{} cannot be opened", path.display()),
        remedy: "check that its directory exists and that this account may write there",
        source: Box::new(error),
    }
}

async fn migrate(connection: &mut AnyConnection) -> Result<()> {
    // `run` takes anything that gives a connection, and a future that holds such a thing cannot be sent between
    // threads; `run_direct` is its core, made public for that reason.
    migrations().run_direct(None, connection, false).await.map_err(migration_error)
}

fn migrations() -> Migrator {
    let all = MIGRATIONS.map(|(version, description, sql)| {
        Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(all.into())
}

fn migration_error(error: MigrateError) -> Error {
    match error {
        MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => Error::Unavailable {
            problem: "it was written by a newer version of Ebbtide".to_owned(),
            remedy: "run that version, or a later one",
            source: Box::new(error),
        },
        MigrateError::VersionMismatch(_) | MigrateError::Dirty(_) => Error::Corrupt {
            what: "its schema is not one that was released".to_owned(),
            source: Some(Box::new(error)),
        },
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        other => Error::Unavailable {
            problem: "its schema cannot be brought up to date".to_owned(),
            remedy: "see the cause, mend it and start again",
            source: Box::new(other),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn locations_of_files_are_understood() {
        for location in ["/a/b c.db", "sqlite:/a/b c.db", "sqlite:///a/b c.db"] {
            assert_eq!(sqlite_path(location).unwrap(), Path::new("/a/b c.db"));
        }
        assert!(sqlite_path("cat.db").unwrap().is_absolute());
        assert!(sqlite_path("mysql://localhost/x").is_err());
        assert!(sqlite_path("").is_err());
        assert_eq!(sqlite_url(Path::new("/a/b ?#é.db")), "sqlite:///a/b%20%3F%23%C3%A9.db");
    }

    #[tokio::test]
    async fn service_accounts_of_before_keep_their_secret() {
        sqlx::any::install_default_drivers();
        let mut connection = AnyConnection::connect("sqlite::memory:").await.unwrap();
        for (version, _, sql) in MIGRATIONS {
            if version == 18 {
                sqlx::raw_sql(
                    "INSERT INTO credentials (id, kind, public_name, secret, description, created_at) VALUES \
                     ('0123456789abcdef01234567', 'serviceAccount', 'sa', 'hash', 'pipeline', 5), \
                     ('89abcdef0123456701234567', 'apiKey', 'abcdefgh', 'sealed', 'key', 6); \
                     INSERT INTO tokens (sha256, credential_id, expires_at) VALUES ('t', '0123456789abcdef01234567', 9)",
                )
                .execute(&mut connection)
                .await
                .unwrap();
            }
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        }
        let select = "SELECT kind, secret, secrets, name FROM credentials ORDER BY kind";
        let rows: Vec<(String, String, String, String)> =
            sqlx::query_as(select).fetch_all(&mut connection).await.unwrap();
        assert_eq!(rows[0], ("apiKey".into(), "sealed".into(), "[]".into(), String::new()));
        let (_, secret, secrets, name) = &rows[1];
        assert_eq!((secret.as_str(), name.as_str()), ("", "pipeline"));
        let secrets: model::account::AccountSecrets = serde_json::from_str(secrets).unwrap();
        let [first] = secrets.all() else { panic!("{secrets:?}") };
        assert_eq!(first.id.to_string(), "0123456789abcdef01234567");
        assert_eq!((first.sha256.0.as_str(), first.created_at), ("hash", model::WallTime(5)));
        assert_eq!((first.expires_at, first.last_used_at), (None, None));
        let (of_token,): (String,) =
            sqlx::query_as("SELECT secret_id FROM tokens").fetch_one(&mut connection).await.unwrap();
        assert_eq!(of_token, first.id.to_string());
    }

    #[tokio::test]
    async fn downloads_of_before_are_good_for_one_within_an_hour() {
        sqlx::any::install_default_drivers();
        let mut connection = AnyConnection::connect("sqlite::memory:").await.unwrap();
        for (version, _, sql) in MIGRATIONS {
            if version == 12 {
                sqlx::raw_sql(
                    "PRAGMA foreign_keys = OFF; INSERT INTO restore_jobs (id, project_id, deployment_id, \
                     deployment_name, snapshot_id, snapshot_completed_at, delivery, state, options, downloaded, \
                     deliveries, created_at) VALUES ('fetched', 'p', 'd', 'n', 's', 1, 'download', 'expired', '{}', 1, 2, 1), \
                     ('waiting', 'p', 'd', 'n', 't', 1, 'download', 'ready', '{}', 0, 0, 2)",
                )
                .execute(&mut connection)
                .await
                .unwrap();
            }
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        }
        let select = "SELECT id, downloads, downloads_max, link_hours FROM restore_jobs ORDER BY id";
        let rows: Vec<(String, i64, i64, i64)> =
            sqlx::query_as(select).fetch_all(&mut connection).await.unwrap();
        assert_eq!(rows, [("fetched".to_owned(), 1, 1, 1), ("waiting".to_owned(), 0, 1, 1)]);
    }

    #[tokio::test]
    async fn a_full_disk_loses_nothing_that_was_acknowledged() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = crate::Catalog::open(directory.path().join("c.db").to_str().unwrap()).await.unwrap();
        let now = model::WallTime(1);
        // The file may hardly grow: what a full disk says to SQLite.
        let (pages,): (i64,) =
            sqlx::query_as("PRAGMA page_count").fetch_one(catalog.database.writer()).await.unwrap();
        let limit = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {}", pages + 40));
        sqlx::query(limit).execute(catalog.database.writer()).await.unwrap();
        let mut acknowledged = 0_u64;
        let error = loop {
            match catalog.projects().create(&format!("{acknowledged:0>1000}"), now).await {
                Ok(_) => acknowledged += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().contains("the disk is full"), "{error}");
        assert!(acknowledged > 10);
        let count = async || catalog.projects().list(crate::Page::default()).await.unwrap().total;
        assert_eq!(count().await, Some(acknowledged), "reading goes on");

        sqlx::query("PRAGMA max_page_count = 1000000").execute(catalog.database.writer()).await.unwrap();
        catalog.projects().create("room again", now).await.unwrap();
        assert_eq!(count().await, Some(acknowledged + 1));
    }

    #[tokio::test]
    async fn a_transaction_that_the_database_ended_by_itself_costs_a_connection_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = crate::Catalog::open(directory.path().join("c.db").to_str().unwrap()).await.unwrap();
        let mut transaction = catalog.database.begin().await.unwrap();
        // What SQLite does when it runs out of space in the middle of one.
        sqlx::query("ROLLBACK").execute(&mut *transaction).await.unwrap();
        drop(transaction);
        for _ in 0..2 {
            catalog.database.begin().await.unwrap().commit().await.unwrap();
        }
        catalog.projects().create("after it", model::WallTime(1)).await.unwrap();
    }
}
