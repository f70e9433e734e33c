//! The backup compliance policy of a project: the least that its deployments are backed up, and that nobody deletes that early.
//!
//! At Atlas only its support can lift one. Here whoever runs the server can, with its data directory at hand and not by an API key:
//! once it is released, the owner of the project may lift it, or set one that asks for less.

use catalog::ProjectPolicy;
use http::Method;
use model::{
    RestoreWindowDays,
    compliance::{CompliancePolicy, Email, OnDemandItem, PERSON_CHARACTERS_MAX, Person, Unheeded},
    id::PolicyItemId,
    role::Action,
    schedule::{BadPolicy, Frequency, FrequencyType, Policy, PolicyItem},
};
use serde_json::{Value, json};

use super::{
    Operation, audit,
    schedule_input::{bad_interval, interval, item, retention},
};
use crate::{
    access::Scope,
    body::{Fields, invalid, missing},
    error::{Answer, Code, Problem},
    gate::Call,
    rate::Set,
    reply::Reply,
    version::{Date, Version},
};

const PATH: &str = "/groups/{groupId}/backupCompliancePolicy";
/// They differ in what is required of the person.
const VERSIONS: &[Version] = &[
    Version::current(2023, 1, 1)
        .deprecated("Sun, 1 Oct 2023 00:00:00 GMT", Some("Thu, 1 Jul 2027 00:00:00 GMT")),
    Version::current(2023, 10, 1),
];
const LIFTED_SINCE: &[Version] = &[Version::current(2024, 11, 13)];
/// Since then a person has a whole name.
const NAMED_SINCE: Date = Date::new(2023, 10, 1);

/// All fields, read-only ones included: clients send back what they were shown.
const KNOWN: [&str; 15] = [
    "authorizedEmail",
    "authorizedUserFirstName",
    "authorizedUserLastName",
    COPIES,
    "deletable",
    "encryptionAtRestEnabled",
    "links",
    "onDemandPolicyItem",
    "pitEnabled",
    "projectId",
    WINDOW,
    "scheduledPolicyItems",
    "state",
    "updatedDate",
    "updatedUser",
];
const COPIES: &str = "copyProtectionEnabled";
const WINDOW: &str = "restoreWindowDays";
const ON_DEMAND: &str = "ondemand";

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "getGroupBackupCompliancePolicy",
        method: Method::GET,
        path: PATH,
        versions: VERSIONS,
        scope: Scope::Project(&[Action::Own]),
        limit: Set::Backups,
        run: |call| Box::pin(get(call)),
    },
    Operation {
        id: "updateGroupBackupCompliancePolicy",
        method: Method::PUT,
        path: PATH,
        versions: VERSIONS,
        scope: Scope::Project(&[Action::Own]),
        limit: Set::Backups,
        run: |call| Box::pin(set(call)),
    },
    Operation {
        id: "disableGroupBackupCompliancePolicy",
        method: Method::DELETE,
        path: PATH,
        versions: LIFTED_SINCE,
        scope: Scope::Project(&[Action::Own]),
        limit: Set::Backups,
        run: |call| Box::pin(lift(call)),
    },
];

/// A project without one has nothing to show, as at Atlas.
async fn get(call: Call) -> Answer<Reply> {
    Ok(Reply::object(read(&call).await?.map_or_else(|| json!({}), |kept| view(&kept))))
}

async fn read(call: &Call) -> Answer<Option<ProjectPolicy>> {
    let found = call.server.state.catalog.compliance().get(call.project_id()?).await;
    found.map_err(|e| call.server.catalog_problem("read a compliance policy", e))
}

async fn set(call: Call) -> Answer<Reply> {
    let overwrite = call.query.flag("overwriteBackupPolicies", true)?;
    let before = read(&call).await?.map(|kept| kept.policy);
    let policy = wanted(&call, before.as_ref())?;
    let (project, now) = (call.project_id()?, call.server.now());
    let set = call.server.state.catalog.compliance().set(project, &policy, overwrite, now).await;
    let set = set.map_err(|e| call.server.catalog_problem("set a compliance policy", e))?;
    call.server.forget_deployments();
    call.server.state.poke.notify_one();
    let shown = view(&set.policy);
    let detail = json!({"policy": shown, "clustersChanged": set.changed});
    audit::record(&call, "compliancePolicy.set", project, detail);
    Ok(Reply::object(shown))
}

