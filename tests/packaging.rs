//! Tests that the compose file, the systemd unit, the metadata of the Debian package and the files that `packaging/install` installs are
//! well-formed and consistent with each other.
//!
//! The tests need neither Docker nor systemd nor cargo-deb. They build and start nothing, and install only into temporary directories.
//! `tests/package` builds and installs the Debian package.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use models::key::{ALL_AGENTS_PREFIX, agent_prefix};
use netns_agent::config::RunArgs;
use netns_kernel::{privileges::NEEDED, provisional_group};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the parsed compose file.
fn compose() -> serde_json::Value {
    serde_saphyr::from_str(&read("docker-compose.yml")).expect("docker-compose.yml is YAML")
}

/// Returns the values of a setting in the systemd unit.
fn unit_setting(name: &str) -> BTreeSet<String> {
    let unit = read("packaging/netns-agent.service");
    let lines = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    lines
        .flat_map(|values| values.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn compose_file_names_only_existing_stages_and_volumes() {
    let compose = compose();
    let dockerfile = read("packaging/Dockerfile");
    for (name, service) in compose["services"].as_object().expect("services") {
        let target = service["build"]["target"]
            .as_str()
            .unwrap_or_else(|| panic!("{name} has no build stage"));
        assert!(
            dockerfile.contains(&format!(" AS {target}\n")),
            "packaging/Dockerfile has no stage {target}"
        );
        for volume in service["volumes"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|volume| volume.as_str())
        {
            let source = volume.split(':').next().unwrap_or_default();
            assert!(
                compose["volumes"].get(source).is_some(),
                "volume {source} of {name} is not declared"
            );
        }
    }
}

#[test]
fn container_and_service_have_the_capabilities_that_the_agent_keeps() {
    let container: BTreeSet<String> = compose()["services"]["agent"]["cap_add"]
        .as_array()
        .expect("cap_add of the agent")
        .iter()
        .map(|capability| format!("CAP_{}", capability.as_str().unwrap_or_default()))
        .collect();
    let needed: BTreeSet<String> = NEEDED.iter().map(|capability| capability.name.to_owned()).collect();
    assert_eq!(container, needed);
    assert_eq!(unit_setting("CapabilityBoundingSet"), needed);
    assert_eq!(unit_setting("NoNewPrivileges"), BTreeSet::from(["yes".to_owned()]));
    // If there are no ambient capabilities, programs that the agent starts get no capabilities.
    assert_eq!(unit_setting("AmbientCapabilities"), BTreeSet::new());
    assert_eq!(compose()["services"]["agent"]["cap_drop"], serde_json::json!(["ALL"]));
}

/// The agent sends these notifications; see `src/service_manager.rs`.
#[test]
fn unit_uses_the_notifications_of_the_agent() {
    let set = |name: &str| unit_setting(name).into_iter().collect::<Vec<_>>();
    assert_eq!(set("Type"), ["notify"]);
    // Being in sync may take as long as the store is unreachable.
    assert_eq!(set("TimeoutStartSec"), ["infinity"]);
    assert_eq!(set("WatchdogSec"), ["60s"]);
    assert_eq!(set("FileDescriptorStoreMax"), [netns_kernel::STORED_MAX.to_string()]);
    assert!(unit_setting("ExecReload").contains("-HUP"));
    // on-failure includes a watchdog that fired (systemd.service(5)).
    assert_eq!(set("Restart"), ["on-failure"]);
}

#[test]
fn named_namespaces_of_container_and_service_are_visible_on_the_host() {
    let compose = compose();
    let volumes = compose["services"]["agent"]["volumes"].as_array().expect("volumes of the agent");
    let netns = volumes
        .iter()
        .find(|volume| volume["target"] == "/run/netns")
        .expect("/run/netns is mounted into the container");
    assert_eq!(netns["bind"]["propagation"], "rshared");
    // These settings would give the service its own mount namespace (systemd.exec(5)).
    for setting in [
        "ProtectSystem",
        "ProtectHome",
        "PrivateTmp",
        "PrivateDevices",
        "ProtectKernelModules",
        "ProtectKernelTunables",
        "PrivateMounts",
    ] {
        assert!(
            unit_setting(setting).is_empty(),
            "{setting}= would hide the agent's mounts from the host"
        );
    }
}

/// Runs `packaging/install` with `root` as the target directory.
fn install(root: &Path) {
    let mut script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/install"));
    let script = script.arg(env!("CARGO_BIN_EXE_netns-agent")).env("DESTDIR", root);
    let output = script.output().expect("run packaging/install");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Returns the files below a directory, relative to it.
fn files_below(root: &Path) -> BTreeSet<String> {
    let (mut files, mut folders) = (BTreeSet::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("list a directory") {
            let path = entry.expect("a directory entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    files.insert(path.strip_prefix(root).expect("below the root").display().to_string());
                }
            }
        }
    }
    files
}

#[test]
fn every_file_is_installed_where_its_reader_looks_for_it() {
    let root = tempfile::tempdir().expect("a directory");
    install(root.path());
    let files: BTreeSet<String> = files_below(root.path())
        .into_iter()
        .filter(|path| !path.starts_with("usr/share/man/"))
        .collect();
    let expected = [
        "etc/default/netns-agent",
        "usr/bin/netns-agent",
        "usr/lib/systemd/network/10-netns-agent.link",
        "usr/lib/systemd/network/10-netns-agent.network",
        "usr/lib/systemd/system/netns-agent.service",
        "usr/lib/udev/rules.d/70-netns-agent.rules",
        "usr/share/bash-completion/completions/netns-agent",
        "usr/share/doc/netns-agent/README.md",
        "usr/share/doc/netns-agent/changelog",
        "usr/share/doc/netns-agent/copyright",
        "usr/share/fish/vendor_completions.d/netns-agent.fish",
        "usr/share/zsh/vendor-completions/_netns-agent",
    ];
    assert_eq!(files, expected.map(str::to_owned).into());
    // The page with the installed files lists all of them.
    let page = read("docs/src/production-systemd.md");
    for path in expected.iter().filter(|path| !path.starts_with("usr/share/doc/")) {
        assert!(
            page.contains(&format!("`/{path}`")),
            "docs/src/production-systemd.md does not list /{path}"
        );
    }
    assert_eq!(
        unit_setting("EnvironmentFile"),
        BTreeSet::from(["-/etc/default/netns-agent".to_owned()])
    );
}

#[test]
fn installation_keeps_changed_settings() {
    let root = tempfile::tempdir().expect("a directory");
    install(root.path());
    let settings = root.path().join("etc/default/netns-agent");
    assert_eq!(fs::read_to_string(&settings).expect("the settings"), read("packaging/default"));
    fs::write(&settings, "MICROSERVICE_LABEL=node1\n").expect("change the settings");
    install(root.path());
    assert_eq!(fs::read_to_string(&settings).expect("the settings"), "MICROSERVICE_LABEL=node1\n");
}

#[test]
fn default_settings_are_commented_out_and_exist() {
    let variables: BTreeSet<String> = RunArgs::variables().into_iter().map(|(variable, _)| variable).collect();
    let text = read("packaging/default");
    assert!(
        text.lines().all(|line| line.is_empty() || line.starts_with('#')),
        "a setting is active"
    );
    let examples: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix('#')?.split_once('='))
        .filter(|(name, _)| !name.contains(' '))
        .map(|(name, _)| name)
        .collect();
    assert!(examples.len() > 5, "{examples:?}");
    for name in examples {
        assert!(variables.contains(name), "{name} is not a setting");
    }
}

/// Returns whether a text matches a pattern of udev, as in glob(7) with alternatives separated by `|`.
fn matches_udev_pattern(text: &str, patterns: &str) -> bool {
    fn matches(text: &[u8], pattern: &[u8]) -> bool {
        match (text, pattern) {
            ([], []) => true,
            (_, [b'*', pattern @ ..]) => (0..=text.len()).any(|skipped| matches(&text[skipped..], pattern)),
            ([_, text @ ..], [b'?', pattern @ ..]) => matches(text, pattern),
            ([byte, text @ ..], [b'[', first, b'-', last, b']', pattern @ ..]) => (first..=last).contains(&byte) && matches(text, pattern),
            ([byte, text @ ..], [expected, pattern @ ..]) => byte == expected && matches(text, pattern),
            _ => false,
        }
    }
    patterns.split('|').any(|pattern| matches(text.as_bytes(), pattern.as_bytes()))
}

/// Returns the pattern that a udev rule compares an attribute with.
fn udev_pattern(attribute: &str) -> String {
    let rules = read("packaging/70-netns-agent.rules");
    let (_, rest) = rules.split_once(&format!("ATTR{{{attribute}}}==\"")).expect("a rule");
    rest.split_once('"').expect("a closing quote").0.to_owned()
}

#[test]
fn udev_rules_recognise_links_of_every_agent() {
    let (groups, aliases) = (udev_pattern("netdev_group"), udev_pattern("ifalias"));
    for label in (0..2000).map(|number| format!("node{number}")) {
        let group = provisional_group(&agent_prefix(&label));
        assert!(matches_udev_pattern(&group.to_string(), &groups), "{label}: group {group}");
        assert!(
            matches_udev_pattern(&format!("{}sw//set=1", agent_prefix(&label)), &aliases),
            "{label}"
        );
    }
    for group in [0x6e00_0000_u32, 0x6eff_ffff] {
        assert!(matches_udev_pattern(&group.to_string(), &groups), "{group}");
    }
    for group in ["0", "1", "1000", "1844999999", "1863000000", "18500000", "4294967295"] {
        assert!(!matches_udev_pattern(group, &groups), "{group}");
    }
    for alias in ["", "uplink", "unconfigured", ALL_AGENTS_PREFIX] {
        assert!(!matches_udev_pattern(alias, &aliases), "{alias}");
    }
}

#[test]
fn network_files_match_the_property_that_the_udev_rules_set() {
    let rules = read("packaging/70-netns-agent.rules");
    for property in ["NETNS_AGENT", "NM_UNMANAGED"] {
        assert!(rules.contains(&format!("ENV{{{property}}}=\"1\"")), "{property}");
    }
    for (file, setting) in [
        ("packaging/10-netns-agent.network", "Unmanaged=yes"),
        ("packaging/10-netns-agent.link", "MACAddressPolicy=none"),
    ] {
        let text = read(file);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.contains(&"Property=NETNS_AGENT=1") && lines.contains(&setting), "{file}");
    }
}

