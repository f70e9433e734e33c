//! How far a job is, counted without locks and turned into a rate now and then.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use model::job::Progress;

/// The rate is that of the last so many seconds, smoothed.
const RATE_WINDOW_SECONDS: f64 = 10.0;

/// Counters of one job. All methods take `&self`, so every task of the job may count.
#[derive(Debug, Default)]
pub struct Counters {
    documents_done: AtomicU64,
    documents_total: AtomicU64,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    collections_done: AtomicU64,
    collections_total: AtomicU64,
    words: Mutex<Words>,
}

#[derive(Debug, Default)]
struct Words {
    phase: String,
    message: String,
    warning: String,
    held: Option<(String, String)>,
    last: Option<(Instant, u64)>,
    rate: f64,
}

impl Counters {
    /// Names the phase at work: `read`, `load`, `indexes`, `cutOver`, `verify`.
    pub fn phase(&self, phase: &str) {
        let mut words = self.words();
        phase.clone_into(&mut words.phase);
        words.message.clear();
        words.last = None;
        words.rate = 0.0;
        tracing::debug!(phase, "the job enters phase {phase}");
    }

    /// Says in a sentence what is at work.
    pub fn message(&self, message: impl Into<String>) {
        self.words().message = message.into();
    }

    /// Says what ought to be known about the whole job, to its end.
    pub fn warn(&self, warning: impl Into<String>) {
        self.words().warning = warning.into();
    }

    /// Says that nothing goes on at present: what is waited for, and why. None when it goes on again.
    pub fn held(&self, by: Option<(&str, &str)>) {
        self.words().held = by.map(|(message, why)| (message.to_owned(), why.to_owned()));
    }

    /// Sets what there is to do.
    pub fn totals(&self, documents: u64, bytes: u64, collections: u64) {
        self.documents_total.store(documents, Relaxed);
        self.bytes_total.store(bytes, Relaxed);
        self.collections_total.store(collections, Relaxed);
    }

    /// Counts documents and bytes done.
    pub fn add(&self, documents: u64, bytes: u64) {
        self.documents_done.fetch_add(documents, Relaxed);
        self.bytes_done.fetch_add(bytes, Relaxed);
    }

    /// Counts one collection done.
    pub fn collection_done(&self) {
        self.collections_done.fetch_add(1, Relaxed);
    }

    /// Begins to count again, as when everything is read anew at a later time.
    pub fn restart(&self) {
        for counter in [&self.documents_done, &self.bytes_done, &self.collections_done] {
            counter.store(0, Relaxed);
        }
        let mut words = self.words();
        words.last = None;
        words.rate = 0.0;
    }

    /// Bytes done so far.
    pub fn bytes_done(&self) -> u64 {
        self.bytes_done.load(Relaxed)
    }

    /// The counters as a heartbeat reports them.
    pub fn snapshot(&self) -> Progress {
        let bytes_done = self.bytes_done.load(Relaxed);
        let bytes_total = self.bytes_total.load(Relaxed);
        let mut words = self.words();
        words.measure(Instant::now(), bytes_done);
        let rate = words.rate as u64;
        Progress {
            phase: words.phase.clone(),
            documents_done: self.documents_done.load(Relaxed),
            documents_total: self.documents_total.load(Relaxed),
            bytes_done,
            bytes_total,
            collections_done: self.collections_done.load(Relaxed),
            collections_total: self.collections_total.load(Relaxed),
            bytes_per_second: rate,
            seconds_left: (rate > 0 && bytes_total > 0)
                .then(|| bytes_total.saturating_sub(bytes_done) / rate),
            message: words.message(),
            warning: words.warning(),
        }
    }

    fn words(&self) -> std::sync::MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Words {
    fn message(&self) -> String {
        self.held.as_ref().map_or(&self.message, |(message, _)| message).clone()
    }

    fn warning(&self) -> String {
        let held = self.held.as_ref().map(|(_, why)| why.as_str());
        let told = Some(self.warning.as_str()).filter(|warning| !warning.is_empty());
        told.into_iter().chain(held).collect::<Vec<_>>().join("; ")
    }

    /// Folds what was done since the last look into the rate.
    fn measure(&mut self, now: Instant, bytes_done: u64) {
        let Some((then, before)) = self.last else {
            self.last = Some((now, bytes_done));
            return;
        };
        let seconds = now.duration_since(then).as_secs_f64();
        if seconds < 0.1 {
            return;
        }
        let current = bytes_done.saturating_sub(before) as f64 / seconds;
        let weight = if self.rate == 0.0 { 1.0 } else { (seconds / RATE_WINDOW_SECONDS).min(1.0) };
        self.rate += (current - self.rate) * weight;
        self.last = Some((now, bytes_done));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_rate_follows_what_is_done_and_tells_the_time_left() {
        let mut words = Words::default();
        let start = Instant::now();
        for second in 0..30 {
            words.measure(start + Duration::from_secs(second), second * 1000);
        }
        assert!((words.rate - 1000.0).abs() < 1.0, "{}", words.rate);
    }

    #[test]
    fn what_holds_a_job_up_is_told_beside_what_is_true_of_all_of_it() {
        let counters = Counters::default();
        counters.message("loading a.b");
        let shown = || (counters.snapshot().message, counters.snapshot().warning);
        let pair = |message: &str, warning: &str| (message.to_owned(), warning.to_owned());
        counters.held(Some(("waiting", "because")));
        assert_eq!(shown(), pair("waiting", "because"));
        counters.warn("untested");
        assert_eq!(shown(), pair("waiting", "untested; because"));
        counters.held(None);
        assert_eq!(shown(), pair("loading a.b", "untested"));
    }

    #[test]
    fn counting_again_does_not_make_a_negative_rate() {
        let mut words = Words::default();
        let start = Instant::now();
        words.measure(start, 1_000_000);
        words.measure(start + Duration::from_secs(1), 0);
        assert!(words.rate >= 0.0);
    }
}
