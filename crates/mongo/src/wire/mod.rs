//! A data-plane connection: OP_MSG over TCP or TLS, authenticated.
//!
//! One buffer per connection takes every reply, and documents to insert are written from the caller's buffer: the
//! measured cost is a quarter of the driver's when reading and a tenth when writing. There is no pool, no retry and
//! no discovery in here; a connection that failed once is dropped, and [`crate::Deployment`] gives a new one.

mod auth;
mod frame;
mod insert;
mod reply;
mod scram;
mod settings;
mod tls;

use std::{
    fmt,
    time::{Duration, Instant},
};

use bson::{raw::RawDocument, raw::cstr, rawdoc};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

pub use insert::{InsertOptions, InsertReply, WriteError};
pub(crate) use reply::ReplyExt;
pub use settings::{Address, Settings};

use crate::{Error, Permit, Result};

/// Longest wait for a reply unless the caller says otherwise: a batch of a cold, busy server takes seconds.
const REPLY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(120);
/// A buffer that one huge document made larger than this is given back when the next reply is small.
const REPLY_BUFFER_KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Documents are sent in pieces of this size.
const PIECE_BYTES: usize = 256 * 1024;
/// What every supported version allows, for a server that does not say.
const LIMITS_DEFAULT: Limits =
    Limits { message_bytes_max: 48_000_000, document_bytes_max: 16 * 1024 * 1024, write_batch_max: 100_000 };

trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for T {}

/// What the server allows on this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of one message (48 MB).
    pub message_bytes_max: usize,
    /// Of one document that users store (16 MB).
    pub document_bytes_max: usize,
    /// Documents in one insert.
    pub write_batch_max: usize,
}

/// What a member says of itself before anybody logs in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Hello {
    pub(crate) replica_set_name: Option<String>,
    pub(crate) primary: Option<String>,
    pub(crate) is_primary: bool,
    pub(crate) is_secondary: bool,
    pub(crate) is_arbiter: bool,
    pub(crate) is_mongos: bool,
    pub(crate) is_config_server: bool,
    pub(crate) is_uninitiated: bool,
    pub(crate) wire_version_max: i64,
    mechanisms: Vec<String>,
}

/// One authenticated connection to one member. Not shared: one command at a time.
pub struct Connection {
    stream: Box<dyn Stream>,
    host: String,
    limits: Limits,
    hello: Hello,
    request_id: i32,
    reply: Vec<u8>,
    reply_length: usize,
    reply_timeout: Duration,
    /// False while a request is under way: a future that was dropped half-way leaves a reply nobody waits for.
    in_step: bool,
    permit: Permit,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.host)
    }
}

