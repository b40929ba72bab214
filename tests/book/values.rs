//! Generates the pages about values from the comments in the `.proto` files.

use std::{fmt::Write, fs};

use models::{
    descriptor_pool,
    reference::{Field, fields, message_text},
    registry::{MODELS, ModelInfo},
};

use super::pages::root;

fn page(model: &ModelInfo) -> String {
    let message = descriptor_pool().get_message_by_name(model.proto_name).expect("the message exists");
    let example = fs::read_to_string(root().join(format!("src/cli/model/{}.yaml", model.type_name))).expect("the example exists");
    let mut page = format!("# {}\n\n", model.type_name);
    for paragraph in message_text(&message).lines() {
        let _ = writeln!(page, "{paragraph}\n");
    }
    let _ = writeln!(page, "`netns-agent model show {}` prints this page.\n", model.type_name);
    let _ = writeln!(
        page,
        "Message `{}`, model `{}`. [Keys](keys.md) have the prefix `{}`.\n",
        model.proto_name, model.name, model.key_prefix
    );
    let _ = writeln!(page, "```yaml\n{example}```\n");
    let _ = writeln!(page, "## Fields\n");
    let fields = fields(&message);
    table(&mut page, &fields);
    for field in &fields {
        details(&mut page, &field.name, field);
    }
    format!("{}\n", page.trim_end())
}

/// Writes a table of fields.
fn table(page: &mut String, fields: &[Field]) {
    page.push_str("| Field | Type | Meaning |\n|---|---|---|\n");
    for field in fields {
        let _ = writeln!(page, "| `{}` | {} | {} |", field.name, field.kind, cell(&field.text));
    }
    page.push('\n');
}

/// Writes a section about an enum or a message: a table of its values or fields, and a section for each nested field.
fn details(page: &mut String, path: &str, field: &Field) {
    if field.values.is_empty() && field.fields.is_empty() {
        return;
    }
    let _ = writeln!(page, "## {path}\n");
    if !field.values.is_empty() {
        page.push_str("| Value | Meaning |\n|---|---|\n");
        for (value, text) in &field.values {
            let _ = writeln!(page, "| `{value}` | {} |", cell(text));
        }
        page.push('\n');
    }
    if !field.fields.is_empty() {
        table(page, &field.fields);
    }
    for inner in &field.fields {
        details(page, &format!("{path}.{}", inner.name), inner);
    }
}

/// Formats text as a table cell, and escapes `<` outside code spans.
fn cell(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let escaped = parts.map(|(at, part)| if at % 2 == 0 { part.replace('<', "&lt;") } else { part.to_owned() });
    let text = escaped.collect::<Vec<_>>().join("`").replace('|', "\\|");
    text.lines().collect::<Vec<_>>().join("<br>")
}

#[test]
fn generated_pages_are_up_to_date() {
    let overwrite = std::env::var("BOOK").is_ok_and(|value| value == "overwrite");
    for model in &MODELS {
        let path = root().join(format!("docs/src/values-{}.md", model.type_name));
        let expected = page(model);
        if overwrite {
            fs::write(&path, &expected).expect("write the page");
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == expected,
            "{} is outdated; run BOOK=overwrite cargo test --test book generated",
            path.display()
        );
    }
}
