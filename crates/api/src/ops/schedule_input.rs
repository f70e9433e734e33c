//! The body of a change of a schedule: what is given is changed, what is left out stays. What cannot be done here is
//! refused, and never taken and forgotten.

use super::{copy_settings::WantedCopies, export_buckets};
use crate::{
    body::{Fields, missing},
    error::{Answer, Code, Problem},
    gate::Call,
    version::Date,
};
use catalog::{Deployment, DeploymentSchedule};
use model::{
    RestoreWindowDays, Retention, RetentionUnit,
    copy::RegionName,
    id::{ExportBucketId, PolicyItemId},
    retention::BadRetention,
    schedule::{
        AutoExport, BadExtra, BadInterval, BadPolicy, BadReferenceTime, CopySettings, ExportPolicy, Extra,
        ExtraRetention, Frequency, FrequencyType, Policy, PolicyItem, ReferenceTime, Schedule, policy_id,
    },
};

/// The fields of both versions, read-only ones included: clients send back what they were shown.
const KNOWN: [&str; 19] = [
    "autoExportEnabled",
    "clusterId",
    "clusterName",
    "copyPolicyItemsEnabled",
    "copySettings",
    "deleteCopiedBackups",
    "deleteCopySnapshots",
    "deleteSnapshots",
    "export",
    "extraRetentionSettings",
    "links",
    "nextSnapshot",
    "policies",
    "referenceHourOfDay",
    "referenceMinuteOfHour",
    "restoreWindowDays",
    "updateCopySnapshots",
    "updateSnapshots",
    "useOrgAndGroupNamesInExportPrefix",
];
/// What the newer version has besides.
const AUTO_COPY: &str = "autoCopySettingsEnabled";
const SINCE_AUTO_COPY: Date = Date::new(2024, 8, 5);

/// What is asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    policy: Option<WantedPolicy>,
    hour: Option<i32>,
    minute: Option<i32>,
    pub(super) restore_window: Option<RestoreWindowDays>,
    pub(super) update_snapshots: bool,
    pub(super) delete_snapshots: bool,
    auto_export: Option<bool>,
    export: Option<WantedExport>,
    pub(super) names_in_exports: Option<bool>,
    extra: Option<ExtraRetention>,
    copies: WantedCopies,
}

/// Each of them stays as it is when it is left out.
#[derive(Debug)]
struct WantedExport {
    bucket: Option<ExportBucketId>,
    frequency: Option<FrequencyType>,
}

#[derive(Debug)]
struct WantedPolicy {
    id: String,
    items: Vec<WantedItem>,
}

/// An item of a policy.
#[derive(Debug)]
pub(super) struct WantedItem {
    pub(super) id: Option<String>,
    pub(super) frequency: Frequency,
    pub(super) retention: Retention,
}

impl Wanted {
    /// Reads the body of a request.
    pub(super) fn read(call: &Call) -> Answer<Self> {
        let mut known = KNOWN.to_vec();
        if call.selected.date() >= SINCE_AUTO_COPY {
            known.push(AUTO_COPY);
        }
        let mut fields = Fields::parse(&call.headers, &call.body, &known)?;
        let wanted = Self {
            policy: policy(&mut fields)?,
            hour: fields.int32("referenceHourOfDay")?,
            minute: fields.int32("referenceMinuteOfHour")?,
            restore_window: fields.int32("restoreWindowDays")?.map(window).transpose()?,
            update_snapshots: fields.flag("updateSnapshots")?.unwrap_or(false),
            delete_snapshots: fields.flag("deleteSnapshots")?.unwrap_or(false),
            auto_export: fields.flag("autoExportEnabled")?,
            export: export(&mut fields)?,
            names_in_exports: fields.flag("useOrgAndGroupNamesInExportPrefix")?,
            extra: extra(&mut fields)?,
            copies: WantedCopies::read(call, &mut fields)?,
        };
        wanted.reference(ReferenceTime::DEFAULT)?;
        Ok(wanted)
    }

    /// The schedule that comes of it.
    pub(super) fn apply(
        &self,
        deployment: &Deployment,
        before: &Schedule,
        new_id: impl FnMut() -> PolicyItemId,
    ) -> Answer<Schedule> {
        let policy = match &self.policy {
            Some(wanted) => wanted.apply(deployment, &before.policy, new_id)?,
            None => before.policy.clone(),
        };
        let extra = self.extra.as_ref().unwrap_or(&before.extra).clone();
        Ok(Schedule { reference: self.reference(before.reference)?, policy, extra })
    }

