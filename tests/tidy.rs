//! Enforces rules for the source code: which module may import which, where `unsafe` is allowed, and how a file must begin.
//!
//! [`ALLOWED_IMPORTS`] lists the allowed imports, and `src/ARCHITECTURE.md` explains them. Every exception needs a reason next
//! to it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Crates of this repository that a module of the agent may use only if [`ALLOWED_IMPORTS`] lists them for this module. All
/// modules may use `models`.
const CRATES: &[&str] = &["data_dir", "etcd_embedded", "kvscheduler", "listener", "netns_kernel", "testbed"];

/// Top-level modules of the agent, each with the other modules and crates of this repository that it may use.
///
/// `agent` is not listed, because it wires everything together. Dependencies between crates are declared in their manifests, so
/// the compiler enforces them.
const ALLOWED_IMPORTS: &[(&str, &[&str])] = &[
    // Turns flags, environment variables and the settings file into settings for the other modules.
    ("config", &["store", "telemetry", "yaml"]),
    ("telemetry", &[]),
    ("yaml", &[]),
    ("startup", &[]),
    // Binds the types of the scheduler to the agent's keys.
    ("scheduler", &["kvscheduler"]),
    ("engine", &["scheduler", "telemetry"]),
    ("descriptors", &["netns_kernel", "scheduler", "telemetry"]),
    ("signals", &["netns_kernel", "engine", "telemetry"]),
    // Stores descriptors of namespaces in the service manager.
    ("service_manager", &["netns_kernel", "telemetry"]),
    // Contains the etcd connection that `sources` and `publish` share.
    ("store", &["telemetry"]),
    ("sources", &["data_dir", "engine", "store", "telemetry", "yaml"]),
    ("publish", &["engine", "store", "telemetry"]),
    // Converts models to values and passes sources to the engine.
    ("desired", &["descriptors", "engine", "scheduler", "sources"]),
    // Uses copies of values and of the history from `engine`. Uses published statuses, and the documents and items of clients
    // from `sources`. Uses only the snapshot types of `netns_kernel`, because it reads the kernel through
    // `api::retrieval::KernelReader`.
    (
        "api",
        &[
            "config",
            "descriptors",
            "desired",
            "engine",
            "listener",
            "netns_kernel",
            "publish",
            "scheduler",
            "sources",
            "telemetry",
        ],
    ),
    // Communicates with the agent only through its APIs. `config` contains the arguments of `run`. The demo uses the sandbox of
    // `netns_kernel`, and reads the kernel with that crate, independently of the agent. The doctor uses the crate to try link
    // kinds.
    ("cli", &["config", "netns_kernel", "telemetry", "yaml"]),
];

/// File name suffix for the unit tests of a module. The module's rules apply to them as well.
const TESTS_OF_A_MODULE: &str = "_tests";

/// File names that do not say what the file contains.
const BANNED_NAMES: &[&str] = &["utils", "util", "common", "misc", "types"];

/// Markers of unfinished work, split in two so that this file passes its own test.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns all Rust files below a directory, sorted.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a directory entry").path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Returns the source files of the agent and its crates, without benchmarks and tests.
fn source_files() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("crates")).expect("crates");
    let mut crates: Vec<PathBuf> = entries.map(|entry| entry.expect("a directory entry").path().join("src")).collect();
    crates.sort();
    let folders = [root().join("src"), root().join("models/src")].into_iter().chain(crates);
    folders.flat_map(|folder| rust_files(&folder)).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the path relative to the repository root, for messages.
fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Returns the lines of a source text without comments and string literals.
fn code_lines(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| {
            let mut code = String::new();
            let mut in_string = false;
            let mut characters = line.chars().peekable();
            while let Some(character) = characters.next() {
                match (in_string, character) {
                    (true, '\\') => drop(characters.next()),
                    (_, '"') => in_string = !in_string,
                    (false, '/') if characters.peek() == Some(&'/') => break,
                    (false, other) => code.push(other),
                    (true, _) => {}
                }
            }
            code
        })
        .collect()
}

/// Returns the names of the modules that follow `crate::`, also in braces: `use crate::{kernel::X, scheduler}` contains two.
fn crate_imports(text: &str) -> BTreeSet<String> {
    let code = code_lines(text).join("\n");
    let mut modules = BTreeSet::new();
    for (position, _) in code.match_indices("crate::") {
        if code[..position].ends_with(|before: char| before == '$' || before == '_' || before.is_alphanumeric()) {
            continue;
        }
        let rest = &code[position + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => modules.extend(group_heads(group)),
            None => modules.extend(identifier(rest)),
        }
    }
    modules
}

