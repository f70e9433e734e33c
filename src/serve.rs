//! `ebbtide serve`: the API and the workers in one process.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context;
use engine::Engine;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::{JoinError, JoinHandle},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    args,
    config::{self, Config},
    datadir, logging,
    registrar::LiveRegistrar,
    secrets::MasterKeySecrets,
};

mod archives;
mod contents;
mod past;

/// Runs until a signal, or until something cannot go on.
pub(crate) async fn run(args: args::Serve) -> anyhow::Result<ExitCode> {
    logging::start(args.log_format);
    let config = Config::read(&args.data)?;
    let export_places = datadir::export_places(&config)?;
    let copy_places = datadir::copy_places(&config)?;
    let opened = datadir::open(&config).await?;
    let listen = args
        .listen
        .or(config.file.listen)
        .map_or_else(|| config::LISTEN_DEFAULT.parse().context("parse an address"), Ok)?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
    let address = listener.local_addr().context("tell the address")?;
    let shutdown = shutdown_on_signal()?;
    let settings = api::Settings {
        export_places: export_places.keys().cloned().collect(),
        copy_regions: copy_places.keys().cloned().collect(),
        ..api_settings(&config)
    };
    let engine = Engine::new(
        opened.catalog.clone(),
        opened.vault.clone(),
        Arc::clone(&opened.master_key),
        engine::Settings { export_places, copy_places, ..engine_settings(&config, args.no_jobs) },
    );
    let state = api_state(settings, &opened, &engine);
    info!(%address, data_dir = %config.data_dir.display(), "serving on http://{address}");
    let serving = tokio::spawn(api::serve(listener, state, shutdown.clone()));
    let working = {
        let shutdown = shutdown.clone();
        tokio::spawn(async move { engine.run(shutdown).await })
    };
    let (served, worked) = tokio::join!(taking_down(serving, &shutdown), taking_down(working, &shutdown));
    served.context("serve the API")?.context("serve the API")?;
    worked.context("run jobs")?.context("run jobs")?;
    opened.catalog.close().await;
    info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Whichever half ends first takes the other one down, so that half a server never lingers.
async fn taking_down<T>(half: JoinHandle<T>, shutdown: &CancellationToken) -> Result<T, JoinError> {
    let ended = half.await;
    shutdown.cancel();
    ended
}

fn engine_settings(config: &Config, no_jobs: bool) -> engine::Settings {
    let jobs = &config.file.jobs;
    engine::Settings {
        workers: if no_jobs { 0 } else { jobs.concurrent },
        readers: jobs.readers.max(1),
        lease_ms: i64::from(jobs.lease_seconds) * 1000,
        capture: !no_jobs,
        spool_dir: jobs.spool_dir.clone().unwrap_or_else(|| config.data_dir.join("spool")),
        spill_dir: jobs.spill_dir.clone().unwrap_or_else(|| config.data_dir.join("spill")),
        live_check_every: jobs.live_check_every(),
        audit_kept: config.file.audit.kept(),
        ..engine::Settings::default()
    }
}

fn api_settings(config: &Config) -> api::Settings {
    api::Settings {
        public_url: config.file.public_url.clone(),
        access_list_required: config.file.api.access_list_required,
        rate_limits: config.file.rate_limit.limits(),
        legacy_mode: config.file.api.legacy_restore_jobs,
        quirks: config.file.api.quirks(),
        ..api::Settings::default()
    }
}

fn api_state(settings: api::Settings, opened: &datadir::Opened, engine: &Engine) -> api::State {
    let reconcilers = Arc::clone(engine.reconcilers());
    api::State {
        catalog: opened.catalog.clone(),
        archives: Arc::new(archives::VaultArchives(opened.vault.clone())),
        contents: Arc::new(contents::EngineContents(engine::contents::Contents::new(
            engine.services().clone(),
        ))),
        past: Arc::new(past::EnginePast(engine::past::Past::new(engine.services().clone()))),
        secrets: Arc::new(MasterKeySecrets(Arc::clone(&opened.master_key))),
        registrar: Arc::new(LiveRegistrar),
        poke: engine.poke(),
        clock: Arc::new(engine::engine::wall_clock),
        engine_status: Arc::new(move || serde_json::json!({ "reconcilers": reconcilers.statuses() })),
        settings,
    }
}

fn shutdown_on_signal() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt()).context("watch for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("watch for SIGTERM")?;
    let stop = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        info!("stopping: jobs are handed back and go on at the next start");
        stop.cancel();
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        warn!("stopped at once by a second signal; jobs are taken over when their leases run out");
        std::process::exit(i32::from(crate::exit::INTERRUPTED));
    });
    Ok(token)
}
