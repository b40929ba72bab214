//! Compares the contents of a namespace with the desired and applied values, and reports the differences to the scheduler.
//!
//! [`NetworkEffects::inspect_all`] handles an open namespace. [`NetworkEffects::scanned`] handles a namespace that the startup scan has read.

use std::collections::{BTreeSet, HashSet};

use models::key::Key;
use tracing::{debug, info};

use super::{
    NetworkEffects, housekeeping,
    namespaces::{Attribution, ScannedName},
    outcomes::Opened,
};
use crate::scheduler::{Observation, Scheduler};
use crate::{
    descriptors::{
        Network,
        inspect::{Background, Findings, KnownLinks, inspect, is_created_by_agent},
        netns_of,
        value::{Namespace, NamespaceName, OpenNamespace, Value, interface_key},
    },
    signals::namespaces::Binding,
};
use netns_kernel::{NetnsId, Snapshot};

use super::super::startup_scan::Scanned;

/// Returns a user-readable description of an orphan, given its key.
fn orphan_text(key: &Key) -> &str {
    key.as_str().splitn(4, '/').last().unwrap_or_default()
}

impl NetworkEffects {
    /// Inspects a namespace after it was read again. The inspection is repeated for each name under which the scheduler manages the namespace.
    pub(super) fn inspect_all(&mut self, scheduler: &mut Scheduler<Network>, netns: NetnsId, snapshot: &Snapshot, resync: bool) {
        if netns == self.host.own_namespace() {
            self.report_host_facts(scheduler, snapshot);
        }
        self.namespaces.set_attribution(netns, Attribution::Attributed);
        self.attribute_scanned(scheduler, netns, snapshot);
        let objects = snapshot.links.len() + snapshot.addresses.len() + snapshot.routes.len() + snapshot.neighbours.len();
        let resync = self.plan.read(netns, objects) || resync;
        let (mut links, mut foreign_addresses) = (Vec::new(), BTreeSet::new());
        for name in self.namespaces.managed_names(netns) {
            let findings = self.inspect_as(scheduler, &name, netns, snapshot, resync);
            links.extend(findings.links);
            foreign_addresses.extend(findings.observed);
        }
        self.report_foreign_addresses(scheduler, netns, foreign_addresses);
        self.namespaces.replace_links(netns, &links);
        self.reporter.links_of(netns, links);
    }

    /// Inspects a namespace that was just opened under a name. It may be open under other names as well.
    pub(super) fn inspect_opened(&mut self, scheduler: &mut Scheduler<Network>, opened: &Opened) {
        let Opened { name, netns, contents } = opened;
        // Inspect the names from the startup scan first. The first inspection reports the objects of invalid values, so it must use a name under
        // which the namespace stays open.
        self.attribute_scanned(scheduler, *netns, contents);
        let Findings { links, observed, .. } = self.inspect_as(scheduler, name, *netns, contents, true);
        let known = self.namespaces.foreign_addresses(*netns);
        self.report_foreign_addresses(scheduler, *netns, known.into_iter().chain(observed).collect());
        self.namespaces.add_links(*netns, &links);
        self.reporter.links_of(*netns, links);
    }