/// Returns the crates of this repository, except `models`, that the text imports or names in paths.
///
/// Ignores a module in a braced import if it has the same name as one of these crates (`ligato::{kvscheduler::…}`).
fn own_crates(text: &str) -> BTreeSet<String> {
    let lines = code_lines(text);
    let names = |line: &str, name: &str| {
        let line = line.trim_start();
        let imported = line.trim_start_matches("pub ").strip_prefix("use ").and_then(identifier);
        let mut paths = line
            .match_indices(name)
            .filter(|(position, _)| line[position + name.len()..].starts_with("::"));
        imported.as_deref() == Some(name) || paths.any(|(position, _)| line[..position].ends_with([' ', '(', '<', '&', '[']))
    };
    let named = CRATES.iter().filter(|name| lines.iter().any(|line| names(line, name)));
    named.map(|name| (*name).to_owned()).collect()
}

/// Returns the first identifier of each item in braces, such as `kernel` and `scheduler` in `{kernel::X, scheduler}`.
fn group_heads(group: &str) -> Vec<String> {
    let (mut heads, mut depth, mut at_head) = (Vec::new(), 0, true);
    for (position, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_head = true,
            other if at_head && (other.is_alphanumeric() || other == '_') => {
                heads.extend(identifier(&group[position..]));
                at_head = false;
            }
            _ => {}
        }
    }
    heads
}

