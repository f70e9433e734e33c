//! Places where a vault can be: a local directory or a bucket that speaks S3.

use std::{fmt, path::PathBuf};

use zeroize::Zeroizing;

use crate::{Error, Result};

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The secret itself, for the one who must send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How to reach a bucket. What is absent is taken from the usual `AWS_…` environment variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct S3Options {
    /// Where the service is, when it is not AWS: `https://minio.example.net:9000`. Buckets are then addressed
    /// by path.
    pub endpoint: Option<String>,
    /// The region; `us-east-1` when nothing says otherwise.
    pub region: Option<String>,
    /// The public half of the credentials.
    pub access_key_id: Option<String>,
    /// The secret half.
    pub secret_access_key: Option<Secret>,
    /// Whether to talk to an endpoint without TLS. Objects are sealed all the same.
    pub allow_http: bool,
}

/// Where a vault is.
#[derive(Debug, Clone)]
pub struct Location {
    pub(crate) place: Place,
    pub(crate) text: String,
    /// Off only where a test stores so much that waiting for the disk would be all it does.
    pub(crate) fsync: bool,
    #[cfg(any(test, feature = "testing"))]
    pub(crate) faults: Option<crate::faults::Faults>,
}

#[derive(Debug, Clone)]
pub(crate) enum Place {
    Directory(PathBuf),
    S3 {
        bucket: String,
        prefix: String,
        options: S3Options,
    },
    #[cfg(any(test, feature = "testing"))]
    Memory(std::sync::Arc<object_store::memory::InMemory>),
}

impl Location {
    /// Reads `/directory`, `file:///directory` or `s3://bucket/prefix`.
    ///
    /// # Errors
    /// [`Error::Location`] when the text is none of these.
    pub fn parse(text: &str, options: S3Options) -> Result<Self> {
        let refuse = |why: &str| Error::Location { text: text.to_owned(), why: why.to_owned() };
        let place = match text.split_once("://") {
            None if text.is_empty() => return Err(refuse("it is empty")),
            None => directory(text).map_err(|why| refuse(&why))?,
            Some(("file", path)) if path.starts_with('/') && !path.contains('%') => {
                directory(path).map_err(|why| refuse(&why))?
            }
            Some(("file", _)) => {
                return Err(refuse("a file URL is file:///absolute/path without %; or write the plain path"));
            }
            Some(("s3", rest)) => bucket(rest, options).map_err(refuse)?,
            Some(_) => return Err(refuse("it is neither a path nor an s3:// URL")),
        };
        let text = match &place {
            Place::Directory(path) => path.display().to_string(),
            _ => text.to_owned(),
        };
        Ok(Self::new(place, text))
    }

    fn new(place: Place, text: String) -> Self {
        Self {
            place,
            text,
            fsync: true,
            #[cfg(any(test, feature = "testing"))]
            faults: None,
        }
    }

    /// A vault that lives in this process only.
    #[cfg(any(test, feature = "testing"))]
    pub fn memory() -> Self {
        Self::new(Place::Memory(std::sync::Arc::default()), "memory".to_owned())
    }

    /// The same place, where things go wrong as `faults` says.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn with_faults(mut self, faults: crate::faults::Faults) -> Self {
        self.faults = Some(faults);
        self
    }

    /// The same place without waiting for the disk.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn without_fsync(mut self) -> Self {
        self.fsync = false;
        self
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn directory(path: &str) -> Result<Place, String> {
    std::path::absolute(path).map(Place::Directory).map_err(|e| e.to_string())
}

fn bucket(rest: &str, options: S3Options) -> Result<Place, &'static str> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err("it names no bucket; write s3://bucket or s3://bucket/prefix");
    }
    if bucket.contains(['@', ':', '?']) {
        return Err("a bucket is a plain name; endpoint and credentials are options of their own");
    }
    if prefix.contains(['?', '#']) {
        return Err("a prefix is a plain path");
    }
    let prefix = prefix.trim_matches('/').to_owned();
    Ok(Place::S3 { bucket: bucket.to_owned(), prefix, options })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn places_are_recognised() {
        let parse = |text| Location::parse(text, S3Options::default());
        for text in ["/srv/vault", "file:///srv/vault"] {
            let location = parse(text).unwrap();
            assert!(matches!(&location.place, Place::Directory(p) if p == &PathBuf::from("/srv/vault")));
            assert_eq!(location.to_string(), "/srv/vault");
        }
        assert!(matches!(parse("vault").unwrap().place, Place::Directory(p) if p.is_absolute()));
        for (text, expected) in [("s3://b", ""), ("s3://b/", ""), ("s3://b/a/c/", "a/c")] {
            let Place::S3 { bucket, prefix, .. } = parse(text).unwrap().place else { panic!("{text}") };
            assert_eq!((bucket.as_str(), prefix.as_str()), ("b", expected));
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "",
            "s3://",
            "s3:///p",
            "s3://u:p@h/b",
            "file://host/p",
            "file:///a%20b",
            "gopher://x",
            "s3://b/p?x=1",
        ] {
            let error = Location::parse(text, S3Options::default()).unwrap_err();
            assert!(matches!(error, Error::Location { .. }), "{text}");
        }
    }

    #[test]
    fn secrets_stay_out_of_sight() {
        let options = S3Options { secret_access_key: Some(Secret::new("hunter2")), ..S3Options::default() };
        let location = Location::parse("s3://b/p", options).unwrap();
        assert!(!format!("{location:?} {location}").contains("hunter2"));
    }
}
