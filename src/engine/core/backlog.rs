//! Queue of operations that have been decided on but not started yet. The operations of a large change are started in portions.
//!
//! Operations of a later decision overtake those of a large change if they act in other places (network namespaces). Operations
//! in the same place keep their order. No operation is ever dropped.

use std::collections::{BTreeMap, VecDeque};

use super::Effects;
use crate::scheduler::{Domain, Operation};

type Op<E> = Operation<<<E as Effects>::Domain as Domain>::Operation>;

/// Queued operations from one decision, or from several decisions in succession.
struct Decided<E: Effects> {
    operations: VecDeque<Op<E>>,
    /// True if all these operations must be started together, in one portion.
    together: bool,
}

/// Queue of operations that have been decided on; see the [module documentation](self).
pub(super) struct Backlog<E: Effects> {
    decided: VecDeque<Decided<E>>,
    /// Number of queued operations in each place (network namespace). `None` until [`Self::add_first`] needs the numbers for the first time.
    places: Option<BTreeMap<E::Place, usize>>,
    /// Number of operations per portion.
    portion: usize,
}

impl<E: Effects> Backlog<E> {
    /// Creates an empty queue with portions of `portion` operations (at least one).
    pub fn new(portion: usize) -> Self {
        Backlog {
            decided: VecDeque::new(),
            places: None,
            portion: portion.max(1),
        }
    }

    /// Returns whether no operations are queued.
    pub fn is_empty(&self) -> bool {
        self.decided.is_empty()
    }

    /// Appends the operations of one decision.
    pub fn add(&mut self, operations: Vec<Op<E>>) {
        let together = operations.iter().any(E::goes_together);
        self.insert(operations, together, false);
    }

    /// Inserts the operations of one decision. Operations that act in the same place (network namespace) as a queued operation
    /// are inserted at the end, and the others at the front.
    pub fn add_first(&mut self, operations: Vec<Op<E>>) {
        if operations.is_empty() || self.is_empty() {
            return self.add(operations);
        }
        if self.places.is_none() {
            let waiting = self.decided.iter().flat_map(|decided| &decided.operations);
            let mut places = BTreeMap::new();
            for place in waiting.flat_map(E::places) {
                *places.entry(place).or_default() += 1;
            }
            self.places = Some(places);
        }
        if operations.iter().any(E::goes_together) {
            let first = operations.iter().all(|operation| self.is_apart(operation));
            return self.insert(operations, true, first);
        }
        let mut first = Vec::new();
        for operation in operations {
            match self.is_apart(&operation) {
                true => first.push(operation),
                // Once this operation is appended, later operations of the same decision in the same place are appended as well,
                // so they keep their order.
                false => self.insert(vec![operation], false, false),
            }
        }
        self.insert(first, false, true);
    }

    /// Returns whether an operation shares no place (network namespace) with any queued operation.
    fn is_apart(&self, operation: &Op<E>) -> bool {
        let is_taken = |place| self.places.as_ref().is_some_and(|places| places.contains_key(&place));
        !E::places(operation).into_iter().any(is_taken)
    }

    fn insert(&mut self, operations: Vec<Op<E>>, together: bool, first: bool) {
        if operations.is_empty() {
            return;
        }
        if let Some(places) = &mut self.places {
            for place in operations.iter().flat_map(E::places) {
                *places.entry(place).or_default() += 1;
            }
        }
        if first {
            let operations = operations.into();
            self.decided.push_front(Decided { operations, together });
            return;
        }
        match self.decided.back_mut().filter(|last| !last.together && !together) {
            Some(last) => last.operations.extend(operations),
            None => self.decided.push_back(Decided {
                operations: operations.into(),
                together,
            }),
        }
    }

    /// Removes the next portion and returns it.
    pub fn take(&mut self) -> Vec<Op<E>> {
        let mut portion = Vec::new();
        while let Some(next) = self.decided.front_mut() {
            let room = self.portion.saturating_sub(portion.len());
            let fits = next.operations.len() <= room;
            if room == 0 || next.together && !fits && !portion.is_empty() {
                break;
            }
            if !next.together && !fits {
                portion.extend(next.operations.drain(..room));
                break;
            }
            let operations = self.decided.pop_front().map(|next| Vec::from(next.operations)).unwrap_or_default();
            match portion.is_empty() {
                true => portion = operations,
                false => portion.extend(operations),
            }
        }
        self.forget_places(&portion);
        portion
    }

    fn forget_places(&mut self, taken: &[Op<E>]) {
        if self.is_empty() {
            self.places = None;
        }
        let Some(places) = &mut self.places else { return };
        for place in taken.iter().flat_map(E::places) {
            if let Some(count) = places.get_mut(&place) {
                *count -= 1;
                if *count == 0 {
                    places.remove(&place);
                }
            }
        }
    }
}
