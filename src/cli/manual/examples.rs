//! Examples and related commands in the manual pages. A test parses every example.

use super::Example;

const fn example(purpose: &'static str, line: &'static str) -> Example {
    Example { purpose, line }
}

/// Part of a manual page that cannot be derived from the command-line definition.
pub(super) struct Entry {
    /// Words of the command, without the name of the program. Empty for the main page.
    pub command: &'static str,
    pub examples: &'static [Example],
    /// Related commands, in the same form as `command`.
    pub related: &'static [&'static str],
}

/// One entry for each manual page.
pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        command: "",
        examples: &[
            example("See the agent at work, in temporary namespaces:", "netns-agent demo"),
            example("Check whether the agent can work on this machine:", "sudo netns-agent doctor"),
            example(
                "Start the agent, as a service:",
                "sudo systemctl enable --now netns-agent && netns-agent wait --all",
            ),
            example(
                "Apply the values in a file, and wait until they are in the kernel:",
                "netns-agent apply -f lab.yaml --wait",
            ),
            example("List the values that are not configured:", "netns-agent get --state '!CONFIGURED'"),
            example("Find out what a value waits for:", "netns-agent explain interface/web-eth0"),
            example(
                "Ask the agent of another machine:",
                "netns-agent --host node2.example.net --tls status",
            ),
        ],
        related: &[],
    },
    Entry {
        command: "run",
        examples: &[
            example("Run an agent with its embedded store, in the foreground:", "sudo netns-agent run"),
            example(
                "Run an agent that reads the keys below /vnf-agent/node1/config/ of an etcd cluster:",
                "sudo netns-agent run --microservice-label node1 \\\n    \
                 --etcd-endpoints https://10.0.0.11:2379,https://10.0.0.12:2379 \\\n    --etcd-ca /etc/netns-agent/etcd-ca.pem",
            ),
            example(
                "Follow a YAML file, without an etcd and without network clients:",
                "sudo netns-agent run --initial-config /etc/netns-agent/network.yaml --grpc-listen off",
            ),
            example(
                "Read the settings from a file:",
                "sudo netns-agent run --config /etc/netns-agent/settings.yaml",
            ),
            example(
                "The same with an environment variable:",
                "sudo CONFIG_FILE=/etc/netns-agent/settings.yaml netns-agent run",
            ),
        ],
        related: &["doctor", "status", "apply"],
    },
    Entry {
        command: "demo",
        examples: &[
            example("Run the demonstration:", "netns-agent demo"),
            example("Keep everything running afterwards, to look around:", "netns-agent demo --keep"),
        ],
        related: &["run"],
    },
    Entry {
        command: "status",
        examples: &[
            example("Show the health of the agent:", "netns-agent status"),
            example(
                "Use it as a health check in a script:",
                "netns-agent status --timeout 5s || echo 'not ready'",
            ),
        ],
        related: &["get", "doctor"],
    },
    Entry {
        command: "get",
        examples: &[
            example("List all values:", "netns-agent get"),
            example(
                "List the interfaces and routes that are not configured:",
                "netns-agent get interface route --state '!CONFIGURED'",
            ),
            example(
                "Save the desired values of all sources in a file:",
                "netns-agent get --document > saved.yaml",
            ),
            example(
                "Print the keys of all failed values:",
                "netns-agent get --state failed,retrying -o name",
            ),
        ],
        related: &["describe", "explain", "watch"],
    },
    Entry {
        command: "describe",
        examples: &[
            example("Show an interface:", "netns-agent describe interface/web-eth0"),
            example("Show a route, as JSON:", "netns-agent describe route/10.20.0.0/16/web-eth0 -o json"),
        ],
        related: &["get", "explain", "history"],
    },
    Entry {
        command: "explain",
        examples: &[
            example("Explain why an interface is pending:", "netns-agent explain interface/web-eth0"),
            example("A name is enough if only one value has it:", "netns-agent explain web-eth0"),
        ],
        related: &["describe", "graph", "history"],
    },
    Entry {
        command: "watch",
        examples: &[
            example("Print all changes:", "netns-agent watch --changes-only"),
            example(
                "Print the changes of one interface, as JSON:",
                "netns-agent watch interface/web-eth0 -o json",
            ),
        ],
        related: &["get", "wait", "history"],
    },
    Entry {
        command: "wait",
        examples: &[
            example("Wait until the agent has configured everything:", "netns-agent wait --all"),
            example(
                "Start a program when its network is ready:",
                "netns-agent wait interface/web-eth0 --timeout 30s && ip netns exec web nginx",
            ),
            example(
                "Wait until an interface is deleted:",
                "netns-agent wait interface/web-eth0 --for deleted",
            ),
        ],
        related: &["apply", "watch"],
    },
    Entry {
        command: "apply",
        examples: &[
            example("Apply a file, and wait for the result:", "netns-agent apply -f lab.yaml --wait"),
            example(
                "Make the values of this source exactly those of the file:",
                "netns-agent apply -f lab.yaml --replace",
            ),
            example("Apply all values or none:", "netns-agent apply -f lab.yaml --atomic"),
            example(
                "Change the network through which you are connected. If you lose the connection, the change is undone after a minute:",
                "netns-agent apply -f uplink.yaml --confirm-within 60s --wait",
            ),
        ],
        related: &["plan", "diff", "confirm", "delete", "model"],
    },
    Entry {
        command: "confirm",
        examples: &[
            example("List the changes that wait for confirmation:", "netns-agent confirm"),
            example("Confirm change 3:", "netns-agent confirm 3"),
        ],
        related: &["apply", "history"],
    },
    Entry {
        command: "delete",
        examples: &[
            example(
                "Delete the values of a file, and wait until they are gone:",
                "netns-agent delete -f lab.yaml --wait",
            ),
            example(
                "Delete two values:",
                "netns-agent delete interface/web-eth0 route/10.20.0.0/16/web-eth0",
            ),
        ],
        related: &["apply", "plan", "kvdb"],
    },
    Entry {
        command: "plan",
        examples: &[
            example("Show what would change in the kernel:", "netns-agent plan -f lab.yaml"),
            example("Show what the deletion would change:", "netns-agent plan -f lab.yaml --delete"),
        ],
        related: &["apply", "delete", "diff"],
    },
    Entry {
        command: "diff",
        examples: &[
            example("Compare a file with the desired values:", "netns-agent diff -f lab.yaml"),
            example(
                "Also show the values that `apply --replace` would delete:",
                "netns-agent diff -f lab.yaml --replace",
            ),
        ],
        related: &["plan", "apply"],
    },
    Entry {
        command: "history",
        examples: &[
            example("Show the transactions of the last ten minutes:", "netns-agent history --since 10m"),
            example("Show the operations of transaction 12:", "netns-agent history 12"),
            example(
                "Show the states of an interface over time:",
                "netns-agent history --of interface/web-eth0",
            ),
        ],
        related: &["describe", "watch"],
    },
    Entry {
        command: "graph",
        examples: &[
            example("Show what a route depends on:", "netns-agent graph route/10.20.0.0/16/web-eth0"),
            example("Draw all values:", "netns-agent graph --format svg > graph.svg"),
        ],
        related: &["explain", "describe"],
    },
    Entry {
        command: "resync",
        examples: &[
            example(
                "Compare the kernel with the desired values, and repair differences:",
                "netns-agent resync",
            ),
            example("The same without a retry of failed values:", "netns-agent resync --no-retry"),
        ],
        related: &["status", "history"],
    },
    Entry {
        command: "removals",
        examples: &[
            example("See what would be deleted:", "netns-agent removals list"),
            example("Delete it:", "netns-agent removals accept"),
        ],
        related: &["status", "run"],
    },
    Entry {
        command: "removals list",
        examples: &[example("List what would be deleted, as JSON:", "netns-agent removals list -o json")],
        related: &["removals accept"],
    },
    Entry {
        command: "removals accept",
        examples: &[example(
            "Delete the values and orphans whose removal is on hold:",
            "netns-agent removals accept",
        )],
        related: &["removals list"],
    },
    Entry {
        command: "log",
        examples: &[
            example("List the loggers:", "netns-agent log list"),
            example("Make one of them more verbose:", "netns-agent log set engine debug"),
        ],
        related: &["run"],
    },
    Entry {
        command: "log list",
        examples: &[example("Show the level of one logger:", "netns-agent log list engine")],
        related: &["log set"],
    },
    Entry {
        command: "log set",
        examples: &[
            example("Log each operation of the engine:", "netns-agent log set engine debug"),
            example("Log only warnings and errors:", "netns-agent log set default warn"),
        ],
        related: &["log list"],
    },
    Entry {
        command: "kvdb",
        examples: &[
            example("List all keys of an agent:", "netns-agent kvdb list --keys-only node1/"),
            example(
                "Read a value from an etcd cluster, without an agent:",
                "netns-agent kvdb --etcd-endpoints https://10.0.0.11:2379 --etcd-ca ca.pem \\\n    \
                 --microservice-label node1 get interface/sw",
            ),
        ],
        related: &["get", "apply"],
    },
    Entry {
        command: "kvdb get",
        examples: &[
            example("Print a value:", "netns-agent kvdb get interface/sw"),
            example(
                "Print the status that the agent has written:",
                "netns-agent kvdb get config-status/linux/interfaces/v2/interface/sw",
            ),
        ],
        related: &["kvdb put", "kvdb list"],
    },
    Entry {
        command: "kvdb put",
        examples: &[
            example(
                "Put a bridge:",
                r#"netns-agent kvdb put interface/sw '{"name": "sw", "type": "BRIDGE", "enabled": true}'"#,
            ),
            example("Read the value from a file:", "netns-agent kvdb put interface/sw - < sw.json"),
        ],
        related: &["kvdb get", "kvdb del", "model show"],
    },
    Entry {
        command: "kvdb del",
        examples: &[example("Delete a value:", "netns-agent kvdb del interface/sw")],
        related: &["kvdb put", "kvdb list"],
    },
    Entry {
        command: "kvdb list",
        examples: &[
            example("List the desired values of an agent:", "netns-agent kvdb list node1/config/"),
            example("List the keys of all agents:", "netns-agent kvdb list --keys-only"),
        ],
        related: &["kvdb get"],
    },
    Entry {
        command: "model",
        examples: &[
            example("List the kinds of values:", "netns-agent model list"),
            example("Show the fields of an interface:", "netns-agent model show interface"),
        ],
        related: &["apply", "kvdb put"],
    },
    Entry {
        command: "model list",
        examples: &[example("List the kinds of values:", "netns-agent model list")],
        related: &["model show"],
    },
    Entry {
        command: "model show",
        examples: &[
            example("Show the fields of a route, with an example:", "netns-agent model show route"),
            example("The same for a program:", "netns-agent model show route -o json"),
        ],
        related: &["model list"],
    },
    Entry {
        command: "doctor",
        examples: &[
            example("Check this machine:", "sudo netns-agent doctor"),
            example(
                "Also check the connection to an etcd:",
                "sudo netns-agent doctor --etcd-endpoints http://10.0.0.11:2379",
            ),
        ],
        related: &["run", "status"],
    },
    Entry {
        command: "completion",
        examples: &[
            example(
                "Load the completions into the current bash:",
                "source <(netns-agent completion bash)",
            ),
            example(
                "Install the completions for fish:",
                "netns-agent completion fish > ~/.config/fish/completions/netns-agent.fish",
            ),
        ],
        related: &[],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::FromArgMatches;

    use super::*;
    use crate::cli::{Arguments, Command, command, manual::visible_commands};

    /// Splits a shell command line at its operators, and returns the words of each simple command.
    fn simple_commands(line: &str) -> Vec<Vec<String>> {
        let (mut commands, mut words, mut word, mut quote) = (Vec::new(), Vec::new(), None::<String>, None);
        for c in line.chars() {
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (None, '\'' | '"') => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                (None, '|' | '&' | '<' | '>' | '(' | ')') => {
                    words.extend(word.take());
                    commands.push(std::mem::take(&mut words));
                }
                (None, ' ' | '\\' | '\n') => words.extend(word.take()),
                (_, c) => word.get_or_insert_default().push(c),
            }
        }
        assert_eq!(quote, None, "{line}");
        words.extend(word);
        commands.push(words);
        commands
    }

    /// Returns the calls of the agent in a line: the words from the name of the program on.
    fn calls(line: &str) -> Vec<Vec<String>> {
        let calls = simple_commands(line).into_iter().filter_map(|words| {
            let is_prefix = |word: &&String| *word == "sudo" || (word.contains('=') && !word.starts_with('-'));
            let call: Vec<String> = words[words.iter().take_while(is_prefix).count()..].to_vec();
            (call.first().map(String::as_str) == Some("netns-agent")).then_some(call)
        });
        calls.collect()
    }

    #[test]
    fn every_example_is_a_valid_command_line_of_its_command() {
        for entry in ENTRIES {
            for Example { line, .. } in entry.examples {
                let calls = calls(line);
                assert!(!calls.is_empty(), "{line}");
                let mut names_the_command = false;
                for call in calls {
                    let matches = command().try_get_matches_from(&call);
                    let mut matches = matches.unwrap_or_else(|error| panic!("{line}\n{error}"));
                    let (mut path, mut inner) = (Vec::new(), &matches);
                    while let Some((name, deeper)) = inner.subcommand() {
                        path.push(name.to_owned());
                        inner = deeper;
                    }
                    names_the_command |= path.join(" ").starts_with(entry.command);
                    let arguments = Arguments::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| panic!("{line}\n{error}"));
                    if let Command::Run(settings) = arguments.command
                        // The agent reads the files that its settings name.
                        && !line.contains("/etc/")
                    {
                        settings.load(&|_| None).unwrap_or_else(|error| panic!("{line}\n{error}"));
                    }
                }
                assert!(names_the_command, "{:?} is not an example of {}", line, entry.command);
            }
        }
    }

    #[test]
    fn every_command_has_one_entry_with_examples() {
        let commands: Vec<String> = visible_commands().into_iter().map(|(path, _)| path.join(" ")).collect();
        let commands: BTreeSet<&str> = commands.iter().map(String::as_str).collect();
        let entries: BTreeSet<&str> = ENTRIES.iter().map(|entry| entry.command).collect();
        assert_eq!(entries, commands);
        assert_eq!(ENTRIES.len(), commands.len(), "a command has two entries");
        for entry in ENTRIES {
            assert!(!entry.examples.is_empty(), "{}", entry.command);
            for related in entry.related {
                assert!(commands.contains(related) && *related != entry.command, "{related}");
            }
        }
    }
}
