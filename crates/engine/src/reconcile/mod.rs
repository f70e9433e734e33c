//! Reconcilers: what keeps the world as the catalog says it should be.
//!
//! * A reconciler runs when poked and on a timer, since whoever pokes may crash before it does.
//! * It takes no input: it looks at the state and does what that state wants, even when the caller knows better.
//! * It is idempotent, so running it once too often, or in two processes at once, does nothing.
//! * It says what it did; an endpoint shows it. An error is logged and tried again, never fatal.

mod audit;
mod clock;
mod collect;
mod copies;
mod expiry;
mod leftovers;
mod live_check;
mod reaper;
mod schedule;
mod slices;
mod strays;
mod unaccounted;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use model::WallTime;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub(crate) use clock::ClockWatch;
pub(crate) use copies::Rights as CopyRights;

use crate::{engine::Services, lease::JobError};

/// How one reconciler is.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Its name.
    pub name: &'static str,
    /// When it ran last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run_at: Option<WallTime>,
    /// How often it ran in this process.
    pub runs: u64,
    /// How often it failed in this process.
    pub failures: u64,
    /// Why it failed, when the last run did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the last successful run did.
    pub did: Value,
}

type Activation = for<'a> fn(&'a Services) -> BoxFuture<'a, Result<Value, JobError>>;

struct Reconciler {
    activate: Activation,
    status: Mutex<Status>,
    poke: Notify,
    /// One activation at a time.
    running: tokio::sync::Mutex<()>,
}

/// All reconcilers of one process.
pub struct Reconcilers {
    services: Services,
    all: Vec<Reconciler>,
}

impl Reconcilers {
    /// Those that Ebbtide has. Nothing runs yet.
    pub fn new(services: Services) -> Self {
        let all = [
            ("expiry", (|s| Box::pin(expiry::activate(s))) as Activation),
            ("schedule", |s| Box::pin(schedule::activate(s))),
            ("reaper", |s| Box::pin(reaper::activate(s))),
            ("collector", |s| Box::pin(collect::activate(s))),
            ("copies", |s| Box::pin(copies::activate(s))),
            ("leftovers", |s| Box::pin(leftovers::activate(s))),
            ("strays", |s| Box::pin(strays::activate(s))),
            ("slices", |s| Box::pin(slices::activate(s))),
            ("live-check", |s| Box::pin(live_check::activate(s))),
            ("audit", |s| Box::pin(audit::activate(s))),
        ];
        let all = all.into_iter().map(|(name, activate)| Reconciler::new(name, activate)).collect();
        Self { services, all }
    }

    /// Wakes all of them.
    pub fn poke(&self) {
        self.all.iter().for_each(|r| r.poke.notify_one());
    }

    /// How they are.
    pub fn statuses(&self) -> Vec<Status> {
        self.all.iter().map(Reconciler::status).collect()
    }

    /// Runs the reconciler of that name once, now; what it did.
    ///
    /// # Errors
    /// Why it failed; [`JobError::Failed`] when there is none of that name.
    pub async fn activate(&self, name: &str) -> Result<Value, JobError> {
        let found = self.all.iter().find(|r| r.status().name == name);
        let reconciler =
            found.ok_or_else(|| JobError::failed(format!("there is no reconciler named {name}")))?;
        reconciler.activate(&self.services).await
    }

    /// Runs them until `shutdown`.
    pub(crate) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let loops = self.all.iter().map(|reconciler| reconciler.run(&self.services, &shutdown));
        futures::future::join_all(loops).await;
        copies::give_back(&self.services).await;
    }
}

impl Reconciler {
    fn new(name: &'static str, activate: Activation) -> Self {
        let status = Status { name, last_run_at: None, runs: 0, failures: 0, error: None, did: Value::Null };
        Self {
            activate,
            status: Mutex::new(status),
            poke: Notify::new(),
            running: tokio::sync::Mutex::new(()),
        }
    }

    fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn run(&self, services: &Services, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = self.activate(services) => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.poke.notified() => {}
                () = tokio::time::sleep(services.settings.reconcile_every) => {}
            }
        }
    }

    async fn activate(&self, services: &Services) -> Result<Value, JobError> {
        let _alone = self.running.lock().await;
        let done = (self.activate)(services).await;
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.runs += 1;
        status.last_run_at = Some(services.now());
        match &done {
            Ok(did) => {
                status.error = None;
                status.did = did.clone();
            }
            Err(error) => {
                status.failures += 1;
                status.error = Some(error.full_text());
                tracing::warn!(reconciler = status.name, error = %error.full_text(), "reconciler {} failed: {}; it will run again", status.name, error.full_text());
            }
        }
        done
    }
}

/// Whether what is done now and then has to be done again; when it was done last stands in the catalog's settings.
async fn is_due(services: &Services, key: &str, every: Duration) -> Result<bool, JobError> {
    let last = services.catalog.settings().get(key).await?;
    let last = last.and_then(|text| text.parse().ok()).map(WallTime);
    let every = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
    let now = services.now();
    // What lies so far ahead was written by a clock that went wrong.
    Ok(last.is_none_or(|last| now >= last.plus_ms(every) || now < last.plus_ms(-every)))
}

async fn remember(services: &Services, key: &str) -> Result<(), JobError> {
    Ok(services.catalog.settings().set(key, &services.now().0.to_string()).await?)
}
