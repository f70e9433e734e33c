//! The control plane: finding a deployment, refusing what cannot be backed up, and opening data-plane connections.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bson::{Document, doc};
use mongodb::options::{ClientOptions, SelectionCriteria};

use crate::{
    Error, Facts, Permit, Result, Uri,
    identify::{identify, seeds},
    wire::{self, Address},
};

/// Pooled control-plane connections per member. Bulk data never goes this way.
const CONTROL_CONNECTIONS_MAX: u32 = 8;

/// How to connect.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Shown in the server's log and in `currentOp`.
    pub app_name: String,
    /// Longest wait for a server to be found and to answer.
    pub connect_timeout: Duration,
    /// Accept versions newer than those that Ebbtide is tested with.
    pub allow_untested_version: bool,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            app_name: "ebbtide".to_owned(),
            connect_timeout: Duration::from_secs(10),
            allow_untested_version: false,
        }
    }
}

/// What a deployment is, as far as it needs no privilege to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Of the primary, or of the first seed that answered.
    pub version: (u32, u32, u32),
    /// As the server writes it.
    pub version_text: String,
    /// The replica set's name.
    pub replica_set_name: String,
    /// Version outside the tested range, accepted by [`ConnectOptions::allow_untested_version`].
    pub untested: bool,
    /// Whether the server checks privileges.
    pub auth_enabled: bool,
    /// Whether connections are encrypted.
    pub tls: bool,
}

/// A reachable replica set. Cheap to clone; clones share the driver's connections.
#[derive(Debug, Clone)]
pub struct Deployment(Arc<Inner>, Permit);

#[derive(Debug)]
struct Inner {
    client: mongodb::Client,
    identity: Identity,
    settings: wire::Settings,
    /// The one address that a `directConnection` goes to, whatever the member calls itself.
    direct: Option<Address>,
    reads_go_to: Option<SelectionCriteria>,
    /// The member chosen by it. Kept, so that all readers of a job read from the one whose history window was raised.
    reads_come_from: Mutex<Option<Address>>,
    /// For messages.
    hosts: String,
}

impl Deployment {
    /// Finds the deployment, authenticates, and refuses what Ebbtide cannot back up.
    ///
    /// # Errors
    /// `Unreachable` (naming hosts), `Authentication`, `Unsupported` (standalone, mongos, sharded member, version).
    pub async fn connect(uri: &Uri, options: &ConnectOptions) -> Result<Self> {
        let mut driver = parse(uri).await?;
        driver.app_name = Some(options.app_name.clone());
        driver.connect_timeout = Some(options.connect_timeout);
        driver.server_selection_timeout = Some(options.connect_timeout);
        driver.max_pool_size = Some(CONTROL_CONNECTIONS_MAX);
        // The data plane asks for the primary or for the connection string's read preference by itself.
        let reads_go_to = driver.selection_criteria.take();
        let seeds = seeds(&driver)?;
        let settings = wire::Settings::from_driver(&driver, &options.app_name, options.connect_timeout)?;
        let identity = identify(&seeds, &settings, &driver, options.allow_untested_version).await?;
        let hosts = seeds.iter().map(Address::to_string).collect::<Vec<_>>().join(", ");
        let direct = if driver.direct_connection == Some(true) { seeds.into_iter().next() } else { None };
        let client = mongodb::Client::with_options(driver)
            .map_err(|error| Error::from_driver(&hosts, "the client", &error))?;
        let deployment = Self(
            Arc::new(Inner {
                client,
                identity,
                settings,
                direct,
                reads_go_to,
                reads_come_from: Mutex::default(),
                hosts,
            }),
            Permit::default(),
        );
        // Proves that a primary is there and that the account is accepted, by the driver and by the data plane alike.
        deployment.run_admin(doc! { "ping": 1 }).await?;
        deployment.primary_wire().await?;
        Ok(deployment)
    }

    /// The same deployment, to which no command goes once `permit` is withdrawn, on no connection opened from here on.
    #[must_use]
    pub fn with_permit(&self, permit: Permit) -> Self {
        Self(Arc::clone(&self.0), permit)
    }

    /// Whether commands may be sent.
    ///
    /// # Errors
    /// [`Error::NotPermitted`].
    pub(crate) fn permitted(&self) -> Result<()> {
        self.1.check()
    }

    /// The official driver's client. What goes through it asks for no permit.
    pub fn driver(&self) -> &mongodb::Client {
        &self.0.client
    }

    /// Version and name.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// `(major, minor, patch)` of mongod.
    pub fn version(&self) -> (u32, u32, u32) {
        self.0.identity.version
    }

    /// Everything worth knowing before a job.
    ///
    /// # Errors
    /// `Privilege` when the account may not look, see [`crate::privileges::check`]; `Unsupported` for a member of a
    /// sharded cluster.
    pub async fn facts(&self) -> Result<Facts> {
        crate::facts::gather(self).await
    }

