//! Logs of the server: to standard error, as text or as one JSON object a line.

use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// Starts logging. `EBBTIDE_LOG` holds a filter such as `info,ebbtide_engine=debug`.
pub(crate) fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_env("EBBTIDE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => subscriber.with_ansi(false).init(),
        LogFormat::Json => subscriber.json().init(),
    }
}
