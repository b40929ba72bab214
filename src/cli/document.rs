//! Documents that name many values: what a user wrote in a file, and what the agent says is asked for.
//!
//! Owns the reading of files. What a document may contain is said by [`models::document`]. Must never ask the agent. Start reading at
//! [`Document::read`].

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use models::{
    Model,
    document::{Item, read_document, write_document},
};

use super::failure::Failure;

/// Where values come from.
#[derive(clap::Args, Debug)]
pub struct FileArgs {
    /// File with values, in YAML or JSON (linuxConfig: {interfaces: [...], routes: [...]}); - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
}

/// A document: its text, and the values in it.
#[derive(Debug)]
pub struct Document {
    /// As it was written.
    pub text: String,
    /// Values in the order of the document.
    pub values: Vec<Model>,
}

impl Document {
    /// Reads a file, or standard input.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let name = if path == Path::new("-") {
            "standard input".to_owned()
        } else {
            path.display().to_string()
        };
        let text = match path == Path::new("-") {
            true => io::read_to_string(io::stdin().by_ref()),
            false => fs::read_to_string(path),
        };
        let text = text.map_err(|error| {
            Failure::new(format!("{name}: {error}")).next("a file with values is expected; `netns-agent get --document` writes one")
        })?;
        Self::parse(&name, text)
    }

    /// Reads a text, told as `name` when it is wrong.
    pub fn parse(name: &str, text: String) -> Result<Self, Failure> {
        let has_content = |line: &str| !matches!(line.trim(), "" | "---" | "{}") && !line.trim_start().starts_with('#');
        if !text.lines().any(has_content) {
            return Ok(Document { text, values: Vec::new() });
        }
        let mut place = String::new();
        let read = serde_saphyr::with_deserializer_from_str(&text, |deserializer| {
            read_document(deserializer).map_err(|error| {
                place = error.path;
                error.source
            })
        });
        let items: Vec<Item> = read.map_err(|error| {
            let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
            // The lines below the first show the place in the text, which line and column tell already.
            let words = error.to_string();
            let words = words.lines().next().unwrap_or_default().trim_start_matches("error: ");
            Failure::new(format!("{name}: {place}{words}"))
                .next("`netns-agent model list` and `netns-agent model show KIND` tell what can be written")
        })?;
        let values = items.into_iter().map(|item| item.model).collect();
        Ok(Document { text, values })
    }

    /// Of these values.
    pub fn of(values: Vec<Model>) -> Result<Self, Failure> {
        let text = write_document(&values).map_err(|error| Failure::new(format!("the document cannot be written: {error}")))?;
        Ok(Document { text, values })
    }

    /// Keys of the values.
    pub fn keys(&self) -> Vec<String> {
        self.values.iter().map(|value| value.key().to_string()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_the_keys_of_its_values() {
        let text =
            "linuxConfig:\n  interfaces:\n    - {name: a, type: DUMMY}\n  routes:\n    - {outgoingInterface: a, dstNetwork: 10.0.0.0/8}\n";
        let document = Document::parse("x.yaml", text.to_owned()).expect("a document");
        assert_eq!(
            document.keys(),
            ["config/linux/interfaces/v2/interface/a", "config/linux/l3/v2/route/10.0.0.0/8/a"]
        );
        let again = Document::of(document.values).expect("writable");
        assert_eq!(Document::parse("x", again.text).expect("its own text").values, again.values);
        assert!(
            Document::parse("x", "# nothing\n".to_owned())
                .expect("a document")
                .values
                .is_empty()
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_file_and_place() {
        let failure = Document::parse("x.yaml", "linuxConfig:\n  interfaces:\n    - {nme: a}\n".to_owned()).expect_err("refused");
        for part in ["x.yaml", "linuxConfig.interfaces[0]", "nme"] {
            assert!(failure.message().contains(part), "{failure}");
        }
    }
}