/// Returns the section `[package.metadata.deb]` of Cargo.toml.
fn debian_metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("run cargo");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let mut packages = metadata["packages"].as_array().expect("packages").iter();
    let package = packages.find(|package| package["name"] == "netns-agent").expect("this package");
    package["metadata"]["deb"].clone()
}

#[test]
fn debian_package_contains_exactly_what_is_installed() {
    let deb = debian_metadata();
    let assets = deb["assets"].as_array().expect("assets");
    // packaging/build calls packaging/install with this directory as the target.
    assert_eq!(assets[0], serde_json::json!({"source": "target/package/root/**/*", "dest": "/"}));
    let others: Vec<&str> = assets[1..].iter().filter_map(|asset| asset["source"].as_str()).collect();
    assert_eq!(others, ["packaging/debian/lintian-overrides"]);
    // cargo-deb would write a file of its own if the licence file were another one.
    assert_eq!(deb["license-file"][0], "packaging/debian/copyright");
    assert!(read("packaging/build").contains("DESTDIR=$out/root packaging/install"));
}

#[test]
fn debian_package_neither_enables_nor_starts_the_service() {
    let deb = debian_metadata();
    assert_eq!(
        deb["systemd-units"],
        serde_json::json!({"enable": false, "start": false, "restart-after-upgrade": false, "stop-on-upgrade": false})
    );
    assert_eq!(deb["depends"], "init-system-helpers (>= 1.54~)");
    // The restart after an upgrade waits until the agent is in sync, but not for ever.
    assert!(read("packaging/debian/postinst").contains("timeout 60 deb-systemd-invoke try-restart netns-agent.service"));
}

