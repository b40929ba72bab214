//! Checks the links of the documentation: each relative link leads to a file, each fragment leads to a heading, and the
//! table of contents lists every page once.

use std::{collections::BTreeSet, path::Path};

use pulldown_cmark::{Event, Tag};

use super::pages::{Page, all, book, root};

/// Returns the link targets on a page.
fn targets(page: &Page) -> Vec<String> {
    let links = page.events().filter_map(|event| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => Some(dest_url.to_string()),
        _ => None,
    });
    links.collect()
}

/// Returns the reason why a link does not resolve, or `None` if it resolves.
fn problem(page: &Page, target: &str) -> Option<String> {
    let is_elsewhere = target.contains("://") || target.starts_with("mailto:") || target.contains("::");
    if is_elsewhere {
        return None;
    }
    let (path, fragment) = target
        .split_once('#')
        .map_or((target, None), |(path, fragment)| (path, Some(fragment)));
    let folder = page.path.parent().unwrap_or(Path::new(""));
    let path = if path.is_empty() { page.path.clone() } else { folder.join(path) };
    if page.path.starts_with("docs") && target.starts_with("..") {
        return Some(format!("{}: {target} is not a part of the book", page.path.display()));
    }
    if !root().join(&path).exists() {
        return Some(format!("{}: there is no {}", page.path.display(), path.display()));
    }
    let fragment = fragment?;
    let has_it = Page::read(&path).anchors().iter().any(|anchor| anchor == fragment);
    (!has_it).then(|| format!("{}: {} has no heading #{fragment}", page.path.display(), path.display()))
}

#[test]
fn every_link_resolves() {
    let mut count = 0;
    let mut problems = Vec::new();
    for page in all() {
        for target in targets(&page) {
            count += 1;
            problems.extend(problem(&page, &target));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count > 50, "only {count} links were found");
}

#[test]
fn the_table_of_contents_lists_every_page_once() {
    let summary = Page::read(Path::new("docs/src/SUMMARY.md"));
    let listed = targets(&summary);
    let names = book()
        .into_iter()
        .filter_map(|page| Some(page.path.file_name()?.to_string_lossy().into_owned()));
    let pages: BTreeSet<String> = names.filter(|name| name != "SUMMARY.md").collect();
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), pages);
    assert_eq!(listed.len(), pages.len(), "a page is listed twice");
}
