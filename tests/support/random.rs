//! A seeded source of choices, so that a failing order can be repeated.
//!
//! Owns the generator (SplitMix64, Steele, Lea and Flood 2014); must never read the clock unless a person asked for a random seed.
//! Start reading at [`Random::from_environment`].

/// SplitMix64: small, fast, and good enough to choose orders and moments.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator with this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed named in `LIVE_SEED`, or `default`; printed, so that a failure can be repeated with it.
    pub fn from_environment(default: u64) -> Self {
        let seed = match std::env::var("LIVE_SEED") {
            Ok(text) => text.parse().expect("LIVE_SEED is a decimal number"),
            Err(_) => default,
        };
        println!("seed {seed} (repeat with LIVE_SEED={seed})");
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; the bias of the remainder does not matter for the small bounds used here.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "nothing to choose from");
        (self.bits() % bound as u64) as usize
    }

    /// One of these.
    pub fn choose<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// Puts the items into a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
