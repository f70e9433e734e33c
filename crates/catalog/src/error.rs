//! What can go wrong, named by what the caller can do about it.

use sqlx::error::ErrorKind;

/// Result of a catalog operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a catalog operation did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such row. Answer "not found".
    #[error("no {what} {id} exists")]
    NotFound {
        /// What was looked for: `project`, `deployment`, `snapshot`, `restore job`.
        what: &'static str,
        /// The id or name.
        id: String,
    },
    /// The name is taken. Choose another.
    #[error("a {what} named {name} exists already")]
    AlreadyExists {
        /// What would be there twice.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Something else has to end first.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The thing is in a state that does not allow this.
    #[error(transparent)]
    Illegal(#[from] model::IllegalTransition),
    /// The work item belongs to another worker now, or has ended. Stop, and write nothing.
    #[error("the lease on {what} was lost: another worker has it, or it has ended")]
    LeaseLost {
        /// The work item, or the collector.
        what: String,
    },
    /// Others hold the database for the moment. Try again.
    #[error("the catalog is busy; try again")]
    Busy(#[source] sqlx::Error),
    /// The database cannot be used until somebody mends what is said.
    #[error("the catalog cannot be used: {problem}; {remedy}")]
    Unavailable {
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: &'static str,
        /// The driver's own words.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What is stored cannot be what was written.
    #[error(
        "the catalog is damaged: {what}; restore its file from a backup or run `ebbtide admin rebuild-catalog`"
    )]
    Corrupt {
        /// Which part, and how.
        what: String,
        /// The driver's own words, if it was the driver that noticed.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

/// Another thing that has to end first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The deployment has an on-demand snapshot that is queued or in progress.
    #[error("an on-demand snapshot of this deployment is queued or in progress; wait until it ends")]
    OnDemandUnfinished,
    /// Another restore writes to the target.
    #[error("another restore into this deployment is queued or running; wait until it ends or cancel it")]
    TargetBusy,
    /// The snapshot has an active download.
    #[error("a download of this snapshot is being prepared or waits to be fetched; fetch or cancel it first")]
    SnapshotDownloading,
    /// The project has as many active downloads as it may.
    #[error("the project has {limit} active downloads already; fetch or cancel one first")]
    TooManyDownloads {
        /// [`crate::PROJECT_DOWNLOADS_MAX`].
        limit: u32,
    },
    /// Somebody has said that the snapshot is not to be deleted.
    #[error("the snapshot is marked as not to be deleted (doNotDelete); take that back first")]
    SnapshotKept,
    /// The snapshot has an export that is queued or under way.
    #[error("an export of this snapshot is queued or under way; wait until it ends")]
    SnapshotExporting,
    /// An export to the bucket is queued or under way, or a schedule exports to it.
    #[error(
        "an export to this bucket is queued or under way, or a schedule exports to it; wait until it ends, or switch that off"
    )]
    BucketInUse,
    /// A snapshot or a restore of the deployment is queued or running.
    #[error("a snapshot or restore of this deployment is queued or running; wait until it ends or cancel it")]
    DeploymentBusy,
    /// The access list of the credential has as many entries as it may.
    #[error("the access list would have more than {max} entries", max = model::network::AccessList::ENTRIES_MAX)]
    AccessListFull,
    /// The service account has as many secrets as it may.
    #[error(transparent)]
    SecretsFull(model::account::TooManySecrets),
    /// The project has deployments.
    #[error("the project has {deployments} registered deployments; remove them first")]
    ProjectHasDeployments {
        /// How many.
        deployments: u64,
    },
    /// The project has backups of deployments that were removed.
    #[error(
        "the project has {snapshots} snapshots of deployments that were removed; delete them first, or wait until they expire"
    )]
    ProjectHasSnapshots {
        /// How many.
        snapshots: u64,
    },
    /// The project has a backup compliance policy.
    #[error("the project has a backup compliance policy; lift it first")]
    ProjectHasPolicy,
    /// The backup compliance policy of the project does not allow it.
    #[error("the backup compliance policy of the project forbids this: {0}")]
    Forbidden(model::compliance::Forbidden),
    /// Somebody else has changed the schedule since it was read.
    #[error("the schedule was changed in the same moment; look at it, and try again")]
    ScheduleChanged,
    /// A connection string leads to another replica set than the one that is registered.
    #[error(
        "the connection string leads to another replica set than the registered one, whose id is {registered}: register \
         that one under a name of its own"
    )]
    OtherReplicaSet {
        /// The id that the registered one was initiated with.
        registered: String,
    },
    /// What ended jobs did to the deployment is not undone yet, and could not be once its connection string is forgotten.
    #[error(
        "what jobs did to this deployment is not undone yet: {what}; it is tried again all the time, so make the \
         deployment reachable and wait; or remove it by force, and undo that yourself"
    )]
    NotUndone {
        /// Each thing, with what was there before and whose it is.
        what: String,
    },
}

