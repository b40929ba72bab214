//! Duplicate address detection (RFC 4862 §5.4): an IPv6 address counts once nobody else on the link has answered for it.
//!
//! Owns the value that says so, derived from its address: it is PENDING while the address is tentative, FAILED when somebody else has
//! the address. Must never decide that a detection has ended: the kernel shows it. Start reading at [`DetectionDescriptor`].

use models::key::Key;

use super::{
    Network,
    address::{is_shared, kernel_detection},
    alias::Marks,
    applied_interface, guard_of,
    value::{Address, Value},
};
use crate::scheduler::{DeleteCause, Dependency, Descriptor, Refusal, View};
use netns_kernel::{AddressSpec, KernelOp};

/// What the keys of detections begin with.
const PREFIX: &str = "linux/address-detection/";

/// Descriptor of `linux/address-detection/<if>/<address>`.
#[derive(Clone)]
pub struct DetectionDescriptor {
    pub(super) marks: Marks,
}

/// Key of the detection for an address of an interface.
pub fn detection_key(interface: &str, spec: AddressSpec) -> Key {
    Key::from(format!("{PREFIX}{interface}/{}/{}", spec.address, spec.prefix_len))
}

/// Whether a key names a detection.
pub fn is_detection(key: &Key) -> bool {
    key.as_str().starts_with(PREFIX)
}

/// What people call it.
pub fn name(key: &Key) -> Option<String> {
    let (rest, prefix_len) = key.as_str().strip_prefix(PREFIX)?.rsplit_once('/')?;
    let (interface, address) = rest.rsplit_once('/')?;
    Some(format!(
        "duplicate address detection for {address}/{prefix_len} of interface {interface}"
    ))
}

/// The detection that an address waits for.
pub fn of(address: &Address) -> Option<(Key, Value)> {
    let spec = address.spec.filter(|_| address.awaited)?;
    Some((detection_key(&address.interface, spec), Value::Detection(address.clone().into())))
}

impl Descriptor<Network> for DetectionDescriptor {
    fn name(&self) -> &'static str {
        "linux-interface-address-detection"
    }

    fn equivalent(&self, _: &Key, _: &Value, _: &Value) -> bool {
        true
    }

    /// So that nothing is asked about an address that is about to go, alone or with its link.
    fn dependencies(&self, _: &Key, value: &Value) -> Vec<Dependency> {
        let address = value.detection();
        let assigned = address.map(|address| Dependency::key("address-assigned", address.key.clone()));
        assigned.into_iter().collect()
    }

    fn create(&self, _: &Key, value: &Value, view: &View<'_, Network>) -> Result<Vec<KernelOp>, Refusal> {
        let Some(address) = value.detection() else { return Ok(Vec::new()) };
        let (Some(spec), Some((interface, netns))) = (address.spec, applied_interface(view, &address.interface)) else {
            return Ok(Vec::new());
        };
        Ok(vec![KernelOp::ConfirmAddress {
            netns,
            link: interface.host_name.clone(),
            guard: guard_of(&self.marks, interface),
            address: spec,
            detection: kernel_detection(address),
            shared: is_shared(interface),
        }])
    }

    fn delete(&self, _: &Key, _: &Value, _: DeleteCause, _: &View<'_, Network>) -> Vec<KernelOp> {
        Vec::new()
    }
}
