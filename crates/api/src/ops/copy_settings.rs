//! Copy settings of a schedule: which snapshots are copied to other vaults, as the API says and shows it.

use catalog::Deployment;
use model::{
    copy::{CloudProvider, RegionName},
    schedule::{Copied, CopySetting, CopySettings, SnapshotKind},
};
use serde_json::{Value, json};

use super::schedule_input::shown;
use crate::{
    body::{Fields, missing},
    error::{Answer, Code, Problem},
    gate::Call,
    version::Date,
};

/// From this version on a setting tells a zone; before, a replication specification. A replica set has one of either.
const SINCE_ZONES: Date = Date::new(2024, 8, 5);

/// Flags that ask for what is not done here, and why not.
const FLAGS_REFUSED: [(&str, &str); 4] = [
    ("copyPolicyItemsEnabled", NO_ITEMS),
    ("deleteCopySnapshots", NO_ITEMS),
    ("updateCopySnapshots", NO_ITEMS),
    ("autoCopySettingsEnabled", NO_TOPOLOGY),
];
const NO_ITEMS: &str = "A copy is kept as long as its snapshot, and has no retention of its own: say frequencies or \
                        lastNumberOfSnapshots in place of copyPolicyItems.";
const NO_TOPOLOGY: &str =
    "A server of one's own has no regions that copies could follow by themselves: name them in copySettings.";

/// The name of the field that tells the zone.
fn zone_name(call: &Call) -> &'static str {
    if call.selected.date() >= SINCE_ZONES { "zoneId" } else { "replicationSpecId" }
}

/// What a change of a schedule says of copies.
#[derive(Debug)]
pub(super) struct WantedCopies {
    settings: Option<CopySettings>,
    deleted: Vec<RegionName>,
}

impl WantedCopies {
    /// Reads it from the fields of the request.
    pub(super) fn read(call: &Call, fields: &mut Fields) -> Answer<Self> {
        for (name, why) in FLAGS_REFUSED {
            if fields.flag(name)? == Some(true) {
                return Err(not_done(name, why));
            }
        }
        let zone = zone_name(call);
        let known = [
            "cloudProvider",
            "copyPolicyItems",
            "frequencies",
            "lastNumberOfSnapshots",
            "regionName",
            "shouldCopyOplogs",
            zone,
        ];
        let settings = match fields.objects("copySettings", &known)? {
            None => None,
            Some(items) => {
                let settings = items.into_iter().map(|item| setting(call, zone, item));
                let settings = CopySettings::new(settings.collect::<Answer<_>>()?);
                Some(settings.map_err(|bad| contradiction(&bad.to_string()))?)
            }
        };
        let known = ["cloudProvider", "regionName", "replicationSpecId", "zoneId"];
        let deleted = fields.objects("deleteCopiedBackups", &known)?.unwrap_or_default();
        let deleted = deleted.into_iter().map(|mut item| {
            provider(&mut item)?;
            zone_of(&mut item, "replicationSpecId")?;
            zone_of(&mut item, "zoneId")?;
            region(&mut item)
        });
        Ok(Self { settings, deleted: deleted.collect::<Answer<_>>()? })
    }

    /// What holds from then on, and the regions whose copies are deleted. A region that has gone from the configuration is refused
    /// unless it was set just so before: what is shown can be sent back.
    pub(super) fn apply(
        &self,
        call: &Call,
        before: Option<&CopySettings>,
    ) -> Answer<(CopySettings, Vec<RegionName>)> {
        let before = before.cloned().unwrap_or_default();
        let after = match &self.settings {
            Some(settings) => settings.clone().following(&before),
            None => before.clone(),
        };
        if let Some(wanted) = &self.settings {
            for setting in wanted.settings() {
                let same = before.of(&setting.region).is_some_and(|earlier| earlier.is_like(setting));
                if !same {
                    known(call, &setting.region)?;
                }
            }
        }
        if let Some(both) = self.deleted.iter().find(|region| after.of(region).is_some()) {
            let why = format!("the copies in {both} cannot be deleted while the schedule copies to it");
            return Err(contradiction(&why));
        }
        Ok((after, self.deleted.clone()))
    }
}

