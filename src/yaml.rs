//! Error messages for YAML files.
//!
//! Some messages of the YAML parser name functions of the parser instead of telling the user what to change. This module
//! replaces these messages.

use serde_saphyr::Error;

/// Returns the error message to show to the user. The first line describes the error. Further lines, if any, quote the file.
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
    fn error_for_a_second_document_names_its_line_and_no_function() {
        let error = serde_saphyr::from_str::<serde_json::Value>("a: 1\n---\na: 2\n").expect_err("two documents");
        let words = words(&error);
        assert!(words.starts_with("a second YAML document begins at line "), "{words}");
        assert!(!words.contains('_'), "{words}");
    }
}