fn identifier(text: &str) -> Option<String> {
    let end = text
        .find(|character: char| !(character.is_alphanumeric() || character == '_'))
        .unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

#[test]
fn crate_imports_finds_every_form_of_an_import() {
    let text = "use crate::kernel::X;\nuse crate::{engine::{A, B}, scheduler};\nlet x = crate::publish::f();\n// use crate::api::Y;\n$crate::cli::z";
    let found: Vec<String> = crate_imports(text).into_iter().collect();
    assert_eq!(found, ["engine", "kernel", "publish", "scheduler"]);
}

#[test]
fn own_crates_finds_crates_of_this_repository() {
    let text = "use kvscheduler::X;\nlet x = f(netns_kernel::y());\nuse proto::{\n    ligato::{listener::Y},\n};\n// data_dir::Z";
    let found: Vec<String> = own_crates(text).into_iter().collect();
    assert_eq!(found, ["kvscheduler", "netns_kernel"]);
}

#[test]
fn modules_import_only_what_the_architecture_allows() {
    let source = root().join("src");
    let mut violations = Vec::new();
    for path in rust_files(&source) {
        let below = path.strip_prefix(&source).expect("a path below src");
        let module = below
            .components()
            .next()
            .expect("a first component")
            .as_os_str()
            .to_string_lossy()
            .replace(".rs", "");
        let Some((_, allowed)) = ALLOWED_IMPORTS.iter().find(|(name, _)| *name == module) else {
            continue;
        };
        for import in crate_imports(&read(&path)) {
            let is_module = source.join(&import).is_dir() || source.join(format!("{import}.rs")).is_file();
            if is_module && import != module && !allowed.contains(&import.as_str()) {
                violations.push(format!("{}: {module} may not import {import}", shown(&path)));
            }
        }
        for name in own_crates(&read(&path)).iter().filter(|name| !allowed.contains(&name.as_str())) {
            violations.push(format!("{}: {module} may not use {name}", shown(&path)));
        }
    }
    assert!(
        violations.is_empty(),
        "see src/ARCHITECTURE.md for what may import what:\n{}",
        violations.join("\n")
    );
}

#[test]
fn every_module_of_the_crate_is_in_the_table() {
    // These modules connect all other modules, so the table does not restrict them.
    let wiring = ["agent", "main", "lib", "bin", "simulation"];
    let mut unknown = Vec::new();
    for entry in fs::read_dir(root().join("src")).expect("src") {
        let path = entry.expect("a directory entry").path();
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .trim_end_matches(TESTS_OF_A_MODULE)
            .to_owned();
        let is_module = path.is_dir() || path.extension().is_some_and(|extension| extension == "rs");
        if is_module && !wiring.contains(&name.as_str()) && !ALLOWED_IMPORTS.iter().any(|(module, _)| *module == name) {
            unknown.push(name);
        }
    }
    assert!(
        unknown.is_empty(),
        "add the allowed imports of these to tests/tidy.rs and src/ARCHITECTURE.md: {unknown:?}"
    );
}

#[test]
fn unsafe_code_is_only_in_netns_kernel_and_has_safety_comments() {
    let mut violations = Vec::new();
    for path in source_files() {
        let text = read(&path);
        let in_kernel_crate = path.starts_with(root().join("crates/netns-kernel"));
        let is_unsafe = |line: &String| {
            line.split(|character: char| !(character.is_alphanumeric() || character == '_'))
                .any(|word| word == "unsafe")
        };
        let count = code_lines(&text).iter().filter(|line| is_unsafe(line)).count();
        if count > 0 && !in_kernel_crate {
            violations.push(format!("{}: unsafe outside crates/netns-kernel", shown(&path)));
        } else if count > text.matches("SAFETY:").count() {
            violations.push(format!("{}: {count} uses of unsafe, but fewer SAFETY comments", shown(&path)));
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn file_names_describe_their_content() {
    let tests = rust_files(&root().join("tests"));
    let banned = source_files().into_iter().chain(tests).filter(|path| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let folder = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        BANNED_NAMES.contains(&stem.as_ref()) || BANNED_NAMES.contains(&folder.as_ref())
    });
    let banned: Vec<String> = banned.map(|path| shown(&path)).collect();
    assert!(banned.is_empty(), "name these files after their contents: {banned:?}");
}

#[test]
fn every_source_file_begins_with_a_module_comment() {
    let tests = rust_files(&root().join("tests"));
    let silent = source_files()
        .into_iter()
        .chain(tests)
        .filter(|path| !path.ends_with("generated.rs"))
        .filter(|path| !read(path).starts_with("//!"));
    let silent: Vec<String> = silent.map(|path| shown(&path)).collect();
    assert!(
        silent.is_empty(),
        "these do not begin with `//!` (what the module does, and for whom): {silent:?}"
    );
}

#[test]
fn no_source_file_contains_unfinished_work() {
    let mut found = Vec::new();
    for path in source_files().into_iter().chain(rust_files(&root().join("tests"))) {
        for (number, line) in read(&path).lines().enumerate() {
            if UNFINISHED.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {}", shown(&path), number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "finish these or file them:\n{}", found.join("\n"));
}

#[test]
fn architecture_page_names_every_module() {
    let page = read(&root().join("src/ARCHITECTURE.md"));
    let missing: Vec<&str> = ALLOWED_IMPORTS
        .iter()
        .map(|(module, _)| *module)
        .filter(|module| root().join("src").join(module).exists() || root().join(format!("src/{module}.rs")).exists())
        .filter(|module| !page.contains(module))
        .collect();
    assert!(missing.is_empty(), "src/ARCHITECTURE.md does not mention {missing:?}");
}

/// Effects in the descriptors that deliberately do nothing, each with its file, function and reason.
///
/// Operations that are impossible use `Effect::Impossible` instead.
const NOOPS: &[&str] = &[
    "address.rs: spec_of: another program adds the address; the agent only waits for it",
    "address.rs: make_primary: the address is the only one in its subnet",
    "address.rs: keep_others: no other address of the subnet remains",
    "address.rs: update: the routes of the address already exist",
    "address.rs: delete: another interface on the link has the same address",
    "detection.rs: delete: the agent only waits for the detection, so it has nothing to stop",
    "interface.rs: create: the agent does not create or change the link of an EXISTING interface",
    "interface.rs: recover: the namespace is closed; the link was deleted with the namespace, or will be an orphan when the namespace is \
     opened again",
    "interface.rs: recover: the link existed before; the next attempt takes it over",
    "interface.rs: recover: the agent does not create or change the link of an EXISTING interface",
    "interface.rs: update: the agent does not create or change the link of an EXISTING interface",
    "interface.rs: delete: the agent does not create or change the link of an EXISTING interface",
    "kind.rs: recover: a single request creates the object, so a failed creation leaves nothing behind",
    "kind.rs: verify: the agent must read the namespace to determine whether the object exists",
    "membership.rs: set_port: the port has no desired settings",
    "membership.rs: refuse_other_vrf: only the owner of an EXISTING interface's link can add the link to a VRF",
    "membership.rs: delete: only the owner of an EXISTING interface's link can add the link to a VRF",
    "mod.rs: off_link: the link was deleted, along with everything on it",
];

/// Returns the function and the reason of each `Noop` effect in a file. A reason may be a constant of the file.
fn noops(text: &str) -> Vec<String> {
    const NOOP: &str = "Effect::Noop(";
    let constant = |name: &str| {
        let (_, rest) = text.split_once(&format!("const {name}: &str = "))?;
        literal(rest)
    };
    let places = text.match_indices(NOOP).map(|(at, _)| {
        let argument = text[at + NOOP.len()..].trim_start();
        let name = argument.split(')').next().unwrap_or_default();
        let reason = literal(argument).or_else(|| constant(name));
        let function = text[..at].rsplit("fn ").next().and_then(|after| after.split(['(', '<']).next());
        format!("{}: {}", function.unwrap_or_default(), reason.unwrap_or("no reason"))
    });
    places.collect()
}

/// Returns the string literal at the beginning of the text.
fn literal(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.split('"').next()
}

#[test]
fn descriptors_do_nothing_only_on_purpose() {
    let mut found = Vec::new();
    for path in rust_files(&root().join("src/descriptors")) {
        let name = shown(&path).replace("src/descriptors/", "");
        found.extend(noops(&read(&path)).into_iter().map(|noop| format!("{name}: {noop}")));
    }
    assert_eq!(found, NOOPS, "found:\n{}", found.join("\n"));
}
