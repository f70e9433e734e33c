//! Every answer goes through here: what holds for all of them is checked in one place, and what was asked is
//! remembered, so that no operation is forgotten.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    sync::Mutex,
};

use api::Served;
use reqwest::Method;
use serde_json::Value;

use super::{
    client::{Account, Answer, Ask, Client},
    specification::Specification,
};

/// The body of a challenge, byte for byte as Atlas sends it.
const CHALLENGE_BODY: &str = "{\n  \"error\" : 401,\n  \"reason\" : \"Unauthorized\",\n  \"detail\" : \"You are not authorized for this resource.\",\n  \"errorCode\" : \"UNEXPECTED_ERROR\"\n}";
/// On every answer, as recorded from Atlas.
const HEADERS: [(&str, &str); 5] = [
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("x-permitted-cross-domain-policies", "none"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
    ("vary", "Accept"),
];

/// Operations of Atlas that clients call around backups, and that the document at hand leaves out.
const BESIDE_THE_DOCUMENT: [&str; 39] = [
    "createGroup",
    "updateGroup",
    "deleteGroup",
    "listOrgApiKeys",
    "createOrgApiKey",
    "getOrgApiKey",
    "updateOrgApiKey",
    "deleteOrgApiKey",
    "listGroupApiKeys",
    "createGroupApiKey",
    "addGroupApiKey",
    "updateGroupApiKeyRoles",
    "removeGroupApiKey",
    "listOrgServiceAccounts",
    "createOrgServiceAccount",
    "getOrgServiceAccount",
    "updateOrgServiceAccount",
    "deleteOrgServiceAccount",
    "listOrgServiceAccountGroups",
    "createOrgServiceAccountSecret",
    "deleteOrgServiceAccountSecret",
    "listGroupServiceAccounts",
    "createGroupServiceAccount",
    "getGroupServiceAccount",
    "updateGroupServiceAccount",
    "deleteGroupServiceAccount",
    "inviteGroupServiceAccount",
    "createGroupServiceAccountSecret",
    "deleteGroupServiceAccountSecret",
    "listOrgApiKeyAccessListEntries",
    "createOrgApiKeyAccessListEntry",
    "getOrgApiKeyAccessListEntry",
    "deleteOrgApiKeyAccessListEntry",
    "listOrgServiceAccountAccessList",
    "createOrgServiceAccountAccessList",
    "deleteOrgServiceAccountAccessEntry",
    "listGroupServiceAccountAccessList",
    "createGroupServiceAccountAccessList",
    "deleteGroupServiceAccountAccessEntry",
];

pub struct Checker {
    client: Client,
    specification: Option<Specification>,
    operations: Vec<Served>,
    succeeded: Mutex<BTreeSet<&'static str>>,
    refused: Mutex<BTreeMap<&'static str, BTreeSet<String>>>,
    links: Mutex<BTreeSet<String>>,
    gone: Mutex<Vec<String>>,
    deviations: Mutex<Vec<String>>,
}

impl Checker {
    pub fn new(base: &str) -> Self {
        let specification = Specification::find();
        if specification.is_none() {
            // Not through the macro, whose words a passing test keeps to itself.
            let _ = writeln!(
                std::io::stderr(),
                "\n*** SKIPPED: the OpenAPI document of Atlas is not beside this checkout, so bodies are NOT checked\n\
                 *** against its schemas. Statuses, codes, headers, links and paging are.\n"
            );
        }
        Self {
            client: Client::new(base),
            specification,
            operations: api::operations().collect(),
            succeeded: Mutex::default(),
            refused: Mutex::default(),
            links: Mutex::default(),
            gone: Mutex::default(),
            deviations: Mutex::default(),
        }
    }

    pub fn operations(&self) -> &[Served] {
        &self.operations
    }

    /// Asks, checks everything that holds for every answer, and that it is a success with this status.
    #[track_caller]
    pub fn ok<'a>(&'a self, account: &'a Account, ask: Ask, status: u16) -> impl Future<Output = Value> + 'a {
        self.expect(account, ask, status, None)
    }

    /// The same, for an error with this status and code.
    #[track_caller]
    pub fn refused<'a>(
        &'a self,
        account: &'a Account,
        ask: Ask,
        status: u16,
        code: &'a str,
    ) -> impl Future<Output = Value> + 'a {
        self.expect(account, ask, status, Some(code))
    }

    #[track_caller]
    fn expect<'a>(
        &'a self,
        account: &'a Account,
        ask: Ask,
        status: u16,
        code: Option<&'a str>,
    ) -> impl Future<Output = Value> + 'a {
        let place = std::panic::Location::caller();
        async move {
            let answer = self.client.send(account, &ask).await;
            let context = format!("{place}: {} {}: {}", ask.method, ask.target, answer.text());
            assert_eq!(answer.status, status, "{context}");
            assert_eq!(answer.header("x-error-code"), code, "{context}");
            self.check(account, &ask, &answer, &context);
            if answer.body.is_empty() { Value::Null } else { answer.json() }
        }
    }

    /// The answer as it came, checked like all others.
    pub async fn raw(&self, account: &Account, ask: &Ask) -> Answer {
        let answer = self.client.send(account, ask).await;
        self.check(account, ask, &answer, &format!("{} {}", ask.method, ask.target));
        answer
    }

    /// Of a path that is outside the table of operations.
    pub async fn plain(&self, ask: &Ask) -> Answer {
        self.client.send(&Account::Nobody, ask).await
    }

    /// Notes what is wrong with an answer and goes on, so that one run shows all there is.
    fn check(&self, account: &Account, ask: &Ask, answer: &Answer, context: &str) {
        let checking = std::panic::AssertUnwindSafe(|| self.check_strictly(account, ask, answer, context));
        if let Err(panic) = std::panic::catch_unwind(checking) {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            self.deviations.lock().unwrap().push(text.unwrap_or_else(|| context.to_owned()));
        }
    }

    /// What was wrong with answers.
    pub fn deviations(&self) -> Vec<String> {
        self.deviations.lock().unwrap().clone()
    }

    fn check_strictly(&self, account: &Account, ask: &Ask, answer: &Answer, context: &str) {
        let code = answer.header("x-error-code").map(str::to_owned);
        assert_eq!(
            code.is_some(),
            answer.status >= 400,
            "{context}: the code comes with errors, and only with them"
        );
        for (name, value) in HEADERS {
            assert_eq!(answer.header(name), Some(value), "{context}: {name}");
        }
        for name in ["server", "strict-transport-security", "x-request-id", "x-envoy-upstream-service-time"] {
            assert!(answer.header(name).is_some(), "{context}: {name}");
        }
        let told = answer.header("x-java-method").unwrap_or_default();
        let operation = self.operation(ask);
        assert_eq!(told, operation.map_or("none", |operation| operation.id), "{context}");
        let challenged = answer.header("www-authenticate").is_some();
        if challenged {
            check_challenge(answer, context);
        } else if operation.is_some() && !matches!(account, Account::Nobody) {
            let number = |name: &str| answer.header(name).and_then(|text| text.parse::<u32>().ok());
            assert!(number("ratelimit-limit") > number("ratelimit-remaining"), "{context}: rate limit");
        }
        let success = answer.status < 400;
        let versioned = answer.header("x-mongodb-service-version").is_some();
        assert_eq!(versioned, success, "{context}: the service's version is told with successes");
        let body = (!answer.body.is_empty()).then(|| answer.json());
        let has_none = ask.method == Method::HEAD || answer.status == 204;
        assert_eq!(body.is_none(), has_none, "{context}");
        let content_type = check_content_type(ask, answer, context);
        if let Some(body) = &body {
            check_absent(body, "", context);
            self.gather_links(body);
            if !success && !challenged {
                check_error(unwrapped(ask, body.clone()).as_ref().unwrap_or(body), answer, context);
            }
        }
        let Some(operation) = operation else { return };
        if success {
            self.succeeded.lock().unwrap().insert(operation.id);
        } else {
            let refusal = format!("{} {}", answer.status, code.as_deref().unwrap_or_default());
            self.refused.lock().unwrap().entry(operation.id).or_default().insert(refusal);
        }
        self.check_documented(operation, ask, answer, code.as_deref(), &content_type, body, context);
    }

    #[allow(clippy::too_many_arguments, reason = "what is known of one answer")]
    fn check_documented(
        &self,
        operation: &Served,
        ask: &Ask,
        answer: &Answer,
        code: Option<&str>,
        content_type: &str,
        body: Option<Value>,
        context: &str,
    ) {
        let Some(specification) = &self.specification else { return };
        let Some(documented) = specification.operation(operation.method.as_str(), &operation.path) else {
            assert!(
                operation.path.starts_with("/api/ebbtide/") || BESIDE_THE_DOCUMENT.contains(&operation.id),
                "{context}: no such operation is documented"
            );
            return;
        };
        assert_eq!(documented.id, operation.id, "{context}");
        let body = body.and_then(|body| unwrapped(ask, body));
        // A project without a policy shows none, which the document has no form for.
        let is_nothing = body.as_ref().and_then(Value::as_object).is_some_and(serde_json::Map::is_empty);
        if is_nothing && operation.id == "getGroupBackupCompliancePolicy" && answer.status == 200 {
            return;
        }
        if let Err(wrong) = documented.check(answer.status, code, content_type, body.as_ref()) {
            panic!("{context}\ndoes not follow the specification:\n{wrong}");
        }
    }

    /// The operation that a request is for: the one with the most literal path that fits.
    fn operation(&self, ask: &Ask) -> Option<&Served> {
        let path = ask.target.split('?').next().unwrap();
        // The root is asked for with and without its slash.
        let path = if path == "/api/atlas/v2/" { "/api/atlas/v2" } else { path };
        let method = if ask.method == Method::HEAD { Method::GET } else { ask.method.clone() };
        let fits =
            |operation: &&Served| operation.method == method && literals(&operation.path, path).is_some();
        self.operations.iter().filter(fits).max_by_key(|operation| literals(&operation.path, path))
    }

    fn gather_links(&self, body: &Value) {
        match body {
            Value::Object(fields) => {
                if let Some(href) = fields.get("href") {
                    let base = format!("{}/api/", self.client.base);
                    let href = href.as_str().unwrap();
                    assert!(href.starts_with(&base), "{href} is absolute and on this server");
                    self.links.lock().unwrap().insert(href[self.client.base.len()..].to_owned());
                }
                fields.values().for_each(|value| self.gather_links(value));
            }
            Value::Array(items) => items.iter().for_each(|item| self.gather_links(item)),
            _ => {}
        }
    }

    /// Follows every link that was seen so far; each leads to something that is there.
    pub async fn follow_links(&self, account: &Account) {
        let mut links = std::mem::take(&mut *self.links.lock().unwrap());
        links.retain(|link| !self.gone.lock().unwrap().iter().any(|id| link.ends_with(id)));
        assert!(!links.is_empty());
        for link in links {
            let answer = self.client.send(account, &Ask::new(Method::GET, &link)).await;
            if answer.status != 200 {
                self.deviations.lock().unwrap().push(format!("{link} leads nowhere: {}", answer.text()));
            }
        }
    }

    /// Something was deleted: jobs go on linking to it, as at Atlas, and the link leads nowhere.
    pub fn is_gone(&self, id: &str) {
        self.gone.lock().unwrap().push(id.to_owned());
    }

    /// Operations that have not been seen to succeed since the last time.
    pub fn take_neglected(&self) -> Vec<&'static str> {
        let seen = std::mem::take(&mut *self.succeeded.lock().unwrap());
        self.operations.iter().map(|operation| operation.id).filter(|id| !seen.contains(id)).collect()
    }

    /// How many refusals of each operation were seen.
    pub fn refusals(&self, id: &str) -> usize {
        self.refused.lock().unwrap().get(id).map_or(0, BTreeSet::len)
    }

    pub fn specification(&self) -> Option<&Specification> {
        self.specification.as_ref()
    }
}