fn setting(call: &Call, zone: &'static str, mut fields: Fields) -> Answer<CopySetting> {
    if fields.list("copyPolicyItems")?.is_some_and(|items| !items.is_empty()) {
        return Err(not_done("copySettings.copyPolicyItems", NO_ITEMS));
    }
    let provider = provider(&mut fields)?;
    let region = region(&mut fields)?;
    let zone_said = zone_of(&mut fields, zone)?;
    if zone == "zoneId" && zone_said.is_none() {
        return Err(missing("copySettings.zoneId"));
    }
    let kinds = fields.texts("frequencies")?.filter(|kinds| !kinds.is_empty());
    let latest = fields.int32("lastNumberOfSnapshots")?;
    let copied = match (kinds, latest) {
        (Some(_), Some(_)) => {
            return Err(contradiction("frequencies and lastNumberOfSnapshots exclude each other"));
        }
        (kinds, None) => {
            Copied::Kinds(kinds.unwrap_or_default().iter().map(|word| kind(word)).collect::<Answer<_>>()?)
        }
        (None, Some(count)) => Copied::Latest(u32::try_from(count).unwrap_or(0)),
    };
    Ok(CopySetting {
        provider,
        region,
        zone: zone_said,
        copied,
        oplogs: fields.flag("shouldCopyOplogs")?.unwrap_or(false),
        since: call.server.now(),
    })
}

fn kind(word: &str) -> Answer<SnapshotKind> {
    word.parse().map_err(|_| Problem::new(Code::InvalidEnumValue).with(shown(word)))
}

fn provider(fields: &mut Fields) -> Answer<CloudProvider> {
    let Some(word) = fields.text("cloudProvider")? else { return Ok(CloudProvider::Aws) };
    word.parse().map_err(|_| Problem::new(Code::InvalidEnumValue).with(shown(&word)))
}

fn region(fields: &mut Fields) -> Answer<RegionName> {
    let text = fields.text("regionName")?.ok_or_else(|| missing("regionName"))?;
    text.parse().map_err(|bad: model::copy::MalformedRegion| contradiction(&bad.to_string()))
}

/// A region that the server can copy to.
fn known(call: &Call, region: &RegionName) -> Answer<()> {
    let known = &call.server.state.settings.copy_regions;
    if known.contains(region) {
        return Ok(());
    }
    let others = known.iter().map(RegionName::as_str).collect::<Vec<_>>().join(", ");
    let others = if others.is_empty() { "none".to_owned() } else { others };
    Err(contradiction(&format!("{region} is no region that snapshots can be copied to")).because(format!(
        "A region is a vault that the server's configuration names, and it knows: {others}. Put [copies.{region}] with its url \
         into the configuration, and start the server anew."
    )))
}

/// An id of 24 digits, whatever it is the id of.
fn zone_of(fields: &mut Fields, name: &'static str) -> Answer<Option<String>> {
    let Some(text) = fields.text(name)? else { return Ok(None) };
    let is_id = text.parse::<model::id::PolicyItemId>().is_ok();
    if is_id { Ok(Some(text)) } else { Err(crate::body::invalid(name)) }
}

fn contradiction(why: &str) -> Problem {
    Problem::new(Code::InvalidBackupPolicy).with(why)
}

fn not_done(name: &str, why: &str) -> Problem {
    Problem::new(Code::UnsupportedForCurrentConfig).because(why).field(name, why)
}

/// `copySettings` as the version of the request has them.
pub(super) fn view(call: &Call, deployment: &Deployment, settings: &CopySettings) -> Value {
    let zone = zone_name(call);
    let shown = settings.settings().iter().map(|setting| {
        let mut object = of(setting);
        // The newer version demands one: a replica set is its own zone.
        object[zone] = setting.zone.clone().unwrap_or_else(|| deployment.id.to_string()).into();
        object
    });
    shown.collect()
}

/// What the audit log keeps of them.
pub(super) fn as_written_down(settings: &CopySettings) -> Value {
    settings.settings().iter().map(of).collect()
}

fn of(setting: &CopySetting) -> Value {
    let mut object = json!({
        "cloudProvider": setting.provider.as_str(),
        "regionName": setting.region.as_str(),
        "shouldCopyOplogs": setting.oplogs,
    });
    match &setting.copied {
        Copied::Kinds(kinds) => {
            object["frequencies"] = kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().into();
        }
        Copied::Latest(count) => object["lastNumberOfSnapshots"] = (*count).into(),
    }
    object
}
