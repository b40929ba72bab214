//! Chooses the namespaces to scan at startup for orphans of an earlier run.
//!
//! The candidates are all named namespaces (`ip netns`) and the namespaces of all processes. Namespaces that a desired value refers to are left
//! out, because the agent opens them anyway. The only change that the scan makes is to remove namespace names that this agent left behind when
//! their creation was interrupted.

use std::collections::{BTreeMap, HashSet};

use tracing::{info, warn};

use crate::descriptors::{alias::Marks, inspect, value::NamespaceName};
use netns_kernel::{KernelOp, NamedTarget, NamespaceRef, NetnsId, Outcome, Reply, Snapshot, Task};

use super::host::Host;

/// Id of a task for several candidates. The id of every other task is the index of its candidate.
const NO_CANDIDATE: u64 = u64::MAX;

/// The namespaces that the startup scan has skipped because the desired state refers to them.
///
/// A skipped namespace is scanned later, when no value refers to it any more. The scan is not needed if the namespace was opened in the meantime
/// and every object in it has an owner.
#[derive(Default)]
pub struct StartupScan {
    skipped: BTreeMap<NamespaceName, Skipped>,
}

struct Skipped {
    reference: NamespaceRef,
    state: SkippedState,
}

enum SkippedState {
    /// A value refers to the namespace.
    Referenced,
    /// The namespace must be scanned.
    Due,
}

impl StartupScan {
    /// Chooses the namespaces to scan. Leaves out namespaces for which `is_desired` returns true, because they will be opened
    /// anyway.
    pub fn plan(&mut self, host: &dyn Host, marks: &Marks, is_desired: impl Fn(&NamespaceName) -> bool) -> Scan {
        // The agent's own namespace comes first, so that its contents are known before anything is created there.
        let mut candidates = vec![(NamespaceName::Own, NamespaceRef::Own)];
        let (found, mut known) = named(host, marks, &is_desired);
        known.insert(host.own_namespace());
        for (name, reference) in found.into_iter().chain(of_processes(host, known)) {
            match is_desired(&name) {
                true => self.skip(name, reference),
                false => candidates.push((name, reference)),
            }
        }
        Scan {
            candidates,
            marks: marks.clone(),
        }
    }

    /// Records that a namespace was not scanned because a value refers to it.
    pub fn skip(&mut self, name: NamespaceName, reference: NamespaceRef) {
        let state = SkippedState::Referenced;
        self.skipped.insert(name, Skipped { reference, state });
    }

    /// Records that a namespace was opened. Opening inspects all objects in it, so it need not be scanned.
    pub fn opened(&mut self, name: &NamespaceName) {
        self.skipped.remove(name);
    }

    /// Marks each skipped namespace as due for a scan if no value refers to it any more, that is, if `is_referenced` returns
    /// false.
    pub fn update(&mut self, is_referenced: impl Fn(&NamespaceName) -> bool) {
        for (name, skipped) in &mut self.skipped {
            if matches!(skipped.state, SkippedState::Referenced) && !is_referenced(name) {
                skipped.state = SkippedState::Due;
            }
        }
    }

    /// Returns a scan of the namespaces that are due, if there are any.
    pub fn take_due(&mut self, marks: &Marks) -> Option<Scan> {
        let mut candidates = Vec::new();
        self.skipped.retain(|name, skipped| match skipped.state {
            SkippedState::Referenced => true,
            SkippedState::Due => {
                candidates.push((name.clone(), skipped.reference.clone()));
                false
            }
        });
        (!candidates.is_empty()).then(|| Scan {
            candidates,
            marks: marks.clone(),
        })
    }
}

/// Returns the named namespaces, and the set of their identities. Removes names that this agent left behind when their creation
/// was interrupted.
fn named(
    host: &dyn Host,
    marks: &Marks,
    is_desired: impl Fn(&NamespaceName) -> bool,
) -> (Vec<(NamespaceName, NamespaceRef)>, HashSet<NetnsId>) {
    let (mut found, mut known) = (Vec::new(), HashSet::new());
    let mark = marks.created_namespace(None);
    let names = host.named().unwrap_or_else(|failure| {
        warn!("cannot list named namespaces; orphans of an earlier run may remain in them: {failure}");
        Vec::new()
    });
    for (text, target) in names {
        let name = NamespaceName::Named(text.clone());
        match target {
            NamedTarget::Namespace(netns) => {
                known.insert(netns);
                found.push((name, NamespaceRef::Named(text)));
            }
            NamedTarget::NotANamespace { orphan_of: Some(owner) } if owner == mark && !is_desired(&name) => {
                match host.remove_orphan(&text, &mark) {
                    Ok(_) => info!(name = %text, "removed the name of an incompletely created namespace"),
                    Err(failure) => warn!(name = %text, "{failure}"),
                }
            }
            NamedTarget::NotANamespace { .. } => {}
        }
    }
    (found, known)
}

