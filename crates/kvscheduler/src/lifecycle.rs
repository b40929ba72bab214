//! Existence of a value in the target system, as far as known.
//!
//! [`Lifecycle::on`] implements the state transition table, and nothing else changes a [`Lifecycle`]. A lifecycle depends neither
//! on other nodes nor on desired values.

use std::fmt;

/// Existence of a value in the target system.
#[derive(Clone, Default)]
pub(super) enum Lifecycle<V> {
    /// The value does not exist, as far as known.
    #[default]
    Absent,
    /// A failed or interrupted creation may have left parts of the `attempted` value behind. The next operation removes them
    /// first.
    Partial { attempted: Option<V> },
    /// The value exists.
    Present { value: V, agreement: Agreement, fate: Fate },
    /// The value is a fact reported from outside. No operation is ever performed on it. `None` means that the fact was reported
    /// not to exist.
    Fact(Option<V>),
}

/// State of the comparison between an existing value and the desired one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Agreement {
    /// The value was read from the target system and has not been compared yet.
    Observed,
    /// The value was created along with another value and has not been compared yet.
    CoCreated,
    /// The value is known to differ from the desired one, or has not been compared since one of the two last changed.
    OutOfSync,
    /// The value matches the desired one, and so do its dependencies and derived values.
    InSync,
}

impl Agreement {
    /// Returns the state of the comparison after the applied or the desired value has changed.
    ///
    /// `Observed` and `CoCreated` are kept until a comparison finds the values equal.
    fn after_change(self) -> Self {
        match self {
            Agreement::InSync | Agreement::OutOfSync => Agreement::OutOfSync,
            Agreement::Observed => Agreement::Observed,
            Agreement::CoCreated => Agreement::CoCreated,
        }
    }
}

/// Fate of an existing value: it stays, or it is to be deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// The value is not to be deleted. Dependents can rely on it.
    Stays,
    /// The value is obsolete or must release a claim. It is deleted at its next evaluation. Dependents can rely on it until then.
    Obsolete,
    /// The value is deleted as soon as nothing depends on it, unless it becomes desired again first. Dependents can no longer
    /// rely on it.
    Terminating,
    /// The value is both obsolete and terminating. It is deleted even if it becomes desired again.
    TerminatingObsolete,
}

/// Event in the lifecycle of a value.
pub(super) enum Event<V> {
    /// The value was read from the target system.
    Observed(V),
    /// The value was created along with another value.
    CoCreated(V),
    /// An operation applied this value, which may differ from the desired one.
    Applied(V),
    /// An operation applied the desired value.
    AppliedAsDesired(V),
    /// A creation failed.
    CreationFailed { attempted: Option<V>, leaves_parts: bool },
    /// Parts of the value were observed. `attempted` is the value to which these parts belong. It is ignored if the value of a
    /// failed creation is already known.
    PartsFound { attempted: Option<V> },
    /// A comparison found that the value matches the desired one.
    Matched(V),
    /// The desired value has changed.
    DesireChanged,
    /// The value turned out to be obsolete, or must release a claim.
    Condemned,
    /// The value is to be deleted.
    Terminate,
    /// The value no longer has to be deleted.
    Resume,
    /// The value no longer exists, and no parts of it are left.
    Gone,
    /// A fact was reported to exist (`Some`) or not to exist (`None`).
    Reported(Option<V>),
}

/// Event that is impossible in the current state of the value. It indicates a defect in the scheduler or in its caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Defect {
    state: &'static str,
    event: &'static str,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unexpected {}: the value is {}", self.event, self.state)
    }
}

