//! A server that claims another version: bytes go through, but for the version in what the server says.

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Nothing that a server says before the driver has found the members is longer.
const PIECE_BYTES: usize = 1 << 20;

/// A listener in front of one member. Only what asks this address itself is deceived: the driver goes on to the
/// members that the set names.
pub struct Disguise {
    /// `127.0.0.1:port`.
    pub host_port: String,
    accepting: JoinHandle<()>,
}

impl Disguise {
    /// Listens in front of the server at `host_port`, and says `claimed` where it says `version`.
    ///
    /// # Errors
    /// When both are not of one length (messages tell their lengths), or no port can be had.
    pub async fn start(host_port: &str, version: &str, claimed: &str) -> anyhow::Result<Self> {
        ensure!(version.len() == claimed.len(), "{version} and {claimed} are not of one length");
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
        let own = listener.local_addr().context("tell the address")?.to_string();
        let (server, version, claimed) = (host_port.to_owned(), version.to_owned(), claimed.to_owned());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, version, claimed) = (server.clone(), version.clone(), claimed.clone());
                // A side that goes away ends the connection, as it does without anybody between.
                tokio::spawn(async move { pass_on(client, &server, &version, &claimed).await.ok() });
            }
        });
        Ok(Self { host_port: own, accepting })
    }
}

impl Drop for Disguise {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass_on(client: TcpStream, server: &str, version: &str, claimed: &str) -> std::io::Result<()> {
    let server = TcpStream::connect(server).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asking = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = from_server.read(&mut piece).await?;
        if length == 0 {
            break;
        }
        let said = &mut piece[..length];
        let mut at = 0;
        while let Some(found) = said[at..].windows(version.len()).position(|w| w == version.as_bytes()) {
            said[at + found..at + found + version.len()].copy_from_slice(claimed.as_bytes());
            at += found + version.len();
        }
        to_client.write_all(said).await?;
    }
    asking.abort();
    Ok(())
}
