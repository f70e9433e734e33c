//! A restore into a captured deployment writes no faster than it is recorded.
//!
//! All that a restore writes goes through the target's oplog. Where that forgets entries that nobody has recorded yet, the
//! timeline ends. So whoever writes asks here first ([`Pace::pass`]), and waits while too much of the oplog is not recorded:
//! because the vault is slow, or because the process that records is down. Whoever is not recorded never waits.

mod ledger;
mod pieces;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use catalog::Timeline;
use model::ClusterTime;
use mongo::{
    Deployment,
    oplog::{self, OplogWindow},
    write::{ConnectionPool, Written},
};
use tokio::{sync::Mutex, time::Instant};

use super::errors::{self, job_error};
use crate::{
    connect::{to_model, to_mongo},
    lease::{JobContext, JobError},
};
use ledger::{Ledger, go_on_at, pause_at, weight};

/// How often it is looked how far the recording is.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same while it is waited for.
const LOOK_EVERY_WAITING: Duration = Duration::from_millis(250);
/// A recording that makes no headway for so long is told to stand still.
const STANDSTILL: Duration = Duration::from_secs(20);
/// How long an oplog that must not be written to may not answer before the attempt ends.
const BLIND_MAX: Duration = Duration::from_secs(60);
/// How often the log says again that it is waited.
const REMIND_EVERY: Duration = Duration::from_secs(60);
/// What is in hand may use up this part of the oplog more: all segments of a process together, where it is 500 MB.
const IN_HAND_SHARE: u64 = 8;
/// The weight of what is let through at a time where it may have to be waited: so much of it is on the way by then that messages
/// are smaller into a target that is recorded.
const PIECE_WEIGHT: u64 = 1 << 20;

/// See the head of this file. Shared by everything that writes for one job.
pub(crate) struct Pace {
    target: catalog::Deployment,
    pool: ConnectionPool,
    /// What the job has written; the loaders count.
    pub(crate) written: Arc<Written>,
    /// The weight of what is written up to which nobody has to wait, if it is looked in time.
    may: AtomicU64,
    /// The same for whoever has a segment in hand, which others need the memory of.
    may_in_hand: AtomicU64,
    /// When it has to be looked again, in milliseconds after `began`.
    look_at: AtomicU64,
    began: Instant,
    sight: Mutex<Sight>,
}

/// What was seen.
#[derive(Default)]
struct Sight {
    /// Not before it is known that the target is recorded.
    ledger: Option<Ledger>,
    waiting: Option<Waiting>,
    /// Since when the oplog cannot be looked at.
    blind: Option<Instant>,
}

/// A wait.
struct Waiting {
    since: Instant,
    /// Up to where it was recorded, and since when.
    recorded: ClusterTime,
    moved: Instant,
    /// When the log said so last.
    said: Option<Instant>,
    /// As what the target is recorded.
    names: String,
}

impl Waiting {
    fn from(recorded: ClusterTime) -> Self {
        let now = Instant::now();
        Self { since: now, recorded, moved: now, said: None, names: String::new() }
    }
}

impl Pace {
    /// For one job into this target.
    pub(crate) fn new(target: &catalog::Deployment, deployment: &Deployment) -> Self {
        Self {
            target: target.clone(),
            pool: ConnectionPool::new(deployment),
            written: Arc::default(),
            may: AtomicU64::new(0),
            may_in_hand: AtomicU64::new(0),
            look_at: AtomicU64::new(0),
            began: Instant::now(),
            sight: Mutex::default(),
        }
    }

    /// Cuts documents into what is let through at a time: all of them at once where nothing is recorded.
    ///
    /// # Errors
    /// [`JobError::Failed`] when they are malformed.
    pub(crate) fn pieces(&self, documents: Bytes) -> Result<Vec<Bytes>, JobError> {
        if self.may.load(SeqCst) == u64::MAX {
            return Ok(vec![documents]);
        }
        pieces::cut(&documents, PIECE_WEIGHT)
            .map_err(|e| JobError::failed_by("a segment holds a malformed document", e))
    }

    /// Returns when more may be written. Nothing that other jobs may need is to be held meanwhile: it may take for ever.
    ///
    /// # Errors
    /// As [`JobContext::check`]; the catalog's; the target's, but for what passes.
    pub(crate) async fn pass(&self, ctx: &JobContext) -> Result<(), JobError> {
        self.passed(ctx, &self.may).await
    }

    /// The same for one of the [`Pace::pieces`] of a segment that was begun: it is seldom not let through.
    ///
    /// # Errors
    /// As [`Pace::pass`].
    pub(crate) async fn pass_in_hand(&self, ctx: &JobContext) -> Result<(), JobError> {
        self.passed(ctx, &self.may_in_hand).await
    }

    /// Whether [`Pace::pass`] would have to look again, and perhaps to wait.
    pub(crate) fn is_used_up(&self) -> bool {
        self.weight() >= self.may.load(SeqCst)
    }

    async fn passed(&self, ctx: &JobContext, may: &AtomicU64) -> Result<(), JobError> {
        // Whoever stops does not wait any more.
        self.until_free(ctx, may).await.inspect_err(|_| ctx.progress().held(None))
    }

