//! Deliberate bugs in the agent, to check that the simulator finds them.

use super::text::kebab;
use crate::sources::etcd::SourceEvent;
use netns_kernel::{Failure, Guard, KernelOp, Reply, Task};

/// Deliberate bug in the agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutation {
    /// Treats failed operations as successful.
    BelieveFailures,
    /// Does not delete routes.
    KeepRoutes,
    /// Does not set the ownership mark of the second end of a veth pair.
    ForgetPeer,
    /// Does not change the MTU of existing links.
    ForgetMtuOnUpdate,
    /// Does not check the ownership mark before a link is changed or deleted.
    IgnoreMark,
    /// Ignores changes in namespaces.
    DeafToNamespaces,
    /// Ignores changes of names and processes.
    DeafToReferences,
    /// Mistakes a new process with a reused PID for the original process.
    ForgetBindings,
    /// Skips the startup scan.
    SkipStartupScan,
    /// Never retries failed operations.
    NeverRetry,
    /// Treats each full listing after the first one as a set of changes, and thus keeps values that are missing from the listing.
    ListingAsChanges,
    /// Ignores deletions of desired values.
    ForgetDeletions,
    /// Does not check the result of transactions that were in flight when the connection was lost.
    ForgetInterruption,
    /// Does not notice deleted or changed status keys.
    BelieveStatusStored,
    /// Deletes the values that a store has lost.
    FollowLostStore,
    /// Does not notice the end of a container's process.
    MissProcessEnd,
    /// Never adopts foreign routes and neighbours.
    NeverAdopt,
}

impl Mutation {
    /// All mutations.
    pub const ALL: [Mutation; 17] = [
        Mutation::BelieveFailures,
        Mutation::KeepRoutes,
        Mutation::ForgetPeer,
        Mutation::ForgetMtuOnUpdate,
        Mutation::IgnoreMark,
        Mutation::DeafToNamespaces,
        Mutation::DeafToReferences,
        Mutation::ForgetBindings,
        Mutation::SkipStartupScan,
        Mutation::NeverRetry,
        Mutation::ListingAsChanges,
        Mutation::ForgetDeletions,
        Mutation::ForgetInterruption,
        Mutation::BelieveStatusStored,
        Mutation::FollowLostStore,
        Mutation::MissProcessEnd,
        Mutation::NeverAdopt,
    ];

    /// Returns the name for the command line, such as `keep-routes`.
    pub fn name(self) -> String {
        kebab(&self)
    }

    /// Returns the mutation with this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutation| mutation.name() == name)
    }

    /// Applies this bug to tasks before they are executed.
    pub(crate) fn tasks(self, tasks: &mut [Task]) {
        for task in tasks {
            match self {
                Mutation::KeepRoutes => task.ops.retain(|op| !matches!(op, KernelOp::DeleteRoute { .. })),
                Mutation::ForgetPeer if task.ops.len() == 1 => task.ops.retain(|op| {
                    let marks = matches!(op, KernelOp::SetLink { changes, .. } if changes.alias.is_some() && changes.group == Some(0));
                    !marks
                }),
                Mutation::ForgetMtuOnUpdate if task.ops.len() == 1 => {
                    for op in &mut task.ops {
                        if let KernelOp::SetLink { changes, .. } = op
                            && changes.alias.is_none()
                        {
                            changes.mtu = None;
                        }
                    }
                }
                Mutation::IgnoreMark => {
                    for op in &mut task.ops {
                        if let KernelOp::SetLink { guard, .. } | KernelOp::DeleteLink { guard, .. } = op {
                            *guard = Guard::Any;
                        }
                    }
                }
                Mutation::NeverAdopt => {
                    for op in &mut task.ops {
                        if let KernelOp::AddRoute { adopt, .. } | KernelOp::SetNeighbour { adopt, .. } = op {
                            *adopt = false;
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Applies this bug to a reply of the kernel.
    pub(crate) fn answer(self, answer: Result<Reply, Failure>) -> Result<Reply, Failure> {
        match answer {
            Err(failure) if self == Mutation::BelieveFailures && failure.errno != Some(2) => Ok(Reply::Done),
            answer => answer,
        }
    }

    /// Applies this bug to an event of the source. `first` is true until the first listing has been processed.
    pub(crate) fn event(self, event: SourceEvent, first: bool) -> SourceEvent {
        match event {
            SourceEvent::Snapshot { revision, items, .. } if self == Mutation::ListingAsChanges && !first => {
                let change = |item: crate::sources::etcd::RawItem| crate::sources::etcd::RawChange {
                    key: item.key,
                    mod_revision: item.mod_revision,
                    value: Some(item.value),
                };
                let items = items.into_iter().map(change).collect();
                SourceEvent::Changes { revision, items }
            }
            SourceEvent::Changes { revision, mut items } if self == Mutation::ForgetDeletions => {
                items.retain(|item| item.value.is_some());
                SourceEvent::Changes { revision, items }
            }
            event => event,
        }
    }
}