    /// What is copied to other vaults from then on, and which copies go.
    pub(super) fn copies(
        &self,
        call: &Call,
        before: Option<&DeploymentSchedule>,
    ) -> Answer<(CopySettings, Vec<RegionName>)> {
        self.copies.apply(call, before.map(|kept| &kept.copies))
    }

    /// What is exported from then on.
    pub(super) fn auto_export(&self, before: Option<&DeploymentSchedule>) -> Answer<AutoExport> {
        let before = before.map(|kept| kept.auto_export).unwrap_or_default();
        let policy = match &self.export {
            // As at Atlas: whoever switches it off and says nothing of what is exported has said that there is nothing.
            None if self.auto_export == Some(false) => None,
            None => before.policy(),
            Some(wanted) => {
                let (bucket, frequency) =
                    before.policy().map(|policy| (policy.bucket_id, policy.frequency)).unzip();
                Some(ExportPolicy {
                    bucket_id: wanted.bucket.or(bucket).ok_or_else(|| missing("export.exportBucketId"))?,
                    frequency: wanted
                        .frequency
                        .or(frequency)
                        .ok_or_else(|| missing("export.frequencyType"))?,
                })
            }
        };
        match (self.auto_export.unwrap_or(before.is_on()), policy) {
            (true, Some(policy)) => Ok(AutoExport::On(policy)),
            (true, None) => Err(missing("export")),
            (false, Some(policy)) => Ok(AutoExport::Off(policy)),
            (false, None) => Ok(AutoExport::Unset),
        }
    }

    fn reference(&self, before: ReferenceTime) -> Answer<ReferenceTime> {
        let hour = self.hour.map_or(before.hour().into(), i64::from);
        let minute = self.minute.map_or(before.minute().into(), i64::from);
        ReferenceTime::new(hour, minute).map_err(|bad| match bad {
            BadReferenceTime::Hour(_) => Problem::new(Code::InvalidReferenceHourOfDay),
            BadReferenceTime::Minute(_) => Problem::new(Code::InvalidReferenceMinuteOfHour),
        })
    }
}

impl WantedPolicy {
    fn apply(
        &self,
        deployment: &Deployment,
        before: &Policy,
        mut new_id: impl FnMut() -> PolicyItemId,
    ) -> Answer<Policy> {
        if self.id != policy_id(deployment.id).to_string() {
            return Err(Problem::new(Code::InvalidPolicyId).with(shown(&self.id)));
        }
        let mut items = Vec::with_capacity(self.items.len());
        for wanted in &self.items {
            let id = match &wanted.id {
                Some(id) => known(id, wanted.frequency.kind(), before)?,
                None => new_id(),
            };
            items.push(PolicyItem { id, frequency: wanted.frequency, retention: wanted.retention });
        }
        Policy::new(items).map_err(|bad| match bad {
            BadPolicy::Empty => Problem::new(Code::InvalidNumOfPolicyItems),
            bad => Problem::new(Code::InvalidBackupPolicy).with(bad.to_string()),
        })
    }
}

/// The id of an item that is there already, of the same type.
fn known(id: &str, kind: FrequencyType, before: &Policy) -> Answer<PolicyItemId> {
    let found = id.parse().ok().and_then(|id| before.item(id));
    let found = found.ok_or_else(|| Problem::new(Code::InvalidPolicyItemId).with(shown(id)))?;
    if found.frequency.kind() == kind {
        Ok(found.id)
    } else {
        Err(Problem::new(Code::InvalidFrequencyTypeChange))
    }
}

fn policy(fields: &mut Fields) -> Answer<Option<WantedPolicy>> {
    let Some(mut policies) = fields.objects("policies", &["id", "policyItems"])? else { return Ok(None) };
    let (Some(mut policy), true) = (policies.pop(), policies.is_empty()) else {
        return Err(Problem::new(Code::InvalidNumOfPolicies));
    };
    let id = policy.required_text("id")?;
    let known = ["frequencyInterval", "frequencyType", "id", "retentionUnit", "retentionValue"];
    let items = policy.objects("policyItems", &known)?.ok_or_else(|| missing("policyItems"))?;
    if items.is_empty() {
        return Err(Problem::new(Code::InvalidNumOfPolicyItems));
    }
    Ok(Some(WantedPolicy { id, items: items.into_iter().map(scheduled_item).collect::<Answer<_>>()? }))
}

