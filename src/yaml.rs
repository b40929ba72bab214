//! Errors of the YAML parser in words for people.
//!
//! The parser names functions of its own where a person needs to know what to change. Start at [`words`].

use serde_saphyr::Error;

/// Returns what is wrong with a text; several lines may follow that show the place.
pub fn words(error: &Error) -> String {
    let mut cause = error;
    while let Error::WithSnippet { error: inner, .. } = cause {
        cause = inner;
    }
    match cause {
        Error::MultipleDocuments { location, .. } => format!(
            "a second YAML document begins at line {}; put all values into one document, or each document into a file of its own",
            location.line()
        ),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_document_is_told_with_its_line_and_without_names_of_functions() {
        let error = serde_saphyr::from_str::<serde_json::Value>("a: 1\n---\na: 2\n").expect_err("two documents");
        let words = words(&error);
        assert!(words.starts_with("a second YAML document begins at line "), "{words}");
        assert!(!words.contains('_'), "{words}");
    }
}
