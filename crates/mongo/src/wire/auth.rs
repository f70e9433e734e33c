//! Logging a connection in.

use std::fmt;

use aws_lc_rs::rand;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bson::{Binary, raw::cstr, rawdoc, spec::BinarySubtype};
use mongodb::options::{AuthMechanism, Credential as DriverCredential};
use zeroize::Zeroizing;

use super::{Connection, ReplyExt as _, scram};
use crate::{Error, Result};

/// Rounds of a SASL conversation; SCRAM takes two, three when the server does not skip the empty one.
const EXCHANGES_MAX: usize = 4;

/// Who we are. Debug shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credential {
    /// The client certificate of the TLS connection.
    X509 { user: Option<String> },
    Scram {
        /// Negotiated with the server when not given.
        mechanism: Option<scram::Mechanism>,
        user: String,
        password: Zeroizing<String>,
        source: String,
    },
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::X509 { .. } => f.write_str("X509"),
            Self::Scram { user, source, .. } => write!(f, "Scram({user:?} of {source:?}, password hidden)"),
        }
    }
}

impl Credential {
    /// Takes over what the driver parsed from the connection string.
    pub(super) fn from_driver(credential: &DriverCredential) -> Result<Self> {
        let mechanism = match &credential.mechanism {
            None => None,
            Some(AuthMechanism::ScramSha256) => Some(scram::Mechanism::Sha256),
            Some(AuthMechanism::ScramSha1) => Some(scram::Mechanism::Sha1),
            Some(AuthMechanism::MongoDbX509) => return Ok(Self::X509 { user: credential.username.clone() }),
            Some(other) => {
                let name = format!("{other:?}");
                return Err(Error::Unsupported(format!(
                    "authentication mechanism {name} is not supported; use SCRAM-SHA-256, SCRAM-SHA-1 or MONGODB-X509"
                )));
            }
        };
        let missing = |what: &str| Error::InvalidUri(format!("no {what}"));
        Ok(Self::Scram {
            mechanism,
            user: credential.username.clone().ok_or_else(|| missing("user name"))?,
            password: Zeroizing::new(credential.password.clone().ok_or_else(|| missing("password"))?),
            source: credential.source.clone().unwrap_or_else(|| "admin".to_owned()),
        })
    }

    /// What `hello` asks the server to look up: which mechanisms this user has.
    pub(super) fn mechanisms_of(&self) -> Option<String> {
        match self {
            Self::Scram { mechanism: None, user, source, .. } => Some(format!("{source}.{user}")),
            _ => None,
        }
    }

    /// Logs `connection` in. `offered` is what `hello` said of this user; empty when it said nothing.
    pub(super) async fn authenticate(&self, connection: &mut Connection, offered: &[String]) -> Result<()> {
        match self {
            Self::X509 { user } => x509(connection, user.as_deref()).await,
            Self::Scram { mechanism, user, password, source } => {
                let mechanism = mechanism.unwrap_or_else(|| negotiate(offered));
                scram(connection, mechanism, user, password, source).await
            }
        }
    }
}

/// Unknown users are offered nothing; SHA-256 then fails with the server's own words.
fn negotiate(offered: &[String]) -> scram::Mechanism {
    let has = |mechanism: scram::Mechanism| offered.iter().any(|name| name == mechanism.name());
    if has(scram::Mechanism::Sha1) && !has(scram::Mechanism::Sha256) {
        scram::Mechanism::Sha1
    } else {
        scram::Mechanism::Sha256
    }
}

async fn x509(connection: &mut Connection, user: Option<&str>) -> Result<()> {
    let mut command = rawdoc! { "authenticate": 1, "mechanism": "MONGODB-X509", "$db": "$external" };
    if let Some(user) = user {
        command.append(cstr!("user"), user);
    }
    connection.command(&command).await.map(drop)
}

async fn scram(
    connection: &mut Connection,
    mechanism: scram::Mechanism,
    user: &str,
    password: &str,
    source: &str,
) -> Result<()> {
    let mut random = [0; 24];
    rand::fill(&mut random).map_err(|_| Error::Authentication("no random numbers".to_owned()))?;
    let client = scram::Client::new(mechanism, user, password, BASE64_STANDARD.encode(random));
    let start = rawdoc! {
        "saslStart": 1, "mechanism": mechanism.name(), "payload": payload(&client.first_message()),
        "options": { "skipEmptyExchange": true }, "$db": source,
    };
    let reply = connection.command(&start).await?;
    let conversation = reply.number("conversationId").and_then(|id| i32::try_from(id).ok()).unwrap_or(1);
    let challenge = text_payload(reply)?;
    let answer = client.answer(&challenge)?;
    let mut message = answer.message.clone();
    for exchange in 0..EXCHANGES_MAX {
        let next = rawdoc! { "saslContinue": 1, "conversationId": conversation, "payload": payload(&message), "$db": source };
        let reply = connection.command(&next).await?;
        if exchange == 0 {
            answer.verify(&text_payload(reply)?)?;
        }
        if reply.truth("done") {
            return Ok(());
        }
        message.clear();
    }
    Err(Error::Authentication("the conversation does not end".to_owned()))
}

fn payload(text: &str) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: text.as_bytes().to_vec() }
}

fn text_payload(reply: &bson::raw::RawDocument) -> Result<String> {
    let malformed = || Error::Authentication("the server's part of the conversation is malformed".to_owned());
    let binary = reply.get_binary("payload").map_err(|_| malformed())?;
    String::from_utf8(binary.bytes.to_vec()).map_err(|_| malformed())
}
