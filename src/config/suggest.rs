//! Suggestions for mistyped words.
//!
//! Shared by the settings and the command line, so that every place that refuses a word proposes the same correction. Start at [`did_you_mean`].

/// Returns `; did you mean X?` if one of the candidates resembles the word, and an empty text otherwise.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    closest(word, candidates).map_or_else(String::new, |found| format!("; did you mean {found}?"))
}

/// Returns the candidate with the fewest typing errors, if they are few for a word of this length. Letter case does not count.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters: Vec<char> = word.to_lowercase().chars().collect();
    let most = (letters.len() / 3).clamp(1, 3);
    let near = candidates.into_iter().filter_map(|candidate| {
        let other: Vec<char> = candidate.to_lowercase().chars().collect();
        let errors = (letters.len().abs_diff(other.len()) <= most).then(|| typing_errors(&letters, &other))?;
        (errors <= most).then_some((errors, candidate))
    });
    near.min_by_key(|(errors, _)| *errors).map(|(_, candidate)| candidate)
}

/// Counts letters that are missing, added, replaced, or swapped with their neighbor (restricted Damerau–Levenshtein distance).
fn typing_errors(a: &[char], b: &[char]) -> usize {
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
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
