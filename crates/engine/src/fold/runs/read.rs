//! A run out of the vault, change by change.

use futures::TryStreamExt as _;
use history::change::{Change, split_record};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use vault::{Delta, DeltaRun, Manifest};

use crate::{
    damage,
    lease::{JobContext, JobError},
};

/// The changes of one run, in order. They are waited for: not for an async thread.
pub(in crate::fold) struct StoredRun {
    blocks: mpsc::Receiver<Result<Fed, JobError>>,
    block: Vec<u8>,
    at: usize,
    is_over: bool,
    _reading: AbortOnDropHandle<()>,
}

/// What comes out of a run.
enum Fed {
    Block(Vec<u8>),
    /// That was all. A feeder that went away before it says so has not given everything.
    End,
}

impl StoredRun {
    /// Begins to read.
    pub(in crate::fold) fn begin(ctx: &JobContext, manifest: &Manifest, run: &DeltaRun) -> Self {
        let (sender, blocks) = mpsc::channel(1);
        let (ctx, manifest, run) = (ctx.clone(), manifest.clone(), run.clone());
        let reading = tokio::spawn(async move {
            if let Err(error) = feed(&ctx, &manifest, &run, &sender).await {
                let error = damage::noted(ctx.catalog(), error).await;
                // Whoever does not listen any more has ended for another reason.
                sender.send(Err(error)).await.ok();
            }
        });
        Self { blocks, block: Vec::new(), at: 0, is_over: false, _reading: AbortOnDropHandle::new(reading) }
    }
}

async fn feed(
    ctx: &JobContext,
    manifest: &Manifest,
    run: &DeltaRun,
    sender: &mpsc::Sender<Result<Fed, JobError>>,
) -> vault::Result<()> {
    let mut deltas = manifest.deltas(run);
    while let Some(entry) = deltas.try_next().await? {
        let delta = Delta::open(ctx.vault(), &entry.name).await?;
        for at in 0..delta.blocks().len() {
            if sender.send(Ok(Fed::Block(delta.read_block(at).await?))).await.is_err() {
                return Ok(());
            }
        }
    }
    sender.send(Ok(Fed::End)).await.ok();
    Ok(())
}

impl Iterator for StoredRun {
    type Item = Result<Change<'static>, JobError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.at >= self.block.len() {
            match self.blocks.blocking_recv() {
                Some(Ok(Fed::Block(block))) => (self.block, self.at) = (block, 0),
                Some(Ok(Fed::End)) => {
                    self.is_over = true;
                    return None;
                }
                Some(Err(error)) => return Some(Err(error)),
                None if self.is_over => return None,
                None => {
                    return Some(Err(JobError::failed(
                        "the reading of what is kept beside segments broke off",
                    )));
                }
            }
        }
        match split_record(&self.block[self.at..]) {
            Ok(Some((change, behind))) => {
                self.at = self.block.len() - behind.len();
                Some(Ok(Change { write: change.write.into_owned(), ..change }))
            }
            _ => Some(Err(JobError::failed("a bug in Ebbtide: a checked delta does not read back"))),
        }
    }
}
