//! Tasks that belong to no value. They run at the start of the next batch, and their outcomes are ignored.

use models::key::Key;

use crate::descriptors::value::{NamespaceName, OpenNamespace};
use netns_kernel::{KernelOp, NamespaceRef, Task};

/// Id of a task whose outcome is ignored. No operation has this id, because operations are numbered from 1.
const NO_OPERATION: u64 = 0;

fn task(key: &Key, op: KernelOp) -> Task {
    Task {
        id: NO_OPERATION,
        key: key.to_string(),
        ops: vec![op],
    }
}

/// Returns a task that makes the executor forget which process a namespace reference was bound to. Returns `None` for references
/// that are never bound to a process.
pub(super) fn forget_process(key: &Key) -> Option<Task> {
    let reference = match NamespaceName::of_key(key)? {
        NamespaceName::Process(pid) => NamespaceRef::Process(pid),
        NamespaceName::File(path) => NamespaceRef::File(path.into()),
        NamespaceName::Own | NamespaceName::Named(_) | NamespaceName::Microservice(_) => return None,
    };
    Some(task(key, KernelOp::ForgetProcess { reference }))
}

/// Returns a task that closes a namespace once, after it was opened twice.
pub(super) fn close_again(key: &Key, open: OpenNamespace) -> Task {
    let close = KernelOp::CloseNamespace {
        reference: open.reference,
        netns: open.netns,
        remove_if_marked: None,
        forget: false,
    };
    task(key, close)
}