async fn lift(call: Call) -> Answer<Reply> {
    let project = call.project_id()?;
    let lifted = call.server.state.catalog.compliance().lift(project).await;
    if lifted.map_err(|e| call.server.catalog_problem("lift a compliance policy", e))? {
        audit::record(&call, "compliancePolicy.lift", project, json!({}));
    }
    Ok(Reply::no_content())
}

/// The policy that a request asks for. What it leaves out is not asked for.
fn wanted(call: &Call, before: Option<&CompliancePolicy>) -> Answer<CompliancePolicy> {
    let mut fields = Fields::parse(&call.headers, &call.body, &KNOWN)?;
    if fields.text("projectId")?.is_some_and(|id| Some(id.as_str()) != call.params.get("groupId")) {
        return Err(invalid("projectId"));
    }
    let authorized = person(call, &mut fields)?;
    let copies_protected = fields.flag(COPIES)?.unwrap_or(false);
    let encryption_at_rest = fields.flag("encryptionAtRestEnabled")?.unwrap_or(false);
    let mut new_id = || catalog::new_id(call.server.now());
    let mut unheeded = Unheeded::default();
    Ok(CompliancePolicy {
        authorized,
        scheduled: scheduled(&mut fields, before, &mut new_id, &mut unheeded)?,
        on_demand: on_demand(&mut fields, before, new_id, &mut unheeded)?,
        continuous: continuous(&mut fields, &mut unheeded)?,
        encryption_at_rest,
        copies_protected,
        unheeded,
    })
}

fn person(call: &Call, fields: &mut Fields) -> Answer<Person> {
    let email = Email::try_from(fields.required_text("authorizedEmail")?)
        .map_err(|bad| invalid("authorizedEmail").field("authorizedEmail", &bad))?;
    let mut name = |field: &'static str| {
        let is_whole = call.selected.date() >= NAMED_SINCE;
        match fields.text(field)? {
            None if is_whole => Err(missing(field)),
            Some(name) if name.trim().is_empty() || name.chars().count() > PERSON_CHARACTERS_MAX => {
                Err(invalid(field))
            }
            name => Ok(name),
        }
    };
    let first_name = name("authorizedUserFirstName")?;
    Ok(Person { email, first_name, last_name: name("authorizedUserLastName")? })
}

fn scheduled(
    fields: &mut Fields,
    before: Option<&CompliancePolicy>,
    mut new_id: impl FnMut() -> PolicyItemId,
    unheeded: &mut Unheeded,
) -> Answer<Policy> {
    let known = ["frequencyInterval", "frequencyType", "id", "retentionUnit", "retentionValue"];
    let items = fields.objects("scheduledPolicyItems", &known)?.unwrap_or_default();
    if items.is_empty() {
        return Ok(Policy::none());
    }
    let was = before.map(|policy| policy.scheduled.clone()).unwrap_or_default();
    let mut kept = Vec::with_capacity(items.len());
    for mut fields in items {
        let (frequency, said) = frequency(&mut fields)?;
        let wanted = item(fields, frequency)?;
        let by_id = wanted.id.as_deref().and_then(|id| id.parse().ok()).and_then(|id| was.item(id));
        let same = by_id.or_else(|| was.items().iter().find(|item| item.frequency == frequency));
        let id = same.map_or_else(&mut new_id, |item| item.id);
        if said != frequency.interval() {
            unheeded.intervals.insert(id, said);
        }
        kept.push(PolicyItem { id, frequency, retention: wanted.retention });
    }
    Policy::new(kept).map_err(contradicts)
}

/// How often an item asks for snapshots, and the interval as it was said. As at Atlas the interval counts for hourly ones only; a
/// schedule that has to be brought into line takes the others when it says, where it says a time.
fn frequency(fields: &mut Fields) -> Answer<(Frequency, u8)> {
    let (kind, said) = interval(fields)?;
    let bad = match (Frequency::new(kind, said.into()), u8::try_from(said)) {
        (Ok(frequency), _) => return Ok((frequency, frequency.interval())),
        (Err(_), Ok(said)) if kind != FrequencyType::Hourly && Unheeded::is_interval(said) => {
            return Ok((Frequency::usual(kind), said));
        }
        (Err(bad), _) => bad,
    };
    Err(bad_interval(bad))
}

