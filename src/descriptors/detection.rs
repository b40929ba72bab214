//! Duplicate address detection (RFC 4862 §5.4): an IPv6 address counts once nobody else on the link has answered for it.
//!
//! Owns the value that says so, derived from its address: it is PENDING while the address is tentative, FAILED when somebody else has
//! the address. Must never decide that a detection has ended: the kernel shows it. Start reading at [`DetectionDescriptor`].

use models::key::Key;

use super::{
    Network,
    address::operation,
    alias::Marks,
    applied_interface, guard_of,
    value::{Address, Detection, Value},
};
use crate::{
    kernel::{AddressSpec, AddressState, KernelOp},
    scheduler::{DeleteCause, Descriptor, Refusal, View},
};

/// What the keys of detections begin with.
const PREFIX: &str = "linux/address-detection/";

/// IFA_F_OPTIMISTIC, IFA_F_DADFAILED and IFA_F_TENTATIVE of linux/if_addr.h.
const OPTIMISTIC: u32 = 0x04;
const FAILED: u32 = 0x08;
const TENTATIVE: u32 = 0x40;

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

/// How far the kernel has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// The address may be used.
    Over,
    /// It may turn out that somebody else has it.
    Tentative,
    /// Somebody else has it.
    Failed,
}

/// What the flags of an address say.
pub fn progress(state: &AddressState, policy: Detection) -> Progress {
    match state.flags {
        flags if flags & FAILED != 0 => Progress::Failed,
        flags if flags & OPTIMISTIC != 0 && policy == Detection::Optimistic => Progress::Over,
        flags if flags & TENTATIVE != 0 => Progress::Tentative,
        _ => Progress::Over,
    }
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
            optimistic: address.detection == Detection::Optimistic,
        }])
    }

    /// The kernel does not ask again by itself: the address must go and come back.
    fn recover(&self, _: &Key, value: &Value, view: &View<'_, Network>) -> Vec<KernelOp> {
        let Some(address) = value.detection() else { return Vec::new() };
        let mut again = operation(&self.marks, address, view, false);
        again.extend(operation(&self.marks, address, view, true));
        again
    }

    fn delete(&self, _: &Key, _: &Value, _: DeleteCause, _: &View<'_, Network>) -> Vec<KernelOp> {
        Vec::new()
    }
}
