//! Documents that contain many values: the user's files, and the configuration that the agent returns.
//!
//! [`models::document`] defines the format.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use models::{
    Model,
    document::{Item, field_path, read_document, write_document},
};

use super::failure::{Failure, remark};

/// Option that names a file with values.
#[derive(clap::Args, Debug)]
pub struct FileArgs {
    /// File with values in YAML or JSON (linuxConfig: {interfaces: [...], routes: [...]}); - reads standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
}

/// Text of a document, and the values in it.
#[derive(Debug)]
pub struct Document {
    /// Text of the document, which is sent to the agent unchanged.
    pub text: String,
    /// Values, each with its position in the document.
    items: Vec<Item>,
}

impl Document {
    /// Reads a file, or standard input if the path is `-`.
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
            Failure::new(format!("{name}: {error}")).next("expected a file with values; `netns-agent get --document` prints one")
        })?;
        Self::parse(&name, text)
    }

    /// Parses a document. `name` identifies the document in error messages.
    pub fn parse(name: &str, text: String) -> Result<Self, Failure> {
        let has_content = |line: &str| !matches!(line.trim(), "" | "---" | "{}") && !line.trim_start().starts_with('#');
        if !text.lines().any(has_content) {
            return Ok(Document { text, items: Vec::new() });
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
            // Keep only the first line of the error, which contains the line and column. The other lines only quote the document.
            let words = crate::yaml::words(&error);
            let words = words.lines().next().unwrap_or_default().trim_start_matches("error: ");
            Failure::new(format!("{name}: {place}{words}"))
                .next("`netns-agent model list` and `netns-agent model show KIND` show the accepted fields")
        })?;
        Ok(Document { text, items })
    }

    /// Creates a document that contains these values.
    pub fn of(values: Vec<Model>) -> Result<Self, Failure> {
        let text = write_document(&values).map_err(|error| Failure::new(format!("cannot write the document: {error}")))?;
        let items = values.into_iter().map(|model| Item {
            place: String::new(),
            model,
        });
        Ok(Document {
            text,
            items: items.collect(),
        })
    }

    /// Returns the keys of all values in the document.
    pub fn keys(&self) -> Vec<String> {
        self.values().map(|value| value.key().to_string()).collect()
    }

    /// Returns the values in the order of the document.
    pub fn values(&self) -> impl Iterator<Item = &Model> {
        self.items.iter().map(|item| &item.model)
    }

    /// Consumes the document and returns its values, in the order of the document.
    pub fn models(self) -> Vec<Model> {
        self.items.into_iter().map(|item| item.model).collect()
    }

    /// Prints the invalid fields with their positions in the document. Returns whether all fields are valid.
    pub fn report_mistakes(&self) -> bool {
        let mistakes = self.mistakes();
        mistakes.iter().for_each(|mistake| remark(mistake));
        mistakes.is_empty()
    }

    /// Returns a message for each invalid value, such as `linuxConfig.interfaces[2].ip_addresses[0]: …`.
    fn mistakes(&self) -> Vec<String> {
        let mistakes = self.items.iter().filter_map(|item| {
            let error = item.model.validate().err()?;
            let place = |field: &String| format!("{}.{}", item.place, field_path(item.model.kind(), field));
            let places: Vec<String> = error.fields.iter().map(place).collect();
            Some(format!("{}: {}", places.join(" and "), error.message))
        });
        mistakes.collect()
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
        let again = Document::of(document.models()).expect("writable");
        let text = again.text.clone();
        assert_eq!(Document::parse("x", text).expect("its own text").models(), again.models());
        assert!(Document::parse("x", "# nothing\n".to_owned()).expect("a document").items.is_empty());
    }

    #[test]
    fn invalid_fields_are_reported_with_their_exact_places() {
        let text = "linuxConfig:
  interfaces:
    - {name: a, type: DUMMY, ip_addresses: [10.0.0.1/24]}
    - {name: b, type: DUMMY}
    - {name: c, type: DUMMY, ipAddresses: [10.0.0.300/24]}
    - {name: d, type: VETH, veth: {peerIfName: d}}
  routes:
    - {outgoingInterface: a, dstNetwork: 10.1.0.0/33}
";
        let mistakes = Document::parse("x", text.to_owned()).expect("a document").mistakes();
        assert_eq!(mistakes.len(), 3, "{mistakes:?}");
        assert!(
            mistakes[0].starts_with("linuxConfig.interfaces[2].ip_addresses[0]: `10.0.0.300/24` is not"),
            "{mistakes:?}"
        );
        assert!(
            mistakes[1].starts_with("linuxConfig.interfaces[3].veth.peer_if_name: "),
            "{mistakes:?}"
        );
        assert!(
            mistakes[2].starts_with("linuxConfig.routes[0].dst_network: `10.1.0.0/33` has an invalid prefix"),
            "{mistakes:?}"
        );
    }

    #[test]
    fn several_documents_in_one_text_are_rejected() {
        let text = "linuxConfig: {}\n---\nlinuxConfig: {}\n".to_owned();
        let failure = Document::parse("x.yaml", text).expect_err("two documents");
        assert!(
            failure.message().starts_with("x.yaml: a second YAML document begins at line "),
            "{failure}"
        );
    }

    #[test]
    fn errors_contain_the_file_and_the_place() {
        let failure = Document::parse("x.yaml", "linuxConfig:\n  interfaces:\n    - {nme: a}\n".to_owned()).expect_err("refused");
        for part in ["x.yaml", "linuxConfig.interfaces[0]", "nme"] {
            assert!(failure.message().contains(part), "{failure}");
        }
    }
}