    /// Runs a command on the primary through the driver, which finds the primary.
    ///
    /// # Errors
    /// The server's, sorted.
    pub async fn run(&self, db: &str, command: Document) -> Result<Document> {
        self.permitted()?;
        let name = command.keys().next().cloned().unwrap_or_default();
        let reply = self.0.client.database(db).run_command(command).await;
        reply.map_err(|error| Error::from_driver(&self.0.hosts, &format!("{name} on {db}"), &error))
    }

    /// [`Deployment::run`] on `admin`.
    ///
    /// # Errors
    /// The server's, sorted.
    pub async fn run_admin(&self, command: Document) -> Result<Document> {
        self.run("admin", command).await
    }

    /// A new authenticated data-plane connection to the primary of this moment.
    ///
    /// # Errors
    /// `Unreachable`, `Authentication`; `NotPrimary` when a direct connection leads elsewhere or an election goes on.
    pub async fn primary_wire(&self) -> Result<wire::Connection> {
        let address = match &self.0.direct {
            Some(address) => address.clone(),
            None => self.member(None).await?,
        };
        let connection = self.wire_to(&address).await?;
        if !connection.hello().is_primary {
            let host = address.to_string();
            return Err(Error::NotPrimary {
                host,
                message: "an election goes on, or a direct connection leads to a secondary".to_owned(),
            });
        }
        Ok(connection)
    }

    /// A new authenticated data-plane connection to the member that reads go to: chosen once by the connection
    /// string's `readPreference` (by default the primary), and again only when that member is away.
    ///
    /// # Errors
    /// `Unreachable`, `Authentication`.
    pub async fn read_wire(&self) -> Result<wire::Connection> {
        if let Some(address) = &self.0.direct {
            return self.wire_to(address).await;
        }
        let chosen = self.0.reads_come_from.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(address) = chosen {
            match self.wire_to(&address).await {
                Ok(connection) if connection.hello().holds_data() => return Ok(connection),
                Ok(_) | Err(Error::Unreachable { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let address = self.member(self.0.reads_go_to.clone()).await?;
        let connection = self.wire_to(&address).await?;
        *self.0.reads_come_from.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
        Ok(connection)
    }

    /// A new authenticated data-plane connection to one member, named as [`wire::Connection::host`] names it.
    ///
    /// # Errors
    /// `Unreachable`, `Authentication`.
    pub async fn wire_to(&self, address: &Address) -> Result<wire::Connection> {
        self.permitted()?;
        Ok(wire::Connection::open(address, &self.0.settings).await?.with_permit(self.1.clone()))
    }

    /// The address that a member selected by the driver is known by in the set.
    async fn member(&self, criteria: Option<SelectionCriteria>) -> Result<Address> {
        let admin = self.0.client.database("admin");
        let mut hello = admin.run_command(doc! { "hello": 1 });
        if let Some(criteria) = criteria {
            hello = hello.selection_criteria(criteria);
        }
        let reply = hello.await.map_err(|error| Error::from_driver(&self.0.hosts, "hello", &error))?;
        Address::parse(
            reply.get_str("me").map_err(|_| Error::protocol("a member that does not say its name"))?,
        )
    }

    /// The term of the primary's office now; work behind no barrier is suspect when it changes.
    ///
    /// # Errors
    /// The server's, sorted.
    pub async fn term(&self) -> Result<i64> {
        let hello = self.run_admin(doc! { "hello": 1 }).await?;
        let election = hello.get_object_id("electionId").map_err(|_| Error::NotPrimary {
            host: self.0.hosts.clone(),
            message: "an election goes on".to_owned(),
        })?;
        Ok(term_of(election))
    }
}

/// Under protocol version 1 an election id is `7fffffff` and the term, big-endian.
pub(crate) fn term_of(election: bson::oid::ObjectId) -> i64 {
    let mut term = [0; 8];
    term.copy_from_slice(&election.bytes()[4..]);
    i64::from_be_bytes(term)
}

async fn parse(uri: &Uri) -> Result<ClientOptions> {
    ClientOptions::parse(uri.expose()).await.map_err(|error| match error.kind.as_ref() {
        mongodb::error::ErrorKind::DnsResolve { .. } => {
            let (host, reason) =
                (uri.display_redacted(), "its name cannot be looked up in the DNS".to_owned());
            Error::Unreachable { host, reason, source: Some(Arc::new(error)) }
        }
        _ => Error::InvalidUri("malformed option".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_term_is_the_end_of_an_election_id() {
        let election = bson::oid::ObjectId::parse_str("7fffffff0000000000000102").unwrap();
        assert_eq!(term_of(election), 0x102);
    }
}
