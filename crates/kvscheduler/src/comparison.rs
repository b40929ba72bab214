//! How an applied value differs from the desired one.
//!
//! Owns the list of differences and what removes each of them. Must never cost anything where there is none: most comparisons find none.
//! Start reading at [`Comparison`].

use std::fmt;

use smallvec::SmallVec;

use super::descriptor::Label;

/// The differences between an applied value and the desired one. None: nothing is to be done. Without any, or with one that has a fixed text,
/// it needs no memory of its own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Comparison(SmallVec<[Difference; 1]>);

/// One difference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The end of a sentence: `its MTU is 1500 instead of 9000`.
    pub text: Label,
    /// What removes it.
    pub remedy: Remedy,
}

/// What removes a difference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// The value is changed in place.
    Update,
    /// The value is deleted and created again.
    Recreate,
}

impl Difference {
    /// One that an update removes.
    pub fn in_place(text: impl Into<Label>) -> Self {
        Difference {
            text: text.into(),
            remedy: Remedy::Update,
        }
    }

    /// One that only a new creation removes.
    pub fn again(text: impl Into<Label>) -> Self {
        Difference {
            text: text.into(),
            remedy: Remedy::Recreate,
        }
    }
}

impl Comparison {
    /// No difference.
    pub fn same() -> Self {
        Self::default()
    }

    /// Whether nothing has to be done.
    pub fn is_same(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the value has to be deleted and created again.
    pub fn needs_recreate(&self) -> bool {
        self.0.iter().any(|difference| difference.remedy == Remedy::Recreate)
    }

    /// The differences, in the order in which they are told.
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

/// The end of a sentence.
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
    fn one_difference_that_cannot_be_removed_in_place_makes_it_a_new_creation() {
        let none: Comparison = [None, None].into_iter().flatten().collect();
        assert!(none.is_same() && !none.needs_recreate());
        let mut some = Comparison::from(Difference::in_place("its size is 1 instead of 2"));
        assert!(!some.is_same() && !some.needs_recreate());
        some.extend([Difference::again("it is red instead of blue".to_owned())]);
        assert!(some.needs_recreate());
        assert_eq!(some.to_string(), "its size is 1 instead of 2, it is red instead of blue");
    }
}
