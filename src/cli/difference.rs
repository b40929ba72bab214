//! `netns-agent diff`: compares the values in a file with the desired values, line by line.

use std::collections::BTreeMap;

use models::{Model, key::Key};
use serde_json::{Value as Json, json};

use super::{
    connection::Agent,
    document::{Document, FileArgs},
    failure::{CHANGES, FAILED, Failure, Outcome},
    names::short,
    output::{Format, Output, Tone, visible},
    readiness,
};

/// Arguments of `diff`.
#[derive(clap::Args, Debug)]
pub struct DiffArgs {
    #[command(flatten)]
    file: FileArgs,

    /// Include values that are not in the file, which `apply --replace` would delete
    #[arg(long)]
    replace: bool,
}

/// Value that differs between the file and the agent.
struct Difference {
    key: Key,
    old: Option<Model>,
    new: Option<Model>,
}

impl Difference {
    fn sign(&self) -> (&'static str, Tone) {
        match (&self.old, &self.new) {
            (None, _) => ("+", Tone::Good),
            (_, None) => ("-", Tone::Bad),
            _ => ("~", Tone::Waiting),
        }
    }
}

/// Prints the differences between a file and the desired values.
pub async fn run(args: &DiffArgs, agent: &Agent, output: &Output) -> Outcome {
    let desired = Document::read(&args.file.file)?;
    let usable = desired.report_mistakes();
    readiness::ask(agent).await?.refuse_to_guess("the desired values")?;
    let current = configuration(agent).await?;
    let differences = differences(current.models(), desired.models(), args.replace);
    match output.format {
        Format::Json | Format::Yaml => {
            let list: Vec<Json> = differences.iter().map(document).collect();
            output.document(&list)?;
        }
        Format::Name => differences.iter().try_for_each(|one| output.line(&visible(&one.key)))?,
        Format::Table | Format::Wide => {
            for one in &differences {
                print(one, output)?;
            }
        }
    }
    Ok(match (usable, differences.is_empty()) {
        (false, _) => FAILED,
        (true, true) => 0,
        (true, false) => CHANGES,
    })
}

/// Reads all desired values, from all sources.
pub async fn configuration(agent: &Agent) -> Result<Document, Failure> {
    let target = "/configuration";
    let answer = agent.send(hyper::Method::GET, target, "").await?;
    let answer = agent.success(target, answer)?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    Document::parse("the configuration of the agent", text)
}

fn differences(current: Vec<Model>, desired: Vec<Model>, replace: bool) -> Vec<Difference> {
    let by_key = |values: Vec<Model>| -> BTreeMap<Key, Model> { values.into_iter().map(|value| (value.key(), value)).collect() };
    let (mut old, new) = (by_key(current), by_key(desired));
    let mut differences: Vec<Difference> = Vec::new();
    for (key, new) in new {
        let old = old.remove(&key);
        if old.as_ref() != Some(&new) {
            differences.push(Difference { key, old, new: Some(new) });
        }
    }
    if replace {
        differences.extend(old.into_iter().map(|(key, old)| Difference {
            key,
            old: Some(old),
            new: None,
        }));
    }
    differences.sort_by(|one, other| one.key.cmp(&other.key));
    differences
}

fn print(one: &Difference, output: &Output) -> Result<(), Failure> {
    let (sign, tone) = one.sign();
    output.line(&output.paint(&format!("{sign} {}", short(&one.key)), tone))?;
    let lines = |value: &Option<Model>| value.as_ref().map(yaml).unwrap_or_default();
    for (sign, line) in line_by_line(&lines(&one.old), &lines(&one.new)) {
        let tone = match sign {
            '+' => Tone::Good,
            '-' => Tone::Bad,
            _ => Tone::Faint,
        };
        output.line(&format!("    {}", output.paint(&format!("{sign} {line}"), tone)))?;
    }
    Ok(())
}

fn document(one: &Difference) -> Json {
    let value = |value: &Option<Model>| -> Json {
        value
            .as_ref()
            .and_then(|value| serde_json::from_str(&value.to_json()).ok())
            .unwrap_or_default()
    };
    json!({ "key": one.key.as_str(), "change": one.sign().0, "old": value(&one.old), "new": value(&one.new) })
}

fn yaml(value: &Model) -> Vec<String> {
    let json: Json = serde_json::from_str(&value.to_json()).unwrap_or_default();
    let text = serde_saphyr::to_string(&json).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Returns a line-by-line diff. A line that `old` and `new` have in common appears once.
///
/// Computes the longest common subsequence in quadratic time, which is fast enough for values with few lines.
fn line_by_line(old: &[String], new: &[String]) -> Vec<(char, String)> {
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for (i, left) in old.iter().enumerate().rev() {
        for (j, right) in new.iter().enumerate().rev() {
            common[i][j] = if left == right {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push((' ', old[i].clone()));
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && (j == new.len() || common[i + 1][j] >= common[i][j + 1]) {
            lines.push(('-', old[i].clone()));
            i += 1;
        } else {
            lines.push(('+', new[j].clone()));
            j += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<Model> {
        Document::parse("x", text.to_owned()).expect("a document").models()
    }

    #[test]
    fn values_are_compared_by_meaning_and_not_by_text() {
        let current = "linuxConfig: {interfaces: [{name: a, mtu: 1500}, {name: b}, {name: gone}]}";
        let desired = "linuxConfig: {interfaces: [{name: b, enabled: false}, {name: a, mtu: 9000}, {name: new}]}";
        for (replace, expected) in [
            (false, vec!["~ interface/a", "+ interface/new"]),
            (true, vec!["~ interface/a", "- interface/gone", "+ interface/new"]),
        ] {
            let found = differences(values(current), values(desired), replace);
            let found: Vec<String> = found.iter().map(|one| format!("{} {}", one.sign().0, short(&one.key))).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn common_lines_are_shown_once() {
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let found: String = line_by_line(&lines("a b c e"), &lines("a x c d e"))
            .iter()
            .map(|(sign, line)| format!("{sign}{line};"))
            .collect();
        assert_eq!(found, " a;-b;+x; c;+d; e;");
    }
}
