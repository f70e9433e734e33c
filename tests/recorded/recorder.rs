//! A server behind a listener that writes down what passes: `EBBTIDE_TEST_RECORD=1` makes the recordings anew that
//! `tests/recorded.rs` plays back where the clients themselves are not.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    ops::Deref,
    sync::{Arc, Mutex, OnceLock},
    thread,
};

use bson::Timestamp;
use serde_json::{Value, json};

use crate::{
    recorded::recording::{About, By, Exchange, Recording, Step, directory, seconds_and_increment},
    support::{Ebbtide, text},
};

const RECORD: &str = "EBBTIDE_TEST_RECORD";
/// What nobody else may read, though it is of a server that is gone.
const SECRETS: [&str; 3] = ["clientSecret", "privateKey", "secret"];

/// A server that a client is let at. Recorded or not, it is used in the same way.
pub struct Recorded {
    server: Ebbtide,
    /// The file, the listener's port and what happened so far.
    tape: Option<(&'static str, u16, Arc<Tape>)>,
}

#[derive(Default)]
struct Tape {
    steps: Mutex<Vec<Step>>,
    /// The client, as it says in its requests.
    client: OnceLock<String>,
}

impl Deref for Recorded {
    type Target = Ebbtide;

    fn deref(&self) -> &Ebbtide {
        &self.server
    }
}

impl Recorded {
    /// `name` is that of the recording.
    pub fn new(server: Ebbtide, name: &'static str) -> Self {
        let tape = std::env::var_os(RECORD).map(|_| {
            let tape = Arc::<Tape>::default();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let (kept, to) = (Arc::clone(&tape), server.port);
            thread::spawn(move || {
                for client in listener.incoming() {
                    let tape = Arc::clone(&kept);
                    // A connection that breaks is the client's to notice.
                    thread::spawn(move || pass(client?, to, &tape));
                }
            });
            (name, port, tape)
        });
        Self { server, tape }
    }

    /// Where clients go.
    pub fn url(&self) -> String {
        match &self.tape {
            Some((_, port, _)) => format!("http://127.0.0.1:{port}"),
            None => self.server.url(),
        }
    }

    fn keep(&self, step: Step) {
        if let Some((.., tape)) = &self.tape {
            tape.steps.lock().unwrap().push(step);
        }
    }

    /// The answer to a command of our own, which does not go through the listener, as if it did.
    fn as_seen_by_clients(&self, answer: &Value) -> Value {
        let text = answer.to_string().replace(&self.server.url(), &self.url());
        without_secrets(serde_json::from_str(&text).unwrap())
    }

    pub fn cli(&self, words: &[&str]) -> Value {
        let answer = self.server.cli(words);
        self.keep(Step::Cli { words: owned(words), answer: self.as_seen_by_clients(&answer) });
        answer
    }

    /// Waits for the end of a job, whatever it is.
    pub fn watch(&self, words: &[&str]) {
        self.server.try_cli(words);
        self.keep(Step::Watch { words: owned(words) });
    }

    pub fn admin(&self, words: &[&str]) -> Value {
        let answer = self.server.admin(words);
        self.keep(Step::Admin { words: owned(words), answer: self.as_seen_by_clients(&answer) });
        answer
    }

    pub fn snapshot(&self, cluster: &str) -> String {
        text(&self.cli(&["snapshot", "create", cluster, "--watch"]), "id")
    }

    pub async fn until_restorable(&self, at: Timestamp) {
        self.server.until_restorable(at).await;
        self.keep(Step::Restorable { at: seconds_and_increment(at) });
    }

    pub fn seen(&self, state: &str) {
        self.keep(Step::State { state: state.to_owned() });
    }

