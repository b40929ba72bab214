//! Network namespaces as values: wanted as long as an interface names them.
//!
//! Owns opening, checking and releasing. Must never decide whether a namespace may be entered: the executor knows what a name
//! leads to. Start reading at [`NamespaceDescriptor`].

use models::key::{Key, TypedKey};

use super::{
    MICROSERVICE_AVAILABLE, Network,
    alias::Marks,
    value::{Namespace, NamespaceName, OpenNamespace, Value},
};
use crate::scheduler::{DeleteCause, Dependency, Descriptor, Refusal, View};
use netns_kernel::{KernelOp, NamespaceRef, NetnsId};

/// Descriptor of `linux/namespace/<type>/<reference>`.
#[derive(Clone)]
pub struct NamespaceDescriptor {
    pub(super) marks: Marks,
}

/// How the executor finds what a name means now; `None` for a microservice that does not run.
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

/// Key of the fact that a microservice runs.
pub fn microservice_key(label: &str) -> Key {
    TypedKey::Microservice { label: label.to_owned() }.to_key()
}

/// A namespace value as if it had been opened, for a dry run; `None` for what cannot be found. The inode is made up, and differs from
/// that of every real namespace.
pub fn supposed(key: &Key, wanted: &Value, view: &View<'_, Network>) -> Option<Value> {
    let name = namespace(wanted)?.name.clone();
    let digest = key
        .as_str()
        .bytes()
        .fold(0u64, |digest, byte| digest.wrapping_mul(31).wrapping_add(byte.into()));
    let open = OpenNamespace {
        netns: NetnsId(digest | 1 << 63),
        reference: reference(&name, view)?,
        owned: false,
    };
    Some(Value::Namespace(Namespace { name, open: Some(open) }))
}

fn namespace(value: &Value) -> Option<&Namespace> {
    value.namespace()
}

impl Descriptor<Network> for NamespaceDescriptor {
    fn name(&self) -> &'static str {
        "linux-namespace"
    }

    fn equivalent(&self, _: &Key, applied: &Value, wanted: &Value) -> bool {
        namespace(applied).map(|namespace| &namespace.name) == namespace(wanted).map(|namespace| &namespace.name)
    }

    fn settled(&self, applied: &Value, _: &Value) -> Value {
        applied.clone()
    }

    fn dependencies(&self, _: &Key, value: &Value) -> Vec<Dependency> {
        match namespace(value).map(|namespace| &namespace.name) {
            Some(NamespaceName::Microservice(label)) => vec![Dependency::key(MICROSERVICE_AVAILABLE, microservice_key(label))],
            _ => Vec::new(),
        }
    }

    fn create(&self, _: &Key, value: &Value, view: &View<'_, Network>) -> Result<Vec<KernelOp>, Refusal> {
        let reference = namespace(value).and_then(|namespace| reference(&namespace.name, view));
        let mark = Some(self.marks.created_namespace(None));
        Ok(reference
            .map(|reference| KernelOp::OpenNamespace { reference, mark })
            .into_iter()
            .collect())
    }

    fn delete(&self, _: &Key, applied: &Value, cause: DeleteCause, _: &View<'_, Network>) -> Vec<KernelOp> {
        let Some(open) = namespace(applied).and_then(|namespace| namespace.open.clone()) else {
            return Vec::new();
        };
        let unwanted = cause == DeleteCause::Unwanted;
        let remove_if_marked = (unwanted && open.owned).then(|| self.marks.prefix().to_owned());
        vec![KernelOp::CloseNamespace {
            reference: open.reference,
            netns: open.netns,
            remove_if_marked,
            forget: unwanted,
        }]
    }

    fn verify(&self, _: &Key, applied: &Value) -> Vec<KernelOp> {
        let open = namespace(applied).and_then(|namespace| namespace.open.clone());
        open.map(|open| KernelOp::VerifyNamespace {
            reference: open.reference,
            netns: open.netns,
        })
        .into_iter()
        .collect()
    }

    /// Another container, or the same one restarted, runs the microservice now.
    fn stale(&self, _: &Key, applied: &Value, view: &View<'_, Network>) -> bool {
        let Some(Namespace {
            name: name @ NamespaceName::Microservice(_),
            open: Some(open),
        }) = namespace(applied)
        else {
            return false;
        };
        reference(name, view).is_some_and(|reference| reference != open.reference)
    }
}
