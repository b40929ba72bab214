//! `netns-agent man`: manual pages, generated from the command-line definition and from the texts in this module.
//!
//! Options and environment variables come from clap, so they are always up to date. [`examples`] contains the examples.

mod examples;

use std::{fmt::Write, fs, io, path::PathBuf};

use clap_mangen::{
    Man,
    roff::{Inline, Roff, bold, italic, roman},
};

use self::examples::ENTRIES;
use super::{
    command,
    failure::{Failure, Outcome},
    output::Output,
};
use crate::config::RunArgs;

/// Arguments of `man`.
#[derive(clap::Args, Debug)]
pub struct ManArgs {
    /// Existing directory to write the pages to, one per command, such as netns-agent-get.1; by default, the main page is printed
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
}

/// An example in a manual page.
pub(super) struct Example {
    pub purpose: &'static str,
    pub line: &'static str,
}

/// Prints the main manual page, or writes one page per command to a directory.
pub fn man(args: &ManArgs, output: &Output) -> Outcome {
    let Some(directory) = &args.dir else {
        output.raw(page(&[], &command_with_pages())?.as_bytes())?;
        return Ok(0);
    };
    for (path, command) in visible_commands() {
        let file = directory.join(format!("{}.1", name_of(&path)));
        fs::write(&file, page(&path, &command)?)
            .map_err(|error| Failure::new(format!("{}: {error}", file.display())).next("expected an existing directory"))?;
    }
    Ok(0)
}

/// Returns the command-line definition without the subcommand `help`.
fn command_with_pages() -> clap::Command {
    let mut command = command().disable_help_subcommand(true);
    command.build();
    command
}

/// Returns all commands that have a manual page, with the words that select them. The first one is the program itself.
pub(super) fn visible_commands() -> Vec<(Vec<String>, clap::Command)> {
    fn visit(path: &[String], command: &clap::Command, found: &mut Vec<(Vec<String>, clap::Command)>) {
        found.push((path.to_vec(), command.clone()));
        for inner in command
            .get_subcommands()
            .filter(|inner| !inner.is_hide_set() && inner.get_name() != "help")
        {
            // The options of a command are described on its own page only, although its subcommands accept them, too.
            let inherited = |argument: &clap::Arg| command.get_arguments().any(|outer| outer.get_id() == argument.get_id());
            let own = inner
                .clone()
                .mut_args(|argument| match argument.is_global_set() && inherited(&argument) {
                    true => argument.hide(true),
                    false => argument,
                });
            visit(&[path, &[inner.get_name().to_owned()]].concat(), &own, found);
        }
    }
    let mut found = Vec::new();
    visit(&[], &command_with_pages(), &mut found);
    found
}

/// Returns the name of a page, such as `netns-agent-kvdb-get`.
fn name_of(path: &[String]) -> String {
    std::iter::once("netns-agent")
        .chain(path.iter().map(String::as_str))
        .collect::<Vec<_>>()
        .join("-")
}

/// Returns the manual page of a command in roff.
fn page(path: &[String], command: &clap::Command) -> io::Result<String> {
    let man = Man::new(command.clone());
    let name = path.join(" ");
    let date = env!("NETNS_AGENT_VERSION").trim_end_matches(')').rsplit(' ').next();
    let date = date.filter(|date| date.matches('-').count() == 2).unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(
        "{}.TH {} 1 \"{date}\" \"netns-agent {version}\" \"User Commands\"\n",
        Roff::new().render(),
        name_of(path)
    );
    page += &rendered(|text| man.render_name_section(text))?;
    page += &synopsis(command);
    page += &description(&name, command);
    page += &options(&man, command)?;
    if command.get_subcommands().any(|inner| !inner.is_hide_set()) {
        page += &rendered(|text| man.render_subcommands_section(text))?.replacen(".SH SUBCOMMANDS", ".SH COMMANDS", 1);
    }
    page += &environment(&name, command);
    page += &files(&name);
    page += &signals(&name);
    page += &exit_status(&name);
    if !name.is_empty() && command.get_after_help().is_some() {
        page += &rendered(|text| man.render_extra_section(text))?.replacen(".SH EXTRA", ".SH NOTES", 1);
    }
    page += &examples_section(&name);
    page += &see_also(&name);
    Ok(with_code_in_bold(&page))
}

