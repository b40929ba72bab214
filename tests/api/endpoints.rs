//! Tests the exact response of each endpoint, with one test per group of endpoints. See the macro `answers`.

use crate::{
    client::Request,
    golden, on_one_store,
    support::bench::Bench,
    world::{self, WAITING},
};

/// Defines a test that sends requests to a converged agent and compares the responses with golden files.
macro_rules! answers {
    ($name:ident, $($method:literal $target:expr => $file:literal),+ $(,)?) => {
        async fn $name(mut bench: Bench) {
            world::converged(&mut bench).await;
            $(golden::check($file, &Request::new($method, $target).send().await);)+
            bench.stop_agent().await;
        }
        on_one_store!($name, Embedded, 120);
    };
}

const LEFT: &str = "config/linux/interfaces/v2/interface/left";

answers!(index, "GET" "/" => "index.html", "GET" "/no/such/path" => "no-such-path.json", "DELETE" "/log/a/info" => "no-such-method.json");
answers!(version, "GET" "/info/version" => "version.json");
answers!(log_levels,
    "GET" "/log/list" => "log-list.json",
    "PUT" "/log/engine/warning" => "log-set.json",
    "PUT" "/log/engine/loud" => "log-no-such-level.json",
    "GET" "/log/list" => "log-list-after.json",
);
answers!(probes, "GET" "/liveness" => "liveness.json", "GET" "/readiness" => "readiness.json");
answers!(status,
    "GET" "/scheduler/status" => "status.json",
    "GET" &format!("/scheduler/status?key={LEFT}") => "status-key.json",
    "GET" &format!("/scheduler/status?key=config/{WAITING}") => "status-waiting.json",
    "GET" "/scheduler/status?key=config/linux/interfaces/v2/interface/none" => "status-unknown.json",
    "GET" "/scheduler/status?key=linux/interface/state/left/UP" => "status-derived.json",
    "GET" "/scheduler/status?key=&key-prefix=config/linux/l3/v2/arp/" => "status-prefix.json",
    "GET" "/scheduler/status?descriptor=linux-route" => "status-descriptor.json",
    "GET" "/scheduler/status?key-prefix=config/nonsense/" => "status-no-such-prefix.json",
    "GET" "/scheduler/status?key=a&key=b" => "status-twice.json",
);
answers!(explain,
    "GET" &format!("/scheduler/explain?key={LEFT}") => "explain.json",
    "GET" &format!("/scheduler/explain?key=config/{WAITING}") => "explain-waiting.json",
    "GET" "/scheduler/explain?key=nonsense" => "explain-unknown.json",
    "GET" "/scheduler/explain" => "explain-no-key.json",
);
answers!(history,
    "GET" "/scheduler/txn-history?seq-num=1" => "txn.json",
    "GET" "/scheduler/txn-history?seq-num=1&format=text" => "txn.txt",
    "GET" "/scheduler/txn-history" => "txn-history.json",
    "GET" "/scheduler/txn-history?since=2&until=1" => "txn-history-empty.json",
    "GET" "/scheduler/txn-history?seq-num=4711" => "txn-unknown.json",
    "GET" "/scheduler/txn-history?format=xml" => "txn-format.json",
    "GET" "/scheduler/txn-history?since=yesterday" => "txn-since.json",
);
answers!(timeline,
    "GET" &format!("/scheduler/key-timeline?key={LEFT}") => "key-timeline.json",
    "GET" &format!("/scheduler/key-timeline?key={LEFT}&time=1") => "key-timeline-before.json",
    "GET" "/scheduler/key-timeline" => "key-timeline-no-key.json",
);
answers!(snapshot,
    "GET" "/scheduler/graph-snapshot" => "graph-snapshot.json",
    "GET" "/scheduler/graph-snapshot?time=1" => "graph-snapshot-before.json",
);
answers!(flag_stats,
    "GET" "/scheduler/flag-stats?flag=value-state&prefix=config/linux/l3/&prefix=config/linux/interfaces/" => "flag-stats.json",
    "GET" "/scheduler/flag-stats?flag=nonsense" => "flag-stats-unknown.json",
    "GET" "/scheduler/flag-stats" => "flag-stats-no-flag.json",
);
answers!(dump,
    "GET" "/scheduler/dump" => "dump-index.json",
    "GET" "/scheduler/dump?descriptor=linux-interface" => "dump-interfaces.json",
    "GET" "/scheduler/dump?key-prefix=config/linux/interfaces/v2/interface/&view=cached" => "dump-interfaces-cached.json",
    "GET" "/scheduler/dump?descriptor=linux-interface&view=NB" => "dump-interfaces-nb.json",
    "GET" "/scheduler/dump?descriptor=linux-arp&view=SB" => "dump-arps.json",
    "GET" "/scheduler/dump?descriptor=linux-arp&view=NB" => "dump-arps-nb.json",
    "GET" "/scheduler/dump?descriptor=linux-route" => "dump-routes.json",
    "GET" "/scheduler/dump?descriptor=linux-interface-vrf&view=cached" => "dump-empty.json",
    "GET" "/scheduler/dump?descriptor=linux-interface-address" => "dump-not-retrievable.json",
    "GET" "/scheduler/dump?descriptor=nonsense" => "dump-no-such-descriptor.json",
    "GET" "/scheduler/dump?key-prefix=config/nonsense/" => "dump-no-such-prefix.json",
    "GET" "/scheduler/dump?descriptor=linux-arp&view=XB" => "dump-no-such-view.json",
    "GET" "/scheduler/dump?view=SB&view=NB" => "dump-twice.json",
);
answers!(linux,
    "GET" "/dump/linux/v2/interfaces" => "linux-interfaces.json",
    "GET" "/dump/linux/v2/arps" => "linux-arps.json",
    "GET" "/dump/linux/v2/routes" => "linux-routes.json",
    "GET" "/stats/linux/interfaces" => "linux-counters.json",
    "GET" "/stats/configurator" => "configurator.json",
);
answers!(graph,
    "GET" "/scheduler/graph?format=dot" => "graph.dot",
    "GET" "/scheduler/graph?format=raw&txn=2" => "graph-txn.dot",
    "GET" &format!("/scheduler/graph?key=config/{WAITING}&depth=1") => "graph.svg",
    "GET" "/scheduler/graph?txn=4711" => "graph-no-such-txn.json",
    "GET" "/scheduler/graph?key=nonsense" => "graph-no-such-key.json",
);
answers!(stats, "GET" "/scheduler/stats" => "stats.json");
answers!(removals, "GET" "/removals" => "removals.json", "POST" "/removals/accept" => "removals-accept.json");
answers!(resync, "POST" "/scheduler/downstream-resync?retry=1&verbose=1" => "resync.json");
