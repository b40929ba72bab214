//! The dependency-aware scheduler: desired values in, operations out, outcomes back, until what is applied is what is wanted.
//!
//! Owns the graph of values, their states, retries and the decision what to do next. Must never do I/O, look at a clock, draw a
//! random number or let the order of a hash map reach its output: the same events give the same operations. Values and effects
//! are opaque ([`Domain`]). Start reading at [`Scheduler`], then `decide`.
//!
//! It is level-triggered: every event only changes what is wanted or what is known to be applied and marks the nodes that may
//! care; [`Scheduler::step`] then looks at each marked node and derives what to do from the present state alone. Operations that
//! do not depend on each other come out together, so one step is one batch for the executor.
//!
//! | Part | Owns |
//! |---|---|
//! | `scheduler` | the parts and the step; `decide` chooses, `carry_out` does it, `outcome` takes over what came of it, `input` everything else |
//! | `graph`, `edge`, `readiness`, `cycle` | the nodes, what hangs on what, and whether a value may be there |
//! | `node`, `lifecycle`, `in_flight`, `blocked` | the state of one value; `lifecycle` has the table of states and events, `blocked` the policy of waits |
//! | `queue` | where each node stands, timers, operations under way, what is left to do for each transaction |
//! | `transition` | what changes along with a node |
//! | `drift` | what others did to values |
//! | `ledger`, `recorder`, `revert`, `history`, `statistics` | transactions and what is written down of them |
//! | `reports`, `explain`, `explanation`, `status` | what is told of values, and why |
//!
//! A [`Transaction`] stands beside the decisions: `ledger` and `queue` know which marks and operations belong to which, so that its result can
//! be told and [`history`] can be written. No decision about a value depends on it, but for the wanted values that `revert` brings back.

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
mod ledger;
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
mod transaction;
mod transition;
mod view;

pub use comparison::{Comparison, Difference, Remedy};
pub use descriptor::{Claim, DeleteCause, Dependency, Descriptor, Domain, Key, Label, On, Place, Predicate, Refusal, Taken};
pub use effect::Effect;
pub use explanation::{DAMAGE_MAX, Explanation, KernelError, LastError, RELATIVES_MAX, Relative, Repair, Unmet};
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