/// Returns what a function of [`Man`] writes, without the lines that every roff document begins with.
fn rendered(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<String> {
    let mut text = Vec::new();
    write(&mut text)?;
    Ok(without_beginning(&String::from_utf8_lossy(&text)))
}

/// Renders a part of a page.
fn part(fill: impl FnOnce(&mut Roff)) -> String {
    let mut roff = Roff::new();
    fill(&mut roff);
    without_beginning(&roff.render())
}

/// Removes the lines that every roff document begins with.
fn without_beginning(text: &str) -> String {
    text.strip_prefix(&Roff::new().render()).unwrap_or(text).to_owned()
}

/// Renders a section that consists of terms with explanations. Returns nothing if there are none.
fn definitions<S: AsRef<str>>(title: &str, list: &[(S, S)]) -> String {
    if list.is_empty() {
        return String::new();
    }
    part(|roff| {
        roff.control("SH", [title]);
        for (term, meaning) in list {
            roff.control("TP", []);
            roff.text([bold(term.as_ref())]);
            roff.text([roman(meaning.as_ref())]);
        }
    })
}

/// Returns the OPTIONS section. clap_mangen makes a section of each group of options; here, they are subsections.
fn options(man: &Man, command: &clap::Command) -> io::Result<String> {
    let mut section = rendered(|text| man.render_options_section(text))?;
    let headings = command.get_arguments().filter_map(clap::Arg::get_help_heading);
    for heading in headings {
        let of_section = part(|roff| _ = roff.control("SH", [heading.to_uppercase().as_str()]));
        let of_subsection = part(|roff| _ = roff.control("SS", [heading]));
        section = section.replace(&of_section, &of_subsection);
    }
    // An empty line would be a paragraph of its own.
    let lines = section.lines().map(|line| if line.is_empty() { ".sp" } else { line });
    let mut section = lines.fold(String::new(), |text, line| text + line + "\n");
    let inherited = command
        .get_arguments()
        .any(|argument| argument.is_global_set() && argument.is_hide_set());
    let is_client = !matches!(command.get_name(), "netns-agent" | "run" | "demo" | "completion");
    if inherited && is_client {
        section += &part(|roff| {
            roff.control("PP", []);
            let outer = command.get_bin_name().unwrap_or_default().split(' ').nth(1);
            let mut text = vec![
                roman("The options for the connection to the agent and for the output are in "),
                bold("netns-agent"),
                roman("(1)"),
            ];
            if outer == Some("kvdb") && command.get_name() != "kvdb" {
                text.extend([roman(", and those for the store in "), bold("netns-agent-kvdb"), roman("(1)")]);
            }
            text.push(roman("."));
            roff.text(text);
        });
    }
    Ok(section)
}

/// Returns the SYNOPSIS section, without the single options.
fn synopsis(command: &clap::Command) -> String {
    let mut line = vec![
        bold(command.get_bin_name().unwrap_or_else(|| command.get_name())),
        roman(" ["),
        italic("OPTIONS"),
        roman("]"),
    ];
    for argument in command.get_positionals().filter(|argument| !argument.is_hide_set()) {
        let names = argument.get_value_names().unwrap_or_default().iter().map(ToString::to_string);
        let (open, close) = if argument.is_required_set() { (" ", "") } else { (" [", "]") };
        let more = if argument.get_num_args().is_some_and(|number| number.max_values() > 1) {
            "..."
        } else {
            ""
        };
        line.extend([roman(open), italic(names.collect::<Vec<_>>().join(" ")), roman(close), roman(more)]);
    }
    if command.has_subcommands() {
        line.extend([roman(" "), italic("COMMAND")]);
    }
    part(|roff| {
        roff.control("SH", ["SYNOPSIS"]);
        roff.text(line);
    })
}

/// Returns the DESCRIPTION section.
fn description(name: &str, command: &clap::Command) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let paragraphs: &[&str] = match name {
        "" => &[
            "The agent reads desired values (interfaces, addresses, routes, neighbour entries) from etcd, from a YAML file and from its REST \
             and gRPC APIs, and creates them in the network namespaces that they name. Values can be put in any order: each one waits until \
             everything that it needs exists. The agent repairs what others change, and publishes a status for each value.",
            "`netns-agent run` is the agent. The other commands, except `demo`, `model`, `doctor` and `completion`, are clients of a running \
             agent: they connect to its REST API. `kvdb` connects to the store.",
        ],
        "run" => &[
            "Each setting can be given as an option, as an environment variable, or in the YAML file that --config names. Options override \
             environment variables, which override the file.",
            "The agent needs the capabilities CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, and drops all others at \
             startup. netns-agent.service starts it as a service.",
        ],
        _ => &[],
    };
    part(|roff| {
        roff.control("SH", ["DESCRIPTION"]);
        roff.text([roman(format!("{about}."))]);
        for paragraph in paragraphs {
            roff.control("PP", []);
            roff.text([roman(*paragraph)]);
        }
    })
}

