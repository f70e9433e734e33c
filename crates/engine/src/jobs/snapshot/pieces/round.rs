//! What is left of a deployment, read at one more time, as far as that goes.
//!
//! A collection that fails takes no other with it: what was read of the others counts, once the oplog shows no DDL that may have
//! falsified it. When the history is gone, nothing more is begun.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use futures::{StreamExt as _, stream};
use model::ClusterTime;
use mongo::{CollectionInfo, CollectionKind, Namespace, read};
use tokio_util::task::AbortOnDropHandle;
use vault::{ManifestWriter, Order, SegmentList};

use super::stretch::{Ending, Stretch};
use crate::{
    jobs::snapshot::{
        attempt::{Again, Attempt, Why, later, sort_out},
        collection::{self, CollectionRead, Reading, SPARE_LISTS},
        guard::{Guard, Read, TOGETHER, WAIT_MAX},
        source::{ReadError, Source},
    },
    lease::JobError,
};

/// A collection that is not read to its end yet.
pub(super) struct Remaining {
    /// As it was listed at the first time.
    pub(super) info: CollectionInfo,
    /// What there is of it.
    stretch: Option<Stretch>,
    /// So many segments of it there were at most.
    reached: u64,
    /// Whether its index has another order than its documents.
    is_disordered: bool,
}

impl Remaining {
    /// Nothing of it is read.
    pub(super) fn new(info: CollectionInfo) -> Self {
        let is_disordered = info.collation;
        Self { info, stretch: None, reached: 0, is_disordered }
    }

    /// Whether reading has come farther than ever; from now on it has to come farther than that.
    pub(super) fn advances(&mut self) -> bool {
        let segments = self.stretch.as_ref().map_or(0, Stretch::segments);
        let advances = segments > self.reached;
        self.reached = self.reached.max(segments);
        advances
    }

    /// The time of the last segment of it.
    pub(super) fn ends_at(&self) -> Option<ClusterTime> {
        self.stretch.as_ref()?.ends_at()
    }

    /// Whether there can be pieces of it: its index gives documents in the order of the segments.
    pub(super) fn has_pieces(&self) -> bool {
        self.info.kind != CollectionKind::Capped && !self.is_disordered
    }

    fn start_over_in_disorder(&mut self) {
        (self.stretch, self.is_disordered) = (None, true);
    }
}

/// A collection to be read, as it is called now, and about how many bytes it has.
pub(super) struct Planned {
    pub(super) remaining: Remaining,
    pub(super) now: CollectionInfo,
    pub(super) bytes: u64,
}

/// What a round gives.
#[derive(Default)]
pub(super) struct Came {
    /// Collections whose end was reached and proven.
    pub(super) done: Vec<CollectionRead>,
    pub(super) remaining: Vec<Remaining>,
    /// What was in the way of those that remain.
    pub(super) why: Option<Why>,
}

impl Came {
    /// Takes one more thing in the way. That the history is gone says most.
    fn note(&mut self, why: Why) {
        if !self.why.as_ref().is_some_and(|noted| noted.too_old) {
            self.why = Some(why);
        }
    }
}

pub(super) struct Round<'a> {
    pub(super) attempt: &'a Attempt<'a>,
    pub(super) manifest: &'a ManifestWriter,
    /// The first time of all.
    pub(super) base_at: ClusterTime,
    pub(super) source: Arc<Source>,
}

/// A collection that was read to its end, which is not proven.
struct Unproven {
    remaining: Remaining,
    now: CollectionInfo,
    taken: Taken,
}

enum Taken {
    Whole(Box<CollectionRead>),
    Stretch(Ending),
}

/// A collection and how its reading ended; none when it was not begun.
type Ended = (Remaining, CollectionInfo, Option<Result<Taken, ReadError>>);

