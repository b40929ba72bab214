//! Suggestions for mistyped words.
//!
//! The settings and the command line both use this module, so that they suggest the same corrections.

/// Returns `; did you mean X?` if one of the candidates resembles the word, and an empty string otherwise.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    closest(word, candidates).map_or_else(String::new, |found| format!("; did you mean {found}?"))
}

/// Returns the candidate with the smallest edit distance to the word, or `None` if none is similar enough.
///
/// The allowed distance is a third of the length of the word, but at least 1 and at most 3. A missing, added or replaced letter
/// counts as 1, and so do two swapped adjacent letters. Letter case is ignored.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let most = (word.chars().count() / 3).clamp(1, 3);
    let errors = |candidate: &&str| strsim::osa_distance(&word, &candidate.to_lowercase());
    let nearest = candidates.into_iter().map(|candidate| (errors(&candidate), candidate));
    nearest
        .filter(|(errors, _)| *errors <= most)
        .min_by_key(|(errors, _)| *errors)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistyped_words_get_a_suggestion_and_other_words_do_not() {
        let states = ["CONFIGURED", "PENDING", "FAILED"];
        for (word, found) in [
            ("CONFIGURD", Some("CONFIGURED")),
            ("confgiured", Some("CONFIGURED")),
            ("faild", Some("FAILED")),
            ("READY", None),
            ("", None),
        ] {
            assert_eq!(closest(word, states), found, "{word}");
        }
        assert_eq!(did_you_mean("inof", ["info", "warn"]), "; did you mean info?");
        assert_eq!(did_you_mean("loud", ["info", "warn"]), "");
    }
}
