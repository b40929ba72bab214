//! Faults that users cause. Values are put, changed, deleted and made invalid.
//!
//! Writes the values to the store and records them. A fault that puts contradictory values also resolves the contradiction. See
//! [`Chaos::write`].

use std::{collections::BTreeMap, time::Duration};

use super::{
    Chaos,
    tampering::in_namespace,
    values::{Slot, Value, Wanted, garbage},
};
use crate::support::{
    config::{Interface, Kind, Reference},
    store::Change,
};

impl Chaos {
    pub(super) async fn change_values(&mut self) -> Option<String> {
        if self.etcd_returns.is_some() {
            return None;
        }
        let count = 1 + self.random.below(3) * self.random.below(10);
        let mut changes: Vec<(Slot, Option<Value>)> = Vec::new();
        for _ in 0..count {
            let slot = *self.random.choose(&self.catalogue.slots);
            if changes.iter().any(|(other, _)| other.key() == slot.key()) {
                continue;
            }
            let delete = self.catalogue.wanted.contains_key(&slot.key()) && self.random.below(10) == 0;
            let value = (!delete).then(|| slot.draw(&mut self.random, &self.places, false));
            let value = value.map(|value| self.catalogue.with_free_name(&slot, value));
            changes.push((slot, value));
        }
        let what: Vec<String> = changes
            .iter()
            .map(|(slot, value)| format!("{} {}", if value.is_some() { "put" } else { "delete" }, slot.key()))
            .collect();
        self.write(changes).await;
        Some(what.join(", "))
    }

    pub(super) async fn spoil_value(&mut self) -> Option<String> {
        if self.etcd_returns.is_some() {
            return None;
        }
        let leaves: Vec<Slot> = self.catalogue.slots.iter().filter(|slot| slot.is_leaf()).copied().collect();
        let slot = *self.random.choose(&leaves);
        let before = match self.catalogue.wanted.get(&slot.key()).map(|wanted| wanted.value.clone()) {
            Some(Value::Garbage(_, before)) => before,
            other => other.map(Box::new),
        };
        let value = Value::Garbage(garbage(&mut self.random), before);
        self.write(vec![(slot, Some(value))]).await;
        Some(slot.key())
    }

    pub(super) async fn empty_place(&mut self) -> Option<String> {
        if self.etcd_returns.is_some() {
            return None;
        }
        let place = 1 + self.random.below(self.places.all.len() - 1);
        let reference: Reference = self.places.all[place].reference();
        let slots = self.catalogue.in_place(&reference);
        let what = format!("{reference:?}: {} interfaces", slots.len());
        self.write(slots.into_iter().map(|slot| (slot, None)).collect()).await;
        Some(what)
    }

    /// Swaps the desired names of two links in one namespace.
    pub(super) async fn exchange_names(&mut self) -> Option<String> {
        if self.etcd_returns.is_some() {
            return None;
        }
        let (slots, _) = self.two_ends()?;
        let [mut first, mut second] = slots.map(|slot| self.catalogue.interface(&slot).cloned());
        if let (Some(first), Some(second)) = (&mut first, &mut second) {
            std::mem::swap(&mut first.host_name, &mut second.host_name);
        }
        let what = format!("{} and {}", slots[0].key(), slots[1].key());
        let changes = [(slots[0], first), (slots[1], second)];
        self.write(changes.into_iter().map(|(slot, end)| (slot, end.map(Value::Interface))).collect())
            .await;
        Some(what)
    }

    /// Crosses two veth pairs, so that each end names an end of the other pair as its peer. Restores the peers after a pause.
    pub(super) async fn cross_pairs(&mut self) -> Option<String> {
        if self.etcd_returns.is_some() {
            return None;
        }
        let end_of = |slot: &Slot, wanted: usize| match slot {
            Slot::End { pair, side, .. } => *pair == wanted && *side < 2,
            _ => false,
        };
        let ends: Vec<Slot> = self
            .catalogue
            .slots
            .iter()
            .filter(|slot| matches!(slot, Slot::End { .. }))
            .copied()
            .collect();
        let pairs = ends.len() / 2;
        let first = self.random.below(pairs);
        let second = (first + 1 + self.random.below(pairs - 1)) % pairs;
        let crossed: Vec<Slot> = ends
            .into_iter()
            .filter(|slot| end_of(slot, first) || end_of(slot, second))
            .collect();
        let before: Vec<(Slot, Interface)> = crossed
            .iter()
            .filter_map(|slot| Some((*slot, self.catalogue.interface(slot)?.clone())))
            .collect();
        let peers: BTreeMap<String, String> = [("a", "b"), ("b", "a")]
            .into_iter()
            .flat_map(|(own, other)| {
                [(first, second), (second, first)].map(|(pair, peer)| (format!("p{pair}{own}"), format!("p{peer}{other}")))
            })
            .collect();
        let exchange = before.iter().map(|(slot, end)| {
            let peer = peers.get(&end.name).cloned().unwrap_or_default();
            let end = Interface {
                kind: Kind::Veth(peer),
                ..end.clone()
            };
            (*slot, Some(Value::Interface(end)))
        });
        self.write(exchange.collect()).await;
        // Sleep for a random time, so that the crossed pairs are restored at different stages of the agent's work.
        let pause = self.random.below(150);
        tokio::time::sleep(Duration::from_millis(pause as u64)).await;
        self.write(before.into_iter().map(|(slot, end)| (slot, Some(Value::Interface(end)))).collect())
            .await;
        Some(format!("pairs {first} and {second}, for {pause} ms"))
    }

    /// Changes all values of a namespace while its links are being tampered with.
    pub(super) async fn change_all_at_once(&mut self) -> Option<String> {
        if self.etcd_returns.is_some() {
            return None;
        }
        let place = 1 + self.random.below(self.places.all.len() - 1);
        let (reference, path) = (self.places.all[place].reference(), self.places.all[place].path()?);
        let slots = self.catalogue.in_place(&reference);
        let links: Vec<Interface> = slots.iter().filter_map(|slot| self.catalogue.interface(slot).cloned()).collect();
        let commands: Vec<String> = links.iter().filter_map(|link| self.link_command(link)).collect();
        let hands = std::thread::spawn(move || {
            let done = commands.iter().map(|command| in_namespace(&path, command));
            done.collect::<Vec<_>>()
        });
        let mut changes = Vec::new();
        for slot in slots {
            let value = slot.draw(&mut self.random, &self.places, false);
            changes.push((slot, Some(self.catalogue.with_free_name(&slot, value))));
        }
        self.write(changes).await;
        let done = hands.join().expect("the thread that tampers");
        Some(format!("{reference:?}: {}", done.join("; ")))
    }

    /// Writes these values, either in one transaction or one by one, and records them.
    pub(super) async fn write(&mut self, changes: Vec<(Slot, Option<Value>)>) {
        let together = self.random.below(2) == 0;
        let chunk = if together { 100 } else { 1 };
        for part in changes.chunks(chunk) {
            let writes = part.iter().map(|(slot, value)| {
                let key = self.bench.key(&slot.key());
                match value {
                    Some(value) => Change::Put(key, value.bytes()),
                    None => Change::Delete(key),
                }
            });
            let revision = self.bench.store.transact(writes.collect()).await;
            for (slot, value) in part {
                match value {
                    Some(value) => {
                        let value = value.clone();
                        self.catalogue.wanted.insert(slot.key(), Wanted { value, revision });
                    }
                    None => drop(self.catalogue.wanted.remove(&slot.key())),
                }
            }
        }
    }
}
