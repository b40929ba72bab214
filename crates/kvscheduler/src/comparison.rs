//! Differences between an applied and a desired value.
//!
//! Most comparisons find no difference, so an empty [`Comparison`] must cost nothing.

use std::fmt;

use smallvec::SmallVec;

use super::descriptor::Label;

/// Differences between an applied value and the desired one. An empty comparison means that nothing has to be done.
///
/// Neither an empty comparison nor a single difference with a constant text allocates memory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Comparison(SmallVec<[Difference; 1]>);

/// One difference between an applied and a desired value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// Description of the difference, worded as the end of a sentence, such as `the MTU is 1500 instead of 9000`.
    pub text: Label,
    /// How to remove the difference.
    pub remedy: Remedy,
}

/// How to remove a difference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// The value is changed in place.
    Update,
    /// The value is deleted and created again.
    Recreate,
}

impl Difference {
    /// Creates a difference that an update can remove.
    pub fn in_place(text: impl Into<Label>) -> Self {
        Difference {
            text: text.into(),
            remedy: Remedy::Update,
        }
    }

    /// Creates a difference that requires deleting and re-creating the value.
    pub fn again(text: impl Into<Label>) -> Self {
        Difference {
            text: text.into(),
            remedy: Remedy::Recreate,
        }
    }
}

impl Comparison {
    /// Returns an empty comparison.
    pub fn same() -> Self {
        Self::default()
    }

    /// Returns whether there is no difference.
    pub fn is_same(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether the value must be deleted and created again.
    pub fn needs_recreate(&self) -> bool {
        self.0.iter().any(|difference| difference.remedy == Remedy::Recreate)
    }

    /// Returns the differences in reporting order.
    pub fn differences(&self) -> &[Difference] {
        &self.0
    }
}

impl From<Difference> for Comparison {
    fn from(difference: Difference) -> Self {
        Comparison(SmallVec::from_buf([difference]))
    }
}

impl FromIterator<Difference> for Comparison {
    fn from_iter<I: IntoIterator<Item = Difference>>(differences: I) -> Self {
        Comparison(differences.into_iter().collect())
    }
}

impl IntoIterator for Comparison {
    type Item = Difference;
    type IntoIter = smallvec::IntoIter<[Difference; 1]>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Extend<Difference> for Comparison {
    fn extend<I: IntoIterator<Item = Difference>>(&mut self, differences: I) {
        self.0.extend(differences);
    }
}

/// Formats the differences as the end of a sentence.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, difference) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{}", difference.text)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_difference_that_needs_recreation_is_enough_to_recreate() {
        let none: Comparison = [None, None].into_iter().flatten().collect();
        assert!(none.is_same() && !none.needs_recreate());
        let mut some = Comparison::from(Difference::in_place("its size is 1 instead of 2"));
        assert!(!some.is_same() && !some.needs_recreate());
        some.extend([Difference::again("it is red instead of blue".to_owned())]);
        assert!(some.needs_recreate());
        assert_eq!(some.to_string(), "its size is 1 instead of 2, it is red instead of blue");
    }
}
