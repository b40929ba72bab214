//! Report of the measurements as Markdown and JSON. It contains the performance targets with their measured values, followed by the series from
//! which the measured values were computed.
//!
//! The two operands of a measured ratio come from the same run. See [`Report`].

use serde_json::{Value, json};

/// Measured values of one quantity, usually one per round.
pub struct Series {
    /// Name of the measured quantity.
    pub name: String,
    /// Unit of the values.
    pub unit: &'static str,
    /// Size of the workload, as a multiple of W1.
    pub size: usize,
    /// Measured values, in the order of the rounds.
    pub values: Vec<f64>,
}

impl Series {
    /// Returns an empty series.
    pub fn new(name: &str, unit: &'static str, size: usize) -> Self {
        Self {
            name: name.to_owned(),
            unit,
            size,
            values: Vec::new(),
        }
    }

    /// Returns a quantile of the values, where `part` is between 0 and 1. Returns NaN if there are no values.
    pub fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1) as f64;
        sorted.get((last * part).round() as usize).copied().unwrap_or(f64::NAN)
    }

    /// Returns the median.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// A performance target with its measured value.
struct Target {
    text: String,
    size: usize,
    measured: f64,
    limit: f64,
}

/// All results of a benchmark run.
#[derive(Default)]
pub struct Report {
    targets: Vec<Target>,
    series: Vec<Series>,
    /// Load average of the machine before and after the run.
    pub load: Vec<String>,
}

impl Report {
    /// Adds a target, which is met if `measured` is at most `limit`.
    pub fn target(&mut self, text: &str, size: usize, measured: f64, limit: f64) {
        println!("  {text}: {measured:.2} (target: at most {limit})");
        self.targets.push(Target {
            text: text.to_owned(),
            size,
            measured,
            limit,
        });
    }

    /// Adds the series from which targets were computed.
    pub fn add(&mut self, series: impl IntoIterator<Item = Series>) {
        self.series.extend(series);
    }

    /// Returns the growth of each series relative to the same series at the smallest workload size. A growth of 1 means that the series grows
    /// linearly with the size.
    fn growth(&self) -> Vec<(&Series, f64)> {
        let smallest = |series: &Series| {
            let same = self.series.iter().filter(|other| other.name == series.name);
            same.min_by_key(|other| other.size)
                .map_or((1, f64::NAN), |least| (least.size, least.median()))
        };
        let grown = self.series.iter().filter(|series| series.size != smallest(series).0);
        grown
            .map(|series| {
                let (size, median) = smallest(series);
                (series, series.median() / median / (series.size as f64 / size as f64))
            })
            .collect()
    }

    /// Prints the report as Markdown.
    pub fn print(&self) {
        println!("\n| target | size | measured | at most | met |\n|---|--:|--:|--:|---|");
        for target in &self.targets {
            let met = if target.measured <= target.limit { "yes" } else { "**no**" };
            println!(
                "| {} | {}× | {:.2} | {} | {met} |",
                target.text, target.size, target.measured, target.limit
            );
        }
        println!("\n| measured | size | median | least | most | rounds |\n|---|--:|--:|--:|--:|--:|");
        for series in &self.series {
            println!(
                "| {} | {}× | {:.1} {} | {:.1} | {:.1} | {} |",
                series.name,
                series.size,
                series.median(),
                series.unit,
                series.quantile(0.0),
                series.quantile(1.0),
                series.values.len()
            );
        }
        let growth = self.growth();
        if !growth.is_empty() {
            println!("\n| growth | size | times linear |\n|---|--:|--:|");
            for (series, ratio) in growth {
                println!("| {} | {}× | {ratio:.2} |", series.name, series.size);
            }
        }
        println!("\nLoad of the machine (1, 5 and 15 minutes): {}", self.load.join("; then "));
    }

    /// Returns the report as JSON.
    pub fn to_json(&self) -> Value {
        let targets: Vec<Value> = self
            .targets
            .iter()
            .map(|target| {
                json!({"promise": target.text, "size": target.size, "measured": target.measured, "limit": target.limit,
                    "met": target.measured <= target.limit})
            })
            .collect();
        let series: Vec<Value> = self
            .series
            .iter()
            .map(|series| {
                json!({"name": series.name, "unit": series.unit, "size": series.size, "median": series.median(),
                    "values": series.values})
            })
            .collect();
        json!({"promises": targets, "series": series, "load": self.load})
    }
}
