//! What the agent has been asked for when its answers are looked at.
//!
//! Owns the configuration: a veth pair with addresses and all that may hang on it, and a value that waits. MAC addresses are given, so that
//! nothing is left to chance. Start reading at [`converged`].

use crate::support::{
    bench::Bench,
    config::{Arp, Config, Interface, Reference, Route},
};

/// Two ends in two namespaces, a route and an ARP entry.
pub fn config() -> Config {
    Config {
        interfaces: vec![
            Interface::veth("left", "right", Reference::named("red"))
                .host_name("eth0")
                .address("10.11.0.1/24")
                .mac("02:00:00:00:11:01"),
            Interface::veth("right", "left", Reference::named("blue"))
                .host_name("eth0")
                .address("10.11.0.2/24")
                .mac("02:00:00:00:11:02"),
        ],
        routes: vec![Route::new("left", "10.12.0.0/16", "10.11.0.2")],
        arps: vec![Arp::new("left", "10.11.0.9", "02:00:00:00:11:09")],
    }
}

/// Key of a value that waits for an interface that nobody asked for.
pub const WAITING: &str = "linux/l3/v2/arp/absent/10.0.0.2";

/// An agent that has done all that it can: the configuration is CONFIGURED, and one value waits.
pub async fn converged(bench: &mut Bench) {
    bench.start_agent().await;
    let revisions = bench.put_together(&config()).await;
    bench.until_configured(&revisions).await;
    bench
        .put(
            WAITING,
            r#"{"interface":"absent","ip_address":"10.0.0.2","hw_address":"02:00:00:00:00:02"}"#,
        )
        .await;
    bench.until_state(WAITING, "PENDING").await;
}
