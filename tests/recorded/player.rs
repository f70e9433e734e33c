//! Does again what a recording says was done, against a server of today.

use std::time::{Duration, Instant};

use bson::{Timestamp, doc};
use reqwest::Method;
use serde_json::Value;
use testbed::Server;

use super::{
    alike::{difference, renamed},
    recording::{By, Exchange, Recording, Step, seconds_and_increment},
};
use crate::{
    client::{Account, Answer, Ask, Client},
    support::{Ebbtide, PATIENCE, text},
};

/// How often is asked again for what a client waited for.
const ASK_EVERY: Duration = Duration::from_millis(50);

pub struct Player<'a> {
    ebbtide: &'a Ebbtide,
    mongod: &'a Server,
    http: Client,
    key: Account,
    /// Of the service account that was made last.
    bearer: Option<Account>,
    /// What was called one way in the recording, and is called another now.
    names: Vec<(String, String)>,
    /// Operation times of the recording, and of today.
    times: Vec<([u32; 2], [u32; 2])>,
}

impl<'a> Player<'a> {
    pub fn new(ebbtide: &'a Ebbtide, mongod: &'a Server) -> Self {
        Self {
            ebbtide,
            mongod,
            http: Client::new(&ebbtide.url()),
            key: Account::key(&ebbtide.public_key, &ebbtide.private_key),
            bearer: None,
            names: Vec::new(),
            times: Vec::new(),
        }
    }

    /// Plays it to its end; how many requests of the client were answered as they were then.
    pub async fn play(&mut self, recording: &Recording) -> Result<usize, String> {
        self.names.push((recording.about.url.clone(), self.ebbtide.url()));
        self.names.push((recording.about.project.clone(), self.ebbtide.project.clone()));
        let mut answered = 0;
        for step in without_polls(&recording.steps) {
            match step {
                Step::Write { state, at } => {
                    let now = self.write(state).await;
                    self.times.push((*at, seconds_and_increment(now)));
                }
                Step::Restorable { at } => {
                    let [time, increment] = self.time_of(*at);
                    self.ebbtide.until_restorable(Timestamp { time, increment }).await;
                }
                Step::Cli { words, answer } => self.command(words, answer),
                Step::Admin { words, answer } => {
                    let words: Vec<_> = words.iter().map(|word| self.renew(word)).collect();
                    let now = self.ebbtide.admin(&words.iter().map(String::as_str).collect::<Vec<_>>());
                    renamed(answer, &now, &mut self.names);
                    if now["clientSecret"].is_string() {
                        self.bearer = Some(self.token_of(&now).await);
                    }
                }
                Step::Ask(exchange) => {
                    self.ask(exchange).await.map_err(|why| {
                        format!("{} {}: {why}", exchange.method, self.renew(&exchange.target))
                    })?;
                    answered += 1;
                }
            }
        }
        Ok(answered)
    }

    async fn write(&self, state: &str) -> Timestamp {
        let shop = self.mongod.client().await.unwrap().database("shop");
        let put = |n: i32| doc! { "q": { "_id": n }, "u": { "_id": n, "state": state }, "upsert": true };
        let writes: Vec<_> = (0..50).map(put).collect();
        let update = doc! { "update": "orders", "updates": writes, "writeConcern": { "w": "majority" } };
        shop.run_command(update).await.unwrap().get_timestamp("operationTime").unwrap()
    }

    fn command(&mut self, words: &[String], answer: &Value) {
        let mut words: Vec<_> = words.iter().map(|word| self.renew(word)).collect();
        if let Some(at) = words.iter().position(|word| word == "--uri") {
            words[at + 1] = self.mongod.uri();
        }
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        // How it ends is seen by what is asked then.
        let output = self.ebbtide.try_cli(&words);
        let now = serde_json::from_slice(&output.stdout).unwrap_or_default();
        renamed(answer, &now, &mut self.names);
    }

    async fn token_of(&self, account: &Value) -> Account {
        let [id, secret] = ["clientId", "clientSecret"].map(|name| text(account, name));
        let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
        let ask = Ask::new(Method::POST, "/api/oauth/token").text("application/x-www-form-urlencoded", &form);
        let given = self.http.send(&Account::Nobody, &ask).await;
        Account::Bearer(text(&given.json(), "access_token"))
    }

