//! Standard output. Whoever reads it may have seen enough (`| head`): then the program ends, and well.

use std::{
    fmt::Arguments,
    io::{ErrorKind, Write as _},
};

/// Prints a line.
macro_rules! say {
    ($($said:tt)*) => { $crate::out::line(format_args!($($said)*)) };
}
pub(crate) use say;

/// Prints a line; see [`say`].
pub(crate) fn line(said: Arguments<'_>) {
    text(&format!("{said}\n"));
}

/// Prints a text as it is.
pub(crate) fn text(said: &str) {
    // In one piece: what is read by lines must not come by halves.
    match std::io::stdout().write_all(said.as_bytes()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            eprintln!("error: write to standard output: {error}");
            std::process::exit(crate::exit::FAILED.into());
        }
    }
}
