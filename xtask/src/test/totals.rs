//! What the outcomes of all programs add up to.

use std::fmt;

use super::program::Outcome;

#[derive(Debug, Default)]
pub(super) struct Totals {
    programs: u64,
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Names of tests; of a program when it does not tell which of its tests it was.
    pub(super) failures: Vec<String>,
}

impl fmt::Display for Totals {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { programs, passed, failed, ignored, .. } = self;
        write!(out, "{passed} passed, {failed} failed, {ignored} ignored in {programs} programs")
    }
}

impl Totals {
    pub(super) fn add(&mut self, outcome: &Outcome) {
        self.count(&outcome.name, outcome.succeeded(), &outcome.stdout);
    }

    fn count(&mut self, program: &str, succeeded: bool, stdout: &str) {
        self.programs += 1;
        let summaries: Vec<&str> =
            stdout.lines().filter_map(|line| line.strip_prefix("test result: ")).collect();
        summaries.iter().for_each(|summary| self.sum(summary));
        let names = failed_names(stdout);
        // Without a summary it crashed, was killed, or left by itself in the middle of a test.
        if summaries.is_empty() || (!succeeded && names.is_empty()) {
            self.failed += 1;
            self.failures.push(program.to_owned());
        } else {
            self.failures.extend(names);
        }
    }

    fn sum(&mut self, summary: &str) {
        for part in summary.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) =
                (words.next().and_then(|word| word.parse::<u64>().ok()), words.next())
            else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

/// The names below each `failures:` that has names at once (another one is followed by what the tests printed). Lines of
/// single tests do not serve: with one thread anything may stand between the name and `FAILED`.
fn failed_names(stdout: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in stdout.lines() {
        match line.strip_prefix("    ") {
            _ if line == "failures:" => inside = true,
            Some(name) if inside => names.push(name.to_owned()),
            _ => inside = false,
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::Totals;

    const FAILED: &str = "
running 3 tests
test a::b ... ok
test a::c - should panic ... FAILED

failures:

---- a::c stdout ----
    a line of its own
failures: none of those

failures:
    a::c

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.09s
";
    const PASSED: &str = "
test result: ok. 40 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 12.30s
";

    #[test]
    fn summaries_add_up() {
        let mut totals = Totals::default();
        totals.count("p/one", false, FAILED);
        totals.count("p/two", true, PASSED);
        totals.count("p/all", true, &PASSED.repeat(2));
        assert_eq!(totals.to_string(), "122 passed, 1 failed, 6 ignored in 3 programs");
        assert_eq!(totals.failures, ["a::c"]);
    }

    #[test]
    fn a_program_that_tells_nothing_failed() {
        let mut totals = Totals::default();
        totals.count("p/crashed", false, "running 1 test\n");
        totals.count("p/left", true, "running 1 test\n");
        totals.count("p/odd", false, PASSED);
        assert_eq!(totals.failures, ["p/crashed", "p/left", "p/odd"]);
        assert_eq!(totals.failed, 3);
    }
}