impl Round<'_> {
    /// Reads the collections in the order given, some at a time.
    ///
    /// # Errors
    /// What ends the job: what is in the way of a collection alone is told in [`Came::why`].
    pub(super) async fn run(&self, planned: Vec<Planned>) -> Result<Came, JobError> {
        let (ctx, began) = (self.attempt.ctx, Instant::now());
        let reading = self.attempt.reading(&self.source);
        let (stopped, mut came) = (AtomicBool::new(false), Came::default());
        let mut guard = Guard::new(&self.source.deployment, self.source.term, self.source.at);
        let (mut unproven, mut looked): (Vec<Unproven>, _) = (Vec::new(), began);
        let reads = planned.into_iter().map(|planned| self.read_one(reading.clone(), planned, &stopped));
        let mut reads = stream::iter(reads).buffer_unordered(ctx.services().settings.readers.max(1));
        while let Some(ended) = ctx.or_stop(reads.next()).await? {
            let (mut remaining, now, ended) = ended?;
            match ended {
                None => came.remaining.push(remaining),
                Some(Ok(taken)) => {
                    let namespace = now.namespace.to_string();
                    ctx.services().probe("snapshot.collection-read", &namespace).await;
                    unproven.push(Unproven { remaining, now, taken });
                }
                Some(Err(ReadError::OutOfOrder)) if !remaining.is_disordered => {
                    remaining.start_over_in_disorder();
                    came.remaining.push(remaining);
                }
                Some(Err(error)) => match sort_out(now.namespace, error, began) {
                    Again::Stop(error) => return Err(error),
                    Again::Later(why) => {
                        stopped.fetch_or(why.too_old || why.needs_time, Ordering::Relaxed);
                        came.note(why);
                        came.remaining.push(remaining);
                    }
                },
            }
            if unproven.len() >= TOGETHER || looked.elapsed() >= WAIT_MAX {
                self.judge(&mut guard, &mut unproven, &mut came, began).await?;
                looked = Instant::now();
            }
        }
        self.judge(&mut guard, &mut unproven, &mut came, began).await?;
        Ok(came)
    }

    /// Looks behind what was read to its end.
    async fn judge(
        &self,
        guard: &mut Guard,
        unproven: &mut Vec<Unproven>,
        came: &mut Came,
        began: Instant,
    ) -> Result<(), JobError> {
        let ctx = self.attempt.ctx;
        let read = |one: &Unproven| Read { namespace: one.now.namespace.clone(), uuid: one.now.uuid };
        let reads: Vec<Read> = unproven.iter().map(read).collect();
        if reads.is_empty() {
            return Ok(());
        }
        let hits = match ctx.or_stop(guard.judge(&reads)).await? {
            Ok(hits) => hits,
            Err(error) => {
                match later(Namespace::new("local", "oplog.rs"), error, began) {
                    Again::Stop(error) => return Err(error),
                    Again::Later(why) => came.note(why),
                }
                came.remaining.extend(unproven.drain(..).map(|one| one.remaining));
                return Ok(());
            }
        };
        for (one, hit) in unproven.drain(..).zip(hits) {
            match hit {
                None => self.finish(one, came).await?,
                Some(hit) => {
                    came.note(Why::of(hit, began));
                    came.remaining.push(one.remaining);
                }
            }
        }
        Ok(())
    }

    async fn finish(&self, one: Unproven, came: &mut Came) -> Result<(), JobError> {
        let Unproven { mut remaining, taken, .. } = one;
        let info = remaining.info.clone();
        let done = match (taken, remaining.stretch.take()) {
            (Taken::Whole(read), _) => CollectionRead { info, ..*read },
            (Taken::Stretch(ending), Some(stretch)) => match stretch.finish(ending).await {
                Ok((at, pages)) => {
                    let as_of = at.unwrap_or(self.base_at);
                    CollectionRead { info, as_of, read_through: None, order: Order::Sorted, pages }
                }
                Err(ReadError::Job(error)) => return Err(error),
                Err(_) => {
                    remaining.start_over_in_disorder();
                    came.remaining.push(remaining);
                    return Ok(());
                }
            },
            (Taken::Stretch(_), None) => {
                return Err(JobError::failed("a bug in Ebbtide lost what was read of a collection"));
            }
        };
        came.done.push(done);
        self.attempt.ctx.progress().collection_done();
        Ok(())
    }

    /// Reads one collection in a task of its own, so that several use several cores.
    async fn read_one(
        &self,
        reading: Reading,
        planned: Planned,
        stopped: &AtomicBool,
    ) -> Result<Ended, JobError> {
        let Planned { remaining, now, bytes } = planned;
        if stopped.load(Ordering::Relaxed) {
            return Ok((remaining, now, None));
        }
        let lists = (0..=SPARE_LISTS).map(|_| self.manifest.segment_list()).collect();
        let task = AbortOnDropHandle::new(tokio::spawn(read_on(reading, remaining, now, bytes, lists)));
        task.await.map_err(|e| JobError::failed_by("a bug in Ebbtide stopped the reading of a collection", e))
    }
}

async fn read_on(
    reading: Reading,
    mut remaining: Remaining,
    now: CollectionInfo,
    bytes: u64,
    mut lists: Vec<SegmentList>,
) -> Ended {
    let (Some(list), Some(spare)) = (lists.pop(), lists.pop()) else {
        return (remaining, now, Some(Err(JobError::failed("a bug in Ebbtide: no list is left").into())));
    };
    let taken = if remaining.has_pieces() {
        let stretch = remaining.stretch.get_or_insert_with(|| Stretch::new(list));
        stretch.read_on(&reading, &now, spare).await.map(Taken::Stretch)
    } else {
        let order = remaining.is_disordered.then_some(read::Order::NaturalThenSort).or(reading.order);
        lists.push(spare);
        let read = collection::read(Reading { order, ..reading }, now.clone(), bytes, list, lists).await;
        read.map(|read| Taken::Whole(Box::new(read)))
    };
    (remaining, now, Some(taken))
}
