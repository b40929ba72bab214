//! Duplicate address detection (RFC 4862 §5.4): an IPv6 address becomes usable if no other host on the link uses it.
//!
//! A detection is a value derived from its address. It is PENDING while the address is tentative, and FAILED if another host uses
//! the address. The kernel performs the detection, and the agent only waits for the result.

use std::sync::Arc;

use models::key::Key;

use super::{
    Effect, Network,
    address::{is_shared, kernel_detection},
    alias::Marks,
    guard_of,
    kind::{Kind, of_one_type},
    on_link,
    value::{Address, Value},
};
use crate::scheduler::{Comparison, DeleteCause, Dependency, Refusal, View};
use netns_kernel::{AddressSpec, KernelOp};

/// Key prefix of detections.
const PREFIX: &str = "linux/address-detection/";

/// Descriptor of `linux/address-detection/<if>/<address>`.
#[derive(Clone)]
pub struct DetectionKind {
    pub(super) marks: Marks,
}

/// Returns the key of the detection for an interface address.
pub fn detection_key(interface: &str, spec: AddressSpec) -> Key {
    Key::from(format!("{PREFIX}{interface}/{}/{}", spec.address, spec.prefix_len))
}

/// Returns whether a key names a detection.
pub fn is_detection(key: &Key) -> bool {
    key.as_str().starts_with(PREFIX)
}

/// Returns the human-readable name of a detection, or `None` if the key does not name a detection.
pub fn name(key: &Key) -> Option<String> {
    let (rest, prefix_len) = key.as_str().strip_prefix(PREFIX)?.rsplit_once('/')?;
    let (interface, address) = rest.rsplit_once('/')?;
    Some(format!(
        "duplicate address detection for {address}/{prefix_len} of interface {interface}"
    ))
}

/// Returns the detection of an address as a value, or `None` if the agent does not wait for the detection.
pub fn of(address: &Address) -> Option<(Key, Value)> {
    let spec = address.spec.filter(|_| address.awaited)?;
    Some((detection_key(&address.interface, spec), Value::Detection(address.clone().into())))
}

impl Kind for DetectionKind {
    of_one_type!(Detection, Arc<Address>);

    const NAME: &'static str = "linux-interface-address-detection";

    /// Two detections with the same key never differ, because the key contains the whole desired value. A completed detection is
    /// not repeated.
    fn compare(&self, _: &Arc<Address>, _: &Arc<Address>) -> Comparison {
        Comparison::same()
    }

    /// A detection depends on its address, so that the agent does not query the kernel for an address that is about to be deleted.
    fn dependencies(&self, address: &Arc<Address>) -> Vec<Dependency> {
        vec![Dependency::key("address-assigned", address.key.clone())]
    }

    fn create(&self, address: &Arc<Address>, view: &View<'_, Network>) -> Result<Effect, Refusal> {
        let Some(spec) = address.spec else {
            return Ok(Effect::Impossible(format!("no address was allocated for {}", address.text)));
        };
        Ok(on_link(view, &address.interface, |interface, netns| {
            Effect::one(KernelOp::ConfirmAddress {
                netns,
                link: interface.host_name.clone(),
                guard: guard_of(&self.marks, interface),
                address: spec,
                detection: kernel_detection(address),
                shared: is_shared(interface),
            })
        }))
    }

    fn delete(&self, _: &Arc<Address>, _: DeleteCause, _: &View<'_, Network>) -> Effect {
        Effect::Noop("the agent only waits for the detection, so it has nothing to stop")
    }
}
