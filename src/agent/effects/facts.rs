//! Reports facts to the scheduler: links of the agent's own namespace, foreign addresses, and containers.

use std::collections::{BTreeMap, BTreeSet};

use models::key::Key;
use tracing::{debug, info};

use super::NetworkEffects;
use crate::scheduler::{Scheduler, View};
use crate::{
    descriptors::{
        Network,
        inspect::host_facts,
        namespace::microservice_key,
        sharing::concerned_by_link,
        value::{Microservice, Value},
    },
    signals::docker::MicroserviceChange,
};
use netns_kernel::{AddressSpec, NetnsId, Snapshot};

/// Link name of an EXISTING interface, and the applied addresses of the interface.
type Existing = (String, Vec<Option<AddressSpec>>);

/// Facts about the agent's own namespace, as reported so far.
#[derive(Default)]
pub(super) struct HostFacts {
    /// Facts that have been reported to the scheduler.
    reported: BTreeMap<Key, Value>,
    /// Applied EXISTING interfaces.
    existing: BTreeMap<Key, Existing>,
}

impl HostFacts {
    /// Records the applied value of an interface. Returns whether it is a new or changed EXISTING interface.
    fn note_existing(&mut self, view: &View<'_, Network>, key: &Key) -> bool {
        let applied = view.applied(key).and_then(Value::applied_interface);
        let Some(applied) = applied.filter(|applied| applied.interface.is_existing()) else {
            self.existing.remove(key);
            return false;
        };
        let addresses = applied.addresses.iter().map(|address| address.spec).collect();
        let now = (applied.interface.host_name.clone(), addresses);
        if self.existing.get(key) == Some(&now) {
            return false;
        }
        self.existing.insert(key.clone(), now);
        true
    }
}

impl NetworkEffects {
    /// Reports the facts about the agent's own namespace. Must be called before each inspection of the namespace, which uses
    /// these facts.
    pub(super) fn report_host_facts(&mut self, scheduler: &mut Scheduler<Network>, snapshot: &Snapshot) {
        let facts = host_facts(snapshot, &self.marks);
        let reported = &self.facts.reported;
        for key in reported.keys().filter(|key| !facts.contains_key(*key)) {
            scheduler.fact(key, None);
        }
        for (key, value) in &facts {
            let known = reported.get(key);
            if known != Some(value) {
                scheduler.fact(key, Some(value.clone()));
            }
            if known.is_some_and(|known| known != value) {
                let concerned = concerned_by_link(&scheduler.view(), key);
                concerned.iter().for_each(|key| scheduler.probe(key));
            }
        }
        self.facts.reported = facts;
    }

    /// Reports which foreign addresses have appeared on, or disappeared from, the managed links of a namespace.
    pub(super) fn report_foreign_addresses(&mut self, scheduler: &mut Scheduler<Network>, netns: NetnsId, addresses: BTreeSet<Key>) {
        let Some(known) = self.namespaces.replace_foreign_addresses(netns, addresses.clone()) else {
            return;
        };
        known.difference(&addresses).for_each(|key| scheduler.fact(key, None));
        let appeared = addresses.difference(&known);
        appeared.for_each(|key| scheduler.fact(key, Some(Value::Present)));
    }

    /// Plans a read of the agent's own namespace after an EXISTING interface was applied or changed.
    ///
    /// The change needs no kernel operation, so the kernel sends no event that would trigger a read. The read finds the foreign addresses on the
    /// link.
    pub(super) fn note_existing(&mut self, scheduler: &Scheduler<Network>, key: &Key) {
        if self.facts.note_existing(&scheduler.view(), key) {
            self.plan.read_soon(self.host.own_namespace());
        }
    }

    /// Reports a change of a container or of the connection to Docker.
    pub(super) fn microservice(&mut self, scheduler: &mut Scheduler<Network>, change: MicroserviceChange) {
        match change {
            MicroserviceChange::Available(service) => {
                info!(label = %service.label, container = %service.container_name, pid = service.pid, "microservice available");
                self.reporter.microservice(&service, self.host.namespace_of(service.pid));
                let value = Microservice {
                    label: service.label.clone(),
                    container_id: service.container_id,
                    container_name: service.container_name,
                    pid: service.pid,
                    start_time: service.process_start_time,
                };
                scheduler.fact(&microservice_key(&service.label), Some(Value::Microservice(value.into())));
            }
            MicroserviceChange::Gone { label, reason, .. } => {
                info!(%label, "microservice gone: {reason}");
                self.reporter.microservice_gone(&label);
                scheduler.fact(&microservice_key(&label), None);
            }
            MicroserviceChange::Synced => {
                self.reporter.docker(Ok(()));
                scheduler.complete_facts();
                self.namespaces.learn();
            }
            MicroserviceChange::Disconnected { message } => {
                debug!("Docker cannot be reached: {message}");
                self.reporter.docker(Err(message));
            }
        }
    }
}
