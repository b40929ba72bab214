//! The look around at start: what did an earlier run leave that no value names any more?
//!
//! Owns the choice of namespaces to look into: every name of `ip netns` and every namespace of a process that the desired state
//! does not lead to anyway. Must never change anything but names that an interrupted creation of this agent left behind. Start
//! reading at [`plan`].

use std::collections::HashSet;

use tracing::{info, warn};

use crate::descriptors::{alias::Marks, inspect, value::NamespaceName};
use netns_kernel::{KernelOp, NamedTarget, NamespaceRef, NetnsId, Outcome, Reply, Snapshot, Task};

use super::host::Host;

/// Number of a task that concerns no single candidate.
const NO_CANDIDATE: u64 = u64::MAX;

/// A namespace that was looked into.
pub struct Surveyed {
    /// How the agent names it.
    pub name: NamespaceName,
    /// How it was found.
    pub reference: NamespaceRef,
    /// Its identity.
    pub netns: NetnsId,
    /// What it contains.
    pub contents: Box<Snapshot>,
}

/// The namespaces to look into.
pub struct Survey {
    candidates: Vec<(NamespaceName, NamespaceRef)>,
    /// Those that are left out because they will be opened anyway.
    left_out: Vec<(NamespaceName, NamespaceRef)>,
    marks: Marks,
}

/// Lists the namespaces that `wanted` does not say will be opened anyway.
pub fn plan(host: &dyn Host, marks: &Marks, wanted: impl Fn(&NamespaceName) -> bool) -> Survey {
    // First of all the agent's own, so that what is in it is known before anything is created there.
    let mut candidates = vec![(NamespaceName::Own, NamespaceRef::Own)];
    let mut left_out = Vec::new();
    let mut known = HashSet::from([host.own_namespace()]);
    let mark = marks.created_namespace(None);
    match host.named() {
        Ok(names) => {
            for (text, target) in names {
                let name = NamespaceName::Named(text.clone());
                match target {
                    NamedTarget::Namespace(netns) => {
                        known.insert(netns);
                        let chosen = if wanted(&name) { &mut left_out } else { &mut candidates };
                        chosen.push((name, NamespaceRef::Named(text)));
                    }
                    NamedTarget::NotANamespace { leftover_of: Some(found) } if found == mark && !wanted(&name) => {
                        match host.remove_leftover(&text, &mark) {
                            Ok(_) => info!(name = %text, "removed the name of a namespace whose creation was interrupted"),
                            Err(failure) => warn!(name = %text, "{failure}"),
                        }
                    }
                    NamedTarget::NotANamespace { .. } => {}
                }
            }
        }
        Err(failure) => warn!("namespaces left by an earlier run may stay: {failure}"),
    }
    match host.processes() {
        Ok(processes) => {
            for (netns, pid) in processes {
                let name = NamespaceName::Process(pid);
                if known.insert(netns) {
                    let chosen = if wanted(&name) { &mut left_out } else { &mut candidates };
                    chosen.push((name, NamespaceRef::Process(pid)));
                }
            }
        }
        Err(error) => warn!("links left in containers by an earlier run may stay: {error}"),
    }
    Survey {
        candidates,
        left_out,
        marks: marks.clone(),
    }
}

/// As [`plan`], of what it left out and nobody wants any more.
pub fn again(marks: &Marks, candidates: Vec<(NamespaceName, NamespaceRef)>) -> Survey {
    Survey {
        candidates,
        left_out: Vec::new(),
        marks: marks.clone(),
    }
}

impl Survey {
    /// What [`plan`] left out: wanted then, and perhaps no longer when its turn comes.
    pub fn left_out(&self) -> &[(NamespaceName, NamespaceRef)] {
        &self.left_out
    }

    /// Returns the tasks that open and read the candidates. One whose name is gone by then must not be made again. No desired value names
    /// the processes among them, so each PID means the process that has it now, and not one that an earlier run has looked into.
    pub fn openings(&self) -> Vec<Task> {
        let processes = self.candidates.iter().map(|(_, reference)| reference);
        let processes = processes.filter(|reference| matches!(reference, NamespaceRef::Process(_))).cloned();
        let forgetting = Task {
            id: NO_CANDIDATE,
            key: "survey at start".to_owned(),
            ops: processes.map(|reference| KernelOp::ForgetProcess { reference }).collect(),
        };
        let open = |(at, (_, reference)): (usize, &(NamespaceName, NamespaceRef))| Task {
            id: at as u64,
            key: "survey at start".to_owned(),
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

    /// What to keep of that: the agent's own namespace and those with its mark. The tasks close the others again.
    pub fn judge(&self, outcomes: Vec<Outcome>) -> (Vec<Surveyed>, Vec<Task>) {
        let (mut marked, mut closings) = (Vec::new(), Vec::new());
        for outcome in outcomes {
            let Some((name, reference)) = usize::try_from(outcome.id).ok().and_then(|at| self.candidates.get(at)).cloned() else {
                continue;
            };
            // A namespace that ended meanwhile, or cannot be entered, holds nothing that could be removed.
            let Ok(Reply::Opened { netns, contents, .. }) = outcome.result else {
                continue;
            };
            if name == NamespaceName::Own || inspect::has_marks(&contents, &self.marks) {
                marked.push(Surveyed {
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
                    key: "survey at start".to_owned(),
                    ops: vec![close],
                });
            }
        }
        (marked, closings)
    }
}