    async fn until_free(&self, ctx: &JobContext, may: &AtomicU64) -> Result<(), JobError> {
        loop {
            let due = self.due_in();
            let free = self.weight() < may.load(SeqCst);
            if free && !due.is_zero() {
                return Ok(());
            }
            let mut sight = if free {
                // Somebody else is looking.
                let Ok(sight) = self.sight.try_lock() else { return Ok(()) };
                sight
            } else {
                ctx.or_stop(self.sight.lock()).await?
            };
            // While this one waited for its turn, another may have looked.
            let due = self.due_in();
            let exhausted = self.weight() >= may.load(SeqCst);
            if exhausted {
                ctx.or_stop(tokio::time::sleep(due.min(LOOK_EVERY_WAITING))).await?;
            }
            if exhausted || due.is_zero() {
                self.look(ctx, &mut sight).await?;
            }
        }
    }

    /// Returns when as much may be written as ever: before others are kept out of the target, and a wait would be an outage.
    ///
    /// # Errors
    /// As [`Pace::pass`].
    pub(crate) async fn pass_with_room(&self, ctx: &JobContext) -> Result<(), JobError> {
        {
            let mut sight = ctx.or_stop(self.sight.lock()).await?;
            sight.waiting.get_or_insert_with(|| Waiting::from(ClusterTime::default()));
            self.may.store(0, SeqCst);
            self.look_at.store(0, SeqCst);
        }
        self.pass(ctx).await
    }

    fn weight(&self) -> u64 {
        weight(self.written.documents(), self.written.bytes())
    }

    fn due_in(&self) -> Duration {
        Duration::from_millis(self.look_at.load(SeqCst)).saturating_sub(self.began.elapsed())
    }

    fn look_again_in(&self, time: Duration) {
        let at = self.began.elapsed() + time;
        self.look_at.store(u64::try_from(at.as_millis()).unwrap_or(u64::MAX), SeqCst);
    }

