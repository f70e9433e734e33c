//! What the user sees: numbered steps, and a progress bar that is a line now and then when there is no terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const WIDTH: usize = 30;
const REDRAW: Duration = Duration::from_millis(80);
const INDENT: &str = "      ";

/// Announces a step.
pub(crate) fn step(number: usize, of: usize, title: &str) {
    println!("\n[{number}/{of}] {title}");
}

/// A line about the step.
pub(crate) fn say(text: &str) {
    for line in text.lines() {
        println!("{INDENT}{line}");
    }
}

/// A bar for one thing that takes a while.
pub(crate) struct Bar {
    name: String,
    started: Instant,
    drawn: Option<Instant>,
    terminal: bool,
}

impl Bar {
    /// Draws nothing yet.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            started: Instant::now(),
            drawn: None,
            terminal: std::io::stdout().is_terminal(),
        }
    }

    /// Redraws, on a terminal and not too often.
    pub(crate) fn show(&mut self, done: u64, total: u64, text: &str) {
        if !self.terminal || self.drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW) {
            return;
        }
        self.drawn = Some(Instant::now());
        let done = done.min(total);
        let share = done.checked_mul(100).and_then(|done| done.checked_div(total)).unwrap_or(0);
        let filled = WIDTH * usize::try_from(share).unwrap_or(100) / 100;
        let bar = format!("{}{}", "=".repeat(filled), " ".repeat(WIDTH - filled));
        print!("\r\x1b[2K{INDENT}{:<10} [{bar}] {share:>3}%  {text}", self.name);
        // A terminal that is gone is no reason to stop.
        let _ = std::io::stdout().flush();
    }

    /// Replaces the bar by one line.
    pub(crate) fn finish(self, text: &str) {
        let erase = if self.terminal { "\r\x1b[2K" } else { "" };
        println!("{erase}{INDENT}{:<10} {text}, {:.1} s", self.name, self.started.elapsed().as_secs_f64());
    }
}
