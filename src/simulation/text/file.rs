//! Text form of a complete scenario, as in the files in `tests/scenarios/`.

use std::{
    fmt::{self, Display},
    str::FromStr,
    time::Duration,
};

use super::{Time, halves, kebab, named, number};
use crate::simulation::{
    choices::{Draws, Listed, Site},
    scenario::Scenario,
};

impl Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = [
            (self.reports_early, "early outcomes"),
            (self.one_by_one, "operations one by one"),
            (self.docker, "docker"),
            (self.foreign_name, "namespace red exists"),
            (self.process, "process exists"),
            (self.slow_store, "slow store"),
            (self.nics, "nics exist"),
            (self.accepts, "accepts removals"),
        ];
        write!(f, "world watched {}", self.watched_max)?;
        for (_, text) in flags.iter().filter(|(set, _)| *set) {
            write!(f, ", {text}")?;
        }
        writeln!(f)?;
        for item in &self.initial {
            writeln!(f, "store {item}")?;
        }
        let mut at = Duration::ZERO;
        for (pause, step) in &self.steps {
            at += *pause;
            writeln!(f, "at {} {step}", Time(at))?;
        }
        match &self.draws {
            Draws::OfSeed(seed) => writeln!(f, "draws of seed {seed}"),
            Draws::Listed(listed) => listed.iter().try_for_each(|((site, number), drawn)| {
                let name = kebab(site);
                match site.is_choice() {
                    true => writeln!(f, "choose {name} {number}: {}", if *drawn == 0 { "no" } else { "yes" }),
                    false => writeln!(f, "delay {name} {number}: {}", Time(Duration::from_micros(*drawn))),
                }
            }),
        }
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut scenario = Scenario::empty();
        let mut listed = Listed::new();
        let mut now = Duration::ZERO;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split(" #").next().unwrap_or_default().trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            parse_line(line, &mut scenario, &mut listed, &mut now).map_err(|error| format!("line {number}: {error}"))?;
        }
        if scenario.draws == Draws::Listed(Listed::new()) {
            scenario.draws = Draws::Listed(listed);
        }
        Ok(scenario)
    }
}

fn parse_line(line: &str, scenario: &mut Scenario, listed: &mut Listed, now: &mut Duration) -> Result<(), String> {
    let (word, rest) = halves(line, " ")?;
    match word {
        "world" => return rest.split(',').try_for_each(|part| parse_world(part.trim(), scenario)),
        "store" => scenario.initial.push(rest.parse()?),
        "at" => {
            let (time, step) = halves(rest, " ")?;
            let at = Time::parse(time)?;
            let pause = at.checked_sub(*now).ok_or_else(|| format!("{time} is before the last step"))?;
            *now = at;
            scenario.steps.push((pause, step.parse()?));
        }
        "draws" => {
            let seed = rest.strip_prefix("of seed ").ok_or_else(|| format!("no seed in {rest:?}"))?;
            scenario.draws = Draws::OfSeed(number(seed)?);
        }
        "delay" | "choose" => {
            let (which, drawn) = halves(rest, ": ")?;
            let (site, count) = halves(which, " ")?;
            let site = named(&Site::ALL, site)?;
            if site.is_choice() != (word == "choose") {
                return Err(format!("{} cannot be used with {word}", kebab(&site)));
            }
            let drawn = match (word, drawn) {
                ("delay", _) => u64::try_from(Time::parse(drawn)?.as_micros()).map_err(|error| error.to_string())?,
                (_, "yes") => 1,
                (_, "no") => 0,
                _ => return Err(format!("{drawn:?} is neither yes nor no")),
            };
            listed.insert((site, number(count)?), drawn);
        }
        _ => return Err(format!("unknown word {word:?}")),
    }
    Ok(())
}

fn parse_world(part: &str, scenario: &mut Scenario) -> Result<(), String> {
    match part {
        "early outcomes" => scenario.reports_early = true,
        "operations one by one" => scenario.one_by_one = true,
        "docker" => scenario.docker = true,
        "namespace red exists" => scenario.foreign_name = true,
        "process exists" => scenario.process = true,
        "slow store" => scenario.slow_store = true,
        "nics exist" => scenario.nics = true,
        "accepts removals" => scenario.accepts = true,
        _ => {
            let watched = part
                .strip_prefix("watched ")
                .ok_or_else(|| format!("unknown property {part:?} of a world"))?;
            scenario.watched_max = number(watched)?;
        }
    }
    Ok(())
}