    /// Asks until it is answered as it was, where asking changes nothing.
    async fn ask(&mut self, exchange: &Exchange) -> Result<(), String> {
        let account = match exchange.by {
            By::Nobody => &Account::Nobody,
            By::Digest => &self.key,
            By::Bearer => self.bearer.as_ref().ok_or("it made no service account")?,
        };
        let ask = Ask {
            method: Method::from_bytes(exchange.method.as_bytes()).unwrap(),
            target: self.renew(&exchange.target),
            accept: exchange.accept.clone(),
            content_type: exchange.content_type.clone(),
            body: exchange.body.as_ref().map(|body| self.renew_all(body).to_string()),
        };
        let begun = Instant::now();
        loop {
            let answer = self.http.send(account, &ask).await;
            let mut names = self.names.clone();
            let different = self.differs(exchange, &answer, &mut names);
            let Some(why) = different else {
                self.names = names;
                return Ok(());
            };
            if !changes_nothing(exchange) || begun.elapsed() > PATIENCE {
                let said = String::from_utf8_lossy(&answer.body).into_owned();
                return Err(format!("{why}\nasked: {:?}\nanswered {}: {said}", ask.body, answer.status));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    fn differs(
        &self,
        exchange: &Exchange,
        answer: &Answer,
        names: &mut Vec<(String, String)>,
    ) -> Option<String> {
        if answer.status != exchange.status {
            return Some(format!("{} and not {}", answer.status, exchange.status));
        }
        if answer.header("content-type") != exchange.answer_type.as_deref() {
            return Some(format!("{:?} and not {:?}", answer.header("content-type"), exchange.answer_type));
        }
        let recorded = exchange.answer.as_ref()?;
        let Ok(found) = serde_json::from_slice(&answer.body) else { return Some("it is no JSON".to_owned()) };
        renamed(&self.renew_all(recorded), &found, names);
        let recorded = renew_all(recorded, names, &self.times);
        difference(&recorded, &found, !changes_nothing(exchange))
    }

    fn renew(&self, text: &str) -> String {
        renew(text, &self.names)
    }

    fn renew_all(&self, value: &Value) -> Value {
        renew_all(value, &self.names, &self.times)
    }

    fn time_of(&self, at: [u32; 2]) -> [u32; 2] {
        time_of(at, &self.times)
    }
}

fn renew(text: &str, names: &[(String, String)]) -> String {
    names.iter().fold(text.to_owned(), |text, (old, new)| text.replace(old, new))
}

/// An operation time of today for one of the recording: that of the same write, else one as far from the first write.
fn time_of(at: [u32; 2], times: &[([u32; 2], [u32; 2])]) -> [u32; 2] {
    if let Some((_, now)) = times.iter().find(|(old, _)| *old == at) {
        return *now;
    }
    let Some(([first, _], [now, _])) = times.first() else { return at };
    [now.wrapping_add(at[0].wrapping_sub(*first)), at[1]]
}

fn renew_all(value: &Value, names: &[(String, String)], times: &[([u32; 2], [u32; 2])]) -> Value {
    match value {
        Value::String(text) => renew(text, names).into(),
        Value::Array(values) => values.iter().map(|value| renew_all(value, names, times)).collect(),
        Value::Object(fields) => {
            let mut fields: serde_json::Map<_, _> =
                fields.iter().map(|(name, value)| (name.clone(), renew_all(value, names, times))).collect();
            let part = |name: &str| fields.get(name)?.as_u64()?.try_into().ok();
            if let Some(at) = part("oplogTs").zip(part("oplogInc")) {
                let [time, increment] = time_of(at.into(), times);
                fields.insert("oplogTs".to_owned(), time.into());
                fields.insert("oplogInc".to_owned(), increment.into());
            }
            fields.into()
        }
        other => other.clone(),
    }
}

/// An archive is gone once it is fetched.
fn changes_nothing(exchange: &Exchange) -> bool {
    exchange.method == "GET" && exchange.target.starts_with("/api/")
}

/// The steps, of requests that only read and come again before anything is changed only the last: clients wait like that.
fn without_polls(steps: &[Step]) -> impl Iterator<Item = &Step> {
    let reads = |step: &Step| matches!(step, Step::Ask(exchange) if changes_nothing(exchange));
    let is_same = |one: &Exchange, other: &Exchange| {
        (&one.target, &one.accept, one.by) == (&other.target, &other.accept, other.by)
    };
    steps.iter().enumerate().filter_map(move |(at, step)| {
        let Step::Ask(exchange) = step else { return Some(step) };
        let mut following = steps[at + 1..].iter().take_while(|step| reads(step));
        let comes_again =
            reads(step) && following.any(|step| matches!(step, Step::Ask(other) if is_same(exchange, other)));
        (!comes_again).then_some(step)
    })
}

#[test]
fn what_is_asked_again_is_asked_once_and_never_across_a_change() {
    let ask = |method: &str, target: &str| {
        Step::Ask(Box::new(Exchange {
            by: By::Digest,
            method: method.to_owned(),
            target: target.to_owned(),
            accept: None,
            content_type: None,
            body: None,
            status: 200,
            answer_type: None,
            answer: None,
        }))
    };
    let (a, b, archive) = ("/api/a", "/api/b", "/download/a");
    let steps = [
        ("GET", a),
        ("GET", b),
        ("GET", a),
        ("POST", a),
        ("POST", a),
        ("GET", a),
        ("GET", archive),
        ("GET", a),
    ];
    let steps = steps.map(|(method, target)| ask(method, target));
    let left: Vec<_> = without_polls(&steps)
        .map(|step| match step {
            Step::Ask(exchange) => (exchange.method.as_str(), exchange.target.as_str()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        left,
        [("GET", b), ("GET", a), ("POST", a), ("POST", a), ("GET", a), ("GET", archive), ("GET", a)]
    );
}

#[test]
fn a_time_is_that_of_the_same_write_or_as_far_from_the_first() {
    let times = [([100, 1], [900, 7]), ([101, 2], [905, 8])];
    assert_eq!(time_of([101, 2], &times), [905, 8]);
    assert_eq!(time_of([90, 1], &times), [890, 1]);
    let body = serde_json::json!({"oplogTs": 100, "oplogInc": 1, "id": "old", "list": ["old"]});
    let names = [("old".to_owned(), "new".to_owned())];
    let wanted = serde_json::json!({"oplogTs": 900, "oplogInc": 7, "id": "new", "list": ["new"]});
    assert_eq!(renew_all(&body, &names, &times), wanted);
}