impl<V> Lifecycle<V> {
    /// Processes an event. If the event is impossible, returns a [`Defect`] and leaves the lifecycle unchanged.
    ///
    /// No other function changes a lifecycle.
    pub fn on(&mut self, event: Event<V>) -> Result<(), Defect> {
        use Lifecycle::{Absent, Fact, Partial, Present};
        let defect = Defect {
            state: self.name(),
            event: event.name(),
        };
        let present = |value, agreement, fate| Present { value, agreement, fate };
        *self = match (std::mem::take(self), event) {
            (Absent | Partial { .. }, Event::Observed(value)) => present(value, Agreement::Observed, Fate::Stays),
            (Absent | Partial { .. }, Event::CoCreated(value)) => present(value, Agreement::CoCreated, Fate::Stays),
            (Absent | Partial { .. }, Event::Applied(value)) => present(value, Agreement::OutOfSync, Fate::Stays),
            (Absent | Partial { .. }, Event::AppliedAsDesired(value)) => present(value, Agreement::InSync, Fate::Stays),
            (Present { agreement, fate, .. }, Event::Observed(value) | Event::Applied(value)) => {
                present(value, agreement.after_change(), fate)
            }
            (Present { fate, .. }, Event::Matched(value) | Event::AppliedAsDesired(value)) => present(value, Agreement::InSync, fate),
            (Present { value, agreement, fate }, Event::DesireChanged) => present(value, agreement.after_change(), fate),
            (Present { value, agreement, fate }, Event::Condemned) => present(value, agreement, fate.condemned()),
            (Present { value, agreement, fate }, Event::Terminate) => present(value, agreement, fate.terminating()),
            (Present { value, agreement, fate }, Event::Resume) => present(value, agreement, fate.resumed()),
            (Absent, Event::CreationFailed { leaves_parts: false, .. }) => Absent,
            (Absent | Partial { .. }, Event::CreationFailed { attempted, .. }) => Partial { attempted },
            (Absent, Event::PartsFound { attempted }) => Partial { attempted },
            (Partial { attempted: known }, Event::PartsFound { attempted }) => Partial {
                attempted: known.or(attempted),
            },
            (Present { .. } | Partial { .. }, Event::Gone) => Absent,
            (Absent | Fact(_), Event::Reported(value)) => Fact(value),
            (state @ (Absent | Partial { .. } | Fact(_)), Event::DesireChanged) => state,
            (
                state,
                Event::Observed(_)
                | Event::CoCreated(_)
                | Event::Applied(_)
                | Event::AppliedAsDesired(_)
                | Event::CreationFailed { .. }
                | Event::PartsFound { .. }
                | Event::Matched(_)
                | Event::Condemned
                | Event::Terminate
                | Event::Resume
                | Event::Gone
                | Event::Reported(_),
            ) => {
                *self = state;
                return Err(defect);
            }
        };
        Ok(())
    }

    /// Returns the value; `None` if it does not exist.
    pub fn value(&self) -> Option<&V> {
        match self {
            Lifecycle::Present { value, .. } | Lifecycle::Fact(Some(value)) => Some(value),
            Lifecycle::Absent | Lifecycle::Partial { .. } | Lifecycle::Fact(None) => None,
        }
    }

    /// Returns whether dependents can rely on the value.
    pub fn is_available(&self) -> bool {
        match self {
            Lifecycle::Present { fate, .. } => !fate.is_terminating(),
            Lifecycle::Fact(value) => value.is_some(),
            Lifecycle::Absent | Lifecycle::Partial { .. } => false,
        }
    }

    /// Returns the state of the comparison with the desired value; `None` if the value does not exist or is a fact.
    pub fn agreement(&self) -> Option<Agreement> {
        match self {
            Lifecycle::Present { agreement, .. } => Some(*agreement),
            Lifecycle::Absent | Lifecycle::Partial { .. } | Lifecycle::Fact(_) => None,
        }
    }

    /// Returns whether the value stays or is to be deleted; `None` if the value does not exist or is a fact.
    pub fn fate(&self) -> Option<Fate> {
        match self {
            Lifecycle::Present { fate, .. } => Some(*fate),
            Lifecycle::Absent | Lifecycle::Partial { .. } | Lifecycle::Fact(_) => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Lifecycle::Absent => "absent",
            Lifecycle::Partial { .. } => "partial",
            Lifecycle::Present { fate, .. } if fate.is_terminating() => "terminating",
            Lifecycle::Present { .. } => "present",
            Lifecycle::Fact(_) => "a fact",
        }
    }
}

impl Fate {
    pub fn is_terminating(self) -> bool {
        match self {
            Fate::Stays | Fate::Obsolete => false,
            Fate::Terminating | Fate::TerminatingObsolete => true,
        }
    }

    pub fn is_obsolete(self) -> bool {
        match self {
            Fate::Stays | Fate::Terminating => false,
            Fate::Obsolete | Fate::TerminatingObsolete => true,
        }
    }

    fn condemned(self) -> Self {
        match self {
            Fate::Stays | Fate::Obsolete => Fate::Obsolete,
            Fate::Terminating | Fate::TerminatingObsolete => Fate::TerminatingObsolete,
        }
    }

    fn terminating(self) -> Self {
        match self {
            Fate::Stays | Fate::Terminating => Fate::Terminating,
            Fate::Obsolete | Fate::TerminatingObsolete => Fate::TerminatingObsolete,
        }
    }

    fn resumed(self) -> Self {
        match self {
            Fate::Stays | Fate::Terminating => Fate::Stays,
            Fate::Obsolete | Fate::TerminatingObsolete => Fate::Obsolete,
        }
    }
}

