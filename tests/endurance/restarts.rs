//! Restarts one container repeatedly. Its interface must be restored each time. Times are printed and not asserted.
//!
//! [`container_restarts`] measures the times. See [`run`].

use std::time::Duration;

use crate::{
    number,
    support::{container_restarts, isolation},
};

#[test]
fn restarts_of_a_container_bring_its_interface_back() {
    let limit = Duration::from_secs(120 + 10 * number("ENDURANCE_RESTARTS", 5));
    let test = isolation::test_name(concat!(module_path!(), "::restarts_of_a_container_bring_its_interface_back"));
    isolation::run(test, limit, run);
}

async fn run() {
    let restarts = number("ENDURANCE_RESTARTS", 5);
    let mut samples = container_restarts::measure(restarts).await;
    samples.sort();
    let quantile = |part: f64| samples[((samples.len() - 1) as f64 * part).round() as usize];
    println!(
        "{restarts} restarts, {} times restored; from Docker's event `start` to everything configured: median {:?}, p99 {:?}, longest {:?}",
        samples.len(),
        quantile(0.5),
        quantile(0.99),
        quantile(1.0)
    );
}