/// Lists the namespaces of processes, except those in `known`.
fn of_processes(host: &dyn Host, mut known: HashSet<NetnsId>) -> Vec<(NamespaceName, NamespaceRef)> {
    let processes = host.processes().unwrap_or_else(|error| {
        warn!("cannot list processes; orphans of an earlier run may remain in containers: {error}");
        Vec::new()
    });
    let unknown = processes.into_iter().filter(|(netns, _)| known.insert(*netns));
    unknown
        .map(|(_, pid)| (NamespaceName::Process(pid), NamespaceRef::Process(pid)))
        .collect()
}

/// Set of namespaces to scan.
pub struct Scan {
    candidates: Vec<(NamespaceName, NamespaceRef)>,
    marks: Marks,
}

/// Result of scanning one namespace.
pub struct Scanned {
    /// Name by which values can refer to the namespace.
    pub name: NamespaceName,
    /// Reference through which the namespace was opened.
    pub reference: NamespaceRef,
    /// Identity of the namespace.
    pub netns: NetnsId,
    /// Contents of the namespace.
    pub contents: Box<Snapshot>,
}

impl Scan {
    /// Returns the tasks that open and read the candidates.
    ///
    /// The tasks do not create a named namespace that has disappeared. The first task makes the executor forget which processes
    /// the candidates' PIDs referred to in an earlier scan. This is safe because no desired value refers to these PIDs.
    pub fn openings(&self) -> Vec<Task> {
        let processes = self.candidates.iter().map(|(_, reference)| reference);
        let processes = processes.filter(|reference| matches!(reference, NamespaceRef::Process(_))).cloned();
        let forgetting = Task {
            id: NO_CANDIDATE,
            key: "startup scan".to_owned(),
            ops: processes.map(|reference| KernelOp::ForgetProcess { reference }).collect(),
        };
        let open = |(at, (_, reference)): (usize, &(NamespaceName, NamespaceRef))| Task {
            id: at as u64,
            key: "startup scan".to_owned(),
            ops: vec![KernelOp::OpenNamespace {
                reference: reference.clone(),
                mark: None,
            }],
        };
        let openings = self.candidates.iter().enumerate().map(open);
        std::iter::once(forgetting)
            .filter(|task| !task.ops.is_empty())
            .chain(openings)
            .collect()
    }

    /// Returns the namespaces to keep open, and the tasks that close all other namespaces. The agent's own namespace stays open,
    /// and so does every namespace that contains the agent's ownership mark.
    pub fn judge(&self, outcomes: Vec<Outcome>) -> (Vec<Scanned>, Vec<Task>) {
        let (mut marked, mut closings) = (Vec::new(), Vec::new());
        for outcome in outcomes {
            let Some((name, reference)) = usize::try_from(outcome.id).ok().and_then(|at| self.candidates.get(at)).cloned() else {
                continue;
            };
            // A namespace that has disappeared or cannot be entered contains nothing that could be deleted.
            let Ok(Reply::Opened { netns, contents, .. }) = outcome.result else {
                continue;
            };
            if name == NamespaceName::Own || inspect::has_marks(&contents, &self.marks) {
                marked.push(Scanned {
                    name,
                    reference,
                    netns,
                    contents,
                });
            } else {
                let close = KernelOp::CloseNamespace {
                    reference,
                    netns,
                    remove_if_marked: None,
                    forget: true,
                };
                closings.push(Task {
                    id: outcome.id,
                    key: "startup scan".to_owned(),
                    ops: vec![close],
                });
            }
        }
        (marked, closings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NamespaceName {
        NamespaceName::Named(text.to_owned())
    }

    fn names(scan: Option<Scan>) -> Vec<NamespaceName> {
        let candidates = scan.map(|scan| scan.candidates).unwrap_or_default();
        candidates.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn skipped_namespace_is_scanned_once_no_value_refers_to_it() {
        let marks = Marks::new("vpp1");
        let mut scan = StartupScan::default();
        for text in ["red", "blue"] {
            scan.skip(name(text), NamespaceRef::Named(text.to_owned()));
        }
        scan.update(|_| true);
        assert!(scan.take_due(&marks).is_none(), "both namespaces are still referenced");
        scan.update(|referenced| *referenced == name("red"));
        scan.update(|_| true);
        assert_eq!(names(scan.take_due(&marks)), [name("blue")]);
        assert!(scan.take_due(&marks).is_none(), "a namespace is scanned only once");
        scan.update(|_| false);
        assert_eq!(names(scan.take_due(&marks)), [name("red")]);
    }

    #[test]
    fn opened_namespace_is_not_scanned() {
        let mut scan = StartupScan::default();
        scan.skip(name("red"), NamespaceRef::Named("red".to_owned()));
        scan.opened(&name("red"));
        scan.update(|_| false);
        assert!(scan.take_due(&Marks::new("vpp1")).is_none());
    }
}