fn literals(template: &str, path: &str) -> Option<usize> {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    // A parameter, or one with a verb behind it.
    let fits = |(part, given): (&&str, &&str)| {
        let verb = part.rsplit_once('}').map(|(_, verb)| verb);
        part == given || verb.is_some_and(|verb| given.len() > verb.len() && given.ends_with(verb))
    };
    let same = template.len() == path.len() && template.iter().zip(&path).all(fits);
    same.then(|| template.iter().zip(&path).filter(|(part, given)| part == given).count())
}

fn check_challenge(answer: &Answer, context: &str) {
    let all: Vec<_> = answer.headers.get_all("www-authenticate").iter().collect();
    assert_eq!(all.len(), 1, "{context}");
    let text = all[0].to_str().unwrap();
    let nonce = text.split("nonce=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
    let stale = text.ends_with("stale=true");
    let expected = format!(
        "Digest realm=\"MMS Public API\", domain=\"\", nonce=\"{nonce}\", algorithm=MD5, qop=\"auth\", stale={stale}"
    );
    assert!(text == expected && nonce.len() == 32, "{context}: {text}");
    if !answer.body.is_empty() {
        assert_eq!(answer.text(), CHALLENGE_BODY, "{context}");
    }
}

fn check_content_type(ask: &Ask, answer: &Answer, context: &str) -> String {
    let content_type = answer.header("content-type").unwrap_or_default();
    if answer.status >= 400 || !ask.target.starts_with("/api/atlas/v2") {
        assert_eq!(content_type, "application/json", "{context}");
        return content_type.to_owned();
    }
    let vendor = content_type.strip_suffix(";charset=utf-8").unwrap_or_default();
    let dated = vendor.starts_with("application/vnd.atlas.20") && vendor.ends_with("+json");
    assert!(dated, "{context}: {content_type}");
    vendor.to_owned()
}

/// Unset means absent, never null.
fn check_absent(value: &Value, path: &str, context: &str) {
    match value {
        Value::Null => panic!("{context}: {path} is null"),
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| check_absent(value, &format!("{path}/{name}"), context));
        }
        Value::Array(items) => items.iter().for_each(|item| check_absent(item, path, context)),
        _ => {}
    }
}

