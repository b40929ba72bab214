//! A dependency-aware scheduler that brings applied values in line with desired ones.
//!
//! The scheduler accepts desired values, returns operations, and processes their outcomes. It treats keys, values and operations
//! as opaque ([`Domain`]). It does no I/O, reads no clock and draws no random numbers. Its output does not depend on hash map
//! order, so the same events always produce the same operations. Start with [`Scheduler`].
//!
//! The scheduler is level-triggered. An event only changes desired or applied values and marks the nodes that it may affect.
//! [`Scheduler::step`] evaluates each marked node and derives the next operation from the current state alone. Operations that do
//! not depend on each other are returned by the same step, so the executor can run them as one batch.
//!
//! | Module | Contents |
//! |---|---|
//! | `scheduler` | the scheduler and its step; `decide` makes decisions, `carry_out` starts operations |
//! | `input`, `outcome` | event processing and operation outcomes |
//! | `graph`, `edge`, `readiness`, `cycle` | the nodes, their dependencies, and the check whether a value can be applied |
//! | `node`, `lifecycle`, `in_flight`, `blocked` | the state of one value; `lifecycle` contains the table of states and events |
//! | `queue` | node stages, timers, operations in flight, and the pending work of each transaction |
//! | `transition` | node changes and all their side effects on the graph |
//! | `drift` | changes made by other programs |
//! | `tracker`, `recorder`, `revert`, `history`, `statistics` | transactions, their records and counters |
//! | `reports`, `explain`, `explanation`, `status` | the published statuses and their explanations |
//!
//! A [`Transaction`] does not influence decisions about values, except that `revert` restores the previous desired values.
//! `tracker` and `queue` track which marks and operations belong to which transaction. The scheduler needs this assignment to
//! return the result of each transaction and to record the [`history`].

mod blocked;
mod carry_out;
mod comparison;
mod cycle;
mod decide;
mod descriptor;
mod drift;
mod edge;
mod effect;
mod explain;
mod explanation;
mod graph;
pub mod held;
pub mod history;
mod in_flight;
mod input;
mod lifecycle;
mod moment;
mod node;
mod node_set;
mod nodes;
mod operation;
mod outcome;
mod queue;
mod readiness;
mod ready;
mod recorder;
mod reports;
mod retry;
mod revert;
mod scheduler;
mod simulate;
pub mod statistics;
mod status;
#[cfg(test)]
mod tests;
mod tracker;
mod transaction;
mod transition;
mod view;

pub use comparison::{Comparison, Difference, Remedy};
pub use descriptor::{Claim, DeleteCause, Dependency, Descriptor, Domain, Key, Label, On, Place, Predicate, Refusal, Taken};
pub use effect::Effect;
pub use explanation::{DAMAGE_MAX, Explanation, KernelError, LastError, Repair, SUGGESTIONS_MAX, Suggestion, Unmet};
pub use input::Observation;
pub use operation::{Fault, FaultKind, Operation, Outcome, Wait};
pub use scheduler::Scheduler;
pub use simulate::{Plan, Planned};
pub use status::{Rejection, Status, StatusChange, ValueState, Verb};
pub use transaction::{Change, KeyError, KeyWait, Kind, Options, Resync, Retry, Transaction, TransactionResult, Unacceptable};
pub use view::View;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
