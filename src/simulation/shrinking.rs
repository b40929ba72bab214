//! Reduces a scenario while a given property still holds. Removes steps, values, delays and decisions, and rounds delays.

use std::time::Duration;

use super::{
    choices::{Draws, Listed},
    scenario::Scenario,
};

/// Returns the smallest scenario found that satisfies `holds`. The original `scenario` must also satisfy `holds`.
pub fn shrink(mut scenario: Scenario, holds: &dyn Fn(&Scenario) -> bool) -> Scenario {
    loop {
        let before = scenario.clone();
        without_draws(&mut scenario, holds);
        while let Some(smaller) = smaller(&scenario).into_iter().find(holds) {
            scenario = smaller;
            without_draws(&mut scenario, holds);
        }
        if scenario == before {
            return scenario;
        }
    }
}

/// Sets as many delays and decisions as possible to their defaults, and rounds the remaining delays.
fn without_draws(scenario: &mut Scenario, holds: &dyn Fn(&Scenario) -> bool) {
    let Draws::Listed(listed) = &scenario.draws else { return };
    let mut kept: Vec<_> = listed.clone().into_iter().collect();
    let with = |scenario: &Scenario, draws: Listed| Scenario {
        draws: Draws::Listed(draws),
        ..scenario.clone()
    };
    let mut chunk = kept.len();
    while chunk > 0 {
        let mut from = 0;
        while from < kept.len() {
            let mut fewer = kept.clone();
            fewer.drain(from..kept.len().min(from + chunk));
            let candidate = with(scenario, fewer.iter().copied().collect());
            if holds(&candidate) {
                kept = fewer;
            } else {
                from += chunk;
            }
        }
        chunk /= 2;
    }
    let mut listed: Listed = kept.into_iter().collect();
    for (place, drawn) in listed.clone().into_iter().filter(|((site, _), _)| !site.is_choice()) {
        for unit in [100_000, 10_000, 1_000, 100] {
            let mut rounded = listed.clone();
            rounded.insert(place, drawn.div_ceil(unit) * unit);
            if rounded == listed || holds(&with(scenario, rounded.clone())) {
                listed = rounded;
                break;
            }
        }
    }
    scenario.draws = Draws::Listed(listed);
}

/// Returns scenarios with fewer steps or values.
fn smaller(scenario: &Scenario) -> Vec<Scenario> {
    let mut candidates = Vec::new();
    let steps = scenario.steps.len();
    let halves = [(0, steps / 2), (steps / 2, steps)];
    let each = (0..steps).map(|index| (index, index + 1));
    for (from, to) in halves.into_iter().filter(|_| steps > 3).chain(each) {
        let mut smaller = scenario.clone();
        let removed: Vec<_> = smaller.steps.drain(from..to).collect();
        // The next step gets the pauses of the removed steps, so that all later steps keep their times.
        if let Some(next) = smaller.steps.get_mut(from) {
            next.0 += removed.iter().map(|(pause, _)| *pause).sum::<Duration>();
        }
        candidates.push(smaller);
    }
    for index in 0..scenario.initial.len() {
        let mut smaller = scenario.clone();
        smaller.initial.remove(index);
        candidates.push(smaller);
    }
    candidates
}
