//! Does again what a recording says was done, against a server of today.

use std::{
    collections::BTreeSet,
    process::Command,
    time::{Duration, Instant},
};

use bson::{Document, Timestamp, doc};
use reqwest::Method;
use serde_json::Value;
use testbed::Server;

use super::{
    alike::{Compared, Names, compare, is_id},
    recording::{By, Exchange, Recording, Step, seconds_and_increment},
};
use crate::{
    client::{Account, Answer, Ask, Client},
    support::{Ebbtide, PATIENCE, stderr, text},
};

/// How often is asked again for what a client waited for.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How many documents there are.
const DOCUMENTS: i32 = 50;

pub struct Player<'a> {
    ebbtide: &'a Ebbtide,
    mongod: &'a Server,
    http: Client,
    key: Account,
    /// Of the service account that was made last.
    bearer: Option<Account>,
    names: Names,
    /// Ids that the client said before anybody told it.
    chosen: BTreeSet<String>,
    /// Operation times of the recording, and of today.
    times: Vec<([u32; 2], [u32; 2])>,
}

impl<'a> Player<'a> {
    pub fn new(ebbtide: &'a Ebbtide, mongod: &'a Server, recording: &Recording) -> Self {
        let mut names = Names::default();
        names.learn(&recording.about.url, &ebbtide.url());
        names.learn(&recording.about.project, &ebbtide.project);
        Self {
            ebbtide,
            mongod,
            http: Client::new(&ebbtide.url()),
            key: Account::key(&ebbtide.public_key, &ebbtide.private_key),
            bearer: None,
            names,
            chosen: chosen(recording),
            times: Vec::new(),
        }
    }

    /// Plays it to its end.
    pub async fn play(&mut self, recording: &Recording) -> Result<(), String> {
        for step in without_polls(&recording.steps) {
            match step {
                Step::Write { state, at } => {
                    let now = self.write(state).await;
                    self.times.push((*at, seconds_and_increment(now)));
                }
                Step::State { state } => self.look(state).await?,
                Step::Restorable { at } => {
                    let [time, increment] = time_of(*at, &self.times);
                    self.ebbtide.until_restorable(Timestamp { time, increment }).await;
                }
                Step::Cli { words, answer } => self.command(words, answer).await?,
                Step::Watch { words } => drop(self.run(words)),
                Step::Admin { words, answer } => {
                    let words: Vec<_> = words.iter().map(|word| self.names.renew(word)).collect();
                    let now = self.ebbtide.admin(&words.iter().map(String::as_str).collect::<Vec<_>>());
                    self.learn(answer, &now);
                    if now["clientSecret"].is_string() {
                        self.bearer = Some(self.token_of(&now).await);
                    }
                }
                Step::Ask(exchange) => self.ask(exchange).await.map_err(|why| {
                    format!("{} {}: {why}", exchange.method, self.names.renew(&exchange.target))
                })?,
            }
        }
        Ok(())
    }

    async fn write(&self, state: &str) -> Timestamp {
        let shop = self.mongod.client().await.unwrap().database("shop");
        let put = |n: i32| doc! { "q": { "_id": n }, "u": { "_id": n, "state": state }, "upsert": true };
        let writes: Vec<_> = (0..DOCUMENTS).map(put).collect();
        let update = doc! { "update": "orders", "updates": writes, "writeConcern": { "w": "majority" } };
        shop.run_command(update).await.unwrap().get_timestamp("operationTime").unwrap()
    }

    async fn look(&self, state: &str) -> Result<(), String> {
        let shop = self.mongod.client().await.unwrap().database("shop");
        let orders = shop.collection::<Document>("orders");
        let all = orders.count_documents(doc! {}).await.unwrap();
        let so = orders.count_documents(doc! { "state": state }).await.unwrap();
        let wanted = u64::try_from(DOCUMENTS).unwrap();
        let is_so = (all, so) == (wanted, wanted);
        is_so.then_some(()).ok_or_else(|| format!("{so} of {all} documents are as {state} has them"))
    }

    fn run(&self, words: &[String]) -> Result<Value, String> {
        let mut words: Vec<_> = words.iter().map(|word| self.names.renew(word)).collect();
        if let Some(at) = words.iter().position(|word| word == "--uri") {
            words[at + 1] = self.mongod.uri();
        }
        let output = self.ebbtide.try_cli(&words.iter().map(String::as_str).collect::<Vec<_>>());
        if !output.status.success() {
            return Err(format!("{words:?}: {}", stderr(&output)));
        }
        serde_json::from_slice(&output.stdout).map_err(|e| format!("{words:?}: {e}"))
    }