#[test]
fn debian_changelog_begins_with_this_version() {
    let changelog = read(debian_metadata()["changelog"].as_str().expect("a changelog"));
    let first = format!("netns-agent ({}-1) ", env!("CARGO_PKG_VERSION"));
    assert!(changelog.starts_with(&first), "{changelog}");
}

/// Runs a shell script, with `before` as arguments of the shell.
fn shell(before: &[&str], script: &Path, arguments: &[&str]) -> Output {
    let output = Command::new("sh").args(before).arg(script).args(arguments).output();
    output.expect("run sh")
}

#[test]
fn maintainer_scripts_are_portable() {
    let folder = debian_metadata()["maintainer-scripts"].as_str().expect("a directory").to_owned();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let scripts: Vec<PathBuf> = ["preinst", "postinst", "prerm", "postrm"]
        .iter()
        .map(|name| folder.join(name))
        .filter(|path| path.exists())
        .collect();
    assert!(!scripts.is_empty());
    for script in scripts {
        let text = fs::read_to_string(&script).expect("a script");
        assert!(
            text.starts_with("#!/bin/sh\n") && text.contains("\nset -e\n"),
            "{}",
            script.display()
        );
        // cargo-deb replaces this line.
        assert!(text.contains("\n#DEBHELPER#\n"), "{}", script.display());
        for bashism in ["[[", "function ", "local ", "&>", " == ", "$'", "<<<"] {
            assert!(!text.contains(bashism), "{}: {bashism}", script.display());
        }
        assert!(shell(&["-n"], &script, &[]).status.success(), "{}", script.display());
    }
    // Only a purge deletes anything, and a removal prints nothing.
    let removal = shell(&[], &folder.join("postrm"), &["remove"]);
    assert!(removal.status.success() && removal.stdout.is_empty(), "{removal:?}");
}

