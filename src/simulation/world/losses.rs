//! Rules for a store that loses its contents.
//!
//! Until a user accepts the removals, the agent must not delete anything because of the loss. At the end of a run, the lost
//! values are put again or their removal is accepted, so that the final state is known.

use std::{collections::BTreeSet, time::Duration};

use super::World;
use crate::simulation::{
    configuration::{CREATED_PLACE, FOREIGN_PLACE, Interface, Item, Kind, interface_key},
    expectation::{is_made_by_agent, stands_for},
    scenario::{Change, Step},
    store::Loss,
};
use netns_kernel::NetnsId;

/// Time within which the agent lists the store again after losing the connection.
const LISTED_WITHIN: Duration = Duration::from_secs(20);
/// Time within which the agent notices a loss that the watch does not report. The watch can lose events, or the store can have
/// the same revision as before the loss. Only a comparison of all revisions reveals these losses.
const COMPARED_WITHIN: Duration = Duration::from_secs(70);

/// Key below `config/` that accepts held removals.
const ACCEPTANCE: &str = "removals/accept";

/// Values that the store has lost, and facts that determine what the agent must do with them.
pub(super) struct Losses {
    /// Keys of the configuration that are missing from the store.
    lost: BTreeSet<String>,
    /// True if the agent must hold exactly the removals of the lost values. This requires that the agent had read all values
    /// before the loss, and that no lost value has been changed since.
    certain: bool,
    /// True if the store was emptied, restored or replaced, or may have failed to report a change to the agent.
    happened: bool,
    /// True if the store was emptied at least once.
    emptied: bool,
    /// True if a lost value was put again.
    put_again: bool,
    /// True if the agent was killed while values were lost.
    killed: bool,
    /// True if no event reports the loss, so that the agent notices it only in its periodic comparison of all revisions.
    untold: bool,
    /// Links that the agent must not delete: namespace, index and name.
    kept: Vec<(NetnsId, u32, String)>,
    /// Time at which the lost values were put again, or their removal was accepted. The agent then deletes held orphans.
    pub(super) ended: Option<Duration>,
}

impl Default for Losses {
    fn default() -> Self {
        Losses {
            lost: BTreeSet::new(),
            certain: true,
            happened: false,
            emptied: false,
            put_again: false,
            killed: false,
            untold: false,
            kept: Vec::new(),
            ended: None,
        }
    }
}

impl Losses {
    /// Returns true if a key of the configuration is missing from the store.
    pub(super) fn contains(&self, key: &str) -> bool {
        self.lost.contains(key)
    }

    /// Returns true if the agent may have removed values that no user deleted.
    pub(super) fn may_be_given_up(&self) -> bool {
        self.happened
    }

    /// Returns true if the store has all values.
    pub(super) fn is_over(&self) -> bool {
        self.lost.is_empty()
    }

    /// Records the next step. Clears `kept` if the step may delete links or cause their deletion.
    pub(super) fn note_step(&mut self, step: &Step) {
        self.untold |= matches!(step, Step::LoseWatch | Step::EmptyStore(Loss::SameRevision));
        self.happened |= matches!(
            step,
            Step::EmptyStore(_) | Step::RestoreStore(_) | Step::ReplaceStore(_) | Step::LoseWatch | Step::Compact
        );
        let harmless = step.is_about_connections() || matches!(step, Step::EmptyStore(_));
        if !harmless {
            self.kept.clear();
        }
    }

    /// Records that a value was put.
    pub(super) fn put(&mut self, key: &str) {
        self.put_again |= self.lost.remove(key);
        self.note_superseded();
    }

    /// Records that a value was put again unchanged and happens to have its former revision. The store then looks as if it had
    /// been restored from a snapshot.
    pub(super) fn note_look_alike(&mut self) {
        self.certain &= !self.happened;
    }

    /// Clears `certain` if a lost value was put again and the agent was killed. The restarted agent may then treat the objects of
    /// the value's earlier version as orphans.
    fn note_superseded(&mut self) {
        self.certain &= !(self.put_again && self.killed);
    }

    /// Returns true if a user can delete the key, because the store still contains it.
    pub(super) fn can_delete(&mut self, key: &str) -> bool {
        // A lost value may be put again and deleted before the agent notices either change.
        self.certain &= self.lost.is_empty();
        !self.lost.contains(key)
    }
}