    /// Looks how far the recording is, and decides how much may be written.
    async fn look(&self, ctx: &JobContext, sight: &mut Sight) -> Result<(), JobError> {
        let waits = sight.waiting.is_some();
        self.look_again_in(if waits { LOOK_EVERY_WAITING } else { LOOK_EVERY });
        let recordings = match ctx.catalog().timelines().followed(self.target.id).await {
            Ok(recordings) => recordings,
            Err(error) if error.is_transient() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let Some(recorded) = recordings.iter().map(|timeline| timeline.end.time).min() else {
            sight.ledger = None;
            self.go_on(ctx, sight, u64::MAX, u64::MAX, "nothing is recorded of it");
            return Ok(());
        };
        // Counted before the oplog is looked at, so all of it is there.
        let own = self.weight();
        let window = match ctx.or_stop(self.window()).await? {
            Ok(window) => window,
            Err(error) => return self.blind(sight, error),
        };
        sight.blind = None;
        let ledger = sight.ledger.get_or_insert_with(|| Ledger::begin(own, window));
        ledger.note(own, &window);
        let behind = ledger.behind(to_mongo(recorded));
        let hopeless = if to_mongo(recorded) < window.oldest.time {
            Some("its oplog has already dropped what follows the last operation that is recorded")
        } else {
            (window.bytes_max == 0).then_some("its oplog does not tell how large it is")
        };
        if let Some(why) = hopeless {
            self.go_on(ctx, sight, u64::MAX, u64::MAX, why);
            return Ok(());
        }
        let in_hand = |limit: u64| limit.saturating_add(window.bytes_max / IN_HAND_SHARE);
        let pause_at = pause_at(window.bytes_max);
        let enough = if waits { go_on_at(window.bytes_max) } else { pause_at };
        if behind >= enough.max(1) {
            self.may.store(0, SeqCst);
            self.may_in_hand.store(own.saturating_add(in_hand(pause_at).saturating_sub(behind)), SeqCst);
            self.look_again_in(LOOK_EVERY_WAITING);
            self.wait(ctx, sight, &recordings, Behind { recorded, bytes: behind, window }).await;
            return Ok(());
        }
        let may = own.saturating_add(pause_at.saturating_sub(behind)).max(own + 1);
        self.go_on(ctx, sight, may, in_hand(may), "it has caught up");
        Ok(())
    }

    /// The oplog cannot be looked at now. Whoever writes finds out why as well, and knows what to do; whoever waits is not
    /// let go for it.
    fn blind(&self, sight: &mut Sight, error: mongo::Error) -> Result<(), JobError> {
        let since = *sight.blind.get_or_insert_with(Instant::now);
        if !errors::passes(&error) || since.elapsed() > BLIND_MAX {
            return Err(job_error("looking at the oplog of", &self.target.name, error));
        }
        if sight.waiting.is_none() {
            self.may.fetch_max(self.weight() + 1, SeqCst);
            self.may_in_hand.fetch_max(self.weight() + 1, SeqCst);
        }
        Ok(())
    }

    async fn window(&self) -> mongo::Result<OplogWindow> {
        let mut connection = self.pool.take().await?;
        let window = oplog::window_on(&mut connection).await.inspect_err(|_| self.pool.clear())?;
        self.pool.put_back(connection);
        Ok(window)
    }

    fn go_on(&self, ctx: &JobContext, sight: &mut Sight, may: u64, may_in_hand: u64, why: &str) {
        self.may.store(may, SeqCst);
        self.may_in_hand.store(may_in_hand, SeqCst);
        if let Some(Waiting { since, said: Some(_), .. }) = sight.waiting.take() {
            let (name, seconds) = (&self.target.name, since.elapsed().as_secs());
            tracing::info!(job.id = %ctx.lease().job_id, "{name} is written to again after {seconds} s: {why}");
            ctx.progress().held(None);
        }
    }

    /// Tells that it is waited, why, and what can be done about it.
    async fn wait(&self, ctx: &JobContext, sight: &mut Sight, recordings: &[Timeline], behind: Behind) {
        let recorded = behind.recorded;
        let waiting = sight.waiting.get_or_insert_with(|| Waiting::from(recorded));
        if waiting.recorded != recorded {
            (waiting.recorded, waiting.moved) = (recorded, Instant::now());
        }
        let slowest = || recordings.iter().filter(|timeline| timeline.end.time == recorded);
        for timeline in slowest() {
            // A keeper in this process closes its slice at once.
            ctx.services().waiters.want(timeline.deployment_id, to_model(behind.window.newest.time));
        }
        if waiting.names.is_empty() {
            let mut names = Vec::new();
            for timeline in slowest() {
                // What cannot be told now is told at the next look.
                let row = ctx.catalog().deployments().get(timeline.deployment_id).await.ok().flatten();
                names.extend(row.map(|row| row.name.to_string()));
            }
            waiting.names = names.join(", ");
        }
        let recorded_as = if waiting.names.is_empty() { self.target.name.as_str() } else { &waiting.names };
        let is_outage = ctx.must_finish_since().is_some();
        let text = text(self.target.name.as_str(), recorded_as, &behind, waiting.moved.elapsed(), is_outage);
        if waiting.said.is_none_or(|said| said.elapsed() >= REMIND_EVERY) {
            waiting.said = Some(Instant::now());
            tracing::warn!(job.id = %ctx.lease().job_id, target.id = %self.target.id, "{text}");
        }
        ctx.progress().held(Some(("waiting for the continuous backup to catch up", &text)));
        ctx.services().probe("restore.waits-for-capture", &text).await;
    }
}

/// How far a recording is behind.
struct Behind {
    recorded: ClusterTime,
    bytes: u64,
    window: OplogWindow,
}

/// What is told of a wait.
fn text(target: &str, recorded_as: &str, behind: &Behind, standstill: Duration, is_outage: bool) -> String {
    let (megabytes, of) = (behind.bytes / 1_000_000, behind.window.bytes_max / 1_000_000);
    let recorded = behind.recorded;
    let mut text = format!(
        "nothing is written to {target} at present, because its continuous backup is behind: {megabytes} of the {of} MB \
         that the oplog holds were written after {recorded}, the last operation that is recorded, and when the oplog has \
         dropped what follows it, the timeline ends; the restore goes on by itself when that is recorded"
    );
    if is_outage {
        text.push_str("; the cut-over has begun, so others are kept out meanwhile");
    }
    if standstill >= STANDSTILL {
        let seconds = standstill.as_secs();
        text.push_str(&format!(
            "; but the recording has stood still for {seconds} s: `ebbtide timeline show {recorded_as}` tells what holds \
             it up; start the server that records {recorded_as} again, or do without its continuous backup \
             (`ebbtide cluster update {recorded_as} --pit off`)"
        ));
        if !is_outage {
            text.push_str(", or cancel the restore");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use mongo::{ClusterTime as Time, oplog::Position};

    use super::*;

    #[test]
    fn a_wait_is_explained_and_a_standstill_comes_with_what_to_do() {
        let position = Position { time: Time { time: 9, increment: 9 }, term: 1 };
        let window = OplogWindow { oldest: position, newest: position, bytes: 0, bytes_max: 64_000_000 };
        let behind = Behind { recorded: ClusterTime { seconds: 7, increment: 2 }, bytes: 33_000_000, window };
        let told = text("orders", "orders", &behind, Duration::from_secs(3), false);
        assert!(told.contains("33 of the 64 MB") && told.contains("7,2"), "{told}");
        assert!(!told.contains("--pit off"), "{told}");
        let told = text("copy", "orders", &behind, Duration::from_secs(30), false);
        assert!(told.contains("nothing is written to copy") && told.contains("for 30 s"), "{told}");
        assert!(told.contains("`ebbtide cluster update orders --pit off`"), "{told}");
        assert!(told.contains("cancel") && !told.contains("kept out"), "{told}");
        let told = text("copy", "orders", &behind, Duration::from_secs(30), true);
        assert!(told.contains("kept out") && !told.contains("cancel"), "{told}");
    }
}
