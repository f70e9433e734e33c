//! A download: a snapshot becomes an archive that stock `mongorestore` reads once it is unpacked.
//!
//! The archive is built as a stream: segments out of the vault, through tar and gzip, into sealed parts of the vault
//! again. Nothing lies in the clear on any disk. The link's token is made at the end, so that there is nothing to
//! fetch before the archive is complete; the catalog keeps its hash and the token itself sealed.

mod content;
pub(crate) mod layout;
pub(crate) mod metadata;
mod tarball;
mod whole;

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand,
};
use base64::Engine as _;
use bytes::Bytes;
use catalog::RestoreJob;
use futures::TryStreamExt as _;
use model::{LinkTerms, id::RestoreJobId, restore::RestoreState};
use serde_json::json;
use tokio::sync::mpsc;
use vault::{ArchiveInfo, ArchiveWriter, ObjectKind};

use super::restore::open_manifest;
use crate::{
    crash,
    engine::Services,
    lease::{JobContext, JobError, Outcome},
};

/// The purpose under which the link's token is sealed.
const PURPOSE_DOWNLOAD_TOKEN: &str = "download-token";
/// 18 random bytes are 24 characters.
const TOKEN_RANDOM_BYTES: usize = 18;
/// Parts of archives that are deleted at a time.
const DELETES_AT_A_TIME: usize = 8;
/// Pieces between the vault and the compressor. One is a segment at most, and holds a permit of the budget.
const PIECES_AHEAD: usize = 2;
/// Pieces between the compressor and the vault, of a megabyte each.
const COMPRESSED_AHEAD: usize = 4;

/// Builds the archive and opens the link.
///
/// # Errors
/// [`JobError`]; nothing is left in the vault after a cancel or a failure.
pub async fn run(ctx: &JobContext, id: RestoreJobId) -> Result<Outcome, JobError> {
    // An attempt that died may have left parts. Its archive has another id, so nothing of it is of use.
    sweep(ctx, id).await?;
    if ctx.lease().restore_state == Some(RestoreState::Cancelling) {
        return Err(JobError::Cancelled);
    }
    let row = ctx.catalog().restores().get(id).await?;
    let row =
        row.ok_or_else(|| JobError::failed(format!("the restore job {id} is gone from the catalog")))?;
    let built = build(ctx, &row).await;
    if built.is_err() && ctx.holds_lease() {
        sweep(ctx, id).await?;
    }
    let archive = built?;
    crash::point("download.after-archive");
    let outcome = opened(ctx, &archive, row.terms)?;
    match ctx.catalog().jobs().finish(ctx.lease(), outcome, ctx.now()).await {
        Ok(()) => Ok(Outcome::Recorded),
        // Cancelled while the last part was written.
        Err(catalog::Error::Illegal(_)) => {
            sweep(ctx, id).await?;
            Err(JobError::Cancelled)
        }
        Err(error) => Err(error.into()),
    }
}

/// Deletes what this and earlier attempts have stored, for as long as the job is surely ours: what somebody else stores
/// for it is not for us to delete.
async fn sweep(ctx: &JobContext, id: RestoreJobId) -> Result<(), JobError> {
    let parts = ctx.vault().list(ObjectKind::Archive).map_ok(|listed| listed.name).map_err(JobError::from);
    let own = parts.try_filter(move |name| std::future::ready(name.archive_job() == Some(id)));
    let deletes = own.try_for_each_concurrent(DELETES_AT_A_TIME, |name| async move {
        ctx.check_lease()?;
        Ok(ctx.vault().delete(&name).await?)
    });
    deletes.await?;
    ctx.check_lease()
}

/// Deletes whatever a download has in the vault: after its end, however it ended.
///
/// # Errors
/// [`JobError`] when the store fails; it is tried again.
pub async fn discard(services: &Services, id: RestoreJobId) -> Result<(), JobError> {
    Ok(services.vault.delete_archives_of(id).await?)
}

