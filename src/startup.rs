//! Formats the error message that is shown if the agent cannot start.

/// End of the error message for EACCES. The kernel returns EACCES if the process does not have permission to access a file.
const NO_PERMISSION: &str = "(os error 13)";
const KEEP_PRIVILEGES: &str = "the agent runs as root, but without the capability to override permissions (CAP_DAC_OVERRIDE): \
    make root the owner of the file, or start the agent with --keep-privileges";

/// Returns the error message, including its causes.
///
/// Many errors quote their cause, so a cause that is already part of the text is omitted. `reduced` is true if the process runs as root but
/// has dropped the capabilities of root.
pub fn words(error: &anyhow::Error, reduced: bool) -> String {
    let mut words = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if words.is_empty() {
            words = cause;
        } else if !words.contains(&cause) {
            words.push_str(&format!(": {cause}"));
        }
    }
    if reduced && words.contains(NO_PERMISSION) {
        words.push_str(&format!("; {KEEP_PRIVILEGES}"));
    }
    words
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot use /data: {source}")]
    struct Refused {
        source: io::Error,
    }

    fn refused(errno: i32) -> anyhow::Error {
        let source = io::Error::from_raw_os_error(errno);
        Err::<(), _>(Refused { source })
            .context("the store cannot start")
            .expect_err("an error")
    }

    #[test]
    fn quoted_cause_appears_once() {
        let reported = words(&refused(28), true);
        assert_eq!(
            reported,
            "the store cannot start: cannot use /data: No space left on device (os error 28)"
        );
    }

    #[test]
    fn permission_error_of_reduced_root_suggests_keep_privileges() {
        assert!(words(&refused(13), true).contains("--keep-privileges"));
        assert!(!words(&refused(13), false).contains("--keep-privileges"));
    }
}
