//! Validation of names: logical names, which are parts of keys and aliases, and names of links in the kernel.

use super::ValidationError;
use crate::key::INVALID;

/// Longest logical name in bytes. Two names in one alias also have a common limit.
pub const NAME_MAX_BYTES: usize = 100;

/// Longest name of a link in the kernel, in bytes (`IFNAMSIZ` - 1 of linux/if.h).
pub const HOST_NAME_MAX_BYTES: usize = 15;

/// Names that the kernel rejects, because their sysctl directories have another meaning (`sysctl_dev_name_is_allowed`,
/// include/linux/inetdevice.h).
const RESERVED_HOST_NAMES: [&str; 2] = ["all", "default"];

/// Path elements that are reserved in the keys of addresses, VRFs, routes and references.
const RESERVED_ELEMENTS: [&str; 3] = ["vrf", "address", "dest-address"];
/// Reserved first path elements, which begin the keys of states and facts.
const RESERVED_FIRST_ELEMENTS: [&str; 2] = ["state", "host-name"];

/// Checks a logical name of any kind, which must stay unchanged when it is joined into a key.
///
/// # Errors
/// The name is empty or too long, contains control characters, or has a path element that is empty, `.` or `..`.
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
        return invalid("cannot be part of a key: it has a path element that is empty, `.` or `..`");
    }
    Ok(())
}

/// Checks the logical name of an interface in any field.
///
/// # Errors
/// The name is invalid, like any logical name, or contains a word that is reserved in keys of interfaces.
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
            "the interface name `{name}` contains the reserved word `{word}`, which has a special meaning in keys; choose another name"
        );
        return Err(ValidationError::new("NameReserved", &[field], message));
    }
    Ok(())
}

/// Checks the name of a link in the kernel by the rules of `dev_valid_name` (net/core/dev.c).
///
/// Rejects control characters as well, like the reference agent.
///
/// # Errors
/// The name violates a rule, which the message describes.
pub fn check_host_name(field: &str, name: &str) -> Result<(), ValidationError> {
    // The kernel's isspace() works on bytes and treats 0xa0 (Latin-1 no-break space) as white space.
    let space = |byte: u8| byte == b' ' || (0x09..=0x0d).contains(&byte) || byte == 0xa0;
    let problem = if RESERVED_HOST_NAMES.contains(&name) {
        "is reserved by the kernel for a directory of /proc/sys/net".to_owned()
    } else if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > HOST_NAME_MAX_BYTES {
        format!("has {} bytes, but the kernel allows {HOST_NAME_MAX_BYTES}", name.len())
    } else if name == "." || name == ".." {
        "is the name of a directory".to_owned()
    } else if name.contains(['/', ':']) {
        "contains a slash or a colon".to_owned()
    } else if name.contains('%') {
        "contains a percent sign, which the kernel interprets as a pattern".to_owned()
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