impl Connection {
    /// Connects, greets and logs in, all within the settings' timeout.
    ///
    /// # Errors
    /// `Unreachable`, `Authentication`.
    pub async fn open(address: &Address, settings: &Settings) -> Result<Self> {
        match timeout(settings.connect_timeout, Self::open_slowly(address, settings)).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::Unreachable {
                host: address.to_string(),
                reason: format!("no answer in {} s", settings.connect_timeout.as_secs_f32()),
                source: None,
            }),
        }
    }

    async fn open_slowly(address: &Address, settings: &Settings) -> Result<Self> {
        let stream = connect(address, settings).await?;
        let mut connection = Self {
            stream,
            host: address.to_string(),
            limits: LIMITS_DEFAULT,
            hello: Hello::default(),
            request_id: 0,
            reply: Vec::new(),
            reply_length: 0,
            reply_timeout: REPLY_TIMEOUT_DEFAULT,
            in_step: true,
            permit: Permit::default(),
        };
        connection.greet(settings).await?;
        if let Some(credential) = &settings.credential {
            let mechanisms = std::mem::take(&mut connection.hello.mechanisms);
            credential.authenticate(&mut connection, &mechanisms).await?;
        }
        Ok(connection)
    }

    async fn greet(&mut self, settings: &Settings) -> Result<()> {
        let mut hello = rawdoc! {
            "hello": 1, "$db": "admin",
            "client": {
                "application": { "name": settings.app_name.as_str() },
                "driver": { "name": "ebbtide-wire", "version": env!("CARGO_PKG_VERSION") },
                "os": { "type": std::env::consts::OS },
            },
        };
        if let Some(user) = settings.credential.as_ref().and_then(auth::Credential::mechanisms_of) {
            hello.append(cstr!("saslSupportedMechs"), user);
        }
        let reply = self.command(&hello).await?;
        let limit = |name: &str, default: usize| {
            reply
                .number(name)
                .and_then(|value| usize::try_from(value).ok())
                .filter(|value| *value > 0)
                .unwrap_or(default)
        };
        let limits = Limits {
            message_bytes_max: limit("maxMessageSizeBytes", LIMITS_DEFAULT.message_bytes_max),
            document_bytes_max: limit("maxBsonObjectSize", LIMITS_DEFAULT.document_bytes_max),
            write_batch_max: limit("maxWriteBatchSize", LIMITS_DEFAULT.write_batch_max),
        };
        let hello = Hello::of(reply);
        (self.limits, self.hello) = (limits, hello);
        Ok(())
    }

    /// The same connection, on which nothing is sent once the permit is withdrawn.
    pub(crate) fn with_permit(self, permit: Permit) -> Self {
        Self { permit, ..self }
    }

    /// `host:port` of the member.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What the server allows.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Longest wait for a reply; an index build or a barrier needs more than the default of 2 minutes.
    pub fn set_reply_timeout(&mut self, limit: Duration) {
        self.reply_timeout = limit;
    }

    /// Runs a command (with its `$db`) and returns the reply, which lies in the connection's buffer until the next
    /// call. `ok: 0` is an error; `writeErrors` and `writeConcernError` are not, look for them.
    ///
    /// # Errors
    /// The server's, sorted; `Unreachable` or `TimedOut` when the network fails, after which the connection is of no
    /// more use.
    pub async fn command(&mut self, command: &RawDocument) -> Result<&RawDocument> {
        self.exchange(command, None).await
    }

    /// [`Connection::command`] with documents back to back as the sequence `name` (`documents`, `updates`, `deletes`).
    ///
    /// # Errors
    /// As [`Connection::command`].
    pub async fn command_with_sequence(
        &mut self,
        command: &RawDocument,
        name: &str,
        documents: &[u8],
    ) -> Result<&RawDocument> {
        self.exchange(command, Some((name, documents))).await
    }

    async fn exchange(
        &mut self,
        command: &RawDocument,
        sequence: Option<(&str, &[u8])>,
    ) -> Result<&RawDocument> {
        let started = Instant::now();
        self.begin_with(command, sequence).await?;
        self.finish(command, self.reply_timeout.saturating_sub(started.elapsed())).await
    }

    /// Sends a command and does not wait for the reply: the server works while the caller does something else.
    /// [`Connection::complete`] with the same command must come next.
    ///
    /// # Errors
    /// As [`Connection::command`].
    pub(crate) async fn begin(&mut self, command: &RawDocument) -> Result<()> {
        self.begin_with(command, None).await
    }

    /// The reply to the command that was begun.
    ///
    /// # Errors
    /// As [`Connection::command`].
    pub(crate) async fn complete(&mut self, command: &RawDocument) -> Result<&RawDocument> {
        self.finish(command, self.reply_timeout).await
    }

    async fn begin_with(&mut self, command: &RawDocument, sequence: Option<(&str, &[u8])>) -> Result<()> {
        if !self.in_step {
            return Err(Error::Unreachable {
                host: self.host.clone(),
                reason: "the connection was abandoned in the middle of a request".to_owned(),
                source: None,
            });
        }
        self.in_step = false;
        self.request_id = self.request_id.wrapping_add(1);
        let head = frame::head(self.request_id, command, sequence)?;
        let documents = sequence.map_or(&[][..], |(_, documents)| documents);
        match timeout(self.reply_timeout, self.send(&head, documents)).await {
            Err(_) => Err(self.timed_out()),
            Ok(sent) => sent,
        }
    }

    async fn finish(&mut self, command: &RawDocument, limit: Duration) -> Result<&RawDocument> {
        match timeout(limit, self.receive()).await {
            Err(_) => return Err(self.timed_out()),
            Ok(received) => received?,
        }
        self.in_step = true;
        let body = frame::body(&self.reply[..self.reply_length])?;
        reply::check(body, &self.host, command)?;
        Ok(body)
    }

    fn timed_out(&self) -> Error {
        let what = format!("a reply of {}", self.host);
        Error::TimedOut { what, limit_seconds: self.reply_timeout.as_secs() }
    }

    async fn receive(&mut self) -> Result<()> {
        let mut header = [0; frame::HEADER_BYTES];
        self.stream.read_exact(&mut header).await.map_err(|error| Error::io(&self.host, error))?;
        let length = frame::reply_length(header, self.request_id)?;
        self.make_room(length);
        self.stream
            .read_exact(&mut self.reply[..length])
            .await
            .map_err(|error| Error::io(&self.host, error))?;
        self.reply_length = length;
        Ok(())
    }

    /// A message that is not sent to its end is not looked at by the server, so a permit that is withdrawn on the way
    /// still stops it.
    async fn send(&mut self, head: &[u8], documents: &[u8]) -> Result<()> {
        for piece in std::iter::once(head).chain(documents.chunks(PIECE_BYTES)) {
            self.permit.check()?;
            self.stream.write_all(piece).await.map_err(|error| Error::io(&self.host, error))?;
        }
        self.stream.flush().await.map_err(|error| Error::io(&self.host, error))
    }

    /// Grows the buffer, which zeroes what is new only, or gives back what a huge reply once needed.
    fn make_room(&mut self, length: usize) {
        if self.reply.len() < length {
            self.reply.resize(length, 0);
        } else if self.reply.len() > REPLY_BUFFER_KEPT_BYTES_MAX && length < REPLY_BUFFER_KEPT_BYTES_MAX / 2 {
            self.reply = vec![0; length];
        }
    }

    /// Hands the buffer that holds the last reply's body out, with the body's place in it, and goes on with `spare`.
    pub(crate) fn swap_reply(&mut self, spare: Vec<u8>) -> Result<(Vec<u8>, std::ops::Range<usize>)> {
        let length = frame::body(&self.reply[..self.reply_length])?.as_bytes().len();
        self.reply_length = 0;
        let start = frame::BODY_OFFSET;
        Ok((std::mem::replace(&mut self.reply, spare), start..start + length))
    }
}

