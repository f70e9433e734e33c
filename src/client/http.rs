//! One server, one account: requests with digest authentication, errors told as sentences.

use std::sync::Mutex;

use anyhow::{Context, anyhow, bail};
use reqwest::{Method, Response, StatusCode, header};
use serde_json::Value;

use super::digest::Challenge;
use crate::args::Server;

/// The resource version that the commands were written against.
const ACCEPT: &str = "application/vnd.atlas.2025-03-12+json";
/// Time to connect; answers themselves may take as long as they take.
const CONNECT_SECONDS: u64 = 10;

/// A text as one segment of a path, or as a value of a query.
pub(crate) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// A server as one API key sees it.
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    public_key: String,
    private_key: String,
    challenge: Mutex<Option<Challenge>>,
}

impl Client {
    /// Prepares to talk to the server of the flags. Sends nothing yet.
    pub(crate) fn new(server: &Server) -> anyhow::Result<Self> {
        let missing = "no API key: give --public-key and --private-key, or set EBBTIDE_PUBLIC_KEY and EBBTIDE_PRIVATE_KEY \
                       (made by `ebbtide admin create-key`)";
        let http = reqwest::Client::builder()
            .connect_timeout(std::time::Duration::from_secs(CONNECT_SECONDS))
            .user_agent(concat!("ebbtide/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("prepare the HTTP client")?;
        Ok(Self {
            http,
            base: server.url.trim_end_matches('/').to_owned(),
            public_key: server.public_key.clone().ok_or_else(|| anyhow!(missing))?,
            private_key: server.private_key.clone().ok_or_else(|| anyhow!(missing))?,
            challenge: Mutex::new(None),
        })
    }

    /// GET, answered by JSON.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.json(Method::GET, path, None).await
    }

    /// POST, answered by JSON.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.json(Method::POST, path, Some(body)).await
    }

    /// PUT, answered by JSON.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.json(Method::PUT, path, Some(body)).await
    }

    /// PATCH, answered by JSON.
    pub(crate) async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.json(Method::PATCH, path, Some(body)).await
    }

    /// DELETE, answered by nothing.
    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.json(Method::DELETE, path, None).await.map(drop)
    }

    /// Every result of a paged list.
    pub(crate) async fn list(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        const PAGE: usize = 500;
        let mut all = Vec::new();
        for page in 1.. {
            let mut answer = self.get(&format!("{path}?itemsPerPage={PAGE}&pageNum={page}")).await?;
            let Some(results) = answer.get_mut("results").and_then(Value::as_array_mut) else {
                bail!("{path}: the server's answer has no results");
            };
            let last = results.len() < PAGE;
            all.append(results);
            if last {
                break;
            }
        }
        Ok(all)
    }

    /// GET of any URL without authentication, from a byte on: a download link is its own key.
    pub(crate) async fn fetch(&self, url: &str, from: u64) -> anyhow::Result<Response> {
        let request = self.http.get(url).header(header::RANGE, format!("bytes={from}-"));
        let response = request.send().await.map_err(|e| self.unreachable(e))?;
        if response.status().is_success() { Ok(response) } else { Err(failure(response).await) }
    }

    /// GET, answered by JSON that stays text: documents in it keep the order of their fields.
    pub(crate) async fn get_text(&self, path: &str) -> anyhow::Result<String> {
        self.text(Method::GET, path, None).await
    }

    async fn json(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let text = self.text(method, path, body).await?;
        if text.is_empty() {
            Ok(Value::Null)
        } else {
            serde_json::from_str(&text).context("understand the server's answer")
        }
    }

    async fn text(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<String> {
        let response = self.authenticated(method, path, body).await?;
        if !response.status().is_success() {
            return Err(failure(response).await);
        }
        response.text().await.context("read the server's answer")
    }

    /// Sends a request; answers one challenge, which a first or stale nonce brings.
    async fn authenticated(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Response> {
        let response = self.send(&method, path, body).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let header = response.headers().get(header::WWW_AUTHENTICATE).and_then(|v| v.to_str().ok());
        let Some(challenge) = header.and_then(Challenge::parse) else { return Ok(response) };
        *self.challenge.lock().expect("no panic while the challenge is held") = Some(challenge);
        self.send(&method, path, body).await
    }

    async fn send(&self, method: &Method, path: &str, body: Option<&Value>) -> anyhow::Result<Response> {
        let url = format!("{}{path}", self.base);
        let mut request = self.http.request(method.clone(), &url).header(header::ACCEPT, ACCEPT);
        if let Some(authorization) = self.authorization(method, &url)? {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
        }
        request.send().await.map_err(|e| self.unreachable(e))
    }

    fn authorization(&self, method: &Method, url: &str) -> anyhow::Result<Option<String>> {
        let url = reqwest::Url::parse(url).with_context(|| format!("{} is no URL; see --url", self.base))?;
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| anyhow!("the system gives no randomness"))?;
        let mut challenge = self.challenge.lock().expect("no panic while the challenge is held");
        Ok(challenge.as_mut().map(|challenge| {
            challenge.answer(
                &self.public_key,
                &self.private_key,
                method.as_str(),
                &target,
                &hex::encode(random),
            )
        }))
    }

    fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        let advice = format!("cannot talk to {}: is `ebbtide serve` running there? (see --url)", self.base);
        anyhow::Error::new(error.without_url()).context(advice)
    }
}

/// An error answer.
#[derive(Debug)]
pub(crate) struct Refused {
    /// What a person is told.
    pub(crate) sentence: String,
    /// The HTTP status.
    pub(crate) status: u16,
    /// The `errorCode`, when the answer has one.
    pub(crate) code: Option<String>,
    /// The `detail`, in the server's words.
    pub(crate) detail: String,
    /// What is wrong with which field of the request, when the server says so.
    pub(crate) fields: Value,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Refused {}

async fn failure(response: Response) -> anyhow::Error {
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    let mut body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let code = body["errorCode"].as_str().map(str::to_owned);
    let detail = body["detail"].as_str().unwrap_or("no detail was given").to_owned();
    let sentence = match (status, code.as_deref()) {
        (StatusCode::UNAUTHORIZED, Some("UNEXPECTED_ERROR") | None) => {
            "the server does not know this API key, or its private part is wrong".to_owned()
        }
        (_, Some(code)) => format!("{detail} ({} {code})", status.as_u16()),
        (_, None) => format!("the server answered {status}"),
    };
    let fields = body.pointer_mut("/badRequestDetail/fields").map(Value::take).unwrap_or_default();
    anyhow::Error::new(Refused { sentence, status: status.as_u16(), code, detail, fields })
}
