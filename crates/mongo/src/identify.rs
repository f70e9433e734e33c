//! What a server is before anybody logs in, and the refusal of what cannot be backed up.
//!
//! The seeds are asked directly: only so can a closed port, a standalone and a wrong password be told apart, which the
//! driver reports alike as "no server found".

use bson::rawdoc;
use mongodb::options::{ClientOptions, ServerAddress};

use crate::{
    Error, Result,
    connect::Identity,
    wire::{self, Address, ReplyExt as _},
};

/// Wire version of 5.0; what reports less lacks snapshot reads outside of transactions.
const WIRE_VERSION_MIN: i64 = 13;

pub(crate) fn seeds(driver: &ClientOptions) -> Result<Vec<Address>> {
    let address = |host: &ServerAddress| match host {
        ServerAddress::Tcp { host, port } => Ok(Address { host: host.clone(), port: port.unwrap_or(27_017) }),
        _ => Err(Error::InvalidUri("Unix sockets are not supported; name host and port".to_owned())),
    };
    driver.hosts.iter().map(address).collect()
}

/// Asks the seeds in turn what they are; the first data-bearing one decides.
pub(crate) async fn identify(
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