impl Hello {
    /// Whether it can be read now: not starting, recovering or rolling back.
    pub(crate) fn holds_data(&self) -> bool {
        self.is_primary || self.is_secondary
    }

    fn of(reply: &RawDocument) -> Self {
        let mechanisms = match reply.get_array("saslSupportedMechs") {
            Ok(array) => array.into_iter().filter_map(|item| Some(item.ok()?.as_str()?.to_owned())).collect(),
            Err(_) => Vec::new(),
        };
        Self {
            replica_set_name: reply.text("setName").map(str::to_owned),
            primary: reply.text("primary").map(str::to_owned),
            is_primary: reply.truth("isWritablePrimary"),
            is_secondary: reply.truth("secondary"),
            is_arbiter: reply.truth("arbiterOnly"),
            is_mongos: reply.text("msg") == Some("isdbgrid"),
            is_config_server: reply.number("configsvr").is_some(),
            is_uninitiated: reply.truth("isreplicaset"),
            wire_version_max: reply.number("maxWireVersion").unwrap_or(0),
            mechanisms,
        }
    }
}

async fn connect(address: &Address, settings: &Settings) -> Result<Box<dyn Stream>> {
    let failed = |error| Error::io(&address.to_string(), error);
    let tcp = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(failed)?;
    tcp.set_nodelay(true).map_err(failed)?;
    let Some(config) = &settings.tls else {
        return Ok(Box::new(tcp));
    };
    let name = ServerName::try_from(address.host.clone()).map_err(|_| {
        Error::InvalidUri(format!("{:?} is not a host name that a certificate can carry", address.host))
    })?;
    let tls = TlsConnector::from(config.clone()).connect(name, tcp).await.map_err(|error| {
        Error::Unreachable { host: address.to_string(), reason: format!("TLS: {error}"), source: None }
    })?;
    Ok(Box::new(tls))
}
