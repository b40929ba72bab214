//! Pages of the documentation, and the code blocks in them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// A Markdown file.
pub struct Page {
    /// Path relative to the repository root.
    pub path: PathBuf,
    /// Markdown source.
    pub text: String,
}

/// A fenced code block.
pub struct Block {
    /// Language: the first word of the info string.
    pub language: String,
    /// Text between the fences.
    pub text: String,
}

/// Returns the repository root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the pages of the book, sorted by name.
pub fn book() -> Vec<Page> {
    let entries = fs::read_dir(root().join("docs/src")).expect("list docs/src");
    let mut names: Vec<PathBuf> = entries.map(|entry| entry.expect("read an entry").path()).collect();
    names.sort();
    let pages = names
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages
        .map(|path| Page::read(path.strip_prefix(root()).expect("a path below the root")))
        .collect()
}

/// Returns the pages of the book and the pages at the top of the repository.
pub fn all() -> Vec<Page> {
    let top = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "src/ARCHITECTURE.md"];
    top.iter().map(|name| Page::read(Path::new(name))).chain(book()).collect()
}

impl Page {
    /// Reads the page at this path relative to the repository root.
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Page {
            path: path.to_owned(),
            text,
        }
    }

    /// Parses the page.
    pub fn events(&self) -> Parser<'_> {
        Parser::new_ext(&self.text, Options::ENABLE_TABLES)
    }

    /// Returns the fenced code blocks, in page order.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        for event in self.events() {
            match event {
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                    let language = info.split([' ', ',']).next().unwrap_or_default().to_owned();
                    let language = if info.contains(',') { info.to_string() } else { language };
                    open = Some(Block {
                        language,
                        text: String::new(),
                    });
                }
                Event::Text(text) => {
                    if let Some(block) = &mut open {
                        block.text.push_str(&text);
                    }
                }
                Event::End(TagEnd::CodeBlock) => blocks.extend(open.take()),
                _ => {}
            }
        }
        blocks
    }

    /// Returns the heading anchors, computed in the same way as in mdBook and GitHub.
    pub fn anchors(&self) -> Vec<String> {
        let (mut anchors, mut heading) = (Vec::<String>::new(), None::<String>);
        for event in self.events() {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                Event::End(TagEnd::Heading(_)) => {
                    let words = heading.take().unwrap_or_default().to_lowercase();
                    let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
                    let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
                    let same = anchors.iter().filter(|other| **other == anchor).count();
                    anchors.push(if same == 0 { anchor } else { format!("{anchor}-{same}") });
                }
                _ => {}
            }
        }
        anchors
    }
}