    /// A command of our own. Of a job its state counts; it is waited for where the command only looks.
    async fn command(&mut self, words: &[String], answer: &Value) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let now = self.run(words)?;
            self.learn(answer, &now);
            let recorded = self.renew_all(answer);
            let compared = match (&recorded["state"], &now["state"]) {
                (before, after) if !before.is_null() && is_of_job(words) => match before == after {
                    true => Compared::Alike,
                    false => Compared::Behind(format!("it is {after} and was {before}")),
                },
                _ => compare(&recorded, &now),
            };
            match compared {
                Compared::Alike => return Ok(()),
                Compared::Behind(_) if is_look(words) && begun.elapsed() < PATIENCE => {}
                Compared::Behind(why) | Compared::Different(why) => {
                    return Err(format!("{words:?}: {why}: {now}"));
                }
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    async fn token_of(&self, account: &Value) -> Account {
        let [id, secret] = ["clientId", "clientSecret"].map(|name| text(account, name));
        let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
        let ask = Ask::new(Method::POST, "/api/oauth/token").text("application/x-www-form-urlencoded", &form);
        let given = self.http.send(&Account::Nobody, &ask).await;
        Account::Bearer(text(&given.json(), "access_token"))
    }

    /// Asks, and again where a job is not as far yet as it was, and asking changes nothing.
    async fn ask(&mut self, exchange: &Exchange) -> Result<(), String> {
        let account = match exchange.by {
            By::Nobody => &Account::Nobody,
            By::Digest => &self.key,
            By::Bearer => self.bearer.as_ref().ok_or("it made no service account")?,
        };
        let ask = Ask {
            method: Method::from_bytes(exchange.method.as_bytes()).unwrap(),
            target: self.names.renew(&exchange.target),
            accept: exchange.accept.clone(),
            content_type: exchange.content_type.clone(),
            body: exchange.body.as_ref().map(|body| self.renew_all(body).to_string()),
        };
        let begun = Instant::now();
        loop {
            let answer = self.http.send(account, &ask).await;
            let mut names = self.names.clone();
            match self.compare(exchange, &answer, &mut names) {
                Compared::Alike => {
                    self.names = names;
                    return Ok(());
                }
                Compared::Behind(_) if changes_nothing(exchange) && begun.elapsed() < PATIENCE => {}
                Compared::Behind(why) | Compared::Different(why) => {
                    let said = String::from_utf8_lossy(&answer.body).into_owned();
                    return Err(format!("{why}\nasked: {:?}\nanswered {}: {said}", ask.body, answer.status));
                }
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    fn compare(&self, exchange: &Exchange, answer: &Answer, names: &mut Names) -> Compared {
        if answer.status != exchange.status {
            return Compared::Different(format!("{} and not {}", answer.status, exchange.status));
        }
        let of_type = answer.header("content-type");
        if of_type != exchange.answer_type.as_deref() {
            return Compared::Different(format!("{of_type:?} and not {:?}", exchange.answer_type));
        }
        let Some(recorded) = &exchange.answer else { return without_json(answer) };
        let Ok(found) = serde_json::from_slice(&answer.body) else {
            return Compared::Different("it is no JSON".to_owned());
        };
        names.learn_all(recorded, &found, &|id| self.chosen.contains(id));
        compare(&renew_all(recorded, names, &self.times), &found)
    }

    fn learn(&mut self, recorded: &Value, found: &Value) {
        let chosen = &self.chosen;
        self.names.learn_all(recorded, found, &|id| chosen.contains(id));
    }

    fn renew_all(&self, value: &Value) -> Value {
        renew_all(value, &self.names, &self.times)
    }
}

/// Nothing, or an archive that holds the collection.
fn without_json(answer: &Answer) -> Compared {
    if answer.status == 204 {
        return if answer.body.is_empty() {
            Compared::Alike
        } else {
            Compared::Different("it has a body".to_owned())
        };
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &answer.body).unwrap();
    let listed = Command::new("tar").arg("-tzf").arg(file.path()).output().unwrap();
    match String::from_utf8_lossy(&listed.stdout).contains("dump/shop/orders.bson") {
        true => Compared::Alike,
        false => Compared::Different("it is no archive of the collection".to_owned()),
    }
}

fn is_of_job(words: &[String]) -> bool {
    words.first().is_some_and(|word| ["snapshot", "restore", "export"].contains(&word.as_str()))
}

fn is_look(words: &[String]) -> bool {
    words.iter().any(|word| ["show", "list"].contains(&word.as_str()))
}

/// An operation time of today for one of the recording: that of the same write, else one as far from the first write.
fn time_of(at: [u32; 2], times: &[([u32; 2], [u32; 2])]) -> [u32; 2] {
    if let Some((_, now)) = times.iter().find(|(old, _)| *old == at) {
        return *now;
    }
    let Some(([first, _], [now, _])) = times.first() else { return at };
    [now.wrapping_add(at[0].wrapping_sub(*first)), at[1]]
}

fn renew_all(value: &Value, names: &Names, times: &[([u32; 2], [u32; 2])]) -> Value {
    match value {
        Value::String(text) => names.renew(text).into(),
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

/// The steps without those that a client only waited with: requests that read, and are answered otherwise when they come again before
/// anything is changed.
fn without_polls(steps: &[Step]) -> impl Iterator<Item = &Step> {
    let reads = |step: &Step| match step {
        Step::Ask(exchange) => changes_nothing(exchange),
        Step::Cli { words, .. } => is_look(words),
        Step::Watch { .. } => true,
        _ => false,
    };
    let is_later = |one: &Step, other: &Step| match (one, other) {
        (Step::Ask(one), Step::Ask(other)) => {
            (&one.target, &one.accept, one.by) == (&other.target, &other.accept, other.by)
                && (one.status, &one.answer) != (other.status, &other.answer)
        }
        (Step::Cli { words: one, answer: before }, Step::Cli { words: other, answer: after }) => {
            one == other && before != after
        }
        _ => false,
    };
    steps
        .iter()
        .enumerate()
        .filter(move |(at, step)| {
            let mut following = steps[at + 1..].iter().take_while(|step| reads(step));
            !(reads(step) && following.any(|other| is_later(step, other)))
        })
        .map(|(_, step)| step)
}

/// Ids that the client says before they are in any answer.
fn chosen(recording: &Recording) -> BTreeSet<String> {
    let mut told = BTreeSet::from([recording.about.project.clone()]);
    let mut chosen = BTreeSet::new();
    for step in &recording.steps {
        match step {
            Step::Ask(exchange) => {
                let said = exchange.body.iter().flat_map(ids);
                chosen.extend(said.filter(|id| !told.contains(id)));
                told.extend(exchange.answer.iter().flat_map(ids));
            }
            Step::Cli { answer, .. } | Step::Admin { answer, .. } => told.extend(ids(answer)),
            _ => {}
        }
    }
    chosen
}

fn ids(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) if is_id(text) => vec![text.clone()],
        Value::Array(values) => values.iter().flat_map(ids).collect(),
        Value::Object(fields) => fields.values().flat_map(ids).collect(),
        _ => vec![],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ask(method: &str, target: &str, answer: i32) -> Step {
        Step::Ask(Box::new(Exchange {
            by: By::Digest,
            method: method.to_owned(),
            target: target.to_owned(),
            accept: None,
            content_type: None,
            body: (method == "POST").then(|| json!({"role": "c".repeat(24), "job": "d".repeat(24)})),
            status: 200,
            answer_type: None,
            answer: Some(json!({"n": answer, "id": "d".repeat(24)})),
        }))
    }

    #[test]
    fn a_client_that_waits_is_not_copied_and_everything_else_is() {
        let (a, b, archive) = ("/api/a", "/api/b", "/download/a");
        let steps = [
            ask("GET", a, 1),
            ask("GET", b, 1),
            ask("GET", a, 2),
            ask("GET", b, 1),
            ask("POST", a, 1),
            ask("POST", a, 2),
            ask("GET", a, 3),
            ask("GET", archive, 1),
            ask("GET", a, 4),
        ];
        let left: Vec<_> = without_polls(&steps)
            .map(|step| match step {
                Step::Ask(exchange) => (exchange.method.as_str(), exchange.target.as_str()),
                other => panic!("{other:?}"),
            })
            .collect();
        let all = [
            ("GET", b),
            ("GET", a),
            ("GET", b),
            ("POST", a),
            ("POST", a),
            ("GET", a),
            ("GET", archive),
            ("GET", a),
        ];
        assert_eq!(left, all);
    }

    #[test]
    fn a_time_is_that_of_the_same_write_or_as_far_from_the_first() {
        let times = [([100, 1], [900, 7]), ([101, 2], [905, 8])];
        assert_eq!(time_of([101, 2], &times), [905, 8]);
        assert_eq!(time_of([90, 1], &times), [890, 1]);
        let body = json!({"oplogTs": 100, "oplogInc": 1, "id": "old", "list": ["old"]});
        let mut names = Names::default();
        names.learn("old", "new");
        let wanted = json!({"oplogTs": 900, "oplogInc": 7, "id": "new", "list": ["new"]});
        assert_eq!(renew_all(&body, &names, &times), wanted);
    }

    #[test]
    fn an_id_is_the_clients_where_it_says_it_first() {
        let about = super::super::recording::About {
            client: String::new(),
            url: String::new(),
            project: String::new(),
        };
        let steps = vec![ask("GET", "/api/a", 1), ask("POST", "/api/a", 1)];
        assert_eq!(chosen(&Recording { about, steps }), BTreeSet::from(["c".repeat(24)]));
    }
}
