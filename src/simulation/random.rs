//! Random numbers from a seed: the same ones on every machine and in every release.
//!
//! Owns the generator. Must never be seeded by anything but numbers that were given. Start reading at [`Random`].

/// Where the numbers come from.
#[derive(Clone, Debug)]
enum Source {
    /// SplitMix64 (Steele, Lea, Flood 2014): small, fast, and good enough to choose among alternatives.
    Seed(u64),
    /// As they are, and then 0.
    Given(std::vec::IntoIter<u32>),
}

/// See the [module documentation](self).
#[derive(Clone, Debug)]
pub struct Random(Source);

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        Random(Source::Seed(seed))
    }

    /// Numbers that somebody else has drawn. The smaller they are, the less is in what is drawn with them: so a case that goes wrong
    /// can be made smaller.
    pub fn given(numbers: Vec<u32>) -> Self {
        Random(Source::Given(numbers.into_iter()))
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        match &mut self.0 {
            Source::Seed(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut mixed = *state;
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                mixed ^ (mixed >> 31)
            }
            Source::Given(numbers) => numbers.next().unwrap_or_default().into(),
        }
    }

    /// A number below `limit`, which must not be 0.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.any() % limit as u64).unwrap_or(0)
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: usize) -> bool {
        let number = self.below(100);
        match self.0 {
            Source::Seed(_) => number < percent,
            Source::Given(_) => number >= 100 - percent,
        }
    }

    /// One of the alternatives; of a single one no number is drawn.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        match of {
            [only] => *only,
            _ => of[self.below(of.len())],
        }
    }
}