impl World {
    /// Empties the store.
    pub(super) fn empty_store(&mut self, loss: Loss) {
        let usable = self.configuration.values().all(|item| !matches!(item, Item::Unusable(_)));
        // After a restart, the agent no longer holds the removal of an invalid value.
        self.losses.certain &= usable && self.agent_knows_all();
        let knows = self.agent.as_ref().is_none_or(|agent| agent.is_idle() && self.is_undisturbed())
            && (self.agent.is_none() || self.agent_knows_all())
            // A container that the agent has not detected yet can cause links to move.
            && !self.daemon.untold;
        self.losses.kept = if knows && !self.losses.emptied {
            self.agents_links()
        } else {
            Vec::new()
        };
        self.losses.emptied = true;
        self.losses.lost = self.configuration.keys().cloned().collect();
        self.store.empty(loss);
        // The agent may remove the values that refer to a PID. It then forgets which process the PID referred to.
        self.machine.get().kernel.foreign_processes.clear();
        self.lose_connections("the store was emptied");
    }

    /// Restores the store from an older snapshot.
    pub(super) fn restore_store(&mut self, changes: usize) {
        if !self.store.restore(changes) {
            return;
        }
        self.losses.certain = false;
        self.machine.get().kernel.foreign_processes.clear();
        let mut lost: BTreeSet<String> = self.configuration.keys().cloned().collect();
        let restored = self.store.config.iter().filter_map(|(key, (revision, value))| {
            let mut versions = self.versions.get(revision)?.iter().rev();
            versions
                .find(|item| item.key().as_bytes() == key.as_bytes() && item.json().as_bytes() == value)
                .cloned()
        });
        let restored: Vec<Item> = restored.collect();
        for item in restored {
            lost.remove(&item.key());
            self.configuration.insert(item.key(), item);
        }
        self.losses.lost = lost;
        self.lose_connections("the store was restored");
    }

    fn lose_connections(&mut self, why: &str) {
        self.cut_reader(why);
        self.cut_writer();
    }

    /// Records that the agent was killed, possibly before it noticed a loss.
    pub(super) fn note_kill(&mut self) {
        if let Some(agent) = &self.agent {
            let noticed = agent.following.held().eq(self.losses.lost.iter().map(String::as_str));
            // A restarted agent may mistake a namespace that was about to be deleted for the namespace of a lost value.
            self.losses.certain &= noticed && !self.has_unwanted_namespace();
            self.losses.killed |= !self.losses.lost.is_empty();
            self.losses.note_superseded();
        }
    }

    /// Returns true if the agent has created a namespace to which the configuration does not refer.
    fn has_unwanted_namespace(&self) -> bool {
        let places = self.places();
        let kernel = &self.machine.get().kernel;
        let is_named = |netns: NetnsId| {
            self.configuration.values().any(|item| match item {
                Item::Interface(interface) => {
                    [FOREIGN_PLACE, CREATED_PLACE].contains(&interface.place) && places[interface.place] == Some(netns)
                }
                _ => false,
            })
        };
        let mut made = kernel.spaces.iter().filter(|(_, snapshot)| is_made_by_agent(snapshot));
        made.any(|(netns, _)| !is_named(*netns))
    }

    /// Returns true if the agent has read the current store contents and holds exactly the removals of lost values.
    fn agent_knows_all(&self) -> bool {
        let Some(agent) = &self.agent else { return false };
        let stored = self.store.config.iter().filter(|(key, _)| key.as_bytes() != ACCEPTANCE.as_bytes());
        let stored = stored.map(|(key, (revision, value))| (key, *revision, value.as_slice()));
        let has_read = agent.following.has_read(stored, self.store.config_revision);
        has_read && !agent.following.has_orphans() && agent.following.held().eq(self.losses.lost.iter().map(String::as_str))
    }

