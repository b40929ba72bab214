//! Tests a real agent's gRPC API with a client in another language. The client uses Python's grpcio and discovers every message
//! type through gRPC reflection.
//!
//! The client runs in a venv with pinned packages, which is created once. If the packages cannot be installed or the client
//! cannot run, the test fails and says why. See [`the_client_of_another_language_sees_the_same`].

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value as Json, json};

use crate::support::{bench::Bench, command, isolation, store::StoreKind};

const CLIENT: &str = "tests/api/reflection_client.py";
const PACKAGES: &str = "tests/api/reflection_client.txt";
const ADDRESS: &str = "127.0.0.1:9111";

/// Returns the Python interpreter of a venv with the packages.
///
/// The first call creates the venv outside the test's namespaces, where the package registry is reachable. The second call,
/// inside the namespaces, finds the venv installed.
fn python() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reflection-client");
    let (python, installed) = (folder.join("bin/python"), folder.join("installed.txt"));
    let packages = fs::read_to_string(PACKAGES).expect("read the list of packages");
    if fs::read_to_string(&installed).is_ok_and(|text| text == packages) {
        return python;
    }
    command::run("python3", &["-m", "venv", "--clear", &folder.to_string_lossy()]);
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", PACKAGES];
    command::run(&python.to_string_lossy(), &pip);
    fs::write(&installed, packages).expect("write the stamp");
    python
}

#[test]
fn the_client_of_another_language_sees_the_same() {
    let python = python();
    let test = isolation::test_name(concat!(module_path!(), "::the_client_of_another_language_sees_the_same"));
    isolation::run(test, Duration::from_secs(120), || async move {
        let mut bench = Bench::new(StoreKind::Embedded).await;
        bench.start_agent().await;
        let seen = tokio::task::spawn_blocking(move || command::run(&python.to_string_lossy(), &[CLIENT, ADDRESS]));
        let seen: Json = serde_json::from_str(&seen.await.expect("run the client")).expect("one object");
        judge(&seen);
        bench.stop_agent().await;
    });
}

fn judge(seen: &Json) {
    let services: Vec<&str> = seen["services"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    for service in [
        "ligato.configurator.ConfiguratorService",
        "ligato.generic.ManagerService",
        "ligato.generic.MetaService",
    ] {
        assert!(services.contains(&service), "{services:?}");
    }
    let models: Vec<(String, String)> = models::registry::MODELS
        .iter()
        .map(|model| (model.proto_name.to_owned(), model.proto_file.to_owned()))
        .collect();
    let text = |model: &Json, member: &str| model[member].as_str().unwrap_or_default().to_owned();
    let known = seen["models"].as_array().into_iter().flatten();
    let known: Vec<(String, String)> = known.map(|model| (text(model, "message"), text(model, "file"))).collect();
    assert_eq!(known, models);

    let key = |name: &str| format!("config/linux/interfaces/v2/interface/{name}");
    assert_eq!(seen["results"], json!({ key("one"): "CONFIGURED", key("two"): "CONFIGURED" }));
    assert_eq!(seen["configured"], json!(["CONFIGURED"]));
    assert_eq!(seen["got"], json!([1, "CONFIGURED", { "end": "one" }, "one", "two"]));
    let removed = seen["removed"].as_array().and_then(|states| states.last());
    assert_eq!((removed, &seen["left"]), (Some(&json!("REMOVED")), &json!(0)));
    assert_eq!(seen["refused"], "INVALID_ARGUMENT");
    // Reflection and ProtoFileDescriptor must describe the same custom options.
    assert_eq!(seen["hint"], "IP_WITH_MASK");
    assert_eq!(seen["differing"], json!([]));
}
