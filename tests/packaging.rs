//! Tests that the compose file, the systemd unit and the files that `packaging/install` installs are well-formed and consistent
//! with each other.
//!
//! The tests need neither Docker nor systemd. They build and start nothing, and install only into temporary directories. See
//! [`compose`].

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use netns_kernel::privileges::NEEDED;

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
        assert!(
            installed(&format!("usr/share/man/man1/netns-agent-{command}.1")).contains("NAME"),
            "{command}"
        );
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