/// Returns the ENVIRONMENT section: the variables of all options that the page describes, and those that have no option.
fn environment(name: &str, command: &clap::Command) -> String {
    let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let of_options =
        shown.filter_map(|argument| Some((argument.get_env()?.to_string_lossy().into_owned(), argument.get_long()?.to_owned())));
    let mut list: Vec<(String, String)> = if name == "run" {
        RunArgs::variables()
    } else {
        of_options.collect()
    };
    for (_, option) in &mut list {
        *option = format!("Sets --{option}.");
    }
    let others: &[(&str, &str)] = match name {
        "" => &[
            ("NETNS_AGENT_TOKEN", "The access token itself. --token-file overrides it."),
            ("NO_COLOR", "If it is not empty, the output has no colours."),
        ],
        "run" => &[(
            "ETCD_PASSWORD",
            "Password of --etcd-user. --etcd-password-file overrides it. There is no option for the password.",
        )],
        "kvdb" => &[("ETCD_PASSWORD", "Password of --etcd-user. There is no option for the password.")],
        _ => &[],
    };
    list.extend(others.iter().map(|(variable, text)| ((*variable).to_owned(), (*text).to_owned())));
    definitions("ENVIRONMENT", &list)
}

/// Returns the FILES section.
fn files(command: &str) -> String {
    let list: &[(&str, &str)] = match command {
        "" => &[
            (
                "/etc/default/netns-agent",
                "Settings of the service, as environment variables. See netns-agent-run(1).",
            ),
            ("/usr/lib/systemd/system/netns-agent.service", "The systemd unit."),
            (
                "/usr/lib/udev/rules.d/70-netns-agent.rules",
                "Marks the links of the agent, so that network managers leave them alone.",
            ),
            ("/var/lib/netns-agent/", "Data of the agent."),
        ],
        "run" => &[
            (
                "/etc/default/netns-agent",
                "Environment variables for the service, one per line. They are read by systemd, not by the agent.",
            ),
            (
                "/var/lib/netns-agent/store.redb",
                "The embedded store. --data-dir sets the directory.",
            ),
            (
                "/var/lib/netns-agent/clients.redb",
                "Values that were put through the REST and gRPC APIs, and values whose removal is on hold.",
            ),
            ("/var/lib/netns-agent/store.json", "Identity of the store that the agent follows."),
            (
                "/var/lib/netns-agent/process-bindings.json",
                "Processes to which the references to namespaces by PID lead.",
            ),
            (
                "/run/netns/",
                "Named network namespaces, as in ip-netns(8). The agent creates the names that values refer to.",
            ),
            ("/run/netns-agent/", "Locks, so that only one agent runs for each label."),
            (
                "/var/run/docker.sock",
                "Socket of the Docker daemon. --docker-host sets another one. It need not exist.",
            ),
        ],
        _ => &[],
    };
    definitions("FILES", list)
}

