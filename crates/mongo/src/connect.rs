//! The control plane: finding a deployment, refusing what cannot be backed up, and opening data-plane connections.
//!
//! The seeds are asked first, directly and without logging in: only so can a closed port, a standalone and a wrong
//! password be told apart, which the driver reports alike as "no server found in 30 seconds".

use std::{sync::Arc, time::Duration};

use bson::{Document, doc, rawdoc};
use mongodb::options::{ClientOptions, SelectionCriteria, ServerAddress};

use crate::{
    Error, Facts, Result, Uri,
    wire::{self, Address, ReplyExt as _},
};

/// Wire version of 5.0; what reports less lacks snapshot reads outside of transactions.
const WIRE_VERSION_MIN: i64 = 13;
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
pub struct Deployment(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: mongodb::Client,
    identity: Identity,
    settings: wire::Settings,
    /// The one address that a `directConnection` goes to, whatever the member calls itself.
    direct: Option<Address>,
    reads_go_to: Option<SelectionCriteria>,
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
        let deployment = Self(Arc::new(Inner { client, identity, settings, direct, reads_go_to, hosts }));
        // Proves that a primary is there and that the account is accepted, by the driver and by the data plane alike.
        deployment.run_admin(doc! { "ping": 1 }).await?;
        deployment.primary_wire().await?;
        Ok(deployment)
    }

    /// The official driver's client.
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

    /// A new authenticated data-plane connection to the member that reads go to: the connection string's
    /// `readPreference`, by default the primary.
    ///
    /// # Errors
    /// `Unreachable`, `Authentication`.
    pub async fn read_wire(&self) -> Result<wire::Connection> {
        let address = match &self.0.direct {
            Some(address) => address.clone(),
            None => self.member(self.0.reads_go_to.clone()).await?,
        };
        self.wire_to(&address).await
    }

    /// A new authenticated data-plane connection to one member, named as [`wire::Connection::host`] names it.
    ///
    /// # Errors
    /// `Unreachable`, `Authentication`.
    pub async fn wire_to(&self, address: &Address) -> Result<wire::Connection> {
        wire::Connection::open(address, &self.0.settings).await
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

fn seeds(driver: &ClientOptions) -> Result<Vec<Address>> {
    let address = |host: &ServerAddress| match host {
        ServerAddress::Tcp { host, port } => Ok(Address { host: host.clone(), port: port.unwrap_or(27_017) }),
        _ => Err(Error::InvalidUri("Unix sockets are not supported; name host and port".to_owned())),
    };
    driver.hosts.iter().map(address).collect()
}

/// Asks the seeds in turn what they are; the first data-bearing one decides.
async fn identify(
    seeds: &[Address],
    settings: &wire::Settings,
    driver: &ClientOptions,
    allow_untested: bool,
) -> Result<Identity> {
    let anonymous = settings.anonymous();
    let mut failed = None;
    let mut arbiters = 0;
    for seed in seeds {
        let mut connection = match wire::Connection::open(seed, &anonymous).await {
            Ok(connection) => connection,
            Err(error) => {
                failed = failed.or(Some(error));
                continue;
            }
        };
        if connection.hello().is_arbiter {
            arbiters += 1;
            continue;
        }
        return inspect(&mut connection, settings, driver, allow_untested).await;
    }
    if arbiters > 0 {
        return Err(Error::Unsupported(
            "the connection string names only an arbiter, which holds no data; name the other members"
                .to_owned(),
        ));
    }
    Err(failed.unwrap_or_else(|| Error::InvalidUri("no hosts".to_owned())))
}

async fn inspect(
    connection: &mut wire::Connection,
    settings: &wire::Settings,
    driver: &ClientOptions,
    allow_untested: bool,
) -> Result<Identity> {
    let host = connection.host().to_owned();
    let (version, version_text) = version(connection).await?;
    let hello = connection.hello();
    let untested = supported(&host, version, &version_text, hello.wire_version_max, allow_untested)?;
    let replica_set_name = replica_set(&host, hello, driver.repl_set_name.as_deref())?;
    let auth_enabled = asks_who_we_are(connection).await?;
    if auth_enabled && driver.credential.is_none() {
        return Err(Error::Authentication(format!(
            "{host} wants users to log in, and the connection string names no user"
        )));
    }
    Ok(Identity {
        version,
        version_text,
        replica_set_name,
        untested,
        auth_enabled,
        tls: settings.is_encrypted(),
    })
}

async fn version(connection: &mut wire::Connection) -> Result<((u32, u32, u32), String)> {
    let reply = connection.command(&rawdoc! { "buildInfo": 1, "$db": "admin" }).await?;
    let text = reply.text("version").unwrap_or_default().to_owned();
    let mut numbers = text.split(['.', '-']).map_while(|part| part.parse().ok());
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(major), Some(minor), Some(patch)) => Ok(((major, minor, patch), text)),
        _ => Err(Error::protocol(format!("{text:?} is not a version"))),
    }
}

