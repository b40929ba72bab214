//! Tests for the data directory.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown, symlink},
    process::Command,
};

use super::*;

/// User ID under which no test runs.
const OTHER_USER: u32 = 54_321;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("exists").permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("the owner can change the mode");
}

/// Checks that the result is a [`DataDirError::Unsafe`], and returns its message.
fn refused<T: fmt::Debug>(result: Result<T, DataDirError>) -> String {
    let error = result.expect_err("unsafe path must be rejected");
    assert!(matches!(error, DataDirError::Unsafe { .. }), "{error:?}");
    error.to_string()
}

#[test]
fn directory_and_files_are_private_with_any_umask() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("var/lib/agent");
    // The umask applies to the whole process, so the test runs in a child process.
    let name = "tests::creates_directory_and_files";
    for umask in ["000", "022", "077"] {
        let _ = fs::remove_dir_all(directory.path().join("var"));
        let script = format!("umask {umask}; exec \"$0\" --exact {name} --ignored");
        let done = Command::new("sh")
            .args(["-c", &script])
            .arg(std::env::current_exe().expect("the test binary"))
            .env("DATA_DIR_UNDER_TEST", &path)
            .output()
            .expect("sh runs");
        let reported = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success() && reported.contains("1 passed"), "umask {umask}: {reported}");
        assert_eq!(mode(&path), 0o700, "umask {umask}");
        assert_eq!(mode(&path.join("store")), 0o600, "umask {umask}");
        assert_eq!(mode(&path.join("record")), 0o600, "umask {umask}");
        assert_eq!(mode(&directory.path().join("var")) & 0o022, 0, "umask {umask}");
    }
}

#[test]
#[ignore = "started with a given umask by the test above"]
fn creates_directory_and_files() {
    let path = std::env::var_os("DATA_DIR_UNDER_TEST").map(PathBuf::from);
    let path = path.expect("set by the parent test");
    let data = DataDir::open(&path).expect("opens");
    assert!(data.open_or_create("store").expect("opens").created);
    data.replace("record", b"text").expect("replaced");
}

#[test]
fn replaced_file_is_read_back_and_reopened() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = DataDir::open(&directory.path().join("data")).expect("opens");
    assert_eq!(data.read("record").expect("a missing file is not an error"), None);
    data.replace("record", b"one").expect("replaced");
    data.replace("record", b"two").expect("replaced");
    assert_eq!(data.read("record").expect("read"), Some(b"two".to_vec()));
    assert!(!data.open_or_create("record").expect("opens").created);
    let names: Vec<_> = fs::read_dir(data.path_of("")).expect("listed").flatten().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn directory_readable_by_others_becomes_private() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("data");
    fs::create_dir(&path).expect("created");
    fs::write(path.join("store"), "content").expect("written");
    set_mode(&path, 0o755);
    set_mode(&path.join("store"), 0o644);
    let data = DataDir::open(&path).expect("opens");
    data.open_or_create("store").expect("opens");
    assert_eq!((mode(&path), mode(&path.join("store"))), (0o700, 0o600));
}

#[test]
fn directory_writable_by_others_is_rejected() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("data");
    fs::create_dir(&path).expect("created");
    for open_mode in [0o777, 0o1777, 0o770] {
        set_mode(&path, open_mode);
        let message = refused(DataDir::open(&path));
        let remedy = format!("chmod 700 {}", path.display());
        assert!(
            message.contains(&remedy) && message.contains(&format!("{open_mode:04o}")),
            "{message}"
        );
        assert_eq!(mode(&path), open_mode, "left as it was");
    }
}

#[test]
fn directory_or_file_of_another_user_is_rejected() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("data");
    fs::create_dir(&path).expect("created");
    if chown(&path, Some(OTHER_USER), None).is_err() {
        // Only root can change the owner of a file, so this test needs root.
        assert_ne!(geteuid().as_raw(), 0, "root can change the owner");
        assert!(std::env::var_os("REQUIRE_ROOT_TESTS").is_none(), "changing the owner needs root");
        eprintln!("SKIPPED: changing the owner needs root");
        return;
    }
    let message = refused(DataDir::open(&path));
    assert!(
        message.contains("belongs to user 54321") && message.contains(&format!("chown 0 {}", path.display())),
        "{message}"
    );
    chown(&path, Some(0), None).expect("root can change the owner");
    let data = DataDir::open(&path).expect("opens");
    data.replace("store", b"planted").expect("written");
    chown(path.join("store"), Some(OTHER_USER), None).expect("root can change the owner");
    let message = refused(data.open_or_create("store"));
    assert!(message.contains("belongs to user 54321"), "{message}");
    assert!(refused(data.read("store")).contains("belongs to user 54321"));
}

#[test]
fn symbolic_links_are_not_followed() {
    let directory = tempfile::tempdir().expect("a directory");
    let victim = directory.path().join("victim");
    fs::write(&victim, "").expect("written");
    let data = DataDir::open(&directory.path().join("data")).expect("opens");
    for target in [victim.clone(), directory.path().join("new")] {
        let _ = fs::remove_file(data.path_of("store"));
        symlink(&target, data.path_of("store")).expect("linked");
        for message in [refused(data.open_or_create("store")), refused(data.read("store"))] {
            assert!(
                message.contains("symbolic link") && message.contains(&target.display().to_string()),
                "{message}"
            );
        }
    }
    assert!(!directory.path().join("new").exists());
    symlink(&victim, data.path_of("record.new")).expect("linked");
    symlink(&victim, data.path_of("record")).expect("linked");
    data.replace("record", b"text").expect("the link is replaced, not followed");
    assert_eq!(fs::read_to_string(&victim).expect("readable"), "");
    assert_eq!(data.read("record").expect("replaced by a regular file"), Some(b"text".to_vec()));

    let link = directory.path().join("link");
    symlink(directory.path().join("data"), &link).expect("linked");
    let message = refused(DataDir::open(&link));
    assert!(message.contains("symbolic link") && message.contains("--data-dir"), "{message}");
    symlink(directory.path().join("nowhere"), directory.path().join("dangling")).expect("linked");
    refused(DataDir::open(&directory.path().join("dangling")));
    assert!(!directory.path().join("nowhere").exists());
}

#[test]
fn hard_links_fifos_and_directories_are_rejected() {
    let directory = tempfile::tempdir().expect("a directory");
    let victim = directory.path().join("victim");
    fs::write(&victim, "").expect("written");
    let data = DataDir::open(&directory.path().join("data")).expect("opens");
    fs::hard_link(&victim, data.path_of("linked")).expect("linked");
    assert!(refused(data.open_or_create("linked")).contains("2 hard links"));
    let made = Command::new("mkfifo").arg(data.path_of("pipe")).status().expect("mkfifo runs");
    assert!(made.success());
    assert!(refused(data.open_or_create("pipe")).contains("not a regular file"));
    assert!(refused(data.read("pipe")).contains("not a regular file"));
    fs::create_dir(data.path_of("folder")).expect("created");
    assert!(refused(data.open_or_create("folder")).contains("not a regular file"));
    data.replace("shared", b"text").expect("written");
    set_mode(&data.path_of("shared"), 0o666);
    assert!(refused(data.open_or_create("shared")).contains("chmod 600"));
}