fn scheduled_item(mut fields: Fields) -> Answer<WantedItem> {
    let (kind, said) = interval(&mut fields)?;
    item(fields, Frequency::new(kind, said.into()).map_err(bad_interval)?)
}

/// Reads how often an item takes snapshots, and at which times of its kind it is said to.
pub(super) fn interval(fields: &mut Fields) -> Answer<(FrequencyType, i32)> {
    let incomplete = || Problem::new(Code::MissingPolicyItemParameters);
    let kind = fields.text("frequencyType")?.ok_or_else(incomplete)?;
    let interval = fields.int32("frequencyInterval")?.ok_or_else(incomplete)?;
    let kind = kind.parse().map_err(|_| Problem::new(Code::InvalidEnumValue).with(shown(&kind)))?;
    Ok((kind, interval))
}

/// An item cannot be of that interval.
pub(super) fn bad_interval(bad: BadInterval) -> Problem {
    Problem::new(Code::InvalidBackupPolicy).with(bad.to_string())
}

/// Reads what is left of an item of that frequency.
pub(super) fn item(mut fields: Fields, frequency: Frequency) -> Answer<WantedItem> {
    let retention = retention(&mut fields)?;
    Ok(WantedItem { id: fields.text("id")?, frequency, retention })
}

/// Reads how long an item keeps.
pub(super) fn retention(fields: &mut Fields) -> Answer<Retention> {
    let incomplete = || Problem::new(Code::MissingPolicyItemParameters);
    let unit = fields.text("retentionUnit")?.ok_or_else(incomplete)?;
    let value = fields.int32("retentionValue")?.ok_or_else(incomplete)?;
    let unit: RetentionUnit =
        unit.parse().map_err(|_| Problem::new(Code::InvalidEnumValue).with(shown(&unit)))?;
    Retention::new(unit, u32::try_from(value).unwrap_or(0)).map_err(|bad| match bad {
        BadRetention::Nothing => Problem::new(Code::AttributeNegativeOrZero).with("retentionValue"),
        bad @ BadRetention::TooLong { .. } => {
            Problem::new(Code::BackupSnapshotRetentionValueInvalid).because(format!("It cannot be: {bad}."))
        }
    })
}

fn export(fields: &mut Fields) -> Answer<Option<WantedExport>> {
    let Some(mut export) = fields.object("export", &["exportBucketId", "frequencyType"])? else {
        return Ok(None);
    };
    let bucket = export.text("exportBucketId")?;
    let bucket = bucket.map(|id| id.parse().map_err(|_| export_buckets::unknown(&id))).transpose()?;
    let frequency = match export.text("frequencyType")? {
        None => None,
        Some(word) => match word.parse() {
            Ok(FrequencyType::Hourly) | Err(_) => {
                return Err(Problem::new(Code::InvalidEnumValue).with(shown(&word)));
            }
            Ok(frequency) => Some(frequency),
        },
    };
    Ok(Some(WantedExport { bucket, frequency }))
}

/// Which snapshots are kept longer; an empty list takes back what was said before.
fn extra(fields: &mut Fields) -> Answer<Option<ExtraRetention>> {
    let Some(items) = fields.objects("extraRetentionSettings", &["frequencyType", "retentionDays"])? else {
        return Ok(None);
    };
    let settings = items.into_iter().map(|mut item| {
        let word = item.required_text("frequencyType")?;
        let frequency_type =
            word.parse().map_err(|_| Problem::new(Code::InvalidEnumValue).with(shown(&word)))?;
        let days = item.int32("retentionDays")?.ok_or_else(|| missing("retentionDays"))?;
        Ok(Extra { frequency_type, retention_days: u32::try_from(days).unwrap_or(0) })
    });
    ExtraRetention::new(settings.collect::<Answer<_>>()?).map(Some).map_err(|bad| match bad {
        BadExtra::Days(0) => Problem::new(Code::AttributeNegativeOrZero).with("retentionDays"),
        bad => Problem::new(Code::InvalidBackupPolicy).with(bad.to_string()),
    })
}

fn window(days: i32) -> Answer<RestoreWindowDays> {
    let days = u32::try_from(days).unwrap_or(0);
    RestoreWindowDays::new(days)
        .map_err(|bad| Problem::new(Code::InvalidRestoreWindow).because(format!("It cannot be: {bad}.")))
}

/// The beginning of a text that is told back.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}
