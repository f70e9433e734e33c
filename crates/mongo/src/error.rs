//! What can go wrong with a deployment, named by what the caller can do about it.

use std::{io, sync::Arc};

use crate::{ClusterTime, oplog::Position};

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whatever lies under an error. Shared, because errors of one connection attempt reach several waiters.
pub type Source = Arc<dyn std::error::Error + Send + Sync>;

/// An error of a deployment. Never holds a password or a connection string.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection string cannot be used.
    #[error("invalid connection string: {0}")]
    InvalidUri(String),
    /// No answer: wrong host, port closed, TLS that does not fit, network gone. Try again, or mend the connection string.
    #[error("cannot reach {host}: {reason}")]
    Unreachable {
        /// Host and port, or several.
        host: String,
        /// What happened, in words.
        reason: String,
        /// The error under it.
        #[source]
        source: Option<Source>,
    },
    /// The user, the password, the mechanism or the certificate is not accepted.
    #[error("authentication failed: {0}; check user, password and authSource in the connection string")]
    Authentication(String),
    /// The account may not do this. [`crate::privileges::check`] says what is missing.
    #[error("the account lacks a privilege: {0}")]
    Privilege(String),
    /// The history that an exact read needs has been overwritten (code 239). Read again at a later time.
    #[error(
        "the history of {namespace} at the time of the snapshot is gone (SnapshotTooOld); raise minSnapshotHistoryWindowInSeconds"
    )]
    SnapshotTooOld {
        /// What was read.
        namespace: String,
    },
    /// The collection changed its identity after the time of the read, or refuses snapshot reads (code 246).
    #[error("{namespace} cannot be read at the time of the snapshot: {message}")]
    SnapshotUnavailable {
        /// What was read.
        namespace: String,
        /// The server's words.
        message: String,
    },
    /// The member is no longer what it was, or shuts down. Find the primary again and go on.
    #[error("{host} is not the primary any more: {message}")]
    NotPrimary {
        /// Host and port.
        host: String,
        /// The server's words.
        message: String,
    },
    /// The server forgot the cursor, or killed it because its collection was dropped or renamed. Open it again.
    #[error("the cursor on {namespace} was lost: {message}")]
    CursorLost {
        /// What was read.
        namespace: String,
        /// The server's words.
        message: String,
    },
    /// There was an election since the last durable point; what was written after it may be gone.
    #[error("the primary's term changed from {before} to {after}")]
    TermChanged {
        /// The term that the work began in.
        before: i64,
        /// The term now.
        after: i64,
    },
    /// The right to use the deployment was withdrawn (see [`crate::Permit`]): nothing was sent.
    #[error("nothing may be sent to the deployment any more: somebody else has the job")]
    NotPermitted,
    /// The collection or database is not there (code 26).
    #[error("{0} does not exist")]
    NamespaceNotFound(String),
    /// The catalog would not stand still long enough.
    #[error(
        "collections or indexes kept changing ({rounds} listings, last change {last_change}); run the job when DDL is quieter"
    )]
    Unstable {
        /// How often it was tried.
        rounds: u32,
        /// The last change seen, for a person.
        last_change: String,
    },
    /// The oplog no longer reaches back to a time that must be searched.
    #[error("the oplog begins at {oldest}, after {wanted}: changes in between cannot be known")]
    OplogGap {
        /// The time that was needed.
        wanted: ClusterTime,
        /// The oldest entry there is.
        oldest: ClusterTime,
    },
    /// The oplog was cut past an entry that has to be followed: entries after it may be gone, so a record that ends with it
    /// cannot go on.
    #[error("the oplog begins at {oldest} and no longer has the entry {after}: entries in between are gone")]
    RolledOver {
        /// The entry to be followed.
        after: Position,
        /// The oldest entry there is.
        oldest: Position,
    },
    /// The oplog reaches back far enough and does not have the entry that has to be followed: it was rolled back, or the
    /// deployment was put back to an earlier state.
    #[error(
        "the oplog, which reaches from {oldest} to {newest}, does not have the entry {after}: it was rolled back"
    )]
    RolledBack {
        /// The entry to be followed.
        after: Position,
        /// The oldest entry there is.
        oldest: Position,
        /// The newest entry there is.
        newest: Position,
    },
    /// An entry of the oplog was given after one that it cannot follow.
    #[error("the oplog shows the entry {next} after {last}, which cannot be")]
    OplogDisorder {
        /// The entry before.
        last: Position,
        /// The entry that does not follow it.
        next: Position,
    },
    /// A record cannot begin before a transaction that is open, because the oplog does not reach back beyond it.
    #[error(
        "a transaction is open since {began}, and the oplog has nothing before it (its first entry is of {oldest}): try \
         again when the transaction has ended"
    )]
    TransactionCut {
        /// When the transaction began, as far as is known.
        began: ClusterTime,
        /// The oldest entry there is.
        oldest: ClusterTime,
    },
    /// Ebbtide does not work with this; the text says with what and why.
    #[error("{0}")]
    Unsupported(String),
    /// The server did not finish in time (code 50 or 64), or the reply did not come.
    #[error("{}", timed_out(what, *limit_seconds))]
    TimedOut {
        /// The operation.
        what: String,
        /// The limit; 0 when the server set it.
        limit_seconds: u64,
    },
    /// Any other error that the server reports.
    #[error("the server answered error {code} ({name}): {message}")]
    Server {
        /// The code.
        code: i32,
        /// Its name.
        name: String,
        /// The server's words.
        message: String,
    },
    /// The server said something that does not follow the protocol.
    #[error("unexpected reply from the server: {0}")]
    Protocol(String),
}

