//! Measures how long it takes to configure a veth pair while a very large number of routes is being added or deleted.
//!
//! See [`beside`].

use std::{net::Ipv4Addr, time::Instant};

use crate::{
    fixture::Fixture,
    network::{LABEL, full_entries, plain_pair},
    report::Report,
    scenarios::{Setting, ms, namespaces_of_pairs},
    statuses::Statuses,
    support::config::{Config, Interface, Reference, Route},
};

/// Number of routes on one interface.
const ROUTES: usize = 20_000;
/// Destination of the first route. Each destination is a /24 network.
const FIRST: u32 = 20 << 24;
/// Names of the interface with the routes and of its veth peer.
const MANY: [&str; 2] = ["many-left", "many-right"];

/// Veth pairs between two namespaces, created one after the other.
struct Pairs {
    namespaces: [Reference; 2],
    statuses: Statuses,
    made: usize,
}

impl Pairs {
    /// Creates pairs until `is_done` returns true, and returns how long each pair took, in milliseconds.
    ///
    /// `is_done` receives the number of routes that are CONFIGURED and the number of routes that have a status.
    async fn until(&mut self, fixture: &Fixture, routes: &Statuses, is_done: impl Fn(usize, usize) -> bool) -> Vec<f64> {
        let mut took = Vec::new();
        loop {
            let pair = plain_pair(self.made, &self.namespaces);
            let (begin, before) = (Instant::now(), self.statuses.progress().configured);
            fixture.fill(&pair).await;
            let what = "a pair is CONFIGURED";
            let done = self.statuses.until(what, |progress| progress.configured > before).await;
            took.push(ms(done.at - begin));
            self.made += 1;
            let progress = routes.progress();
            if is_done(progress.configured, progress.present) {
                return took;
            }
        }
    }
}

/// Measures the time from putting a veth pair until the agent publishes its left end as CONFIGURED.
///
/// The benchmark creates pairs while the agent adds 20,000 pending routes, and again while the agent deletes these routes.
pub async fn beside(setting: &mut Setting, report: &mut Report) {
    let mut longest = setting.series("pair beside 20,000 routes made: longest", "ms");
    let mut median = setting.series("pair beside 20,000 routes made: median", "ms");
    let mut removal = setting.series("pair beside 20,000 routes removed: longest", "ms");
    let mut made = setting.series("20,000 routes made beside pairs", "ms");
    for _ in 0..setting.rounds {
        let namespaces = namespaces_of_pairs();
        let fixture = &setting.fixture;
        let all = fixture.follow().await;
        let process = fixture.launch();
        all.until("the agent is healthy", |progress| progress.healthy.is_some()).await;
        let routes = fixture.follow_below("linux/l3/v2/route/").await;
        let network = |number: u32| format!("{}/24", Ipv4Addr::from(FIRST + 256 * number));
        let many = Config {
            routes: (0..ROUTES as u32).map(|number| Route::new(MANY[0], &network(number), "")).collect(),
            ..Config::default()
        };
        fixture.fill(&full_entries(&many)).await;
        routes.until("all routes wait", |progress| progress.present == ROUTES).await;
        let mut pairs = Pairs {
            statuses: fixture.follow_below("linux/interfaces/v2/interface/l").await,
            namespaces,
            made: 0,
        };
        let end = |side: usize| Interface::veth(MANY[side], MANY[1 - side], Reference::named(&format!("many-{side}")));
        let interfaces = Config {
            interfaces: vec![end(0).address("10.0.0.1/24"), end(1)],
            ..Config::default()
        };
        let begin = Instant::now();
        fixture.fill(&full_entries(&interfaces)).await;
        let took = pairs.until(fixture, &routes, |configured, _| configured == ROUTES).await;
        made.values.push(ms(routes.progress().at - begin));
        longest.values.push(took.iter().copied().fold(0.0, f64::max));
        median.values.extend(took);
        fixture.delete(&format!("/vnf-agent/{LABEL}/config/linux/l3/v2/route/")).await;
        let took = pairs.until(fixture, &routes, |_, present| present == 0).await;
        removal.values.push(took.iter().copied().fold(0.0, f64::max));
        setting.end(process).await;
    }
    report.add([longest, median, removal, made]);
}