#[test]
fn build_script_describes_itself_and_refuses_unknown_options() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/build");
    let run = |argument: &str| Command::new(&script).arg(argument).output().expect("run packaging/build");
    let help = run("--help");
    assert!(
        help.status.success() && String::from_utf8_lossy(&help.stdout).contains("SHA256SUMS"),
        "{help:?}"
    );
    assert_eq!(run("--unknown").status.code(), Some(2));
}

#[test]
fn program_is_installed_at_the_path_of_its_unit_with_all_manual_pages() {
    let root = tempfile::tempdir().expect("a directory");
    install(root.path());
    let installed = |path: &str| fs::read_to_string(root.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));

    let program = unit_setting("ExecStart");
    let program = program.first().expect("the unit starts a program").trim_start_matches('/');
    assert!(root.path().join(program).is_file(), "the unit starts {program}");
    assert_eq!(
        installed("usr/lib/systemd/system/netns-agent.service"),
        read("packaging/netns-agent.service")
    );
    let help = Command::new(root.path().join(program))
        .arg("--help")
        .output()
        .expect("run the program");
    let help = String::from_utf8(help.stdout).expect("text");
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<&str> = commands
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    assert!(commands.contains(&"run") && commands.contains(&"apply"), "{commands:?}");
    assert!(installed("usr/share/man/man1/netns-agent.1").contains(".TH netns-agent 1"));
    for command in commands {
        let page = installed(&format!("usr/share/man/man1/netns-agent-{command}.1"));
        for section in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "\"EXIT STATUS\"",
            "EXAMPLES",
            "\"SEE ALSO\"",
        ] {
            assert!(page.contains(&format!(".SH {section}\n")), "{command} has no section {section}");
        }
    }
}

#[test]
fn completion_is_installed_for_every_shell() {
    let root = tempfile::tempdir().expect("a directory");
    install(root.path());
    for path in [
        "usr/share/bash-completion/completions/netns-agent",
        "usr/share/zsh/vendor-completions/_netns-agent",
        "usr/share/fish/vendor_completions.d/netns-agent.fish",
    ] {
        let script = fs::read_to_string(root.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(script.contains("explain"), "{path}");
    }
}
