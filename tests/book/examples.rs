//! Checks that all YAML and JSON documents in the documentation are valid, and that all command lines parse.

use clap::Parser;
use models::document::read_document;
use netns_agent::cli::Arguments;

use super::pages::all;

/// Returns the error that `netns-agent apply` would report for a document, or `None` if it would accept the document.
fn problem_of_document(text: &str) -> Option<String> {
    let read = serde_saphyr::with_deserializer_from_str(text, |deserializer| read_document(deserializer).map_err(|error| error.source));
    match read {
        Err(error) => Some(error.to_string()),
        Ok(items) => items
            .iter()
            .find_map(|item| item.model.validate().err())
            .map(|error| error.to_string()),
    }
}

#[test]
fn yaml_documents_are_accepted() {
    let (mut count, mut problems) = (0, Vec::new());
    for page in all() {
        for block in page.blocks().into_iter().filter(|block| block.language == "yaml") {
            count += 1;
            let problem = problem_of_document(&block.text);
            problems.extend(problem.map(|problem| format!("{}: {problem}\n{}", page.path.display(), block.text)));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count > 3, "only {count} documents were found");
}

#[test]
fn json_is_well_formed() {
    let mut problems = Vec::new();
    for page in all() {
        for block in page.blocks().into_iter().filter(|block| block.language == "json") {
            let read = serde_json::from_str::<serde_json::Value>(&block.text);
            problems.extend(read.err().map(|error| format!("{}: {error}\n{}", page.path.display(), block.text)));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Splits a simple command line into words. Returns `None` if it uses shell features other than quotes.
fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '$' | '`' | '<' | '>' | '*' | '\\' | '…') | (Some('"'), '$' | '`' | '\\') => return None,
            (None, '|' | '&' | ';' | '#') => break,
            (None, ' ') => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[test]
fn command_lines_that_are_not_run_parse() {
    let (mut count, mut problems) = (0, Vec::new());
    for page in all() {
        for block in page.blocks().into_iter().filter(|block| block.language == "sh") {
            for line in block.text.lines() {
                let line = line.trim_start_matches("$ ").trim_start_matches("# ").trim_start_matches("sudo ");
                let Some(words) = words(line).filter(|words| words.first().is_some_and(|word| word == "netns-agent")) else {
                    continue;
                };
                count += 1;
                if let Err(error) = Arguments::try_parse_from(&words)
                    && error.use_stderr()
                {
                    problems.push(format!("{}: {line}\n{error}", page.path.display()));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count > 10, "only {count} command lines were found");
}