/// Whether the version is newer than what the tests run on; older ones are refused, newer ones unless allowed.
fn supported(
    host: &str,
    version: (u32, u32, u32),
    text: &str,
    wire_version: i64,
    allow_untested: bool,
) -> Result<bool> {
    if version < (5, 0, 0) || wire_version < WIRE_VERSION_MIN {
        return Err(Error::Unsupported(format!(
            "{host} runs MongoDB {text}, which cannot be read exactly: Ebbtide needs 5.0 or 6.0; upgrade the deployment"
        )));
    }
    let tested = matches!((version.0, version.1), (5 | 6, 0));
    if !tested && !allow_untested {
        return Err(Error::Unsupported(format!(
            "{host} runs MongoDB {text}; Ebbtide is tested with 5.0 and 6.0. Allow untested versions to go on at your own risk"
        )));
    }
    Ok(!tested)
}

fn replica_set(host: &str, hello: &wire::Hello, wanted: Option<&str>) -> Result<String> {
    let refuse = |why: &str| Err(Error::Unsupported(format!("{host} {why}")));
    if hello.is_mongos {
        return refuse("is a mongos; sharded clusters are not supported yet: name a replica set");
    }
    if hello.is_config_server {
        return refuse("is a config server of a sharded cluster; sharded clusters are not supported yet");
    }
    let Some(name) = &hello.replica_set_name else {
        if hello.is_uninitiated {
            return refuse("was started with --replSet but never initiated; run rs.initiate() on it");
        }
        return refuse(
            "is a standalone, which has no oplog to read exactly from; start it with --replSet and run rs.initiate(): \
             a replica set of one member will do",
        );
    };
    match wanted {
        Some(wanted) if wanted != name => Err(Error::InvalidUri(format!(
            "replicaSet={wanted}, but {host} belongs to the replica set {name}"
        ))),
        _ => Ok(name.clone()),
    }
}

/// Whether the server checks privileges: found out by asking for something that needs one, without logging in.
async fn asks_who_we_are(anonymous: &mut wire::Connection) -> Result<bool> {
    let ask = rawdoc! { "getParameter": 1, "featureCompatibilityVersion": 1, "$db": "admin" };
    match anonymous.command(&ask).await {
        Ok(_) => Ok(false),
        Err(Error::Privilege(_)) => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn versions_are_supported_tested_or_refused() {
        let check = |version, wire, allow| supported("h:1", version, "x", wire, allow);
        for tested in [(5, 0, 0), (5, 0, 32), (6, 0, 27)] {
            assert!(!check(tested, 13, false).unwrap());
        }
        for untested in [(5, 1, 0), (5, 3, 1), (6, 1, 0), (7, 0, 1), (8, 0, 0)] {
            assert!(check(untested, 21, false).is_err());
            assert!(check(untested, 21, true).unwrap());
        }
        for old in [(4, 4, 2), (4, 2, 0), (3, 6, 0)] {
            assert!(check(old, 9, true).is_err());
        }
        // Something that claims to be new, and does not speak the protocol.
        assert!(check((6, 0, 0), 9, true).is_err());
    }

    #[test]
    fn a_term_is_the_end_of_an_election_id() {
        let election = bson::oid::ObjectId::parse_str("7fffffff0000000000000102").unwrap();
        assert_eq!(term_of(election), 0x102);
    }

    #[test]
    fn says_what_a_server_is_that_is_no_replica_set() {
        let of = |change: fn(&mut wire::Hello)| {
            let mut hello = wire::Hello::default();
            change(&mut hello);
            replica_set("h:1", &hello, Some("rs0"))
        };
        let text = |result: Result<String>| result.unwrap_err().to_string();
        assert!(text(of(|_| ())).contains("standalone"));
        assert!(text(of(|hello| hello.is_mongos = true)).contains("mongos"));
        assert!(text(of(|hello| hello.is_uninitiated = true)).contains("rs.initiate"));
        assert!(text(of(|hello| hello.is_config_server = true)).contains("config server"));
        assert!(text(of(|hello| hello.replica_set_name = Some("other".to_owned()))).contains("other"));
        assert_eq!(of(|hello| hello.replica_set_name = Some("rs0".to_owned())).unwrap(), "rs0");
    }
}
