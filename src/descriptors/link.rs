//! Converts the settings of all kinds of link to the attributes and features of the kernel crate, using the tables of
//! `link_kinds`.
//!
//! The module `observed` converts in the other direction.

use crate::scheduler;
use link_kinds::{Attr, Change, Difference, Feature, KindSpec, Link, Port};
use netns_kernel::{CreateLink, LinkChanges, LinkInfo, NewLink};

/// Converts a difference in a link setting to a scheduler difference.
pub(super) fn difference(setting: &Difference) -> scheduler::Difference {
    match setting.attribute.change {
        Change::InPlace => scheduler::Difference::in_place(setting.to_string()),
        Change::Recreate => scheduler::Difference::again(setting.to_string()),
    }
}

/// Returns the request that creates a link. The caller adds the peer and the parent.
pub(super) fn create(link: &Link, end: NewLink) -> CreateLink {
    CreateLink {
        end,
        info: info(link, link.settings.creation()),
        peer: None,
        parent: None,
    }
}

/// Returns the part of a request that sets port settings, or `None` if there are no attributes to set.
pub(super) fn port_info(port: &Port, attributes: Vec<Attr>) -> Option<LinkInfo> {
    let spec = link_kinds::by_type(port.of)?.spec();
    (!attributes.is_empty()).then(|| info_of(spec, attributes))
}

fn info(link: &Link, attributes: Vec<Attr>) -> LinkInfo {
    info_of(link.spec(), attributes)
}

fn info_of(spec: &KindSpec, attributes: Vec<Attr>) -> LinkInfo {
    let attribute = |attribute: Attr| netns_kernel::Attr {
        number: attribute.number,
        name: attribute.title,
        value: attribute.value,
        immutable: attribute.immutable,
    };
    LinkInfo {
        kind: spec.info_kind,
        module: spec.module.name,
        data: attributes.into_iter().map(attribute).collect(),
    }
}

/// Extends a request with the changes that resolve the given differences. Ignores differences that require a new link.
pub(super) fn change(changes: &mut LinkChanges, link: &Link, differences: &[Difference]) {
    set_features(changes, differences.iter().filter_map(Difference::feature));
    set_attributes(changes, link, link_kinds::changes(differences));
}

/// Extends a request with all settings of a link that have a value and can be changed in place.
pub(super) fn set_all(changes: &mut LinkChanges, link: &Link) {
    set_features(changes, link.settings.features());
    set_attributes(changes, link, link.settings.changeable());
}

/// Extends a request with the link features to switch on or off.
pub(super) fn set_features(changes: &mut LinkChanges, features: impl Iterator<Item = (Feature, bool)>) {
    for (feature, on) in features {
        match feature {
            Feature::RxChecksum => changes.rx_checksum = Some(on),
            Feature::TxChecksum => changes.tx_checksum = Some(on),
        }
    }
}

fn set_attributes(changes: &mut LinkChanges, link: &Link, attributes: Vec<Attr>) {
    if !attributes.is_empty() {
        changes.info = Some(info(link, attributes));
    }
}