async fn build(ctx: &JobContext, row: &RestoreJob) -> Result<ArchiveInfo, JobError> {
    ctx.progress().phase("archive");
    // An archive tells the length of what it holds before it holds it.
    let manifest = whole::of_everything(ctx, open_manifest(ctx, row.snapshot_id).await?).await?;
    let totals = manifest.totals();
    ctx.progress().totals(totals.documents, totals.bytes, totals.collections);
    let writer = ArchiveWriter::new(ctx.vault(), row.id);
    let unfinished = json!({"id": writer.id(), "bytes": 0, "sha256": "", "sha1": "", "parts": 0});
    ctx.catalog().restores().record_archive(ctx.lease(), &unfinished).await?;

    let (pieces, to_compress) = mpsc::channel(PIECES_AHEAD);
    let (compressed, to_store) = mpsc::channel(COMPRESSED_AHEAD);
    let modified = u64::try_from(manifest.completed_at().seconds()).unwrap_or(0);
    let compressing = tokio::task::spawn_blocking(move || tarball::build(to_compress, compressed, modified));
    let feed = content::feed(ctx, &manifest, pieces);
    // Each side ends the others by closing its channel, and the first cause counts, not its consequences.
    let (fed, stored) = tokio::join!(feed, store(ctx, writer, to_store));
    let compressed =
        compressing.await.map_err(|e| JobError::failed_by("a bug in Ebbtide stopped the compression", e))?;
    if let Err(lost) = ctx.check_lease() {
        if let Ok(writer) = stored {
            // Parts of another archive than that of whoever has the job now.
            writer.abort().await.ok();
        }
        return Err(lost);
    }
    let fed = match fed {
        Err(content::Feed::Failed(error)) => Err(error),
        Err(content::Feed::NobodyTakesIt) | Ok(()) => Ok(()),
    };
    let writer = match (ctx.check().and(fed), stored) {
        (Ok(()), stored) => stored?,
        (Err(error), Ok(writer)) => return Err(given_up(writer, error).await),
        (Err(error), Err(_)) => return Err(error),
    };
    if let Err(error) = compressed {
        let error = JobError::failed_by("the archive could not be built", error);
        return Err(given_up(writer, error).await);
    }
    match ctx.check() {
        Ok(()) => Ok(writer.finish().await?),
        Err(error) => Err(given_up(writer, error).await),
    }
}

/// Waits for what is on its way to the vault: it would come to lie there after everything else was swept.
async fn given_up(writer: ArchiveWriter, error: JobError) -> JobError {
    if let Err(failed) = writer.abort().await {
        tracing::debug!(%failed, "parts of an archive that was given up are left to the sweep");
    }
    error
}

async fn store(
    ctx: &JobContext,
    mut writer: ArchiveWriter,
    mut pieces: mpsc::Receiver<Bytes>,
) -> Result<ArchiveWriter, JobError> {
    while let Some(piece) = pieces.recv().await {
        if !ctx.holds_lease() {
            writer.abort().await.ok();
            return Err(JobError::Lost);
        }
        if let Err(error) = writer.write(&piece).await {
            writer.abort().await.ok();
            return Err(error.into());
        }
    }
    Ok(writer)
}

/// Makes the token, and the outcome that opens the link.
fn opened(ctx: &JobContext, archive: &ArchiveInfo, terms: LinkTerms) -> Result<catalog::Outcome, JobError> {
    let mut random = [0; TOKEN_RANDOM_BYTES];
    rand::fill(&mut random).map_err(|_| JobError::failed("the operating system gives no random bytes"))?;
    let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random);
    let mut record = serde_json::to_value(archive)
        .map_err(|e| JobError::failed_by("the archive cannot be described", e))?;
    record["tokenSealed"] = ctx.services().master_key.seal(PURPOSE_DOWNLOAD_TOKEN, token.as_bytes()).into();
    Ok(catalog::Outcome::DownloadReady {
        archive: record,
        url_token_sha256: hex::encode(digest(&SHA256, token.as_bytes())),
        expires_at: ctx.now().plus_ms(terms.life_ms()),
    })
}
