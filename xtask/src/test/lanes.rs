//! Several programs at a time.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError, mpsc};

use super::order::{Plan, Run};
use super::program::{self, Environment, Outcome};

/// More would only swap: each test may run a replica set of three.
const LANES_MAX: usize = 4;
const LANES_MIN: usize = 2;
const THREADS: usize = 2;

/// How much is run at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Width {
    pub(super) lanes: usize,
    /// In each program.
    pub(super) threads: usize,
}

impl Width {
    pub(super) fn of_this_machine() -> Self {
        let processors = std::thread::available_parallelism().map_or(LANES_MIN, usize::from);
        // One more than there are processors: a program with two tests at a time uses half of one.
        Self { lanes: (processors + 1).clamp(LANES_MIN, LANES_MAX), threads: THREADS }
    }
}

impl fmt::Display for Width {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} at a time with {} threads each", self.lanes, self.threads)
    }
}

/// Runs all and tells each outcome as it comes.
pub(super) fn run(plan: Plan, width: Width, environment: &Environment, tell: impl FnMut(Outcome)) {
    let mut tell = tell;
    beside_each_other(plan.beside, width.lanes, environment, &mut tell);
    beside_each_other(plan.alone, 1, environment, &mut tell);
}

fn beside_each_other(
    runs: Vec<Run>,
    lanes: usize,
    environment: &Environment,
    tell: &mut impl FnMut(Outcome),
) {
    let waiting = Mutex::new(VecDeque::from(runs));
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    std::thread::scope(|scope| {
        let (sender, outcomes) = mpsc::channel();
        for _ in 0..lanes {
            let sender = sender.clone();
            scope.spawn(move || {
                while let Some(run) = next() {
                    if sender.send(program::run(&run, environment)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        outcomes.into_iter().for_each(tell);
    });
}
