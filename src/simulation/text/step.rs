//! Text form of scenario steps, such as `tamper delete-link 3`.

use std::{
    fmt::{self, Display},
    str::FromStr,
};

use super::{
    Time, halves, intern, kebab, named, number,
    value::{parse_key, show_key},
};
use crate::simulation::{
    scenario::{Change, Step},
    store::Loss,
    tampering::Tampering,
};

/// Steps without a parameter.
const PLAIN: [(Step, &str); 15] = [
    (Step::SetCarrier(true), "open tap"),
    (Step::SetCarrier(false), "close tap"),
    (Step::PutBack, "put back"),
    (Step::AcceptRemovals, "accept removals"),
    (Step::EndProcess, "end process"),
    (Step::StartProcess, "start process"),
    (Step::StopDocker, "stop docker"),
    (Step::StartDocker, "start docker"),
    (Step::CutReader, "cut reader"),
    (Step::CutWriter, "cut writer"),
    (Step::Compact, "compact store"),
    (Step::EndLease, "end lease"),
    (Step::LoseWatch, "lose watch answer"),
    (Step::Kill, "kill agent"),
    (Step::Foreign, "add foreign links"),
];
const LOWER: &str = "replace store at lower revision";
const HIGHER: &str = "replace store at higher revision";

impl Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Put(item) => write!(f, "put {item}"),
            Change::Delete(key) => write!(f, "delete {}", show_key(key)),
        }
    }
}

impl FromStr for Change {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match halves(text, " ")? {
            ("put", item) => item.parse().map(Change::Put),
            ("delete", key) => parse_key(key).map(Change::Delete),
            _ => Err(format!("{text:?} is neither a put nor a delete")),
        }
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((_, text)) = PLAIN.iter().find(|(step, _)| step == self) {
            return write!(f, "{text}");
        }
        match self {
            Step::Put(changes) if changes.is_empty() => write!(f, "put nothing"),
            Step::Put(changes) => {
                let changes: Vec<String> = changes.iter().map(Change::to_string).collect();
                write!(f, "{}", changes.join("; "))
            }
            Step::PutAgain(key) => write!(f, "put-again {}", show_key(key)),
            Step::Tamper(tampering, number) => write!(f, "tamper {} {number}", kebab(tampering)),
            Step::AddName(name) => write!(f, "add-namespace {name}"),
            Step::RemoveName(name) => write!(f, "remove-namespace {name}"),
            Step::Dangle(name) => write!(f, "dangle-namespace {name}"),
            Step::AddNic(name) => write!(f, "add-nic {name}"),
            Step::RemoveNic(name) => write!(f, "remove-nic {name}"),
            Step::MakeVrf(table) => write!(f, "make-vrf {table}"),
            Step::AddNicAddress(name) => write!(f, "add-nic-address {name}"),
            Step::RemoveNicAddress(name) => write!(f, "remove-nic-address {name}"),
            Step::StartContainer(number) => write!(f, "start-container {number}"),
            Step::StopContainer(number) => write!(f, "stop-container {number}"),
            Step::LoseDockerEvents(count) => write!(f, "lose-docker-events {count}"),
            Step::CutStore(time) => write!(f, "cut-store {}", Time(*time)),
            Step::EmptyStore(loss) => write!(f, "empty-store {}", kebab(loss)),
            Step::RestoreStore(changes) => write!(f, "restore-store {changes}"),
            Step::LoseStatus(every) => write!(f, "lose-status {every}"),
            Step::OverwriteStatus(every) => write!(f, "overwrite-status {every}"),
            Step::SecondPublisher(stays) => write!(f, "second-publisher {}", Time(*stays)),
            Step::ReplaceStore(lower) => write!(f, "{}", if *lower { LOWER } else { HIGHER }),
            Step::Fail(after, errno) => write!(f, "fail-operation {after} with {errno}"),
            Step::KillAtOperation(after) => write!(f, "kill-at-operation {after}"),
            Step::Squat(name) => write!(f, "squat {name}"),
            _ => write!(f, "{self:?}"),
        }
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((step, _)) = PLAIN.iter().find(|(_, known)| *known == text) {
            return Ok(step.clone());
        }
        if text == LOWER || text == HIGHER {
            return Ok(Step::ReplaceStore(text == LOWER));
        }
        if text == "put nothing" {
            return Ok(Step::Put(Vec::new()));
        }
        let (verb, rest) = halves(text, " ")?;
        Ok(match verb {
            "put" | "delete" => Step::Put(text.split(';').map(|change| change.trim().parse()).collect::<Result<_, _>>()?),
            "put-again" => Step::PutAgain(parse_key(rest)?),
            "tamper" => {
                let (kind, which) = halves(rest, " ")?;
                Step::Tamper(named(&Tampering::ALL, kind)?, number(which)?)
            }
            "add-namespace" => Step::AddName(intern(rest)),
            "remove-namespace" => Step::RemoveName(intern(rest)),
            "dangle-namespace" => Step::Dangle(intern(rest)),
            "add-nic" => Step::AddNic(intern(rest)),
            "remove-nic" => Step::RemoveNic(intern(rest)),
            "make-vrf" => Step::MakeVrf(number(rest)?),
            "add-nic-address" => Step::AddNicAddress(intern(rest)),
            "remove-nic-address" => Step::RemoveNicAddress(intern(rest)),
            "start-container" => Step::StartContainer(number(rest)?),
            "stop-container" => Step::StopContainer(number(rest)?),
            "lose-docker-events" => Step::LoseDockerEvents(number(rest)?),
            "empty-store" => Step::EmptyStore(named(&Loss::ALL, rest)?),
            "restore-store" => Step::RestoreStore(number(rest)?),
            "lose-status" => Step::LoseStatus(number(rest)?),
            "overwrite-status" => Step::OverwriteStatus(number(rest)?),
            "second-publisher" => Step::SecondPublisher(Time::parse(rest)?),
            "cut-store" => Step::CutStore(Time::parse(rest)?),
            "fail-operation" => {
                let (after, errno) = halves(rest, " with ")?;
                Step::Fail(number(after)?, number(errno)?)
            }
            "kill-at-operation" => Step::KillAtOperation(number(rest)?),
            "squat" => Step::Squat(intern(rest)),
            _ => return Err(format!("{text:?} is not a step")),
        })
    }
}
