//! Measurement report in Markdown and JSON. Each cost is compared with the cost of the same scenario at the smallest size.

use serde_json::json;

use crate::world::Cost;

/// Result of one scenario at one size.
pub struct Row {
    scenario: &'static str,
    size: usize,
    operations: usize,
    nanoseconds: f64,
}

impl Row {
    pub fn new(scenario: &'static str, size: usize, cost: Cost) -> Self {
        Row {
            scenario,
            size,
            operations: cost.operations,
            nanoseconds: cost.time.as_secs_f64() * 1e9 / cost.operations as f64,
        }
    }

    fn per_second(&self) -> f64 {
        1e9 / self.nanoseconds
    }
}

/// All measurements.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
    memory: Vec<(usize, usize, usize)>,
}

impl Report {
    pub fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Adds the memory use of a graph of `size` base values. `bytes` is the total, which includes `given` bytes for the keys and
    /// values passed to the scheduler.
    pub fn add_memory(&mut self, size: usize, bytes: usize, given: usize) {
        self.memory.push((size, bytes, given));
    }

    /// Returns the scenarios in the order in which they were first measured.
    fn scenarios(&self) -> Vec<&'static str> {
        let mut scenarios = Vec::new();
        for row in &self.rows {
            if !scenarios.contains(&row.scenario) {
                scenarios.push(row.scenario);
            }
        }
        scenarios
    }

    /// Returns the ratio of the row's cost to the cost of the same scenario at the smallest size.
    fn ratio(&self, row: &Row) -> f64 {
        let smallest = self
            .rows
            .iter()
            .filter(|other| other.scenario == row.scenario)
            .min_by_key(|other| other.size);
        row.nanoseconds / smallest.map_or(f64::NAN, |smallest| smallest.nanoseconds)
    }

    pub fn print(&self) {
        println!("| scenario | N | operations | operations/s | ns per operation | cost compared to the smallest N |");
        println!("|---|--:|--:|--:|--:|--:|");
        for scenario in self.scenarios() {
            for row in self.rows.iter().filter(|row| row.scenario == scenario) {
                println!(
                    "| {scenario} | {} | {} | {:.0} | {:.0} | {:.2} |",
                    row.size,
                    row.operations,
                    row.per_second(),
                    row.nanoseconds,
                    self.ratio(row)
                );
            }
        }
        println!("\n| N | bytes per value | bytes of key and value as passed to the scheduler |\n|--:|--:|--:|");
        for (size, bytes, given) in &self.memory {
            println!("| {size} | {} | {} |", bytes / size, given / size);
        }
    }

    pub fn to_json(&self) -> String {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "scenario": row.scenario, "n": row.size, "operations": row.operations, "operations_per_second": row.per_second(),
                    "ns_per_operation": row.nanoseconds, "ratio_to_smallest_n": self.ratio(row),
                })
            })
            .collect();
        let memory: Vec<_> = self
            .memory
            .iter()
            .map(|(size, bytes, given)| json!({"n": size, "bytes_per_value": bytes / size, "of_these_given": given / size}))
            .collect();
        format!("{:#}\n", json!({"scenarios": rows, "memory": memory}))
    }
}