/// Returns the SIGNALS section.
fn signals(command: &str) -> String {
    let list: &[(&str, &str)] = match command {
        "run" => &[
            (
                "SIGTERM, SIGINT",
                "Stops the agent. The network stays as it is, and the next start finds it in place.",
            ),
            (
                "SIGHUP",
                "Reads the settings again. The log says which changed settings take effect at once, and which at the next start.",
            ),
        ],
        _ => &[],
    };
    definitions("SIGNALS", list)
}

/// Returns the EXIT STATUS section.
fn exit_status(command: &str) -> String {
    let list: &[(&str, &str)] = match command {
        "" => &[
            ("0", "Success. A closed output pipe, as with `head`, is not an error."),
            ("1", "Failure."),
            ("2", "Usage error. With `plan` and `diff`: there are changes."),
            ("3", "Timeout while waiting for values."),
        ],
        "run" => &[
            ("0", "Stopped by SIGTERM or SIGINT."),
            (
                "1",
                "Failure, such as an address in use, missing permissions, or another agent with the same label.",
            ),
            ("2", "Usage error, or an invalid setting."),
        ],
        "plan" | "diff" => &[("0", "No changes."), ("1", "Failure or usage error."), ("2", "There are changes.")],
        "status" => &[
            ("0", "The agent is ready."),
            ("1", "The agent is not ready, or cannot be reached."),
            ("2", "Usage error."),
        ],
        "get" => &[
            ("0", "Success."),
            ("1", "Failure, or the agent is not ready."),
            ("2", "Usage error."),
        ],
        "doctor" => &[
            ("0", "No problem was found."),
            ("1", "There is a problem, or something could not be checked."),
            ("2", "Usage error."),
        ],
        "wait" | "apply" | "delete" => &[
            ("0", "Success."),
            ("1", "Failure."),
            ("2", "Usage error."),
            ("3", "Timeout while waiting for values."),
        ],
        _ => &[("0", "Success."), ("1", "Failure."), ("2", "Usage error.")],
    };
    definitions("EXIT STATUS", list)
}

/// Returns the EXAMPLES section.
fn examples_section(command: &str) -> String {
    let examples = ENTRIES
        .iter()
        .filter(|entry| entry.command == command)
        .flat_map(|entry| entry.examples);
    part(|roff| {
        roff.control("SH", ["EXAMPLES"]);
        for Example { purpose, line } in examples {
            roff.control("PP", []);
            roff.text([roman(*purpose)]);
            roff.control("PP", []);
            roff.control("RS", ["4"]);
            roff.control("EX", []);
            roff.text([roman(*line)]);
            roff.control("EE", []);
            roff.control("RE", []);
        }
    })
}

/// Returns the SEE ALSO section: the page of the command above, related commands, and pages of other programs.
fn see_also(command: &str) -> String {
    let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    let mut pages: Vec<(String, u8)> = Vec::new();
    for length in 0..words.len() {
        pages.push((name_of(&words[..length]), 1));
    }
    let related = ENTRIES
        .iter()
        .filter(|entry| entry.command == command)
        .flat_map(|entry| entry.related);
    for one in related {
        pages.push((format!("netns-agent-{}", one.replace(' ', "-")), 1));
    }
    let others: &[(&str, u8)] = match command {
        "" => &[("netns-agent-run", 1), ("ip-netns", 8), ("network_namespaces", 7)],
        "run" => &[
            ("systemctl", 1),
            ("ip-link", 8),
            ("ip-netns", 8),
            ("network_namespaces", 7),
            ("capabilities", 7),
        ],
        "demo" => &[("network_namespaces", 7)],
        "kvdb" => &[("etcdctl", 1)],
        "graph" => &[("dot", 1)],
        "completion" => &[("bash", 1), ("zsh", 1), ("fish", 1)],
        _ => &[],
    };
    pages.extend(others.iter().map(|(name, section)| ((*name).to_owned(), *section)));
    part(|roff| {
        roff.control("SH", ["SEE ALSO"]);
        let mut line: Vec<Inline> = Vec::new();
        for (name, section) in &pages {
            if !line.is_empty() {
                line.push(roman(", "));
            }
            line.extend([bold(name), roman(format!("({section})"))]);
        }
        roff.text(line);
        if command.is_empty() {
            roff.control("PP", []);
            roff.text([
                roman("The documentation describes concepts, settings, values and statuses: "),
                italic("docs/src/SUMMARY.md"),
                roman(" in the source code."),
            ]);
        }
    })
}

