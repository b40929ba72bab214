//! Tests of settings from each origin, and of the messages about invalid settings.

use clap::{CommandFactory, Parser};

use super::*;
use crate::store::Password;

#[derive(Parser)]
#[command(name = "run")]
struct Program {
    #[command(flatten)]
    run: RunArgs,
}

fn load(flags: &[&str], environment: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let program = Program::try_parse_from(["run"].iter().chain(flags)).expect("clap accepts the flags");
    program
        .run
        .load(&|name| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
}

fn refusal(flags: &[&str], environment: &[(&str, &str)]) -> String {
    load(flags, environment).expect_err("an invalid setting").to_string()
}

/// Invalid settings: flags, environment variables, and expected parts of the error message.
type Refused<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);

fn file(content: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("agent.yaml");
    std::fs::write(&path, content).expect("the file can be written");
    let path = path.to_str().expect("a temporary path is UTF-8").to_owned();
    (directory, path)
}

#[test]
fn without_settings_the_documented_defaults_apply() {
    let settings = load(&[], &[]).expect("defaults are valid");
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let want = Settings {
        microservice_label: "vpp1".into(),
        etcd: None,
        embedded_listen: address("127.0.0.1:2379"),
        embedded_quota: 256 << 20,
        data_dir: "/var/lib/netns-agent".into(),
        on_store_loss: OnStoreLoss::Hold,
        http: HttpSettings {
            listen: Some(address("127.0.0.1:9191")),
            identity: None,
            client_ca: None,
            tokens: None,
            rate_limit: None,
            body_max: 4 << 20,
            connections_max: 256,
            time_limit: std::time::Duration::from_secs(10),
        },
        grpc_listen: Some(address("127.0.0.1:9111")),
        docker_socket: "/var/run/docker.sock".into(),
        initial_config: None,
        drift: DriftSettings {
            watched_max: 300,
            sweep_interval: std::time::Duration::from_secs(10),
            policy: DriftPolicy::Repair,
            foreign_addresses: ForeignAddresses::Keep,
        },
        history: HistoryLimits {
            age: std::time::Duration::from_secs(24 * 60 * 60),
            transactions: 10_000,
        },
        keep_privileges: false,
        log: "info".into(),
    };
    assert_eq!(settings, want);
    assert_eq!(settings.prefix(), "/vnf-agent/vpp1/");
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let (_directory, path) = file("microservice_label: from-file\nhttp_listen: 127.0.0.1:1\ngrpc_listen: '[::1]:2'\nlog: debug\n");
    let environment = [("MICROSERVICE_LABEL", "from-env"), ("HTTP_LISTEN", "127.0.0.1:3"), ("RUST_LOG", "")];
    let settings = load(&["--config", &path, "--microservice-label", "from-flag"], &environment).expect("all are valid");
    assert_eq!(settings.microservice_label, "from-flag");
    assert_eq!(
        settings.http.listen.map(|listen| listen.to_string()).as_deref(),
        Some("127.0.0.1:3")
    );
    assert_eq!(settings.grpc_listen.map(|address| address.to_string()).as_deref(), Some("[::1]:2"));
    assert_eq!(settings.log, "debug", "an empty variable counts as absent");
    assert_eq!(load(&[], &[("CONFIG_FILE", &path)]).expect("valid").microservice_label, "from-file");
}

#[test]
fn drift_settings_are_accepted_from_flags_environment_and_file() {
    let (_directory, path) = file("watched_max: 20\nsweep_interval: 0.5\ndrift_policy: report\n");
    let settings = load(&["--config", &path, "--foreign-addresses", "strict"], &[("WATCHED_MAX", "0")]).expect("all are valid");
    let want = DriftSettings {
        watched_max: 0,
        sweep_interval: std::time::Duration::from_millis(500),
        policy: DriftPolicy::Report,
        foreign_addresses: ForeignAddresses::Strict,
    };
    assert_eq!(settings.drift, want);
}

