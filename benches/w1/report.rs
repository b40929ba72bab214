//! The figures: what was promised first, as ratios; then what they come from. As Markdown and as JSON.
//!
//! Owns their form. Must never show a ratio whose two sides were not measured in the same run. Start reading at [`Report`].

use serde_json::{Value, json};

/// Measured values of one thing, one for each round.
pub struct Series {
    /// What was measured.
    pub name: String,
    /// The unit of the values.
    pub unit: &'static str,
    /// Size of the state.
    pub size: usize,
    /// The values, in the order of the rounds.
    pub values: Vec<f64>,
}

impl Series {
    /// An empty one.
    pub fn new(name: &str, unit: &'static str, size: usize) -> Self {
        Self {
            name: name.to_owned(),
            unit,
            size,
            values: Vec::new(),
        }
    }

    /// The value below which this part of all values is.
    pub fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1) as f64;
        sorted.get((last * part).round() as usize).copied().unwrap_or(f64::NAN)
    }

    /// The median.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// Something that was promised, and what came of it.
struct Promise {
    text: String,
    size: usize,
    measured: f64,
    limit: f64,
}

/// Everything that was measured.
#[derive(Default)]
pub struct Report {
    promises: Vec<Promise>,
    series: Vec<Series>,
    /// The machine's load before and after.
    pub load: Vec<String>,
}

impl Report {
    /// A promise that `measured` is at most `limit`.
    pub fn promise(&mut self, text: &str, size: usize, measured: f64, limit: f64) {
        println!("  {text}: {measured:.2} (promised: at most {limit})");
        self.promises.push(Promise {
            text: text.to_owned(),
            size,
            measured,
            limit,
        });
    }

    /// What a promise was computed from.
    pub fn add(&mut self, series: impl IntoIterator<Item = Series>) {
        self.series.extend(series);
    }

    /// How a thing grows with the size, by its smallest one.
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

    /// As Markdown.
    pub fn print(&self) {
        println!("\n| promise | size | measured | promised at most | met |\n|---|--:|--:|--:|---|");
        for promise in &self.promises {
            let met = if promise.measured <= promise.limit { "yes" } else { "**no**" };
            println!(
                "| {} | {}× | {:.2} | {} | {met} |",
                promise.text, promise.size, promise.measured, promise.limit
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

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let promises: Vec<Value> = self
            .promises
            .iter()
            .map(|promise| {
                json!({"promise": promise.text, "size": promise.size, "measured": promise.measured, "limit": promise.limit,
                    "met": promise.measured <= promise.limit})
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
        json!({"promises": promises, "series": series, "load": self.load})
    }
}
