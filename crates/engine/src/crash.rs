//! Named points at which a test can make the process die.
//!
//! A promise about `kill -9` is worth what its tests are worth, and a signal sent from outside hits the
//! interesting step only by luck. So each step between two durable writes has a name, and the process aborts
//! there, without a destructor run, when [`VARIABLE`] says so. It costs one comparison with an empty option.

use std::sync::OnceLock;

/// The environment variable that names the point to die at.
pub const VARIABLE: &str = "EBBTIDE_CRASH_AT";

/// Aborts the process if this is the point named by [`VARIABLE`].
pub fn point(name: &str) {
    static AT: OnceLock<Option<String>> = OnceLock::new();
    let at = AT.get_or_init(|| std::env::var(VARIABLE).ok().filter(|name| !name.is_empty()));
    if at.as_deref() == Some(name) {
        tracing::error!(point = name, "the process dies at the crash point {name}, as {VARIABLE} asks");
        std::process::abort();
    }
}
