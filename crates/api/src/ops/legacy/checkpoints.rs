//! Checkpoints: moments at which the shards of a sharded cluster agree. A replica set agrees with itself all the time, so
//! there are none; what they were made for, a restore to a point in time, needs none here.

use crate::{
    error::{Answer, Code, Problem},
    gate::Call,
    ops::clusters::cluster,
    page::{Location, PageRequest, page},
    reply::Reply,
    state::LegacyMode,
};

pub(super) async fn list(call: Call) -> Answer<Reply> {
    let asked = PageRequest::read(&call.query)?;
    cluster(&call).await?;
    require_not_refused(&call)?;
    let at = Location { base: &call.base, path: call.uri.path(), query: &call.query };
    Ok(Reply::page(page(&at, asked, vec![], 0)))
}

pub(super) async fn get(call: Call) -> Answer<Reply> {
    let deployment = cluster(&call).await?;
    require_not_refused(&call)?;
    let id = call.params.checkpoint()?;
    Err(Problem::new(Code::CheckpointNotFound).with(id).with(deployment.name.as_str()))
}

/// What Atlas answers for clusters with Cloud Backup.
fn require_not_refused(call: &Call) -> Answer<()> {
    match call.server.state.settings.legacy_mode {
        LegacyMode::Refuse => Err(Problem::new(Code::CheckpointsOnlyOnContinuousBackup)),
        LegacyMode::Mirror | LegacyMode::Empty => Ok(()),
    }
}
