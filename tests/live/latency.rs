//! Live test that measures the time from the put of a veth pair to its published status. The time is printed and not asserted,
//! because machines differ.

use std::time::{Duration, Instant};

use crate::{
    on_both_stores,
    support::{
        bench::Bench,
        config::{Config, Interface, Reference},
    },
};

/// Number of pairs to measure.
const PAIRS: usize = 200;

/// Returns a quantile of the sorted samples. `part` is the fraction, from 0 to 1.
fn quantile(sorted: &[Duration], part: f64) -> Duration {
    let last = sorted.len() - 1;
    sorted[((last as f64) * part).round() as usize]
}

/// Puts one veth pair at a time into two existing namespaces. Both ends are put in one transaction.
async fn a_pair_is_configured_soon_after_its_put(mut bench: Bench) {
    bench.start_agent().await;
    let mut samples = Vec::with_capacity(PAIRS);
    for number in 0..=PAIRS {
        let (left, right) = (format!("fast{number}"), format!("fast{number}-peer"));
        let interfaces = vec![
            Interface::veth(&left, &right, Reference::named("fast-left"))
                .host_name(&format!("l{number}"))
                .address("10.71.0.1/24"),
            Interface::veth(&right, &left, Reference::named("fast-right"))
                .host_name(&format!("r{number}"))
                .address("10.71.0.2/24"),
        ];
        let config = Config {
            interfaces,
            ..Config::default()
        };
        let began = Instant::now();
        let revisions = bench.put_together(&config).await;
        bench.until_configured(&revisions).await;
        // Skip the first pair, which takes longer because it also creates the namespaces.
        if number > 0 {
            samples.push(began.elapsed());
        }
    }
    samples.sort();
    println!(
        "{:?}: put of a pair to both CONFIGURED, {PAIRS} times: median {:?}, p99 {:?}, longest {:?}",
        bench.store.kind(),
        quantile(&samples, 0.5),
        quantile(&samples, 0.99),
        quantile(&samples, 1.0)
    );
    bench.delete_all().await;
    bench.until_nothing_is_published().await;
    bench.stop_agent().await;
}
on_both_stores!(a_pair_is_configured_soon_after_its_put);