impl<V> Event<V> {
    fn name(&self) -> &'static str {
        match self {
            Event::Observed(_) => "observation",
            Event::CoCreated(_) => "creation by another value",
            Event::Applied(_) | Event::AppliedAsDesired(_) => "success of an operation",
            Event::CreationFailed { .. } => "failure of a creation",
            Event::PartsFound { .. } => "discovery of parts",
            Event::Matched(_) => "match",
            Event::DesireChanged => "change of the desired value",
            Event::Condemned => "condemnation",
            Event::Terminate => "termination",
            Event::Resume => "resumption",
            Event::Gone => "end",
            Event::Reported(_) => "report",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Make<T> = fn() -> T;

    fn present(agreement: Agreement, fate: Fate) -> Lifecycle<u8> {
        Lifecycle::Present { value: 1, agreement, fate }
    }

    fn shown(state: &Lifecycle<u8>) -> String {
        match state {
            Lifecycle::Absent => "absent".to_owned(),
            Lifecycle::Partial { attempted } => format!("partial {}", attempted.unwrap_or_default()),
            Lifecycle::Present { value, agreement, fate } => format!("{agreement:?} {fate:?} {value}"),
            Lifecycle::Fact(value) => format!("fact {}", value.unwrap_or_default()),
        }
    }

    /// Tests every event in every state. Each row of the table has one result per event; `-` means a defect, which must leave the
    /// state unchanged.
    #[test]
    fn each_event_in_each_state() {
        let events: [Make<Event<u8>>; 13] = [
            || Event::Observed(2),
            || Event::CoCreated(2),
            || Event::Applied(2),
            || Event::AppliedAsDesired(2),
            || Event::CreationFailed {
                attempted: Some(2),
                leaves_parts: true,
            },
            || Event::CreationFailed {
                attempted: Some(2),
                leaves_parts: false,
            },
            || Event::PartsFound { attempted: Some(2) },
            || Event::Matched(2),
            || Event::DesireChanged,
            || Event::Condemned,
            || Event::Terminate,
            || Event::Resume,
            || Event::Gone,
        ];
        let created = "Observed Stays 2|CoCreated Stays 2|OutOfSync Stays 2|InSync Stays 2";
        let table: [(Make<Lifecycle<u8>>, String); 8] = [
            (|| Lifecycle::Absent, format!("{created}|partial 2|absent|partial 2|-|absent|-|-|-|-")),
            (
                || Lifecycle::Partial { attempted: Some(1) },
                format!("{created}|partial 2|partial 2|partial 1|-|partial 1|-|-|-|absent"),
            ),
            (
                || present(Agreement::Observed, Fate::Stays),
                "Observed Stays 2|-|Observed Stays 2|InSync Stays 2|-|-|-|InSync Stays 2|Observed Stays 1|Observed Obsolete 1|\
                 Observed Terminating 1|Observed Stays 1|absent"
                    .to_owned(),
            ),
            (
                || present(Agreement::CoCreated, Fate::Terminating),
                "CoCreated Terminating 2|-|CoCreated Terminating 2|InSync Terminating 2|-|-|-|InSync Terminating 2|CoCreated Terminating 1|\
                 CoCreated TerminatingObsolete 1|CoCreated Terminating 1|CoCreated Stays 1|absent"
                    .to_owned(),
            ),
            (
                || present(Agreement::InSync, Fate::Obsolete),
                "OutOfSync Obsolete 2|-|OutOfSync Obsolete 2|InSync Obsolete 2|-|-|-|InSync Obsolete 2|OutOfSync Obsolete 1|\
                 InSync Obsolete 1|InSync TerminatingObsolete 1|InSync Obsolete 1|absent"
                    .to_owned(),
            ),
            (
                || present(Agreement::OutOfSync, Fate::TerminatingObsolete),
                "OutOfSync TerminatingObsolete 2|-|OutOfSync TerminatingObsolete 2|InSync TerminatingObsolete 2|-|-|-|\
                 InSync TerminatingObsolete 2|OutOfSync TerminatingObsolete 1|OutOfSync TerminatingObsolete 1|\
                 OutOfSync TerminatingObsolete 1|OutOfSync Obsolete 1|absent"
                    .to_owned(),
            ),
            (|| Lifecycle::Fact(Some(1)), "-|-|-|-|-|-|-|-|fact 1|-|-|-|-".to_owned()),
            (|| Lifecycle::Fact(None), "-|-|-|-|-|-|-|-|fact 0|-|-|-|-".to_owned()),
        ];
        for (state, row) in table {
            let expected: Vec<&str> = row.split('|').collect();
            for (event, expected) in events.iter().zip(expected) {
                let (mut after, name) = (state(), event().name());
                let before = shown(&after);
                match after.on(event()) {
                    Ok(()) => assert_eq!(shown(&after), expected, "{name} of {before}"),
                    Err(defect) => {
                        assert_eq!(expected, "-", "{defect}");
                        assert_eq!(shown(&after), before, "a defect must change nothing");
                    }
                }
            }
        }
    }

    #[test]
    fn only_absent_values_and_facts_can_be_reported() {
        let mut state = Lifecycle::Absent;
        for (report, expected) in [(Some(2), "fact 2"), (None, "fact 0"), (Some(3), "fact 3")] {
            assert!(state.on(Event::Reported(report)).is_ok());
            assert_eq!(shown(&state), expected);
        }
        let mut state = present(Agreement::InSync, Fate::Stays);
        let defect = state.on(Event::Reported(None)).expect_err("the value is not a fact");
        assert_eq!(defect.to_string(), "unexpected report: the value is present");
    }
}
