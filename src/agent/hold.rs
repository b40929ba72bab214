//! Decides when removals are held because the store lost its content, and until when.
//!
//! Performs no I/O: [`Removals`](super::removals::Removals) carries out the decisions, and so does the simulator.

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

/// One step of a decision. The steps are carried out in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Report that removals are held, and keep orphans.
    Hold(Reason),
    /// Report the revision after which an acceptance counts.
    Date(Reason),
    /// Write the note of the store.
    WriteNote,
    /// Apply the listing; delete values that are not in it.
    Apply,
    /// Apply the listing; keep values that are not in it desired.
    ApplyWithoutRemovals,
    /// Delete the held values.
    Accept,
    /// Report that removals are no longer held, and delete orphans.
    Release,
}

/// State of the hold, as input of [`Hold::judge`].
#[derive(Clone, Copy, Debug)]
pub struct Present {
    /// A user has accepted the removals.
    pub accepted: bool,
    /// There are held values or orphans.
    pub something: bool,
    /// Everything that was desired at start has been processed, so all orphans are known.
    pub in_sync: bool,
}

/// Decisions about held removals.
pub struct Hold {
    policy: OnStoreLoss,
    reason: Option<Reason>,
    /// Number of store losses reported to this agent.
    losses: u64,
}

impl Hold {
    /// Creates the state in which nothing is held.
    pub fn new(policy: OnStoreLoss) -> Self {
        Hold {
            policy,
            reason: None,
            losses: 0,
        }
    }

    /// Returns the reason why removals are held; `None` if they are not.
    #[cfg(any(test, feature = "simulation"))]
    pub fn reason(&self) -> Option<&Reason> {
        self.reason.as_ref()
    }

    /// Returns whether a loss of the store's content leads to a hold instead of removals.
    pub fn holds(&self, reason: &SnapshotReason) -> bool {
        self.policy == OnStoreLoss::Hold && matches!(reason, SnapshotReason::StoreReplaced { .. })
    }

    /// Decides before the store is read: orphans are held if they were held before, or if nothing is known about the store.
    pub fn begin(&mut self, remembered: &Remembered, holds_values: bool) -> Vec<Action> {
        if self.policy == OnStoreLoss::Apply {
            return if holds_values { vec![Action::Accept] } else { Vec::new() };
        }
        let unexplained = || Reason {
            evidence: "values have been held since an earlier run".to_owned(),
            revision: 0,
        };
        self.reason = match remembered {
            Remembered::Note(note) => note.held.clone().or_else(|| holds_values.then(unexplained)),
            Remembered::Nothing(why) => Some(Reason {
                evidence: format!("the previous content of the store is unknown ({why})"),
                revision: 0,
            }),
        };
        self.reason.clone().map(Action::Hold).into_iter().collect()
    }

    /// Decides after the whole store was listed.
    ///
    /// `accepted_at` is the revision of the newest acceptance in the store; `note` is the note about the store.
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
            // The revision of the loss is unknown, so only an acceptance that is put from now on can be about it.
            Some(reason) if reason.revision == 0 => {
                reason.revision = revision;
                actions.extend([Action::Date(reason.clone()), Action::WriteNote]);
            }
            Some(reason) if accepted_at.is_some_and(|at| at > reason.revision) => actions.push(Action::Accept),
            _ => {}
        }
        actions
    }

    /// Decides after a user has put an acceptance into the store.
    pub fn accepted(&self) -> Vec<Action> {
        let holds = self.reason.is_some();
        if holds { vec![Action::Accept] } else { Vec::new() }
    }

    /// Ends the hold if it was accepted, or if nothing is held any more.
    pub fn judge(&mut self, present: Present) -> Vec<Action> {
        let pointless = !present.something && present.in_sync;
        if self.reason.is_none() || !(present.accepted || pointless) {
            return Vec::new();
        }
        self.reason = None;
        vec![Action::Release, Action::WriteNote]
    }

    /// Returns the note to write.
    ///
    /// Returns `None` if the note is about a store whose loss was not reported yet. A process that starts with such a note would mistake
    /// the lost store for the one that was followed.
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