    /// Returns the agent's links that belong to the current configuration.
    ///
    /// Omits links of an earlier version of a value, because the agent deletes them. A veth end or VLAN is included only if its
    /// peer or parent also has a link of the current version. If the configuration does not contain the peer or parent, the agent
    /// must hold the removal of the peer or parent instead.
    fn agents_links(&self) -> Vec<(NetnsId, u32, String)> {
        let places = self.places();
        let kernel = &self.machine.get().kernel;
        if kernel.has_dying() {
            return Vec::new();
        }
        let interfaces = self.configuration.values().filter_map(|item| match item {
            Item::Interface(interface) => Some(interface),
            _ => None,
        });
        let link_of = |interface: &Interface| {
            let netns = places[interface.place]?;
            let link = kernel.link(netns, &interface.host).filter(|link| stands_for(link, interface))?;
            Some((netns, link.index, link.name.clone()))
        };
        let is_paired = |interface: &&Interface| match interface.kind {
            Kind::Veth(peer) | Kind::Vlan { parent: peer, .. } => {
                let key = interface_key(peer);
                match self.configuration.get(&key) {
                    Some(Item::Interface(other)) => link_of(other).is_some(),
                    Some(_) => true,
                    None => self.disk.holds(&key),
                }
            }
            Kind::Dummy | Kind::Vrf(_) | Kind::Loopback | Kind::Bridge { .. } | Kind::Existing { .. } => true,
        };
        let links = interfaces.filter(is_paired).filter_map(link_of);
        links.filter(|(_, _, name)| name != "lo").collect()
    }

    fn expect_kept_links(&self) -> Result<(), String> {
        let kernel = &self.machine.get().kernel;
        let is_gone = |(netns, index, _): &&(NetnsId, u32, String)| {
            let space = kernel.spaces.get(netns);
            !space.is_some_and(|space| space.links.iter().any(|link| link.index == *index))
        };
        match self.losses.kept.iter().find(is_gone) {
            Some((netns, _, name)) => Err(format!("{name} in {netns} was deleted because the store lost its contents")),
            None => Ok(()),
        }
    }

    /// Puts the lost values again.
    pub(super) fn put_back(&mut self) {
        let lost = self.losses.lost.iter().filter_map(|key| self.configuration.get(key));
        let changes: Vec<Change> = lost.cloned().map(Change::Put).collect();
        self.put(changes);
    }

    /// Accepts the held removals. The set of held removals depends on what the agent has read.
    pub(super) fn accept_removals(&mut self) {
        self.losses.certain &= self.losses.lost.is_empty();
        self.store.transaction(vec![(ACCEPTANCE.to_owned(), Some("{}".to_owned()))]);
    }

    fn give_up_lost(&mut self) {
        let lost = std::mem::take(&mut self.losses.lost);
        self.configuration.retain(|key, _| !lost.contains(key));
        self.accept_removals();
    }

    /// Puts the lost values again or accepts their removal, so that no removals are held in the end.
    pub(super) fn end_losses(&mut self) -> Result<(), String> {
        let holds = self.agent.as_ref().is_none_or(|agent| agent.following.is_holding());
        if !holds && !self.losses.happened {
            return Ok(());
        }
        let noticed = if self.losses.untold { COMPARED_WITHIN } else { LISTED_WITHIN };
        self.run_until(self.now + noticed)?;
        if !self.losses.lost.is_empty() {
            // An operation in flight may have created an object for a value that was changed in the meantime. The object is then
            // an orphan whose removal is held.
            let has_orphans = self.agent.as_ref().is_some_and(|agent| agent.following.has_orphans());
            if self.losses.certain && !has_orphans {
                self.come_to_rest()?;
            }
            self.expect_kept_links()?;
            self.losses.kept.clear();
            if self.scenario.accepts {
                self.tell(|| "the lost values are given up".to_owned());
                self.give_up_lost();
            } else {
                self.tell(|| "the lost values are put again".to_owned());
                self.losses.ended = Some(self.now);
                self.put_back();
            }
            self.run_until(self.now + LISTED_WITHIN)?;
        }
        let Some(following) = self.agent.as_ref().map(|agent| &agent.following) else {
            return Ok(());
        };
        if following.is_holding() && following.has_something() {
            self.tell(|| "the remaining held removals are accepted".to_owned());
            self.losses.ended = Some(self.now);
            self.accept_removals();
        }
        Ok(())
    }

    /// Checks that no removals are held.
    pub(super) fn expect_nothing_held(&self) -> Result<(), String> {
        match self.agent.as_ref().is_some_and(|agent| agent.following.is_holding()) {
            true => Err("removals are held although no values are missing".to_owned()),
            false => Ok(()),
        }
    }
}