impl Error {
    pub(crate) fn not_found(what: &'static str, id: impl std::fmt::Display) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }

    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into(), source: None }
    }

    /// Whether the same call may succeed in a moment.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Busy(_))
    }
}

impl From<model::compliance::Forbidden> for Error {
    fn from(forbidden: model::compliance::Forbidden) -> Self {
        Self::Conflict(Conflict::Forbidden(forbidden))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        classify(error)
    }
}

/// Whether a statement was refused because a row with these values is there.
pub(crate) fn is_duplicate(error: &sqlx::Error) -> bool {
    matches!(error.as_database_error().map(|e| e.kind()), Some(ErrorKind::UniqueViolation))
}

/// Whether a statement was refused because what it refers to is not there.
pub(crate) fn is_orphan(error: &sqlx::Error) -> bool {
    matches!(error.as_database_error().map(|e| e.kind()), Some(ErrorKind::ForeignKeyViolation))
}

const FULL_REMEDY: &str = "free some space and try again; nothing that was acknowledged is lost";
const REACH_REMEDY: &str = "check that the database server runs and can be reached from here";
const ACCESS_REMEDY: &str =
    "check that the path or URL is right and that this account may read and write there";
const REPORT_REMEDY: &str = "see the log, and report it if it comes again";

fn classify(error: sqlx::Error) -> Error {
    let unavailable = |problem: String, remedy, error: sqlx::Error| Error::Unavailable {
        problem,
        remedy,
        source: Box::new(error),
    };
    match &error {
        sqlx::Error::PoolTimedOut => Error::Busy(error),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            unavailable("it cannot be reached".to_owned(), REACH_REMEDY, error)
        }
        sqlx::Error::Configuration(_) => {
            unavailable("its location is not understood".to_owned(), ACCESS_REMEDY, error)
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) | sqlx::Error::Decode(_) => {
            Error::Corrupt {
                what: "a column holds something else than was written".to_owned(),
                source: Some(Box::new(error)),
            }
        }
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default().into_owned();
            match Trouble::of(&code) {
                Trouble::Busy => Error::Busy(error),
                Trouble::Full => unavailable("the disk is full".to_owned(), FULL_REMEDY, error),
                Trouble::Corrupt => Error::Corrupt {
                    what: "the file is not a catalog or its pages are broken".to_owned(),
                    source: Some(Box::new(error)),
                },
                Trouble::Access => {
                    unavailable("it cannot be opened or written".to_owned(), ACCESS_REMEDY, error)
                }
                Trouble::Away => {
                    unavailable("the database server is not available".to_owned(), REACH_REMEDY, error)
                }
                Trouble::Other => unavailable("a statement was refused".to_owned(), REPORT_REMEDY, error),
            }
        }
        _ => unavailable("the driver failed".to_owned(), REPORT_REMEDY, error),
    }
}

/// What a database's error code means to us.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    Busy,
    Full,
    Corrupt,
    Access,
    Away,
    Other,
}

impl Trouble {
    /// SQLite's codes are numbers of which the low byte is the primary one; PostgreSQL's have five characters.
    fn of(code: &str) -> Self {
        if code.len() == 5 {
            return Self::of_postgres(code);
        }
        match code.parse::<i32>().map(|number| number & 0xff) {
            Ok(5 | 6) => Self::Busy,
            Ok(13) => Self::Full,
            Ok(11 | 26) => Self::Corrupt,
            Ok(3 | 8 | 10 | 14 | 23) => Self::Access,
            _ => Self::Other,
        }
    }

    fn of_postgres(code: &str) -> Self {
        match code {
            "40001" | "40P01" | "55P03" | "53300" | "57014" => Self::Busy,
            "53100" | "53200" => Self::Full,
            "XX001" | "XX002" => Self::Corrupt,
            "28000" | "28P01" | "3D000" | "42501" | "25006" => Self::Access,
            _ if code.starts_with("57P") || code.starts_with("08") => Self::Away,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_both_databases_are_understood() {
        for (code, trouble) in [
            ("5", Trouble::Busy),
            ("517", Trouble::Busy),
            ("13", Trouble::Full),
            ("11", Trouble::Corrupt),
            ("26", Trouble::Corrupt),
            ("1544", Trouble::Access),
            ("40P01", Trouble::Busy),
            ("53100", Trouble::Full),
            ("57P01", Trouble::Away),
            ("28P01", Trouble::Access),
            ("22021", Trouble::Other),
            ("", Trouble::Other),
        ] {
            assert_eq!(Trouble::of(code), trouble, "{code}");
        }
    }
}
