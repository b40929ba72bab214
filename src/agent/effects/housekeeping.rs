//! Tasks that belong to no value. They run first in the next batch, and their outcomes are ignored.

use models::key::Key;

use crate::descriptors::value::{NamespaceName, OpenNamespace};
use netns_kernel::{KernelOp, NamespaceRef, Task};

/// Id of a task whose outcome is ignored. Operations are numbered from 1.
const NO_OPERATION: u64 = 0;

fn task(key: &Key, op: KernelOp) -> Task {
    Task {
        id: NO_OPERATION,
        key: key.to_string(),
        ops: vec![op],
    }
}

/// Returns a task that forgets the process of a namespace value, if the value referred to one. The process was never found or is gone.
pub(super) fn forget_process(key: &Key) -> Option<Task> {
    let reference = match NamespaceName::of_key(key)? {
        NamespaceName::Process(pid) => NamespaceRef::Process(pid),
        NamespaceName::File(path) => NamespaceRef::File(path.into()),
        NamespaceName::Own | NamespaceName::Named(_) | NamespaceName::Microservice(_) => return None,
    };
    Some(task(key, KernelOp::ForgetProcess { reference }))
}

/// Returns a task that undoes one opening of a namespace that was opened twice.
pub(super) fn close_again(key: &Key, open: OpenNamespace) -> Task {
    let close = KernelOp::CloseNamespace {
        reference: open.reference,
        netns: open.netns,
        remove_if_marked: None,
        forget: false,
    };
    task(key, close)
}