    /// Inspects a namespace under one name, and reports the findings to the scheduler.
    ///
    /// `resync` is true if the namespace was just opened, or was read for the startup scan or a resync. Strict mode deletes
    /// foreign addresses only in these cases.
    fn inspect_as<'s>(
        &mut self,
        scheduler: &mut Scheduler<Network>,
        name: &NamespaceName,
        netns: NetnsId,
        snapshot: &'s Snapshot,
        resync: bool,
    ) -> Findings<'s> {
        let no_links = KnownLinks::default();
        let background = Background {
            known: self.namespaces.known_links(netns).unwrap_or(&no_links),
            strict: self.strict && resync,
            holding: self.held.is_holding(),
        };
        let mut findings = inspect(&scheduler.view(), &self.marks, name, netns, snapshot, &background);
        if self.held.take(netns, name, &mut findings.found) {
            self.report_held();
        }
        self.note_displaced(scheduler, &findings);
        self.read_other_ends(scheduler, netns, &findings);
        for key in &findings.lost {
            debug!(key = %key, %netns, "value no longer in the kernel");
        }
        for (key, value) in &findings.found {
            if value.orphan().is_some() {
                info!(namespace = %name, object = %orphan_text(key), "deleting orphan: no desired value refers to it");
            }
            debug!(key = %key, %netns, ?value, "value observed in the kernel");
        }
        scheduler.observe(Observation {
            lost: std::mem::take(&mut findings.lost),
            observed: std::mem::take(&mut findings.found),
            unfinished: std::mem::take(&mut findings.unfinished),
            probes: std::mem::take(&mut findings.probes),
        });
        self.report_held_claims(scheduler, netns, name);
        if findings.tentative {
            self.await_detection(netns);
        }
        if findings.undecided {
            self.namespaces.set_attribution(netns, Attribution::Unattributed);
        }
        findings
    }

    /// Plans a read of each namespace that contains the other end of a lost veth pair.
    ///
    /// Both ends of the pair are reported as lost, although only one of them was read. If the other end still exists, it prevents
    /// the creation of a new pair, so its namespace must be read.
    fn read_other_ends(&mut self, scheduler: &Scheduler<Network>, netns: NetnsId, findings: &Findings<'_>) {
        let view = scheduler.view();
        let interfaces = findings.lost.iter().filter_map(|key| view.applied(key)?.interface());
        let elsewhere = interfaces.filter_map(|interface| netns_of(&view, &interface.namespace));
        for other in elsewhere.filter(|other| *other != netns) {
            self.plan.read_now(other);
        }
    }

    /// Records the routes and neighbours that foreign objects have replaced.
    ///
    /// If a desired route or neighbour is lost although its interface is unchanged, a foreign object must have replaced it.
    fn note_displaced(&mut self, scheduler: &Scheduler<Network>, findings: &Findings<'_>) {
        let view = scheduler.view();
        let found = findings.found.iter().map(|(key, _)| key);
        let changed: HashSet<&Key> = findings.lost.iter().chain(found).collect();
        for key in &findings.lost {
            let Some(applied) = view.applied(key) else { continue };
            let of_route = applied.route().map(|route| &route.interface);
            let Some(interface) = of_route.or(applied.arp().map(|arp| &arp.interface)) else {
                continue;
            };
            if view.desired(key).is_some() && !changed.contains(&interface_key(interface)) {
                self.displaced.insert(key.clone());
            }
        }
    }

    /// Processes one namespace that the startup scan has read.
    pub(super) fn scanned(&mut self, scheduler: &mut Scheduler<Network>, scanned: Scanned) {
        let Scanned {
            name,
            reference,
            netns,
            contents,
        } = scanned;
        if name == NamespaceName::Own {
            self.plan_first_reading(netns, false);
            return self.inspect_all(scheduler, netns, &contents, true);
        }
        let owned = is_created_by_agent(&contents, &self.marks);
        let open = OpenNamespace { netns, reference, owned };
        let scanned = ScannedName { open, explained: false };
        let announced = self.namespaces.open_scanned(netns, name.clone(), scanned.clone());
        self.plan_first_reading(netns, announced);
        self.attribute(scheduler, name, scanned, &contents);
    }

    /// Calls [`Self::attribute`] for each name under which only the startup scan has opened a namespace.
    fn attribute_scanned(&mut self, scheduler: &mut Scheduler<Network>, netns: NetnsId, contents: &Snapshot) {
        for (name, scanned) in self.namespaces.scanned_names(netns) {
            self.attribute(scheduler, name, scanned, contents);
        }
    }

    /// Passes a namespace that the startup scan has opened to the scheduler, which then deletes the orphans in it and closes it.
    ///
    /// The namespace stays open if an object in it may belong to a desired value, or if it must be kept because removals are on
    /// hold. If the namespace has become desired, it is released.
    fn attribute(&mut self, scheduler: &mut Scheduler<Network>, name: NamespaceName, mut scanned: ScannedName, contents: &Snapshot) {
        let (key, netns) = (name.key(), scanned.open.netns);
        let view = scheduler.view();
        if view.applied(&key).is_some() || view.desired(&key).is_some() {
            // The name may now refer to a different namespace than at the time of the scan.
            let is_open = netns_of(&view, &name) == Some(netns);
            return self.give_back(scheduler, &name, scanned.open, is_open);
        }
        let background = Background {
            known: &KnownLinks::default(),
            strict: false,
            holding: self.held.is_holding(),
        };
        let mut findings = inspect(&scheduler.view(), &self.marks, &name, netns, contents, &background);
        let is_superseded = |value: &Value| value.orphan().is_some_and(|orphan| orphan.superseded);
        scanned.explained |= findings.undecided || findings.found.iter().any(|(_, value)| is_superseded(value));
        if findings.undecided {
            self.namespaces.set_attribution(netns, Attribution::Unattributed);
        }
        if findings.undecided || self.must_stay(&name, &scanned, &mut findings) {
            self.report_held_claims(scheduler, netns, &name);
            self.namespaces.open_scanned(netns, name, scanned);
            return;
        }
        let open = scanned.open;
        info!(namespace = %name, %netns, owned = open.owned, "namespace left by an earlier run; deleting orphans in it");
        // The name may become desired before the namespace is closed. The namespace then stays open, so its name must be watched.
        self.references.watch(&key, &name, Binding::Bound { inode: netns.0 });
        self.reporter.namespace(&name, Some((netns, open.owned)), "");
        self.namespaces.hand_over(netns, &name);
        let value = Namespace {
            name: name.clone(),
            open: Some(open),
        };
        scheduler.found(vec![(key, Value::AppliedNamespace(value))]);
        self.inspect_as(scheduler, &name, netns, contents, true);
    }

    /// Releases a namespace that the startup scan opened, because a desired value now refers to it. The scheduler opens the
    /// namespace again by itself.
    fn give_back(&mut self, scheduler: &mut Scheduler<Network>, name: &NamespaceName, open: OpenNamespace, is_open: bool) {
        let netns = open.netns;
        if self.held.keep_empty(netns, name, false) {
            self.report_held();
        }
        if is_open {
            self.namespaces.hand_over(netns, name);
        } else {
            self.close(scheduler, name, netns);
            self.scan.skip(name.clone(), open.reference.clone());
        }
        self.housekeeping.push(housekeeping::close_again(&name.key(), open));
    }

    /// Returns whether a namespace of the startup scan must be kept because removals are on hold. Moves held orphans out of the
    /// findings.
    fn must_stay(&mut self, name: &NamespaceName, scanned: &ScannedName, findings: &mut Findings<'_>) -> bool {
        let netns = scanned.open.netns;
        let mut changed = self.held.take(netns, name, &mut findings.found);
        let has_orphans = self.held.are_in(netns);
        // The agent does not know for which value an empty namespace was created, and the store may have lost that value.
        let stays = self.held.is_holding() && (has_orphans || !scanned.explained);
        changed |= self.held.keep_empty(netns, name, stays && !has_orphans && scanned.open.owned);
        if changed {
            self.report_held();
        }
        stays
    }
}
