//! Deliberate bugs, to check that the simulator would find them.
//!
//! Owns the list. Each one makes a part of the agent behave as if it were written wrongly; none is ever on but by choice. Start
//! reading at [`Mutation`].

use super::text::kebab;
use crate::sources::etcd::SourceEvent;
use netns_kernel::{Failure, Guard, KernelOp, Reply, Task};

/// A deliberate bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutation {
    /// A failed operation counts as done.
    BelieveFailures,
    /// A route that is to be deleted stays.
    KeepRoutes,
    /// The end of a veth that is made second never gets its mark.
    ForgetPeer,
    /// A change of the MTU is not passed on.
    ForgetMtuOnUpdate,
    /// The mark is not looked at before a link is changed or deleted.
    IgnoreMark,
    /// Changes in namespaces are not listened to.
    DeafToNamespaces,
    /// Changes of names and processes are not listened to.
    DeafToReferences,
    /// A process number means whoever has it.
    ForgetBindings,
    /// Nothing is looked for at start.
    SkipStartupScan,
    /// Failed operations are never tried again.
    NeverRetry,
    /// A full listing is taken as changes.
    ListingAsChanges,
    /// Deletions are not passed on.
    ForgetDeletions,
    /// After a lost connection nobody asks what became of the transactions that were on their way.
    ForgetInterruption,
    /// Neither the watch of status keys nor their comparison shows that some are gone or changed.
    BelieveStatusStored,
    /// What a store lacks that has lost its content is deleted.
    FollowLostStore,
    /// The end of a container's process is not noticed.
    MissProcessEnd,
    /// Foreign routes and neighbours are never taken over.
    NeverAdopt,
}

impl Mutation {
    /// All of them.
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

    /// Its name on the command line: `keep-routes`.
    pub fn name(self) -> String {
        kebab(&self)
    }

    /// The mutation of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutation| mutation.name() == name)
    }

    /// What it makes of tasks.
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

    /// What it makes of an answer of the kernel.
    pub(crate) fn answer(self, answer: Result<Reply, Failure>) -> Result<Reply, Failure> {
        match answer {
            Err(failure) if self == Mutation::BelieveFailures && failure.errno != Some(2) => Ok(Reply::Done),
            answer => answer,
        }
    }

    /// What it makes of an event of the source.
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
