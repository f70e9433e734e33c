//! How data-plane connections are made: the parts of the connection string that the driver parsed.

use std::{fmt, sync::Arc, time::Duration};

use mongodb::options::{ClientOptions, Tls};
use rustls::ClientConfig;

use super::auth::Credential;
use crate::{Error, Result};

/// Host and port of one member.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Address {
    /// Reads `host:port`; IPv6 addresses in brackets.
    ///
    /// # Errors
    /// [`Error::Protocol`] when the port is missing or malformed.
    pub fn parse(text: &str) -> Result<Self> {
        let malformed = || Error::protocol(format!("{text:?} is not host:port"));
        let (host, port) = text.rsplit_once(':').ok_or_else(malformed)?;
        let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(malformed());
        }
        Ok(Self { host: host.to_owned(), port: port.parse().map_err(|_| malformed())? })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Everything a connection needs but the address. Debug shows no secret.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) credential: Option<Credential>,
    pub(super) app_name: String,
    pub(super) connect_timeout: Duration,
}

impl Settings {
    /// Takes over what the driver parsed.
    ///
    /// # Errors
    /// A file that cannot be read, a mechanism that is not supported.
    pub fn from_driver(options: &ClientOptions, app_name: &str, connect_timeout: Duration) -> Result<Self> {
        let tls = match &options.tls {
            Some(Tls::Enabled(tls)) => Some(super::tls::config(tls)?),
            _ => None,
        };
        let credential = options.credential.as_ref().map(Credential::from_driver).transpose()?;
        Ok(Self { tls, credential, app_name: app_name.to_owned(), connect_timeout })
    }

    /// The same without logging in: for asking what a server is, and whether it asks who we are.
    #[must_use]
    pub fn anonymous(&self) -> Self {
        Self { credential: None, ..self.clone() }
    }

    /// Whether connections are encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_read_and_written_alike() {
        for text in ["127.0.0.1:27017", "db-0.example.net:1", "[::1]:27017"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Address::parse("[::1]:1").unwrap().host, "::1");
        for text in ["", "host", ":1", "host:", "host:99999", "host:-1"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}