    pub fn written(&self, state: &str, at: Timestamp) {
        self.keep(Step::Write { state: state.to_owned(), at: seconds_and_increment(at) });
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        let Some((name, _, tape)) = &self.tape else { return };
        // A server that met no client has nothing to tell.
        let Some(client) = tape.client.get().filter(|_| !thread::panicking()) else { return };
        let about = About { client: client.clone(), url: self.url(), project: self.project.clone() };
        let steps = std::mem::take(&mut *tape.steps.lock().unwrap());
        Recording { about, steps }.write(&directory().join(format!("{name}.jsonl")));
    }
}

/// The words, without the connection string of a server that is gone by then.
fn owned(words: &[&str]) -> Vec<String> {
    let mut words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
    if let Some(at) = words.iter().position(|word| word == "--uri") {
        words[at + 1] = "URI".to_owned();
    }
    words
}

fn without_secrets(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = |(name, value): (String, Value)| {
                let is_secret = value.is_string() && SECRETS.contains(&name.as_str());
                (name, if is_secret { json!("…") } else { without_secrets(value) })
            };
            fields.into_iter().map(kept).collect::<serde_json::Map<_, _>>().into()
        }
        Value::Array(values) => values.into_iter().map(without_secrets).collect(),
        other => other,
    }
}

/// One connection of a client, to its end.
fn pass(client: TcpStream, port: u16, tape: &Tape) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", port))?;
    let (mut asks, mut answers) = (BufReader::new(client.try_clone()?), BufReader::new(server.try_clone()?));
    let (mut client, mut server) = (client, server);
    while let Some(ask) = Message::read(&mut asks, true)? {
        server.write_all(&ask.head)?;
        server.write_all(&ask.body)?;
        let Some(answer) = Message::read(&mut answers, false)? else { break };
        // Kept before it is seen: what the client does next comes after it.
        tape.steps.lock().unwrap().extend(exchange(&ask, &answer));
        if let Some(agent) = ask.header("user-agent").filter(|agent| !agent.starts_with("curl/")) {
            tape.client.get_or_init(|| agent);
        }
        client.write_all(&answer.head)?;
        client.write_all(&answer.body)?;
    }
    Ok(())
}

/// A request or an answer, as bytes.
struct Message {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Message {
    /// None where nothing more comes.
    fn read(from: &mut BufReader<TcpStream>, is_ask: bool) -> io::Result<Option<Self>> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if from.read_until(b'\n', &mut head)? == 0 {
                return Ok(None);
            }
        }
        let mut message = Self { head, body: Vec::new() };
        let status = message.words().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0_u16);
        match message.header("content-length") {
            Some(length) => {
                let length = length.parse().map_err(io::Error::other)?;
                message.body.resize(length, 0);
                from.read_exact(&mut message.body)?;
            }
            None if is_ask || [204, 304].contains(&status) => {}
            // All answers of ours tell how long they are.
            None => return Err(io::Error::other("an answer of unknown length")),
        }
        Ok(Some(message))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.head).unwrap_or_default()
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        self.text().lines().next().unwrap_or_default().split(' ')
    }

    fn header(&self, name: &str) -> Option<String> {
        let lines = self.text().lines().skip(1).filter_map(|line| line.split_once(':'));
        lines
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
            .next()
    }
}

/// What is kept of it: no challenges, and nothing of tokens.
fn exchange(ask: &Message, answer: &Message) -> Option<Step> {
    let [method, target] = [0, 1].map(|at| ask.words().nth(at).unwrap_or_default().to_owned());
    let status = answer.words().nth(1)?.parse().ok()?;
    if target.starts_with("/api/oauth/") || (status == 401 && answer.header("www-authenticate").is_some()) {
        return None;
    }
    let by = match ask.header("authorization") {
        Some(how) if how.starts_with("Bearer ") => By::Bearer,
        Some(_) => By::Digest,
        None => By::Nobody,
    };
    let (content_type, answer_type) = (ask.header("content-type"), answer.header("content-type"));
    Some(Step::Ask(Box::new(Exchange {
        by,
        method,
        target,
        accept: ask.header("accept"),
        content_type,
        body: serde_json::from_slice(&ask.body).ok().map(without_secrets),
        status,
        answer_type,
        answer: serde_json::from_slice(&answer.body).ok().map(without_secrets),
    })))
}
