//! Network namespaces. A namespace is a value that is desired while an interface refers to it.
//!
//! Opens, verifies and closes namespaces. The executor decides whether a namespace may be entered, because only the executor can
//! resolve the namespace's name.

use models::key::{Key, TypedKey};

use super::{
    Effect, MICROSERVICE_AVAILABLE, Network,
    alias::Marks,
    kind::{Kind, of_two_types},
    value::{Namespace, NamespaceName, OpenNamespace, Value},
};
use crate::scheduler::{Comparison, DeleteCause, Dependency, Difference, Refusal, View};
use netns_kernel::{KernelOp, NamespaceRef, NetnsId};

/// Key prefix of namespaces.
pub const NAMESPACES: &str = "linux/namespace/";

/// Descriptor of `linux/namespace/<type>/<reference>`.
#[derive(Clone)]
pub struct NamespaceKind {
    pub(super) marks: Marks,
}

/// Returns the reference that the executor uses to open a namespace, or `None` for a microservice that is not running.
pub fn reference(name: &NamespaceName, view: &View<'_, Network>) -> Option<NamespaceRef> {
    Some(match name {
        NamespaceName::Own => NamespaceRef::Own,
        NamespaceName::Named(name) => NamespaceRef::Named(name.clone()),
        NamespaceName::Process(pid) => NamespaceRef::Process(*pid),
        NamespaceName::File(path) => NamespaceRef::File(path.into()),
        NamespaceName::Microservice(label) => {
            let microservice = view.applied(&microservice_key(label))?.microservice()?;
            NamespaceRef::Container {
                label: label.clone(),
                pid: microservice.pid,
                start_time: microservice.start_time,
            }
        }
    })
}

/// Returns the key of the fact that a microservice is running.
pub fn microservice_key(label: &str) -> Key {
    TypedKey::Microservice { label: label.to_owned() }.to_key()
}

/// Returns the applied value that a dry run assumes for a namespace that is not open. Returns `None` if the namespace belongs to a
/// microservice that is not running.
///
/// The inode number is made up and differs from the inode numbers of all real namespaces.
pub fn supposed(key: &Key, desired: &Value, view: &View<'_, Network>) -> Option<Value> {
    let name = desired.namespace_name()?.clone();
    let digest = key
        .as_str()
        .bytes()
        .fold(0u64, |digest, byte| digest.wrapping_mul(31).wrapping_add(byte.into()));
    let open = OpenNamespace {
        netns: NetnsId(digest | 1 << 63),
        reference: reference(&name, view)?,
        owned: false,
    };
    Some(Value::AppliedNamespace(Namespace { name, open: Some(open) }))
}

impl Kind for NamespaceKind {
    of_two_types!(Namespace(NamespaceName), AppliedNamespace(Namespace), namespace_name(NamespaceName));

    const NAME: &'static str = "linux-namespace";

    fn compare(&self, applied: &Namespace, desired: &NamespaceName) -> Comparison {
        let differs = applied.name != *desired;
        differs.then(|| Difference::again("the name differs")).into_iter().collect()
    }

    /// Keeps the former applied value, so that a namespace that is open stays open.
    fn as_applied(&self, former: Option<&Namespace>, desired: &NamespaceName) -> Namespace {
        former.cloned().unwrap_or_else(|| Namespace {
            name: desired.clone(),
            open: None,
        })
    }

    fn dependencies(&self, name: &NamespaceName) -> Vec<Dependency> {
        match name {
            NamespaceName::Microservice(label) => vec![Dependency::key(MICROSERVICE_AVAILABLE, microservice_key(label))],
            NamespaceName::Own | NamespaceName::Named(_) | NamespaceName::Process(_) | NamespaceName::File(_) => Vec::new(),
        }
    }

    fn create(&self, desired: &NamespaceName, view: &View<'_, Network>) -> Result<Effect, Refusal> {
        let mark = Some(self.marks.created_namespace(None));
        Ok(match reference(desired, view) {
            Some(reference) => Effect::one(KernelOp::OpenNamespace { reference, mark }),
            None => Effect::Impossible(format!("no container is running for {desired}")),
        })
    }

    fn delete(&self, applied: &Namespace, cause: DeleteCause, _: &View<'_, Network>) -> Effect {
        let unwanted = cause == DeleteCause::Unwanted;
        if_open(applied, |open| KernelOp::CloseNamespace {
            reference: open.reference,
            netns: open.netns,
            remove_if_marked: (unwanted && open.owned).then(|| self.marks.prefix().to_owned()),
            forget: unwanted,
        })
    }

    fn verify(&self, applied: &Namespace) -> Effect {
        if_open(applied, |open| KernelOp::VerifyNamespace {
            reference: open.reference,
            netns: open.netns,
        })
    }

    /// A namespace is stale if its microservice now runs in another container, or if its container was restarted.
    fn stale(&self, applied: &Namespace, view: &View<'_, Network>) -> bool {
        let Namespace {
            name: name @ NamespaceName::Microservice(_),
            open: Some(open),
        } = applied
        else {
            return false;
        };
        reference(name, view).is_some_and(|reference| reference != open.reference)
    }
}

/// Returns the effect of an operation on an applied namespace, or `Effect::Impossible` if the namespace is not open.
fn if_open(applied: &Namespace, operation: impl FnOnce(OpenNamespace) -> KernelOp) -> Effect {
    match applied.open.clone() {
        Some(open) => Effect::one(operation(open)),
        None => Effect::Impossible(format!("{} is not open", applied.name)),
    }
}