/// Renders text between backticks in bold, as it is usual in manual pages.
fn with_code_in_bold(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    for line in page.lines() {
        let parts: Vec<&str> = line.split('`').collect();
        // An odd number of backticks, or a line with a font of its own, stays as it is.
        if line.starts_with('.') || parts.len().is_multiple_of(2) {
            text += line;
        } else {
            for (position, part) in parts.iter().enumerate() {
                let _ = match position % 2 {
                    0 => write!(text, "{part}"),
                    _ => write!(text, "\\fB{part}\\fR"),
                };
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page_of(name: &str) -> String {
        let commands = visible_commands();
        let (path, command) = commands.iter().find(|(path, _)| path.join(" ") == name).expect("the command");
        page(path, command).expect("a page")
    }

    /// Returns the titles of the sections of a page.
    fn sections(page: &str) -> Vec<&str> {
        let titles = page.lines().filter_map(|line| line.strip_prefix(".SH "));
        titles.map(|title| title.trim_matches('"')).collect()
    }

    #[test]
    fn pages_have_the_standard_sections_in_the_usual_order() {
        assert_eq!(
            sections(&page_of("")),
            [
                "NAME",
                "SYNOPSIS",
                "DESCRIPTION",
                "OPTIONS",
                "COMMANDS",
                "ENVIRONMENT",
                "FILES",
                "EXIT STATUS",
                "EXAMPLES",
                "SEE ALSO"
            ]
        );
        assert_eq!(
            sections(&page_of("run")),
            [
                "NAME",
                "SYNOPSIS",
                "DESCRIPTION",
                "OPTIONS",
                "ENVIRONMENT",
                "FILES",
                "SIGNALS",
                "EXIT STATUS",
                "EXAMPLES",
                "SEE ALSO"
            ]
        );
        for (path, _) in visible_commands() {
            let page = page_of(&path.join(" "));
            let sections = sections(&page);
            assert_eq!(sections[..4], ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"], "{path:?}");
            assert!(sections.contains(&"EXIT STATUS"), "{path:?}");
            assert!(sections.ends_with(&["EXAMPLES", "SEE ALSO"]), "{path:?}");
        }
    }

    #[test]
    fn every_setting_of_the_agent_is_in_its_page_with_its_variable() {
        let page = page_of("run");
        let variables = RunArgs::variables();
        assert!(variables.len() > 25, "{variables:?}");
        for (variable, option) in variables {
            assert!(
                page.contains(&format!("\\fB{variable}\\fR\nSets \\-\\-{}.", option.replace('-', "\\-"))),
                "{variable}"
            );
        }
    }

    #[test]
    fn options_of_the_client_are_described_on_the_main_page_only() {
        assert!(page_of("").contains("\\fB\\-\\-http\\-port\\fR"));
        assert!(!page_of("get").contains("http\\-port"));
        assert!(page_of("kvdb").contains("\\fB\\-\\-etcd\\-endpoints\\fR"));
        assert!(!page_of("kvdb get").contains("etcd\\-endpoints"));
    }

    #[test]
    fn code_is_bold() {
        assert_eq!(
            with_code_in_bold("run `a` or `b`\n.SH `x`\nodd ` tick\n"),
            "run \\fBa\\fR or \\fBb\\fR\n.SH `x`\nodd ` tick\n"
        );
    }
}
