//! Decides when to put removals on hold because the store lost its contents, and when to end the hold.
//!
//! Performs no I/O. [`Removals`](super::removals::Removals) carries out the decisions. In simulations, the simulator carries them out.

use crate::{
    config::OnStoreLoss,
    sources::{
        etcd::{
            SnapshotReason,
            note::{Note, Reason},
        },
        note_file::Remembered,
    },
};

/// Action that follows from a decision. Actions are carried out in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Report that removals are on hold, and keep orphans.
    Hold(Reason),
    /// Report the store revision at which the contents were lost. An acceptance is valid only if a user puts it after this
    /// revision.
    Date(Reason),
    /// Save the [`Note`] about the store to disk, so that the next process can detect that the store has lost its contents.
    WriteNote,
    /// Apply the listing of the store, and delete the values that it does not contain.
    Apply,
    /// Apply the listing of the store. Values that it does not contain stay desired.
    ApplyWithoutRemovals,
    /// Delete the held values.
    Accept,
    /// Report that removals are no longer on hold, and delete orphans.
    Release,
}

/// Facts on which [`Hold::judge`] bases its decision.
#[derive(Clone, Copy, Debug)]
pub struct Present {
    /// True if a user has accepted the removals.
    pub accepted: bool,
    /// True if there are held values or orphans.
    pub something: bool,
    /// True once everything that was desired at startup has been processed, so all orphans are known.
    pub in_sync: bool,
}

/// Decides whether removals are on hold.
pub struct Hold {
    policy: OnStoreLoss,
    reason: Option<Reason>,
    /// Number of store losses that have been reported to this process.
    losses: u64,
}

impl Hold {
    /// Creates the initial state, with nothing on hold.
    pub fn new(policy: OnStoreLoss) -> Self {
        Hold {
            policy,
            reason: None,
            losses: 0,
        }
    }

    /// Returns why removals are on hold; `None` if they are not.
    #[cfg(any(test, feature = "simulation"))]
    pub fn reason(&self) -> Option<&Reason> {
        self.reason.as_ref()
    }

    /// Returns whether a listing of the store with this reason puts removals on hold.
    pub fn holds(&self, reason: &SnapshotReason) -> bool {
        self.policy == OnStoreLoss::Hold && matches!(reason, SnapshotReason::StoreReplaced { .. })
    }

    /// Returns the actions to carry out at startup, before the store is read.
    ///
    /// Under [`OnStoreLoss::Hold`], orphans are put on hold if removals were on hold before the restart, or if the store's
    /// previous contents are unknown.
    pub fn begin(&mut self, remembered: &Remembered, holds_values: bool) -> Vec<Action> {
        if self.policy == OnStoreLoss::Apply {
            return if holds_values { vec![Action::Accept] } else { Vec::new() };
        }
        let unexplained = || Reason {
            evidence: "values have been on hold since an earlier run".to_owned(),
            revision: 0,
        };
        self.reason = match remembered {
            Remembered::Note(note) => note.held.clone().or_else(|| holds_values.then(unexplained)),
            Remembered::Nothing(why) => Some(Reason {
                evidence: format!("the store's previous contents are unknown ({why})"),
                revision: 0,
            }),
        };
        self.reason.clone().map(Action::Hold).into_iter().collect()
    }

    /// Returns the actions to carry out after a complete listing of the store was read.
    ///
    /// `accepted_at` is the revision of the newest acceptance in the store, and `note` describes the current state of the store.
    pub fn listed(&mut self, revision: i64, reason: &SnapshotReason, accepted_at: Option<i64>, note: Option<&Note>) -> Vec<Action> {
        self.losses = note.map_or(self.losses, |note| note.losses);
        let mut actions = match reason {
            SnapshotReason::StoreReplaced { evidence } if self.holds(reason) => {
                let evidence = evidence.clone();
                let reason = self.reason.insert(Reason { evidence, revision }).clone();
                vec![Action::Hold(reason), Action::WriteNote, Action::ApplyWithoutRemovals]
            }
            _ => vec![Action::WriteNote, Action::Apply],
        };
        match &mut self.reason {
            // The revision at which the store lost its contents is unknown. Therefore, only an acceptance after the current
            // revision is valid.
            Some(reason) if reason.revision == 0 => {
                reason.revision = revision;
                actions.extend([Action::Date(reason.clone()), Action::WriteNote]);
            }
            Some(reason) if accepted_at.is_some_and(|at| at > reason.revision) => actions.push(Action::Accept),
            _ => {}
        }
        actions
    }

    /// Returns the actions to carry out after a user has put an acceptance of the removals into the store.
    pub fn accepted(&self) -> Vec<Action> {
        let holds = self.reason.is_some();
        if holds { vec![Action::Accept] } else { Vec::new() }
    }

    /// Ends the hold if the removals were accepted, or if nothing is held any more.
    pub fn judge(&mut self, present: Present) -> Vec<Action> {
        let pointless = !present.something && present.in_sync;
        if self.reason.is_none() || !(present.accepted || pointless) {
            return Vec::new();
        }
        self.reason = None;
        vec![Action::Release, Action::WriteNote]
    }

    /// Returns the note to save, which also records the hold.
    ///
    /// Returns `None` if `note` was made after a store loss that has not been reported yet. A process that starts with this note would not notice
    /// that contents are missing.
    pub fn note(&self, note: &Note) -> Option<Note> {
        (note.losses <= self.losses).then(|| Note {
            held: self.reason.clone(),
            ..note.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced() -> SnapshotReason {
        SnapshotReason::StoreReplaced {
            evidence: "it is another cluster".to_owned(),
        }
    }

    fn note(losses: u64) -> Note {
        Note { losses, ..Note::default() }
    }

    #[test]
    fn store_loss_is_held_until_accepted() {
        let mut hold = Hold::new(OnStoreLoss::Hold);
        assert_eq!(hold.begin(&Remembered::Note(note(0)), false), []);
        let actions = hold.listed(7, &replaced(), Some(3), Some(&note(1)));
        assert!(matches!(
            &actions[..],
            [Action::Hold(reason), Action::WriteNote, Action::ApplyWithoutRemovals] if reason.revision == 7
        ));
        assert_eq!(hold.accepted(), [Action::Accept]);
        let present = Present {
            accepted: true,
            something: true,
            in_sync: true,
        };
        assert_eq!(hold.judge(present), [Action::Release, Action::WriteNote]);
        assert_eq!(hold.accepted(), []);
    }

    #[test]
    fn note_of_lost_store_is_not_written_before_loss_is_reported() {
        let mut hold = Hold::new(OnStoreLoss::Hold);
        hold.begin(&Remembered::Note(note(0)), false);
        assert_eq!(hold.note(&note(1)), None);
        hold.listed(7, &replaced(), None, Some(&note(1)));
        let written = hold.note(&note(1)).expect("the loss was reported");
        assert!(written.held.is_some(), "a process that starts with the note holds removals, too");
    }
}