impl Error {
    /// Whether the same thing may work when tried again, on a new connection and after looking for the primary.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::NotPrimary { .. }
            | Self::CursorLost { .. }
            | Self::TimedOut { .. } => true,
            Self::Server { code, .. } => TRANSIENT_CODES.contains(code),
            _ => false,
        }
    }

    /// The server's code, where the error is the server's answer and is not named by a variant.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Server { code, .. } => Some(*code),
            _ => None,
        }
    }

    pub(crate) fn io(host: &str, error: io::Error) -> Self {
        Self::Unreachable {
            host: host.to_owned(),
            reason: plain_reason(&error),
            source: Some(Arc::new(error)),
        }
    }

    /// Sorts what the driver reports. `hosts` is whom it talked to, `about` what it was asked.
    pub fn from_driver(hosts: &str, about: &str, error: &mongodb::error::Error) -> Self {
        use mongodb::error::ErrorKind;
        let unreachable = |reason: &str| Self::Unreachable {
            host: hosts.to_owned(),
            reason: reason.to_owned(),
            source: Some(Arc::new(error.clone())),
        };
        match error.kind.as_ref() {
            ErrorKind::Command(command) => {
                Self::from_server(hosts, about, command.code, &command.code_name, &command.message)
            }
            ErrorKind::Authentication { message, .. } => Self::Authentication(message.clone()),
            ErrorKind::ServerSelection { .. } => unreachable(
                "no suitable member answers (is a primary elected, and do the members' own host names resolve from here?)",
            ),
            ErrorKind::Io(io) => Self::io(hosts, io::Error::new(io.kind(), io.clone())),
            ErrorKind::ConnectionPoolCleared { .. } | ErrorKind::DnsResolve { .. } | ErrorKind::Shutdown => {
                unreachable("the connection was lost")
            }
            ErrorKind::InvalidTlsConfig { message, .. } | ErrorKind::InvalidArgument { message, .. } => {
                Self::InvalidUri(message.clone())
            }
            ErrorKind::IncompatibleServer { message, .. } => Self::Unsupported(message.clone()),
            other => Self::Protocol(other.to_string()),
        }
    }

    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol(what.into())
    }

    /// Sorts an answer of the server by what the caller can do. `about` is the namespace or the command.
    pub fn from_server(host: &str, about: &str, code: i32, name: &str, message: &str) -> Self {
        let message_owned = || message.to_owned();
        match code {
            13 | 8000 => Self::Privilege(message_owned()),
            18 | 334 => Self::Authentication(message_owned()),
            26 => Self::NamespaceNotFound(about.to_owned()),
            239 => Self::SnapshotTooOld { namespace: about.to_owned() },
            246 => Self::SnapshotUnavailable { namespace: about.to_owned(), message: message_owned() },
            43 | 136 | 175 | 237 => {
                Self::CursorLost { namespace: about.to_owned(), message: message_owned() }
            }
            50 | 64 | 262 => Self::TimedOut { what: about.to_owned(), limit_seconds: 0 },
            91 | 189 | 10058 | 10107 | 11600 | 11602 | 13435 | 13436 => {
                Self::NotPrimary { host: host.to_owned(), message: message_owned() }
            }
            _ => Self::Server { code, name: name.to_owned(), message: message_owned() },
        }
    }
}

/// HostUnreachable, HostNotFound, NetworkTimeout, SocketException, ExceededTimeLimit, WriteConflict, LockTimeout,
/// ReadConcernMajorityNotAvailableYet, NetworkInterfaceExceededTimeLimit, TransactionTooLargeForCache (a large document
/// while the cache is full of other writes), Interrupted, InterruptedDueToReplStateChange; and
/// BackgroundOperationInProgressForDatabase and …ForNamespace: somebody builds an index there.
const TRANSIENT_CODES: [i32; 14] = [6, 7, 24, 89, 112, 134, 202, 262, 388, 9001, 11601, 225, 12586, 12587];

fn timed_out(what: &str, limit_seconds: u64) -> String {
    match limit_seconds {
        0 => format!("{what} took longer than the server allows"),
        limit => format!("{what} took longer than {limit} s"),
    }
}

/// What a person needs of an IO error, without the operating system's number.
fn plain_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused (is mongod running there?)".to_owned(),
        io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "the server closed the connection".to_owned()
        }
        _ => error.to_string(),
    }
}
