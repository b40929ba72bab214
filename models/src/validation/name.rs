//! Names: logical ones, which make up keys and aliases, and those of the kernel.
//!
//! Owns the rules of both. Must never know which value a name stands in; callers give the field. Start at
//! [`check_interface_name`].

use super::ValidationError;
use crate::key::INVALID;

/// Longest logical name in bytes. Two names that stand in one alias have a common limit as well.
pub const NAME_MAX_BYTES: usize = 100;

/// Longest name of an interface in the kernel, in bytes (`IFNAMSIZ` - 1 of linux/if.h).
pub const HOST_NAME_MAX_BYTES: usize = 15;

/// Names for which the kernel has no settings to give (`sysctl_dev_name_is_allowed`, include/linux/inetdevice.h), so that it creates no such
/// interface.
const RESERVED_HOST_NAMES: [&str; 2] = ["all", "default"];

/// Elements with a meaning of their own in the keys of addresses, VRFs, routes and references.
const RESERVED_ELEMENTS: [&str; 3] = ["vrf", "address", "dest-address"];
/// First elements with a meaning of their own in the keys of states and facts.
const RESERVED_FIRST_ELEMENTS: [&str; 2] = ["state", "host-name"];

/// Checks a logical name of any kind: it has to survive being joined into a key.
///
/// # Errors
/// Empty, too long, control characters, or a path element that is empty, `.` or `..`.
pub(super) fn check_name(field: &str, name: &str) -> Result<(), ValidationError> {
    let invalid = |problem: &str| {
        Err(ValidationError::new(
            "NameInvalid",
            &[field],
            format!("the name `{}` {problem}", name.escape_debug()),
        ))
    };
    if name.is_empty() {
        return Err(ValidationError::new(
            "NameMissing",
            &[field],
            format!("{field} is empty; give a name"),
        ));
    }
    if name.len() > NAME_MAX_BYTES {
        let message = format!(
            "the name `{}` has {} bytes; at most {NAME_MAX_BYTES} are allowed",
            name.escape_debug(),
            name.len()
        );
        return Err(ValidationError::new("NameTooLong", &[field], message));
    }
    if name.chars().any(char::is_control) {
        return invalid("contains a control character");
    }
    if name.split('/').any(|element| matches!(element, "" | "." | "..")) {
        return invalid("cannot be part of a key: between slashes it has an element that is empty, `.` or `..`");
    }
    Ok(())
}

/// Checks the logical name of an interface, wherever a value gives one.
///
/// # Errors
/// As for every name; and the name must not contain what keys about interfaces are split at.
pub fn check_interface_name(field: &str, name: &str) -> Result<(), ValidationError> {
    check_name(field, name)?;
    let reserved = |element: &str| RESERVED_ELEMENTS.contains(&element) || element.starts_with("alloc:");
    let first = name.split('/').next().unwrap_or_default();
    let word = name
        .split('/')
        .find(|element| reserved(element))
        .or(RESERVED_FIRST_ELEMENTS.into_iter().find(|word| *word == first));
    if let Some(word) = word.or((name == INVALID).then_some(INVALID)) {
        let message = format!(
            "the interface name `{name}` contains the reserved word `{word}`, which has a meaning of its own in keys; choose another name"
        );
        return Err(ValidationError::new("NameReserved", &[field], message));
    }
    Ok(())
}

/// Checks the name of an interface in the kernel by the rules of `dev_valid_name` (net/core/dev.c), and those of the
/// contract: no control characters.
///
/// # Errors
/// Says which rule is broken.
pub fn check_host_name(field: &str, name: &str) -> Result<(), ValidationError> {
    // The kernel's isspace() works on bytes and takes 0xa0 (Latin-1 no-break space) for white space.
    let space = |byte: u8| byte == b' ' || (0x09..=0x0d).contains(&byte) || byte == 0xa0;
    let problem = if RESERVED_HOST_NAMES.contains(&name) {
        "is the name of a folder of /proc/sys/net that stands for all interfaces or new ones".to_owned()
    } else if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > HOST_NAME_MAX_BYTES {
        format!("has {} bytes, and the kernel allows {HOST_NAME_MAX_BYTES}", name.len())
    } else if name == "." || name == ".." {
        "is the name of a directory".to_owned()
    } else if name.contains(['/', ':']) {
        "contains a slash or a colon".to_owned()
    } else if name.contains('%') {
        "contains a percent sign, which the kernel takes for a pattern".to_owned()
    } else if name.bytes().any(space) || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        "contains white space or a control character".to_owned()
    } else {
        return Ok(());
    };
    let message = format!(
        "`{}` cannot be the name of an interface in the kernel: it {problem}; set host_if_name",
        name.escape_debug()
    );
    Err(ValidationError::new("HostNameInvalid", &[field], message))
}