fn check_error(body: &Value, answer: &Answer, context: &str) {
    let object = body.as_object().unwrap();
    let mut names: Vec<&str> = object.keys().map(String::as_str).collect();
    names.retain(|name| *name != "badRequestDetail");
    assert_eq!(names, ["detail", "error", "errorCode", "parameters", "reason"], "{context}");
    assert_eq!(body["error"], answer.status, "{context}");
    assert_eq!(body["errorCode"].as_str(), answer.header("x-error-code"), "{context}");
    let detail = body["detail"].as_str().unwrap();
    assert!(!detail.is_empty() && !detail.contains("%s"), "{context}");
    for parameter in body["parameters"].as_array().unwrap() {
        let text = parameter.as_str().map_or_else(|| parameter.to_string(), str::to_owned);
        assert!(detail.contains(&text), "{context}: {text} is not in the detail");
    }
}

/// What an envelope holds: the content of one thing or of an error, the page of a list.
fn unwrapped(ask: &Ask, mut body: Value) -> Option<Value> {
    if !ask.target.contains("envelope=true") {
        return Some(body);
    }
    assert!(body["status"].is_u64(), "an envelope has a status: {body}");
    let object = body.as_object_mut()?;
    if let Some(content) = object.remove("content") {
        assert_eq!(object.len(), 1, "an envelope has a status and a content");
        return Some(content);
    }
    object.remove("status");
    Some(body)
}
