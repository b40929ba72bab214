//! In-memory tests of the time it takes to inspect an interface with a very large number of routes and neighbours.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use models::{Model, key::Key};

use super::{
    super::{
        Network,
        alias::Marks,
        convert::value_of,
        value::{Namespace, NamespaceName, Value},
    },
    Background, Findings, KnownLinks, inspect,
};
use crate::scheduler::{Change, Outcome, Scheduler};
use netns_kernel::{
    AddressSpec, AddressState, LinkState, NeighbourState, NetnsId, PROTOCOL, RouteSpec, RouteState, Snapshot, routes_of_address,
};

/// Number of routes on the interface. The interface has the same number of neighbours.
const COUNT: u32 = 20_000;
/// Upper limit for the CPU time of one inspection in an unoptimised build. An inspection with quadratic cost would take minutes.
/// The test measures CPU time, because it does not depend on other load.
const LIMIT: Duration = Duration::from_secs(5);

/// Returns the CPU time used by this thread.
fn used() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.cast_unsigned(),
        u32::try_from(time.tv_nsec).expect("less than a second"),
    )
}

fn network(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x1400_0000 + (number << 8))
}

fn neighbour(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0100 + number)
}

/// Returns a scheduler with one interface that has [`COUNT`] routes and neighbours.
fn configured() -> Scheduler<Network> {
    let mut scheduler = Scheduler::new(Network::new("test"));
    let own = Value::AppliedNamespace(Namespace::own(NetnsId(1)));
    scheduler.fact(&NamespaceName::Own.key(), Some(own));
    scheduler.complete_facts();
    let mut changes = vec![change(
        "config/linux/interfaces/v2/interface/d".to_owned(),
        r#"{"name":"d","type":"DUMMY","enabled":true,"ip_addresses":["10.0.0.1/8"]}"#.to_owned(),
    )];
    for number in 0..COUNT {
        let (to, of) = (network(number), neighbour(number));
        changes.push(change(
            format!("config/linux/l3/v2/route/{to}/24/d"),
            format!(r#"{{"outgoing_interface":"d","scope":"GLOBAL","dst_network":"{to}/24","gw_addr":"10.0.0.2"}}"#),
        ));
        changes.push(change(
            format!("config/linux/l3/v2/arp/d/{of}"),
            format!(r#"{{"interface":"d","ip_address":"{of}","hw_address":"02:00:00:00:00:01"}}"#),
        ));
    }
    scheduler.transaction(changes, false);
    settle(&mut scheduler);
    scheduler
}

fn change(key: String, json: String) -> Change<Value> {
    let model = Model::decode(&key, json.as_bytes()).expect("a valid value");
    Change {
        key: Key::new(&key),
        revision: 1,
        value: Some(value_of(&model)),
    }
}

/// Performs operations until none are left. All operations succeed. Returns the number of operations.
fn settle(scheduler: &mut Scheduler<Network>) -> usize {
    let mut performed = 0;
    loop {
        let operations = scheduler.step(Duration::from_secs(1_000));
        if operations.is_empty() {
            return performed;
        }
        performed += operations.len();
        operations
            .into_iter()
            .for_each(|operation| scheduler.outcome(operation.id, Outcome::Done));
    }
}

fn snapshot() -> Snapshot {
    let address = AddressSpec {
        address: Ipv4Addr::new(10, 0, 0, 1).into(),
        prefix_len: 8,
    };
    let route = |number| RouteState {
        link: 7,
        route: RouteSpec {
            destination: network(number).into(),
            prefix_len: 24,
            gateway: Some(IpAddr::from([10, 0, 0, 2])),
            table: 254,
            scope: 0,
            metric: 0,
        },
        protocol: PROTOCOL,
    };
    let entry = |number| NeighbourState {
        link: 7,
        address: neighbour(number).into(),
        mac: [2, 0, 0, 0, 0, 1],
        protocol: PROTOCOL,
    };
    let mut snapshot = Snapshot {
        bridge_vlans: Vec::new(),
        links: vec![LinkState {
            index: 7,
            name: "d".to_owned(),
            kind: "dummy".to_owned(),
            alias: "/vnf-agent/test/d".to_owned(),
            up: true,
            mtu: 1500,
            ..LinkState::default()
        }],
        addresses: vec![AddressState {
            link: 7,
            address,
            protocol: PROTOCOL,
            scope: 0,
            flags: 0,
        }],
        routes: (0..COUNT).map(route).collect(),
        neighbours: (0..COUNT).map(entry).collect(),
        address_routes: Vec::new(),
    };
    snapshot.address_routes = routes_of_address(&snapshot.links[0], &snapshot.addresses[0], None);
    snapshot
}

fn inspected<'s>(scheduler: &Scheduler<Network>, snapshot: &'s Snapshot) -> Findings<'s> {
    let began = used();
    let background = Background {
        known: &KnownLinks::default(),
        strict: false,
        holding: false,
    };
    let findings = inspect(
        &scheduler.view(),
        &Marks::new("test"),
        &NamespaceName::Own,
        NetnsId(1),
        snapshot,
        &background,
    );
    let took = used() - began;
    println!("inspected {COUNT} routes and {COUNT} neighbours in {took:?}");
    assert!(took < LIMIT, "{took:?}");
    findings
}

#[test]
fn inspection_time_is_linear_in_routes_and_neighbours_of_a_link() {
    let scheduler = configured();
    let snapshot = snapshot();
    let findings = inspected(&scheduler, &snapshot);
    assert_eq!((findings.found.len(), findings.lost.len()), (0, 0));
}

#[test]
fn flushed_routes_and_neighbours_are_all_configured_again() {
    let mut scheduler = configured();
    let mut flushed = snapshot();
    flushed.routes.clear();
    flushed.neighbours.clear();
    let findings = inspected(&scheduler, &flushed);
    let began = used();
    scheduler.lost(&findings.lost);
    let again = settle(&mut scheduler);
    let took = used() - began;
    println!("repaired in {took:?}");
    assert_eq!(again, 2 * COUNT as usize);
    assert!(took < 2 * LIMIT, "{took:?}");
}
