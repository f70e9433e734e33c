//! HTTP with digest authentication, written out: an independent client is one more test of the server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail};
use md5::{Digest, Md5};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(120);
const HEADER_BYTES_MAX: u64 = 64 * 1024;

/// A server as one API key sees it.
pub(crate) struct Api {
    /// `127.0.0.1:port`.
    pub(crate) address: String,
    /// The name of the key.
    pub(crate) public_key: String,
    /// The secret of the key.
    pub(crate) private_key: String,
}

/// An answer whose body is still to be read.
pub(crate) struct Answer {
    /// Such as 200.
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    body: BufReader<TcpStream>,
}

impl Answer {
    /// A header by its lower case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The length that the server announced.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// Copies the body piece by piece.
    pub(crate) fn read_body(
        &mut self,
        mut sink: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if self.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return self.read_chunks(sink);
        }
        let mut left = self.length().unwrap_or(u64::MAX);
        let mut buffer = vec![0; 256 * 1024];
        while left > 0 {
            let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = self.body.read(&mut buffer[..wanted]).context("read the answer")?;
            if read == 0 && self.length().is_some() {
                bail!("the connection ended {left} bytes before the answer did");
            }
            if read == 0 {
                break;
            }
            left -= read as u64;
            sink(&buffer[..read])?;
        }
        Ok(())
    }

    fn read_chunks(&mut self, mut sink: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
        loop {
            let line = read_line(&mut self.body)?;
            let length = u64::from_str_radix(line.trim(), 16).context("read the length of a chunk")?;
            let mut chunk = Vec::new();
            (&mut self.body).take(length).read_to_end(&mut chunk).context("read a chunk")?;
            read_line(&mut self.body)?;
            if length == 0 {
                return Ok(());
            }
            sink(&chunk)?;
        }
    }

    /// The whole body as JSON; `null` when there is none.
    pub(crate) fn json(mut self) -> anyhow::Result<Value> {
        let mut text = Vec::new();
        self.read_body(|piece| {
            text.extend_from_slice(piece);
            Ok(())
        })?;
        if text.is_empty() {
            Ok(Value::Null)
        } else {
            serde_json::from_slice(&text).context("read the answer as JSON")
        }
    }
}

impl Api {
    /// A request that has to succeed.
    pub(crate) fn call(
        &self,
        method: &str,
        path: &str,
        accept: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let text = body.map(Value::to_string);
        let head = self.head(method, path, accept, text.as_deref());
        let mut answer = send(&self.address, &head, text.as_deref())?;
        if answer.status == 401 {
            let challenge = answer.header("www-authenticate").context("401 without a challenge")?.to_owned();
            let authorization = self.authorization(method, path, &challenge)?;
            let head = format!("{head}Authorization: {authorization}\r\n");
            answer = send(&self.address, &head, text.as_deref())?;
        }
        let status = answer.status;
        let json = answer.json()?;
        if !(200..300).contains(&status) {
            bail!("{method} {path} was answered by {status}: {json}");
        }
        Ok(json)
    }

    fn head(&self, method: &str, path: &str, accept: &str, body: Option<&str>) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\n", self.address);
        head.push_str("User-Agent: ebbtide-demo\r\nConnection: close\r\n");
        if let Some(body) = body {
            head.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
        }
        head
    }

    /// RFC 7616 with MD5 and qop=auth, which is what Atlas asks for.
    fn authorization(&self, method: &str, path: &str, challenge: &str) -> anyhow::Result<String> {
        let value = |name: &str| {
            let after = challenge.split(&format!("{name}=\"")).nth(1)?;
            after.split('"').next().map(str::to_owned)
        };
        let realm = value("realm").context("the challenge has no realm")?;
        let nonce = value("nonce").context("the challenge has no nonce")?;
        let (user, cnonce) = (&self.public_key, md5(&format!("{:?}", std::time::Instant::now())));
        let first = md5(&format!("{user}:{realm}:{}", self.private_key));
        let second = md5(&format!("{method}:{path}"));
        let response = md5(&format!("{first}:{nonce}:00000001:{cnonce}:auth:{second}"));
        Ok(format!(
            "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{path}\", cnonce=\"{cnonce}\", \
             nc=00000001, qop=auth, response=\"{response}\", algorithm=MD5"
        ))
    }
}

/// GET of a URL that is its own key.
pub(crate) fn get(url: &str) -> anyhow::Result<Answer> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url} is no http:// URL"))?;
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    send(address, &format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n"), None)
}

fn send(address: &str, head: &str, body: Option<&str>) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream
        .write_all(format!("{head}\r\n{}", body.unwrap_or_default()).as_bytes())
        .context("send a request")?;
    let mut body = BufReader::new(stream);
    let first = read_line(&mut body)?;
    let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.with_context(|| format!("{address} does not speak HTTP: {first:?}"))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(&mut body)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(Answer { status, headers, body })
}

fn read_line(from: &mut BufReader<TcpStream>) -> anyhow::Result<String> {
    let mut line = String::new();
    from.take(HEADER_BYTES_MAX).read_line(&mut line).context("read the answer")?;
    Ok(line)
}

/// The MD5 of a text, in hexadecimal.
pub(crate) fn md5(text: &str) -> String {
    hex::encode(Md5::digest(text.as_bytes()))
}
