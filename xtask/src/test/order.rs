//! Which program is run when: the longest first, those that bear no company last, by themselves.

use std::collections::BTreeMap;

use anyhow::Context;

use super::program::Program;

/// What is known of some programs; see the file.
const RECORDED: &str = include_str!("known.txt");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Habit {
    seconds: u64,
    alone: bool,
}

/// How long programs took once, and which of them must be alone.
#[derive(Debug)]
pub(super) struct Known(BTreeMap<String, Habit>);

impl Known {
    pub(super) fn recorded() -> anyhow::Result<Self> {
        Self::read(RECORDED).context("read xtask/src/test/known.txt")
    }

    /// Lines of `NAME SECONDS [alone]`; `#` begins a remark.
    fn read(text: &str) -> anyhow::Result<Self> {
        let mut habits = BTreeMap::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
            let (name, seconds, alone) = match words.as_slice() {
                [] => continue,
                [name, seconds] => (*name, *seconds, false),
                [name, seconds, "alone"] => (*name, *seconds, true),
                _ => anyhow::bail!("{line:?} is not NAME SECONDS [alone]"),
            };
            let seconds = seconds.parse().with_context(|| format!("the seconds of {line:?}"))?;
            habits.insert(name.to_owned(), Habit { seconds, alone });
        }
        Ok(Self(habits))
    }

    /// Known names that no program has.
    pub(super) fn strangers(&self, programs: &[Program]) -> Vec<&str> {
        let is_there = |name: &str| programs.iter().any(|program| program.name == name);
        self.0.keys().map(String::as_str).filter(|name| !is_there(name)).collect()
    }

    /// What is taken for the length of a program that is not known: known are the long ones and some short ones, so a new
    /// one comes between them, neither before the longest nor as the last that all others wait for.
    fn middle(&self) -> u64 {
        let mut all: Vec<u64> = self.0.values().map(|habit| habit.seconds).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or_default()
    }
}

/// A program and which of its tests are wanted; all of them without filters.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) program: Program,
    pub(super) filters: Vec<String>,
}

/// All that is to be run, in order.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) beside: Vec<Run>,
    pub(super) alone: Vec<Run>,
}

impl Plan {
    /// A filter that is the name of a program wants all tests of it; any other is a part of names of tests.
    pub(super) fn new(programs: Vec<Program>, filters: &[&str], known: &Known) -> Self {
        let (whole, parts): (Vec<&str>, Vec<&str>) =
            filters.iter().partition(|filter| programs.iter().any(|program| program.name == **filter));
        let parts: Vec<String> = parts.into_iter().map(str::to_owned).collect();
        let middle = known.middle();
        let mut runs: Vec<(Habit, Run)> = Vec::new();
        for program in programs {
            let habit = known.0.get(&program.name).copied();
            let habit = habit.unwrap_or(Habit { seconds: middle, alone: false });
            if filters.is_empty() || whole.contains(&program.name.as_str()) {
                runs.push((habit, Run { program, filters: Vec::new() }));
            } else if !parts.is_empty() {
                runs.push((habit, Run { program, filters: parts.clone() }));
            }
        }
        runs.sort_by_key(|(habit, _)| std::cmp::Reverse(habit.seconds));
        let (alone, beside): (Vec<_>, Vec<_>) = runs.into_iter().partition(|(habit, _)| habit.alone);
        let without = |runs: Vec<(Habit, Run)>| runs.into_iter().map(|(_, run)| run).collect();
        Self { beside: without(beside), alone: without(alone) }
    }

    pub(super) fn len(&self) -> usize {
        self.beside.len() + self.alone.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{Known, Plan, Program, Run};
    use crate::test::program::Kind;

    const KNOWN: &str = "# a remark\n\na/long 90\na/short 1 # why\na/middle 20\na/measures 30 alone\n";

    fn programs(names: &[&str]) -> Vec<Program> {
        names.iter().map(|name| Program { name: (*name).to_owned(), kind: Kind::Documentation }).collect()
    }

    fn names(runs: &[Run]) -> Vec<&str> {
        runs.iter().map(|run| run.program.name.as_str()).collect()
    }

    #[test]
    fn the_longest_is_first_and_the_unknown_in_the_middle() {
        let known = Known::read(KNOWN).expect("it is right");
        let all = programs(&["a/short", "a/new", "a/measures", "a/middle", "a/long"]);
        assert!(known.strangers(&all).is_empty());
        let plan = Plan::new(all, &[], &known);
        assert_eq!(names(&plan.beside), ["a/long", "a/new", "a/middle", "a/short"]);
        assert_eq!(names(&plan.alone), ["a/measures"]);
        assert_eq!(plan.len(), 5);
        assert!(plan.beside.iter().all(|run| run.filters.is_empty()));
    }

    #[test]
    fn a_filter_is_a_program_or_a_part_of_names() {
        let known = Known::read(KNOWN).expect("it is right");
        let plan = |filters: &[&str]| Plan::new(programs(&["a/short", "a/long"]), filters, &known);
        assert_eq!(names(&plan(&["a/long"]).beside), ["a/long"]);
        assert!(plan(&["a/long"]).beside[0].filters.is_empty());
        let both = plan(&["a/long", "a/longer"]);
        assert_eq!(names(&both.beside), ["a/long", "a/short"]);
        assert!(both.beside[0].filters.is_empty());
        assert_eq!(both.beside[1].filters, ["a/longer"]);
    }

    #[test]
    fn what_is_recorded_can_be_read() {
        assert!(Known::recorded().expect("it is right").middle() > 0);
        for wrong in ["a/b", "a/b soon", "a/b 1 first", "a/b 1 alone now"] {
            assert!(Known::read(wrong).is_err(), "{wrong} is taken");
        }
        let known = Known::read(KNOWN).expect("it is right");
        assert_eq!(known.strangers(&programs(&["a/short", "a/middle"])), ["a/long", "a/measures"]);
    }
}
