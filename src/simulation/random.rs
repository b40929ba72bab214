//! Random numbers from a seed, or numbers that were drawn elsewhere.
//!
//! Owns what the simulation chooses with them. Must never be seeded by anything but numbers that were given. Start reading at [`Random`].

/// Where the numbers come from.
#[derive(Clone, Debug)]
enum Source {
    /// Drawn.
    Seed(testbed::random::Random),
    /// As they are, and then 0.
    Given(std::vec::IntoIter<u32>),
}

/// See the [module documentation](self).
#[derive(Clone, Debug)]
pub struct Random(Source);

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        Random(Source::Seed(testbed::random::Random::new(seed)))
    }

    /// Numbers that somebody else has drawn. The smaller they are, the less is in what is drawn with them: so a case that goes wrong
    /// can be made smaller.
    pub fn given(numbers: Vec<u32>) -> Self {
        Random(Source::Given(numbers.into_iter()))
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        match &mut self.0 {
            Source::Seed(random) => random.bits(),
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
