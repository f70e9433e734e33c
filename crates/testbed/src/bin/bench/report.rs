//! What was measured, as a table.

use std::time::Duration;

/// How a figure is written.
#[derive(Clone, Copy, PartialEq)]
enum Unit {
    Seconds,
    Bytes,
    PerSecond,
}

struct Figure {
    name: String,
    unit: Unit,
    values: Vec<f64>,
}

/// All figures of a run, in the order in which they were first measured.
pub(crate) struct Report {
    figures: Vec<Figure>,
    ratios: Vec<(String, f64)>,
}

impl Report {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self { figures: Vec::new(), ratios: Vec::new() }
    }

    /// One more run of something timed.
    pub(crate) fn time(&mut self, name: &str, took: Duration) {
        self.add(name, Unit::Seconds, took.as_secs_f64());
    }

    /// One more run of something measured in seconds.
    pub(crate) fn seconds(&mut self, name: &str, seconds: f64) {
        self.add(name, Unit::Seconds, seconds);
    }

    /// One more count of bytes.
    pub(crate) fn bytes(&mut self, name: &str, bytes: u64) {
        self.add(name, Unit::Bytes, bytes as f64);
    }

    /// One more reading of memory.
    pub(crate) fn memory(&mut self, name: &str, bytes: u64) {
        self.add(name, Unit::Bytes, bytes as f64);
    }

    /// One more rate.
    pub(crate) fn per_second(&mut self, name: &str, rate: f64) {
        self.add(name, Unit::PerSecond, rate);
    }

    /// The median of one figure over that of another, when both were measured.
    pub(crate) fn ratio(&mut self, name: &str, of: &str, over: &str) {
        if let (Some(of), Some(over)) = (self.median(of), self.median(over)) {
            self.ratios.push((name.to_owned(), of / over));
        }
    }

    fn add(&mut self, name: &str, unit: Unit, value: f64) {
        eprintln!("  {name}: {}", written(unit, value));
        match self.figures.iter_mut().find(|figure| figure.name == name) {
            Some(figure) => figure.values.push(value),
            None => self.figures.push(Figure { name: name.to_owned(), unit, values: vec![value] }),
        }
    }

    fn median(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name).map(Figure::median)
    }

    /// The table, in Markdown.
    pub(crate) fn table(&self) -> String {
        let mut text = "| figure | median | lowest | highest |\n|---|---|---|---|\n".to_owned();
        for figure in &self.figures {
            let write = |value| written(figure.unit, value);
            let (low, high) = (figure.lowest(), figure.highest());
            text += &format!(
                "| {} | {} | {} | {} |\n",
                figure.name,
                write(figure.median()),
                write(low),
                write(high)
            );
        }
        for (name, ratio) in &self.ratios {
            text += &format!("| {name} | **{ratio:.2}x** | | |\n");
        }
        text
    }
}

impl Figure {
    fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }

    fn lowest(&self) -> f64 {
        self.values.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn highest(&self) -> f64 {
        self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

fn written(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Seconds => format!("{value:.2} s"),
        Unit::Bytes => format!("{:.1} MB", value / 1e6),
        Unit::PerSecond => format!("{value:.0} /s"),
    }
}
