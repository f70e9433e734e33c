//! Requests as a client sends them that keeps its connection alive and its nonce: digest on each; and how many a second.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use md5::{Digest, Md5};

/// Connections that ask at the same time, so that the server never waits for the client.
const CONNECTIONS: usize = 8;
/// The version that every answer is asked for in.
const ACCEPT: &str = "Accept: application/vnd.atlas.2025-03-12+json";

/// Requests a second over `duration`, each a GET of `path`.
pub(crate) fn rate(
    url: &str,
    path: &str,
    user: &str,
    password: &str,
    duration: Duration,
) -> anyhow::Result<f64> {
    let address = url.trim_start_matches("http://").to_owned();
    let started = Instant::now();
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (address, path, user, password) =
                (address.clone(), path.to_owned(), user.to_owned(), password.to_owned());
            std::thread::spawn(move || ask(&address, &path, &user, &password, started + duration))
        })
        .collect();
    let mut requests = 0;
    for thread in threads {
        requests += thread.join().map_err(|_| anyhow::anyhow!("a client thread panicked"))??;
    }
    Ok(requests as f64 / started.elapsed().as_secs_f64())
}

fn ask(address: &str, path: &str, user: &str, password: &str, end: Instant) -> anyhow::Result<u64> {
    let mut connection = Connection::open(address, path, user, password)?;
    while Instant::now() < end {
        connection.request("GET", path, "")?;
    }
    Ok(u64::from(connection.count))
}

/// One connection that is kept alive, with the nonce of its first answer.
pub(crate) struct Connection {
    address: String,
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    user: String,
    ha1: String,
    nonce: String,
    count: u32,
}

impl Connection {
    /// Asks `path` for a nonce.
    pub(crate) fn open(address: &str, path: &str, user: &str, password: &str) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n{ACCEPT}\r\n\r\n")?;
        let Answer { status, challenge, .. } = answer(&mut reader)?;
        if status != 401 {
            bail!("the first request without credentials was answered {status}");
        }
        let challenge = challenge.context("a challenge")?;
        let nonce =
            challenge.split("nonce=\"").nth(1).and_then(|rest| rest.split('"').next()).context("a nonce")?;
        let ha1 = hash(&format!("{user}:MMS Public API:{password}"));
        let (address, user, nonce) = (address.to_owned(), user.to_owned(), nonce.to_owned());
        Ok(Self { address, stream, reader, user, ha1, nonce, count: 0 })
    }

    /// The body of the answer, which has to be 200.
    pub(crate) fn request(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<Vec<u8>> {
        let Self { address, user, ha1, nonce, .. } = self;
        self.count += 1;
        let count = self.count;
        let ha2 = hash(&format!("{method}:{path}"));
        let response = hash(&format!("{ha1}:{nonce}:{count:08x}:0a4f113b:auth:{ha2}"));
        let content = match body.len() {
            0 => String::new(),
            length => format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{ACCEPT}\r\n{content}Authorization: Digest \
             username=\"{user}\", realm=\"MMS Public API\", nonce=\"{nonce}\", uri=\"{path}\", cnonce=\"0a4f113b\", \
             nc={count:08x}, qop=auth, response=\"{response}\", algorithm=MD5\r\n\r\n{body}"
        );
        self.stream.write_all(request.as_bytes())?;
        let Answer { status, body, .. } = answer(&mut self.reader)?;
        if status != 200 {
            bail!("request {count} was answered {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }
}

struct Answer {
    status: u16,
    challenge: Option<String>,
    body: Vec<u8>,
}

fn answer(reader: &mut BufReader<TcpStream>) -> anyhow::Result<Answer> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).context("a status line")?;
    let (mut length, mut challenge) = (0, None);
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse()?,
            "www-authenticate" => challenge = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Answer { status, challenge, body })
}

fn hash(text: &str) -> String {
    hex::encode(Md5::digest(text.as_bytes()))
}