fn contradicts(bad: BadPolicy) -> Problem {
    Problem::new(Code::BackupCompliancePolicySettingsInvalid).because(format!("It cannot be: {bad}."))
}

fn on_demand(
    fields: &mut Fields,
    before: Option<&CompliancePolicy>,
    new_id: impl FnOnce() -> PolicyItemId,
    unheeded: &mut Unheeded,
) -> Answer<Option<OnDemandItem>> {
    let known = ["frequencyInterval", "frequencyType", "id", "retentionUnit", "retentionValue"];
    let Some(mut item) = fields.object("onDemandPolicyItem", &known)? else { return Ok(None) };
    let kind = item.required_text("frequencyType")?;
    if kind != ON_DEMAND {
        return Err(Problem::new(Code::InvalidEnumValue).with(kind.chars().take(64).collect::<String>()));
    }
    let said = item.int32("frequencyInterval")?.unwrap_or(0);
    let known = u8::try_from(said).ok().filter(|said| Unheeded::is_interval(*said));
    unheeded.on_demand_interval = known.ok_or_else(|| invalid("onDemandPolicyItem.frequencyInterval"))?;
    let kept = before.and_then(|policy| policy.on_demand).map(|item| item.id);
    Ok(Some(OnDemandItem { id: kept.unwrap_or_else(new_id), retention: retention(&mut item)? }))
}

/// That operations are recorded. A restore window without that asks for nothing, as at Atlas.
fn continuous(fields: &mut Fields, unheeded: &mut Unheeded) -> Answer<Option<RestoreWindowDays>> {
    let is_wanted = fields.flag("pitEnabled")?.unwrap_or(false);
    let days = fields.int32(WINDOW)?.unwrap_or(0);
    if !is_wanted && days == 0 {
        return Ok(None);
    }
    let window = RestoreWindowDays::new(u32::try_from(days).unwrap_or(0)).map_err(|bad| {
        let why = format!("restoreWindowDays cannot be: {bad}.");
        Problem::new(Code::BackupCompliancePolicySettingsInvalid).because(why).field(WINDOW, "")
    })?;
    if is_wanted {
        return Ok(Some(window));
    }
    unheeded.restore_window = Some(window);
    Ok(None)
}

/// `DataProtectionSettings20231001`, and the older one alike. It holds from the moment in which it is set, so its state is never
/// another; who set it is no address, and is told by the audit log.
fn view(kept: &ProjectPolicy) -> Value {
    let policy = &kept.policy;
    let retention = |kept: model::Retention| (kept.unit().as_str(), kept.value());
    let scheduled = policy.scheduled.items().iter().map(|item| {
        let (unit, value) = retention(item.retention);
        json!({
            "frequencyInterval": policy.unheeded.intervals.get(&item.id).copied().unwrap_or(item.frequency.interval()),
            "frequencyType": item.frequency.kind().as_str(),
            "id": item.id.to_string(),
            "retentionUnit": unit,
            "retentionValue": value,
        })
    });
    let mut object = json!({
        "authorizedEmail": policy.authorized.email.as_str(),
        COPIES: policy.copies_protected,
        "deletable": kept.released,
        "encryptionAtRestEnabled": policy.encryption_at_rest,
        "pitEnabled": policy.continuous.is_some(),
        "projectId": kept.project_id.to_string(),
        WINDOW: policy.continuous.or(policy.unheeded.restore_window).map_or(0, RestoreWindowDays::days),
        "scheduledPolicyItems": scheduled.collect::<Vec<_>>(),
        "state": "ACTIVE",
        "updatedDate": kept.updated_at.to_rfc3339(),
    });
    let names = [
        ("authorizedUserFirstName", &policy.authorized.first_name),
        ("authorizedUserLastName", &policy.authorized.last_name),
    ];
    for (field, name) in names {
        if let Some(name) = name {
            object[field] = name.as_str().into();
        }
    }
    if let Some(item) = policy.on_demand {
        let (unit, value) = retention(item.retention);
        object["onDemandPolicyItem"] = json!({
            "frequencyInterval": policy.unheeded.on_demand_interval,
            "frequencyType": ON_DEMAND,
            "id": item.id.to_string(),
            "retentionUnit": unit,
            "retentionValue": value,
        });
    }
    object
}
