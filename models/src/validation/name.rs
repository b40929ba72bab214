//! Validates logical names and the kernel names of links. Logical names are parts of keys and aliases.

use super::ValidationError;
use crate::key::INVALID;

/// Maximum length of a logical name in bytes. The limit is lower for names that share a link alias (see `check_alias`).
pub const NAME_MAX_BYTES: usize = 100;

/// Maximum length of a link's kernel name in bytes (`IFNAMSIZ` - 1 in linux/if.h).
pub const HOST_NAME_MAX_BYTES: usize = 15;

/// Names that the kernel rejects, because sysctl directories with these names have a special meaning
/// (`sysctl_dev_name_is_allowed`, include/linux/inetdevice.h).
const RESERVED_HOST_NAMES: [&str; 2] = ["all", "default"];

/// Path elements that must not occur in interface names, because these elements have a special meaning in keys.
const RESERVED_ELEMENTS: [&str; 3] = ["vrf", "address", "dest-address"];
/// Words that must not be the first path element of an interface name, because they follow `linux/interface/` in the keys of link states and facts.
const RESERVED_FIRST_ELEMENTS: [&str; 2] = ["state", "host-name"];

/// Checks the logical name of any kind of value. The name must stay unchanged when it becomes part of a key.
///
/// # Errors
/// Fails if the name is empty or too long, contains control characters, or has a path element that is empty, `.` or `..`.
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
            format!("{field} is empty; a name is required"),
        ));
    }
    if name.len() > NAME_MAX_BYTES {
        let message = format!(
            "the name `{}` is {} bytes long; at most {NAME_MAX_BYTES} bytes are allowed",
            name.escape_debug(),
            name.len()
        );
        return Err(ValidationError::new("NameTooLong", &[field], message));
    }
    if name.chars().any(char::is_control) {
        return invalid("contains a control character");
    }
    if name.split('/').any(|element| matches!(element, "" | "." | "..")) {
        return invalid("cannot be part of a key: an element between slashes is empty, `.` or `..`");
    }
    Ok(())
}

/// Checks a logical interface name in any field.
///
/// # Errors
/// Fails if the name is not a valid logical name, or if it contains a word that is reserved in interface keys.
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

/// Checks a link's kernel name by the rules of `dev_valid_name` (net/core/dev.c).
///
/// Also rejects control characters, like ligato vpp-agent.
///
/// # Errors
/// Fails if the name violates a rule. The error message describes the rule.
pub fn check_host_name(field: &str, name: &str) -> Result<(), ValidationError> {
    // The kernel's isspace() works on bytes and treats 0xa0 (Latin-1 no-break space) as whitespace.
    let space = |byte: u8| byte == b' ' || (0x09..=0x0d).contains(&byte) || byte == 0xa0;
    let problem = if RESERVED_HOST_NAMES.contains(&name) {
        "is reserved by the kernel for a directory of /proc/sys/net".to_owned()
    } else if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > HOST_NAME_MAX_BYTES {
        format!("is {} bytes long, but the kernel allows at most {HOST_NAME_MAX_BYTES}", name.len())
    } else if name == "." || name == ".." {
        "is a reserved directory name".to_owned()
    } else if name.contains(['/', ':']) {
        "contains a slash or a colon".to_owned()
    } else if name.contains('%') {
        "contains a percent sign, which the kernel interprets as a pattern".to_owned()
    } else if name.bytes().any(space) || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        "contains whitespace or a control character".to_owned()
    } else {
        return Ok(());
    };
    let message = format!(
        "`{}` is not a valid kernel interface name: it {problem}; set host_if_name to a valid name",
        name.escape_debug()
    );
    Err(ValidationError::new("HostNameInvalid", &[field], message))
}
