//! Random numbers, either from a seed or from a given list.

/// Source of the random numbers.
#[derive(Clone, Debug)]
enum Source {
    /// Seeded generator.
    Seed(testbed::random::Random),
    /// Given numbers, followed by zeros.
    Given(std::vec::IntoIter<u32>),
}

/// Generator of random numbers.
#[derive(Clone, Debug)]
pub struct Random(Source);

impl Random {
    /// Creates a generator with a seed.
    pub fn new(seed: u64) -> Self {
        Random(Source::Seed(testbed::random::Random::new(seed)))
    }

    /// Creates a generator that returns the given numbers, and zeros after that.
    ///
    /// Smaller numbers result in smaller test cases, so that proptest can shrink failing test cases.
    pub fn given(numbers: Vec<u32>) -> Self {
        Random(Source::Given(numbers.into_iter()))
    }

    /// Returns the next random number.
    pub fn any(&mut self) -> u64 {
        match &mut self.0 {
            Source::Seed(random) => random.bits(),
            Source::Given(numbers) => numbers.next().unwrap_or_default().into(),
        }
    }

    /// Returns a number below `limit`, which must not be 0.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.any() % limit as u64).unwrap_or(0)
    }

    /// Returns true with a probability of `percent` %.
    pub fn percent(&mut self, percent: usize) -> bool {
        let number = self.below(100);
        match self.0 {
            Source::Seed(_) => number < percent,
            Source::Given(_) => number >= 100 - percent,
        }
    }

    /// Returns a random element of `of`. Uses no random number if there is only one element.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        match of {
            [only] => *only,
            _ => of[self.below(of.len())],
        }
    }
}