#[test]
fn endpoints_are_a_comma_list_or_a_list_in_the_file() {
    let endpoints = |settings: Settings| settings.etcd.expect("an etcd").endpoints;
    let want = ["http://a:1", "b:2"];
    assert_eq!(
        endpoints(load(&["--etcd-endpoints", "http://a:1, b:2,"], &[]).expect("valid")),
        want
    );
    for content in ["etcd_endpoints: [http://a:1, 'b:2']", "etcd_endpoints: http://a:1,b:2"] {
        let (_directory, path) = file(content);
        assert_eq!(endpoints(load(&["--config", &path], &[]).expect(content)), want);
    }
}

/// Checks that each case fails with an error message that contains the expected parts.
fn expect_refusals(cases: &[Refused]) {
    for (flags, environment, parts) in cases {
        let message = refusal(flags, environment);
        for part in *parts {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
    }
}

#[test]
fn invalid_labels_are_refused_with_the_reason() {
    let long = "x".repeat(64);
    expect_refusals(&[
        (
            &["--microservice-label", "a/b"],
            &[],
            &["--microservice-label", "a slash", "63 bytes"],
        ),
        (&["--microservice-label", ""], &[], &["--microservice-label", "empty"]),
        (&["--microservice-label", &long], &[], &["is too long"]),
        (
            &["--microservice-label", ".."],
            &[],
            &["--microservice-label", "is a relative path"],
        ),
        (
            &[],
            &[("MICROSERVICE_LABEL", "a b")],
            &["environment variable MICROSERVICE_LABEL", "whitespace"],
        ),
    ]);
}

#[test]
fn errors_name_the_origin_of_an_invalid_value_and_the_accepted_values() {
    expect_refusals(&[
        (
            &["--http-listen", "localhost"],
            &[],
            &["--http-listen", "\"localhost\"", "127.0.0.1:9191"],
        ),
        (
            &[],
            &[("DOCKER_HOST", "tcp://10.0.0.1:2375")],
            &["environment variable DOCKER_HOST", "unix:///"],
        ),
        (&["--log", "info,netns_agent=loud"], &[], &["--log", "debug"]),
        (&["--watched-max=-1"], &[], &["--watched-max", "300"]),
        (
            &[],
            &[("SWEEP_INTERVAL", "10s")],
            &["environment variable SWEEP_INTERVAL", "seconds"],
        ),
        (&["--sweep-interval", "0"], &[], &["--sweep-interval", "out of range", "0.1"]),
        (&["--sweep-interval", "NaN"], &[], &["--sweep-interval", "out of range"]),
        (
            &["--drift-policy", "ignore"],
            &[],
            &["--drift-policy", "\"ignore\"", "repair or report"],
        ),
        (&["--foreign-addresses", "remove"], &[], &["--foreign-addresses", "keep or strict"]),
        (&["--etcd-endpoints", " ,"], &[], &["--etcd-endpoints", "http://10.0.0.1:2379"]),
        (&["--etcd-endpoints", "https://a:1"], &[], &["--etcd-endpoints", "--etcd-ca"]),
        (
            &["--etcd-endpoints", "a:1", "--etcd-cert", "c"],
            &[],
            &["--etcd-cert", "--etcd-key"],
        ),
        (
            &["--etcd-endpoints", "a:1", "--etcd-ca", "/nonexistent/ca"],
            &[],
            &["/nonexistent/ca", "No such file"],
        ),
        (&["--etcd-ca", "c"], &[], &["--etcd-ca", "--etcd-endpoints"]),
        (
            &["--etcd-endpoints", "a:1", "--etcd-user", "u"],
            &[],
            &["--etcd-user", "ETCD_PASSWORD"],
        ),
        (
            &["--grpc-listen", "127.0.0.1:9191"],
            &[],
            &["default of --http-listen", "--grpc-listen", "different ports"],
        ),
        (&["--config", "/nonexistent.yaml"], &[], &["/nonexistent.yaml", "No such file"]),
    ]);
}

#[test]
fn an_unknown_member_of_the_file_is_reported_with_its_line() {
    let (_directory, path) = file("microservice_label: a\nhttp-listen: 127.0.0.1:1\n");
    let message = refusal(&["--config", &path], &[]);
    for part in [path.as_str(), "http-listen", "http_listen", "line 2"] {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
    for content in ["http_listen: [1]", "- a", "a: b: c"] {
        let (_directory, path) = file(content);
        assert!(refusal(&["--config", &path], &[]).contains(&path));
    }
}

#[test]
fn an_empty_file_and_a_numeric_label_are_accepted() {
    for content in ["", "# nothing yet\n"] {
        let (_directory, path) = file(content);
        load(&["--config", &path], &[]).expect("nothing is set");
    }
    let (_directory, path) = file("microservice_label: 0012\n");
    assert_eq!(load(&["--config", &path], &[]).expect("a label").microservice_label, "0012");
}

#[test]
fn a_password_comes_from_a_file_or_the_environment_and_is_never_shown() {
    let (_directory, path) = file("from-file\nsecond line\n");
    let flags = ["--etcd-endpoints", "a:1", "--etcd-user", "u"];
    let password = |flags: &[&str], environment: &[(&str, &str)]| {
        let settings = load(flags, environment).expect("valid");
        assert!(!format!("{settings:?}").contains("from-"), "no password in debug output");
        settings.etcd.expect("an etcd").credentials.expect("credentials").password
    };
    assert_eq!(password(&flags, &[("ETCD_PASSWORD", "from-env")]), Password::new("from-env"));
    let with_file = [&flags[..], &["--etcd-password-file", &path]].concat();
    assert_eq!(password(&with_file, &[("ETCD_PASSWORD", "from-env")]), Password::new("from-file"));
    let both = [("ETCD_PASSWORD", "from-env"), ("ETCD_PASSWORD_FILE", path.as_str())];
    assert_eq!(password(&flags, &both), Password::new("from-env"));
    assert_eq!(password(&flags, &both[1..]), Password::new("from-file"));
    let (_directory, empty) = file("\n");
    assert!(refusal(&[&flags[..], &["--etcd-password-file", &empty]].concat(), &[]).contains("first line"));
    Program::try_parse_from(["run", "--etcd-password", "x"])
        .err()
        .expect("there is no such flag");
    load(&["--etcd-endpoints", "a:1"], &[("ETCD_PASSWORD", "of another program")]).expect("a password without a user is ignored");
}

#[test]
fn the_help_names_every_environment_variable() {
    let mut command = Program::command();
    let help = command.render_long_help().to_string();
    let list = Layer::augment_args(Command::default());
    for setting in list.get_arguments() {
        let flag = setting.get_long().expect("a flag");
        assert_eq!(flag.replace('-', "_"), setting.get_id().as_str());
        assert!(help.contains(&format!("--{flag}")), "--{flag}");
        let variable = setting
            .get_env()
            .map_or("CONFIG_FILE".into(), |variable| variable.to_string_lossy());
        assert!(help.contains(&format!("[env: {variable}]")), "{variable}");
        for default in setting.get_default_values() {
            assert!(help.contains(&format!("[default: {}]", default.display())), "{flag}");
        }
    }
    for default in [
        "vpp1",
        "127.0.0.1:2379",
        "/var/lib/netns-agent",
        "127.0.0.1:9191",
        "127.0.0.1:9111",
        "info",
    ] {
        assert!(help.contains(&format!("[default: {default}]")), "{default}");
    }
}

#[test]
fn a_reachable_address_requires_tls_and_authentication_or_insecure_listen() {
    let reachable: &[&str] = &["--http-listen", "0.0.0.0:9191"];
    let tls: &[&str] = &["--http-cert", "/c", "--http-key", "/k"];
    let with = |more: &[&[&'static str]]| load(&[reachable, &more.concat()].concat(), &[]);
    for protection in [
        &[tls, &["--tokens-file", "/t"]] as &[&[&str]],
        &[tls, &["--http-client-ca", "/ca"]],
        &[&["--insecure-listen"]],
    ] {
        let settings = with(protection).expect("protected, or --insecure-listen is set");
        assert_eq!(settings.http.listen.map(|listen| listen.port()), Some(9191));
    }
    for gap in [&[] as &[&[&str]], &[tls], &[&["--tokens-file", "/t"]]] {
        let refusal = with(gap).expect_err("not protected").to_string();
        for part in ["--http-listen", "0.0.0.0:9191", "--tokens-file", "--insecure-listen"] {
            assert!(refusal.contains(part), "{part} is missing in: {refusal}");
        }
    }
}

#[test]
fn embedded_store_on_a_reachable_address_requires_insecure_listen() {
    let reachable = ["--embedded-listen", "0.0.0.0:2379"];
    let with = |more: &[&str]| load(&[&reachable as &[&str], more].concat(), &[]);
    let tls: &[&str] = &["--http-cert", "/c", "--http-key", "/k", "--tokens-file", "/t"];
    for gap in [&[] as &[&str], tls] {
        let refusal = with(gap)
            .expect_err("the embedded store has neither TLS nor authentication")
            .to_string();
        for part in ["--embedded-listen", "0.0.0.0:2379", "--etcd-endpoints", "--insecure-listen"] {
            assert!(refusal.contains(part), "{part} is missing in: {refusal}");
        }
    }
    assert!(with(&["--insecure-listen"]).is_ok());
    // With etcd endpoints, the embedded store does not listen.
    assert!(with(&["--etcd-endpoints", "10.0.0.1:2379"]).is_ok());
    let in_environment = load(&[], &[("EMBEDDED_LISTEN", "[::]:2379")]).expect_err("rejected as well");
    assert!(in_environment.to_string().contains("EMBEDDED_LISTEN"), "{in_environment}");
    for loopback in ["127.0.0.1:0", "[::1]:2379", "127.8.0.1:2379"] {
        assert!(load(&["--embedded-listen", loopback], &[]).is_ok(), "{loopback}");
    }
}

#[test]
fn the_rest_api_can_be_switched_off_and_its_settings_are_validated() {
    assert_eq!(load(&["--http-listen", "off"], &[]).expect("off is accepted").http.listen, None);
    let cases: &[Refused] = &[
        (&["--http-cert", "/c"], &[], &["--http-cert", "also set --http-key"]),
        (&["--http-key", "/k"], &[], &["--http-key", "also set --http-cert"]),
        (&["--http-client-ca", "/ca"], &[], &["--http-client-ca", "require TLS"]),
        (&["--http-body-max", "0"], &[], &["--http-body-max", "it is 0"]),
        (&["--http-rate-limit", "many"], &[], &["--http-rate-limit", "\"many\""]),
        (&[], &[("INSECURE_LISTEN", "perhaps")], &["INSECURE_LISTEN", "true or false"]),
    ];
    for (flags, environment, parts) in cases {
        let refusal = refusal(flags, environment);
        for part in *parts {
            assert!(refusal.contains(part), "{part} is missing in: {refusal}");
        }
    }
    let time_limit = |text: &'static str| load(&["--http-time-limit", text], &[]).expect("valid").http.time_limit;
    assert_eq!(time_limit("86400"), std::time::Duration::from_secs(86_400));
    assert!(refusal(&["--http-time-limit", "86401"], &[]).contains("more than a day"));
    assert!(refusal(&["--http-time-limit", "0"], &[]).contains("it is 0"));
    let limited = load(&["--http-rate-limit", "5"], &[]).expect("valid").http.rate_limit;
    let unlimited = load(&["--http-rate-limit", "0"], &[]).expect("valid").http.rate_limit;
    assert_eq!((limited, unlimited), (Some(5), None));
}

#[test]
fn privileged_ports_are_detected_only_where_a_server_listens() {
    let low = |flags: &[&str]| load(flags, &[]).expect("valid").has_low_port();
    assert!(!low(&[]));
    assert!(low(&["--http-listen", "127.0.0.1:80"]) && low(&["--grpc-listen", "127.0.0.1:1023"]));
    assert!(!low(&["--http-listen", "127.0.0.1:1024"]) && !low(&["--http-listen", "127.0.0.1:0"]));
    assert!(low(&["--embedded-listen", "127.0.0.1:237"]));
    assert!(!low(&["--embedded-listen", "127.0.0.1:237", "--etcd-endpoints", "a:1"]));
    assert!(load(&["--keep-privileges"], &[]).expect("valid").keep_privileges);
    assert!(load(&[], &[("KEEP_PRIVILEGES", "true")]).expect("valid").keep_privileges);
}
