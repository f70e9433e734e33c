//! A client that shows everything of an answer: digest with nonce reuse, bearer tokens, or nothing.

use std::sync::Mutex;

use md5::{Digest, Md5};
use reqwest::{Method, header::HeaderMap};
use serde_json::Value;

/// Who asks.
pub enum Account {
    Nobody,
    Key { public: String, private: String, nonce: Mutex<Option<(String, u32)>> },
    Bearer(String),
}

impl Account {
    pub fn key(public: &str, private: &str) -> Self {
        Self::Key { public: public.to_owned(), private: private.to_owned(), nonce: Mutex::default() }
    }
}

/// One request, without who asks.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: Method,
    /// Path and query.
    pub target: String,
    pub accept: Option<String>,
    pub content_type: Option<String>,
    pub body: Option<String>,
}

impl Ask {
    pub fn new(method: Method, target: &str) -> Self {
        let accept = target.starts_with("/api/atlas/v2").then(|| vendor("2025-03-12"));
        Self { method, target: target.to_owned(), accept, content_type: None, body: None }
    }

    pub fn json(mut self, body: &Value) -> Self {
        self.content_type = Some("application/json".to_owned());
        self.body = Some(body.to_string());
        self
    }

    pub fn text(mut self, content_type: &'static str, body: &str) -> Self {
        self.content_type = Some(content_type.to_owned());
        self.body = Some(body.to_owned());
        self
    }

    pub fn accept(mut self, accept: &str) -> Self {
        self.accept = Some(accept.to_owned());
        self
    }

    pub fn date(self, date: &str) -> Self {
        self.accept(&vendor(date))
    }
}

fn vendor(date: &str) -> String {
    format!("application/vnd.atlas.{date}+json")
}

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

/// Sends requests to one server.
pub struct Client {
    http: reqwest::Client,
    pub base: String,
}

impl Client {
    pub fn new(base: &str) -> Self {
        // The binary does this for itself; here nobody else has.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Self { http: reqwest::Client::builder().no_proxy().build().unwrap(), base: base.to_owned() }
    }

    /// Sends a request, and again when a first or stale nonce brings a challenge.
    pub async fn send(&self, account: &Account, ask: &Ask) -> Answer {
        let answer = self.send_once(account, ask).await;
        let Account::Key { nonce, .. } = account else { return answer };
        let challenge = answer.header("www-authenticate").filter(|_| answer.status == 401);
        let fresh = challenge.and_then(|text| text.split("nonce=\"").nth(1)?.split('"').next());
        let Some(fresh) = fresh else { return answer };
        *nonce.lock().unwrap() = Some((fresh.to_owned(), 0));
        self.send_once(account, ask).await
    }

    async fn send_once(&self, account: &Account, ask: &Ask) -> Answer {
        let mut request = self.http.request(ask.method.clone(), format!("{}{}", self.base, ask.target));
        if let Some(accept) = &ask.accept {
            request = request.header("Accept", accept);
        }
        if let Some(authorization) = authorization(account, ask) {
            request = request.header("Authorization", authorization);
        }
        if let Some(content_type) = &ask.content_type {
            request = request.header("Content-Type", content_type);
        }
        if let Some(body) = &ask.body {
            request = request.body(body.clone());
        }
        let answer = request.send().await.unwrap_or_else(|e| panic!("{} {}: {e}", ask.method, ask.target));
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Answer { status, headers, body: answer.bytes().await.unwrap().to_vec() }
    }
}

fn authorization(account: &Account, ask: &Ask) -> Option<String> {
    let (public, private, nonce) = match account {
        Account::Nobody => return None,
        Account::Bearer(token) => return Some(format!("Bearer {token}")),
        Account::Key { public, private, nonce } => (public, private, nonce),
    };
    let mut held = nonce.lock().unwrap();
    let (nonce, count) = held.as_mut()?;
    *count += 1;
    let uri = &ask.target;
    let ha1 = md5(&format!("{public}:MMS Public API:{private}"));
    let ha2 = md5(&format!("{}:{uri}", ask.method));
    let response = md5(&format!("{ha1}:{nonce}:{count:08x}:Y25vbmNl:auth:{ha2}"));
    Some(format!(
        "Digest username=\"{public}\", realm=\"MMS Public API\", nonce=\"{nonce}\", uri=\"{uri}\", cnonce=\"Y25vbmNl\", \
         nc={count:08x}, qop=auth, response=\"{response}\", algorithm=MD5"
    ))
}

fn md5(text: &str) -> String {
    hex::encode(Md5::digest(text))
}
