//! From where credentials may be used, said by whoever runs the server: also when nobody is let in any more.

use anyhow::{Context, bail};
use catalog::{Catalog, Credential, CredentialKind};
use model::network::AddressBlock;
use serde_json::json;

use super::{
    audit::{Change, Line},
    say,
};
use crate::{
    args::{AccessChange, DataDir, Output},
    config::Config,
    datadir,
};

/// Shows the access list of a credential, and changes it first when that is asked for.
pub(super) async fn run(change: &AccessChange, data: &DataDir, output: Output) -> anyhow::Result<()> {
    let opened = datadir::open(&Config::read(data)?).await?;
    let mut credential = find(&opened.catalog, &change.credential).await?;
    let before = credential.access.entries().iter().map(|entry| entry.block);
    let mut remove: Vec<AddressBlock> = if change.clear { before.collect() } else { change.remove.clone() };
    if let Some(stranger) = change.remove.iter().find(|block| credential.access.entry(**block).is_none()) {
        bail!("{stranger} is not on the access list of {}", change.credential);
    }
    remove.retain(|block| !change.add.contains(block));
    if !remove.is_empty() || !change.add.is_empty() {
        let line = Line::begin(&opened.catalog, "access-list").await?;
        let now = engine::engine::wall_clock();
        let changed =
            opened.catalog.credentials().change_access(credential.id, &remove, &change.add, now).await;
        let changed = changed.with_context(|| format!("change the access list of {}", change.credential));
        let told = |access: &model::network::AccessList| Change {
            action: "credential.access",
            subject: credential.id.to_string(),
            project: None,
            detail: json!({ "publicName": credential.public_name, "accessList": blocks(access) }),
        };
        credential.access = line.end(&opened.catalog, changed, told).await?;
    }
    let blocks = blocks(&credential.access);
    let sentence = if blocks.is_empty() {
        format!("{} may be used from everywhere", credential.public_name)
    } else {
        format!("{} may be used from {}", credential.public_name, blocks.join(", "))
    };
    say(output, &json!({ "credential": credential.public_name, "accessList": blocks }), &sentence);
    Ok(())
}

async fn find(catalog: &Catalog, name: &str) -> anyhow::Result<Credential> {
    for kind in [CredentialKind::ApiKey, CredentialKind::ServiceAccount] {
        if let Some(found) = catalog.credentials().by_public_name(kind, name).await? {
            return Ok(found);
        }
    }
    bail!(
        "there is no API key with the public part {name:?} and no service account with that client id; \
         `ebbtide admin create-key` and create-service-account print them"
    )
}

fn blocks(access: &model::network::AccessList) -> Vec<String> {
    access.entries().iter().map(|entry| entry.block.to_string()).collect()
}
