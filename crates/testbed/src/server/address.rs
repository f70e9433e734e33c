//! Connection strings and other ways to name the members of a [`Server`].

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{REPLICA_SET, ROOT_PASSWORD, ROOT_USER, Server};
use crate::tls::Certificates;

impl Server {
    pub(super) fn uri_of(&self, members: &[usize], user: Option<(&str, &str)>, direct: bool) -> String {
        let hosts: Vec<String> = members
            .iter()
            .filter_map(|index| self.ports.get(*index))
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let mut uri = String::from("mongodb://");
        let mut query: Vec<String> = Vec::new();
        if let Some((name, password)) = user {
            uri.push_str(&format!("{}:{}@", percent_encoded(name), percent_encoded(password)));
            query.push("authSource=admin".to_owned());
        }
        uri.push_str(&hosts.join(","));
        if direct {
            query.push("directConnection=true".to_owned());
        } else if self.options.replica_set_members > 0 {
            query.push(format!("replicaSet={REPLICA_SET}"));
        }
        if let Some(certificates) = &self.certificates {
            query.push("tls=true".to_owned());
            query.push(format!("tlsCAFile={}", percent_encoded(&certificates.authority.to_string_lossy())));
            if self.options.tls.as_ref().is_some_and(|tls| tls.require_client_certificate) {
                query.push(format!(
                    "tlsCertificateKeyFile={}",
                    percent_encoded(&certificates.client.to_string_lossy())
                ));
            }
        }
        format!("{uri}/?{}", query.join("&"))
    }

    fn root(&self) -> Option<(&'static str, &'static str)> {
        self.options.auth.then_some((ROOT_USER, ROOT_PASSWORD))
    }

    pub(super) fn all(&self) -> Vec<usize> {
        (0..self.ports.len()).collect()
    }

    /// The connection string, with the root user's credentials when there is one.
    pub fn uri(&self) -> String {
        self.uri_of(&self.all(), self.root(), false)
    }

    /// The connection string with other credentials.
    pub fn uri_for(&self, user: &str, password: &str) -> String {
        self.uri_of(&self.all(), Some((user, password)), false)
    }

    /// The connection string without credentials.
    pub fn uri_without_user(&self) -> String {
        self.uri_of(&self.all(), None, false)
    }

    /// The connection string for X.509: the client certificate is the user (see [`Certificates::CLIENT_SUBJECT`]).
    pub fn uri_x509(&self) -> anyhow::Result<String> {
        let certificates = self.certificates.as_ref().context("the server has no TLS")?;
        let mut uri = self.uri_of(&self.all(), None, false);
        if !uri.contains("tlsCertificateKeyFile") {
            uri.push_str(&format!(
                "&tlsCertificateKeyFile={}",
                percent_encoded(&certificates.client.to_string_lossy())
            ));
        }
        uri.push_str("&authMechanism=MONGODB-X509&authSource=%24external");
        Ok(uri)
    }

    /// The connection string of one member alone, with the root user's credentials when there is one.
    pub fn uri_of_member(&self, index: usize) -> String {
        self.uri_of(&[index], self.root(), true)
    }

    /// `127.0.0.1:port` of the first member.
    pub fn host_port(&self) -> String {
        self.host_port_of(0)
    }

    /// `127.0.0.1:port` of one member.
    pub fn host_port_of(&self, index: usize) -> String {
        format!("127.0.0.1:{}", self.ports.get(index).copied().unwrap_or_default())
    }

    /// Which member listens there.
    pub fn index_of(&self, host_port: &str) -> Option<usize> {
        self.all().into_iter().find(|index| self.host_port_of(*index) == host_port)
    }

    /// The certificates, when TLS is on.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// The directory that holds the data of one member.
    pub fn data_directory(&self, index: usize) -> PathBuf {
        self.directory.join(format!("member-{index}"))
    }

    /// The server program that was named in the options.
    pub fn binary(&self) -> Option<&Path> {
        self.options.binary.as_deref()
    }

    /// The version that was asked for.
    pub fn version(&self) -> &str {
        &self.options.version
    }
}

/// Percent-encodes everything but unreserved characters.
pub fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
