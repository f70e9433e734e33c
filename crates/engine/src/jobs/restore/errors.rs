//! What an error of the target means for the job, and what a person can do about it.

use mongo::Error;

use crate::lease::JobError;

/// Codes of a disk that is full: OutOfDiskSpace, and FileStreamFailed of older servers.
const DISK_FULL_CODES: [i32; 2] = [14_031, 39];
const DUPLICATE_KEY: i32 = 11_000;
/// DatabaseDifferCase.
const DATABASE_DIFFERS_BY_CASE: i32 = 13_297;

/// Whether the same work may succeed when it is done again: the network, an election, a member that restarts.
pub(crate) fn passes(error: &Error) -> bool {
    error.is_transient() || matches!(error, Error::TermChanged { .. })
}

/// The error as the job's end: what was done to which collection, what happened, what to do.
///
/// What may pass is worth another attempt of the job; what does not ends it.
pub(crate) fn job_error(doing: &str, about: impl std::fmt::Display, error: Error) -> JobError {
    if matches!(error, Error::NotPermitted) {
        return JobError::Lost;
    }
    let what = format!("{doing} {about}");
    if passes(&error) {
        return JobError::retry_by(format!("{what} did not succeed"), error);
    }
    let advice = advice(&error);
    JobError::failed_by(format!("{what} failed{advice}"), error)
}

fn advice(error: &Error) -> &'static str {
    match error {
        Error::Privilege(_) => {
            "; grant the documented restore role to the account of the target and start the restore again"
        }
        Error::Server { code, message, .. }
            if DISK_FULL_CODES.contains(code) || message.contains("No space left") =>
        {
            "; free disk space on the target, or restore with inPlace, which needs no room for two copies"
        }
        Error::Server { code: DUPLICATE_KEY, .. } => {
            "; the snapshot's documents do not fit a unique index: they were stored so before the index was made unique, or the index has another collation on this version"
        }
        Error::Server { code: DATABASE_DIFFERS_BY_CASE, .. } => {
            "; drop or rename the database whose name differs only by case, or restore with inPlace"
        }
        Error::Authentication(_) => "; mend the connection string of the target",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: i32, message: &str) -> Error {
        Error::Server { code, name: "X".to_owned(), message: message.to_owned() }
    }

    #[test]
    fn an_election_is_worth_another_attempt_and_a_full_disk_is_not() {
        for error in [
            Error::TermChanged { before: 1, after: 2 },
            Error::Unreachable { host: "h:1".to_owned(), reason: "gone".to_owned(), source: None },
            Error::NotPrimary { host: "h:1".to_owned(), message: "m".to_owned() },
        ] {
            assert!(matches!(job_error("loading", "a.b", error), JobError::Retry { .. }));
        }
        for error in [
            server(14_031, "m"),
            server(1, "No space left on device"),
            server(11_000, "E11000"),
            Error::Privilege("p".to_owned()),
        ] {
            let error = job_error("loading", "a.b", error);
            assert!(matches!(error, JobError::Failed { .. }));
            let text = error.full_text();
            assert!(text.starts_with("loading a.b failed; "), "{text}");
        }
    }
}
