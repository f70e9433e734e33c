//! HTTP/1.1 by hand, so that tests see every byte, and digest authentication from the client's side.

use std::net::SocketAddr;

use md5::{Digest, Md5};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::Key;

#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.into(), target: target.into(), headers: vec![], body: vec![] }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name))
    }

    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("Content-Type", content_type)
    }

    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nHost: api.test:8080\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() || matches!(self.method.as_str(), "POST" | "PATCH") {
            text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection ended before the body was whole.
    pub cut: bool,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Asserts the status and gives the JSON.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// Asserts status and error code, and that header and body agree.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> Value {
        let body = self.expect(status);
        assert_eq!(body["errorCode"], code, "{body}");
        assert_eq!(self.header("x-error-code"), Some(code));
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert_eq!(body["error"], status);
        assert!(self.header("x-mongodb-service-version").is_none());
        body
    }
}

/// A connection that is kept.
pub struct Connection {
    stream: TcpStream,
    held: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), held: vec![] }
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Writes what the other side takes before it closes.
    pub async fn write_anyway(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Asks, and does not wait for the answer.
    pub async fn ask(&mut self, request: &Request) {
        self.write(&request.bytes()).await;
    }

    pub async fn send(&mut self, request: &Request) -> Response {
        self.ask(request).await;
        self.read(&request.method).await
    }

    /// Reads some bytes of whatever comes; none at the end.
    async fn more(&mut self) -> bool {
        let mut piece = vec![0; 64 * 1024];
        let read = self.stream.read(&mut piece).await.unwrap_or(0);
        self.held.extend_from_slice(&piece[..read]);
        read > 0
    }

    /// Waits until an answer begins or the other side closes; whether one begins. May be given up and asked again.
    pub async fn begins_to_answer(&mut self) -> bool {
        !self.held.is_empty() || self.more().await
    }

    pub async fn read(&mut self, method: &str) -> Response {
        let end = loop {
            if let Some(at) = self.held.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            assert!(self.more().await, "the connection ended: {:?}", String::from_utf8_lossy(&self.held));
        };
        let head = String::from_utf8(self.held.drain(..end + 4).collect()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .filter(|line| !line.is_empty())
            .map(|line| line.split_once(": ").map(|(n, v)| (n.to_owned(), v.to_owned())).unwrap())
            .collect();
        let mut response = Response { status, headers, body: vec![], cut: false };
        let length: usize = response.header("content-length").map_or(0, |length| length.parse().unwrap());
        if method == "HEAD" || status == 204 {
            return response;
        }
        assert!(response.header("transfer-encoding").is_none(), "chunked: {response:?}");
        while self.held.len() < length {
            if !self.more().await {
                response.cut = true;
                break;
            }
        }
        let length = length.min(self.held.len());
        response.body = self.held.drain(..length).collect();
        response
    }

    /// Reads the head and so many bytes of the body, no more than that is asked of the system.
    pub async fn read_some(&mut self, bytes: usize) -> Vec<u8> {
        while self.held.len() < bytes {
            let mut piece = vec![0; bytes - self.held.len()];
            let read = self.stream.read(&mut piece).await.unwrap();
            assert!(read > 0);
            self.held.extend_from_slice(&piece[..read]);
        }
        self.held.clone()
    }

    /// Says that nothing more is coming, and reads all that the other side still says.
    pub async fn read_to_end(mut self) -> Vec<u8> {
        let _ = self.stream.shutdown().await;
        while self.more().await {}
        self.held
    }

    /// Whether the other side has closed.
    pub async fn is_closed(&mut self) -> bool {
        !self.more().await
    }
}

pub async fn once(address: SocketAddr, request: &Request) -> Response {
    Connection::open(address).await.send(request).await
}

/// The fields of a digest challenge, split as the Go client does.
pub fn challenge(response: &Response) -> Vec<(String, String)> {
    let header = response.header("www-authenticate").expect("a challenge");
    let fields = header.strip_prefix("Digest ").expect("Digest").split(", ");
    fields
        .map(|field| field.split_once('=').unwrap())
        .map(|(n, v)| (n.into(), v.trim_matches('"').into()))
        .collect()
}

pub fn nonce(response: &Response) -> String {
    challenge(response).into_iter().find(|(name, _)| name == "nonce").unwrap().1
}

/// `Authorization` as curl writes it.
pub fn answer(key: &Key, method: &str, target: &str, nonce: &str, nc: u32) -> String {
    let ha1 = md5(&format!("{}:MMS Public API:{}", key.public, key.private));
    let ha2 = md5(&format!("{method}:{target}"));
    let response = md5(&format!("{ha1}:{nonce}:{nc:08x}:Y25vbmNl:auth:{ha2}"));
    format!(
        r#"Digest username="{}", realm="MMS Public API", nonce="{nonce}", uri="{target}", cnonce="Y25vbmNl", nc={nc:08x}, qop=auth, response="{response}", algorithm=MD5"#,
        key.public
    )
}

/// The two steps of digest, on one connection.
pub async fn digest(address: SocketAddr, key: &Key, request: Request) -> Response {
    let mut connection = Connection::open(address).await;
    let first = connection.send(&Request { body: vec![], ..request.clone() }).await;
    assert_eq!(first.status, 401, "{first:?}");
    let authorization = answer(key, &request.method, &request.target, &nonce(&first), 1);
    connection.send(&request.header("Authorization", &authorization)).await
}

fn md5(text: &str) -> String {
    hex::encode(Md5::digest(text.as_bytes()))
}

pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes))
}
