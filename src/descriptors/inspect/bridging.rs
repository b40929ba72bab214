//! Reads back bridge ports, and the VLANs of bridges and their ports.

use std::collections::BTreeMap;

use link_kinds::{Port, VlanRange};
use models::key::TypedKey;

use super::{
    super::{
        bridge_vlan,
        membership::memberships,
        observed::ObservedInterface,
        value::{BridgeVlan, Interface, Membership, PortOf, Role, Value},
    },
    Inspection,
};

impl<'s> Inspection<'_, 's> {
    /// Returns the managed master of a port, with the port settings as observed in the kernel.
    ///
    /// `expected` is the `port_of` property of the applied interface.
    pub(super) fn port_of(&self, link: &ObservedInterface<'s>, expected: Option<&PortOf>) -> Option<PortOf> {
        let device = self.observed.master_of(link)?;
        if device.state.vrf_table().is_some() {
            return None;
        }
        let name = expected.map(|port| port.master.as_str());
        let master = self.name_among(self.residents(device.state.index), name)?;
        let believed = expected
            .filter(|port| port.master == master)
            .and_then(|port| port.settings.clone())
            .or_else(|| Port::bare(device.kind?.spec()));
        let settings = believed.map(|mut port| {
            link.correct_port(&mut port.settings);
            port
        });
        Some(PortOf { master, settings })
    }

    /// Records the memberships and the VLANs of an interface.
    pub(super) fn memberships_of(&mut self, link: &ObservedInterface<'s>, found: &Interface) {
        // Other programs choose the VRF of an EXISTING interface, so its link may be in a VRF other than the desired one.
        let in_vrf = found.vrf.is_some() && self.vrf_of(link, found.vrf.as_deref()) == found.vrf;
        for (key, mut member) in memberships(found) {
            match &mut member.role {
                Role::Vrf { .. } if in_vrf => self.note(key, Value::Membership(member.into())),
                Role::Vrf { .. } => {}
                Role::Port(port) => {
                    let known = self.view.known(&key);
                    let applied = known.applied.and_then(Value::membership);
                    // The applied membership records which settings the agent has set, including settings that are no longer
                    // desired.
                    if let (Some(port), Some(set)) = (port, applied.and_then(|applied| applied.port()))
                        && port.of == set.of
                    {
                        port.settings = set.settings.clone();
                        link.correct_port(&mut port.settings);
                    }
                    let is_news = applied.is_none_or(|applied| settings(applied) != settings(&member));
                    if is_news && !known.in_flight {
                        let value = Value::Membership(member.clone().into());
                        self.findings.found.push((key.clone(), value));
                    }
                    self.seen.insert(key);
                }
            }
        }
        let port = found.port_of.as_ref().and_then(|port| port.settings.as_ref());
        let is_bridge = found.link.spec().own_vlans.is_some();
        if is_bridge || port.is_some() {
            let requested = if is_bridge {
                &found.link.own_vlans
            } else {
                &port.map(|port| port.vlans.clone()).unwrap_or_default()
            };
            self.vlans_of(link, &found.name, requested, is_bridge);
        }
    }

    /// Records all VLANs of a bridge or port, including VLANs that are not desired. The default VLAN is recorded only if it is
    /// desired or applied.
    fn vlans_of(&mut self, link: &ObservedInterface<'s>, name: &str, requested: &[VlanRange], itself: bool) {
        let mut there: BTreeMap<u16, (bool, bool)> = BTreeMap::new();
        for vlan in self.snapshot.bridge_vlans.iter().filter(|vlan| vlan.link == link.state.index) {
            there.extend((vlan.first..=vlan.last).map(|vid| (vid, (vlan.pvid, vlan.untagged))));
        }
        let bridge = if itself { Some(*link) } else { self.observed.master_of(link) };
        let default = bridge.and_then(|bridge| bridge.default_pvid());
        let applied = self.view.applied_under(&TypedKey::any_vlan_of(name));
        let applied: Vec<VlanRange> = applied.filter_map(|(_, value)| Some(value.bridge_vlan()?.range)).collect();
        for range in requested.iter().chain(&applied) {
            let vids = range.first..=range.last;
            let all: Option<Vec<(bool, bool)>> = vids.clone().map(|vid| there.get(&vid).copied()).collect();
            let Some(flags) = all else { continue };
            let differing = flags.iter().find(|flags| **flags != (range.pvid, range.untagged));
            let (pvid, untagged) = differing.copied().unwrap_or((range.pvid, range.untagged));
            self.note_vlans(name, VlanRange { pvid, untagged, ..*range }, itself);
        }
        for range in requested.iter().chain(&applied) {
            (range.first..=range.last).for_each(|vid| {
                there.remove(&vid);
            });
        }
        // Record the remaining VLANs, which are not desired, so that the scheduler deletes them. An agent that was killed left them
        // behind, or another program added them. They could connect networks that must stay separate.
        for (vid, (pvid, untagged)) in there.into_iter().filter(|(vid, _)| Some(*vid) != default) {
            let range = VlanRange {
                first: vid,
                last: vid,
                pvid,
                untagged,
            };
            self.note_vlans(name, range, itself);
        }
    }

    fn note_vlans(&mut self, name: &str, range: VlanRange, itself: bool) {
        let key = bridge_vlan::bridge_vlan_key(name, &range);
        let value = Value::BridgeVlan(
            BridgeVlan {
                interface: name.to_owned(),
                range,
                itself,
            }
            .into(),
        );
        let known = self.view.known(&key);
        if !known.in_flight && known.applied != Some(&value) {
            self.findings.found.push((key.clone(), value));
        }
        self.seen.insert(key);
    }
}

fn settings(member: &Membership) -> Option<&link_kinds::Settings> {
    member.port().map(|port| &port.settings)
}
