//! Runs the shell sessions in the book. Each page runs in its own namespaces.
//!
//! All commands of a page run in one shell, so variables and background processes persist. `…` in the expected output matches any
//! text. On a line by itself, it matches any number of lines.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use nix::mount::{MsFlags, mount};

use super::{
    pages::{Page, all},
    support::isolation,
};

/// Time limit for one page.
const LIMIT: Duration = Duration::from_secs(120);

/// Separator between the outputs of commands.
const SEPARATOR: &str = "\u{1e}";

/// A command with its expected output.
#[derive(Debug)]
struct Step {
    command: String,
    expected: Vec<String>,
}

/// Returns the steps of all shell sessions on a page.
fn steps(page: &Page) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for block in page.blocks().into_iter().filter(|block| block.language == "console") {
        let mut lines = block.text.lines();
        while let Some(line) = lines.next() {
            let Some(command) = line.strip_prefix("$ ") else {
                let step = steps
                    .last_mut()
                    .unwrap_or_else(|| panic!("{}: output before a command", page.path.display()));
                step.expected.push(line.to_owned());
                continue;
            };
            let mut command = command.to_owned();
            let end = command
                .split_once("<<")
                .map(|(_, end)| end.trim_matches(['\'', '"', ' ']).to_owned());
            while end.is_some() || command.ends_with('\\') {
                let Some(line) = lines.next() else { break };
                command = format!("{command}\n{line}");
                if end.as_deref() == Some(line) || (end.is_none() && !line.ends_with('\\')) {
                    break;
                }
            }
            steps.push(Step {
                command,
                expected: Vec::new(),
            });
        }
    }
    steps
}

/// Returns true if a line matches the expected line, in which `…` matches any text.
fn line_matches(expected: &str, line: &str) -> bool {
    let parts: Vec<&str> = expected.trim_end().split('…').collect();
    let Some((first, rest)) = parts.split_first() else { return false };
    let Some(mut left) = line.trim_end().strip_prefix(first) else {
        return false;
    };
    let Some((last, middle)) = rest.split_last() else {
        return left.is_empty();
    };
    for part in middle {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

/// Returns true if the output of a command matches the expected lines.
fn output_matches(expected: &[String], lines: &[&str]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first.trim() == "…" => (0..=lines.len()).any(|skipped| output_matches(rest, &lines[skipped..])),
        Some((first, rest)) => match lines.split_first() {
            Some((line, others)) => line_matches(first, line) && output_matches(rest, others),
            None => false,
        },
    }
}

/// Runs the commands of a page in one shell and checks their output.
fn check(page: &Page) {
    let steps = steps(page);
    assert!(!steps.is_empty(), "{} has no shell session", page.path.display());
    let script: String = steps.iter().map(|step| format!("printf '\\036\\n'\n{}\n", step.command)).collect();
    let folder = PathBuf::from("/run/live/page");
    fs::create_dir_all(&folder).expect("create a working directory");
    let path = folder.join(".script");
    fs::write(&path, format!("exec 2>&1\n{script}")).expect("write the script");
    let program = Path::new(env!("CARGO_BIN_EXE_netns-agent"))
        .parent()
        .expect("the program is in a directory");
    let search = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    // Write the output to a file and not to a pipe, because background processes keep a pipe open after the shell has ended.
    let written = folder.join(".output");
    let output = File::create(&written).expect("create the file for the output");
    let status = Command::new("bash")
        .arg(&path)
        .current_dir(&folder)
        .env("PATH", search)
        .env("HOME", &folder)
        .env("NO_COLOR", "1")
        .env_remove("NETNS_AGENT_TEST_INSIDE")
        .stdin(Stdio::null())
        .stdout(output)
        .status()
        .expect("run bash");
    let text = fs::read(&written).expect("read the output");
    let text = String::from_utf8_lossy(&text).into_owned();
    let outputs: Vec<&str> = text.split(&format!("{SEPARATOR}\n")).skip(1).collect();
    let mut wrong = Vec::new();
    for (step, output) in steps.iter().zip(&outputs) {
        let lines: Vec<&str> = output.lines().collect();
        let expected: Vec<String> = step
            .expected
            .iter()
            .rev()
            .skip_while(|line| line.trim().is_empty())
            .cloned()
            .collect();
        let expected: Vec<String> = expected.into_iter().rev().collect();
        if !output_matches(&expected, &lines) {
            wrong.push(format!(
                "$ {}\n--- the page says\n{}\n--- the command prints\n{output}",
                step.command,
                expected.join("\n")
            ));
        }
    }
    assert_eq!(
        outputs.len(),
        steps.len(),
        "{}: a command ended the shell ({status})\n{text}",
        page.path.display()
    );
    assert!(wrong.is_empty(), "{}:\n{}", page.path.display(), wrong.join("\n"));
}

fn run(path: &'static str, test: &'static str) {
    isolation::run(isolation::test_name(test), LIMIT, || async move {
        let none: Option<&str> = None;
        mount(Some("tmpfs"), "/var/lib", Some("tmpfs"), MsFlags::empty(), none).expect("mount a tmpfs on /var/lib");
        let page = Page::read(Path::new(path));
        tokio::task::spawn_blocking(move || check(&page))
            .await
            .expect("the page must match the output");
    });
}

/// Defines one test for each page that has shell sessions.
macro_rules! pages {
    ($($test:ident $page:literal)*) => {
        $(
            #[test]
            fn $test() {
                run($page, concat!(module_path!(), "::", stringify!($test)));
            }
        )*

        #[test]
        fn every_page_with_a_shell_session_is_run() {
            let pages = all().into_iter().filter(|page| !steps(page).is_empty());
            let names: BTreeSet<String> = pages.map(|page| page.path.display().to_string()).collect();
            let tested: BTreeSet<String> = [$($page),*].map(str::to_owned).into();
            assert_eq!(tested, names);
        }
    };
}

pages! {
    cli "docs/src/cli.md"
    concepts_namespaces "docs/src/concepts-namespaces.md"
    concepts_ownership "docs/src/concepts-ownership.md"
    concepts_sources "docs/src/concepts-sources.md"
    concepts_values "docs/src/concepts-values.md"
    install "docs/src/install.md"
    keys "docs/src/keys.md"
    production_backup "docs/src/production-backup.md"
    production_etcd "docs/src/production-etcd.md"
    production_several_agents "docs/src/production-several-agents.md"
    recipe_ip_netns "docs/src/recipe-ip-netns.md"
    recipe_lab "docs/src/recipe-lab.md"
    recipe_pipework "docs/src/recipe-pipework.md"
    recipe_service_waits "docs/src/recipe-service-waits.md"
    recipe_two_containers "docs/src/recipe-two-containers.md"
    recipe_vpp_agent "docs/src/recipe-vpp-agent.md"
    settings "docs/src/settings.md"
    troubleshooting "docs/src/troubleshooting.md"
    walk "docs/src/walk.md"
    readme "README.md"
}

#[test]
fn wildcards_match_text_and_lines() {
    assert!(line_matches("took … ms", "took 12 ms") && !line_matches("took … ms", "took 12 s"));
    let expected = ["a".to_owned(), "…".to_owned(), "b…".to_owned()];
    assert!(output_matches(&expected, &["a", "x", "y", "bc"]));
    assert!(output_matches(&expected, &["a", "b"]));
    assert!(!output_matches(&expected, &["a", "x"]));
}
