//! The simulator as a test: some thousand seeds, the replay, and the deliberate bugs.
//!
//! Owns how many. Must never contain a rule. Start reading at [`no_world_goes_wrong`]; for any number of seeds there is
//! `examples/simulate.rs`.

use super::{mutation::Mutation, run, scenario::Scenario, trace};

fn seeds() -> u64 {
    let wanted = std::env::var("SIMULATION_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    wanted.unwrap_or(2000)
}

#[test]
fn no_world_goes_wrong() {
    for seed in 0..seeds() {
        if let Err(text) = run(&Scenario::of_seed(seed), None) {
            panic!("seed {seed}: {text}");
        }
    }
}

/// Worlds that went wrong before something was mended, and what that was. A change of how seeds become worlds makes others of them.
const MENDED: [(&str, &[u64]); 23] = [
    (
        "something is made in a namespace before it is known what those hold that are opened beside it",
        &[101593],
    ),
    (
        "a namespace that an earlier run left is wanted again, and nobody watches its name",
        &[954_592],
    ),
    (
        "what needs a name that a stranger holds is kept as if that were still coming",
        &[732_295],
    ),
    (
        "a route is removed from the table of a VRF that its interface has not entered yet",
        &[760_503],
    ),
    (
        "a link is made that is there already, left undecided, when what is wanted changes",
        &[811_054],
    ),
    (
        "a namespace is wanted when the survey leaves it out, and then no longer",
        &[2939, 11136, 13933, 29069],
    ),
    ("a namespace is closed with something in it that may belong elsewhere", &[14276]),
    ("an address whose removal failed is taken for lost", &[8101]),
    (
        "simulator: the daemon has not told of a container",
        &[11463, 26285, 27314, 40885, 42961, 53456, 107751],
    ),
    ("a name changes while its namespace is being given up", &[36831, 49764, 68552]),
    (
        "something is built on a link that is being renamed",
        &[3364, 9464, 9673, 11334, 13935, 14601],
    ),
    ("an address goes with the primary one of its subnet", &[60983]),
    ("an interface enters a VRF and loses its IPv6 addresses", &[72945]),
    (
        "a namespace is given up beside the removal of what a failed creation left in it",
        &[76894],
    ),
    (
        "an invalid value is found under a name of its namespace that does not keep it",
        &[53879, 54107, 91644, 94949],
    ),
    ("another link takes the name of a lost one", &[133107, 162678]),
    ("the other end of a new pair was left half-made", &[161412]),
    (
        "a link of an earlier run is taken for an invalid value that is elsewhere",
        &[209344],
    ),
    ("a pair whose removal failed counts as damaged and stays", &[363224]),
    ("a namespace of the survey is wanted again and never swept", &[384485]),
    ("two links of one value in one namespace", &[399829, 496652, 591193, 620683]),
    ("an invalid value keeps the namespace of what has gone", &[500795, 663836]),
    (
        "simulator: a file appears when the agent makes the name, or a revision is used twice",
        &[56500, 102093, 223970, 647309],
    ),
];

#[test]
fn what_was_mended_stays_mended() {
    for (what, seeds) in MENDED {
        for seed in seeds {
            if let Err(text) = run(&Scenario::of_seed(*seed), None) {
                panic!("seed {seed}, once because {what}: {text}");
            }
        }
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..40 {
        let scenario = Scenario::of_seed(seed);
        assert_eq!(trace(&scenario, None), trace(&scenario, None), "seed {seed}");
    }
}

#[test]
fn deliberate_bugs_are_found() {
    for mutation in Mutation::ALL {
        let finds = |seed: &u64| {
            let scenario = Scenario::of_seed(*seed);
            // What goes wrong anyway says nothing about the bug.
            run(&scenario, Some(mutation)).is_err() && run(&scenario, None).is_ok()
        };
        let found = (0..10_000).find(finds);
        assert!(found.is_some(), "{} is not found", mutation.name());
    }
}
