//! Validates network namespace references. Each reference type has its own rules.

use super::ValidationError;
use crate::proto::ligato::linux::namespace::{NetNamespace, net_namespace::ReferenceType};

/// Maximum length of a file name in bytes (`NAME_MAX` in linux/limits.h). Also used for microservice labels.
const FILE_NAME_MAX_BYTES: usize = 255;
/// Maximum length of a path in bytes, without the final NUL (`PATH_MAX` - 1 in linux/limits.h).
const PATH_MAX_BYTES: usize = 4095;

/// Checks a namespace reference. An unset reference is valid and means the agent's own namespace.
///
/// # Errors
/// Fails if the type is missing or unknown, or if the reference is missing or invalid for its type.
pub fn check_namespace(namespace: Option<&NetNamespace>) -> Result<(), ValidationError> {
    let Some(namespace) = namespace else { return Ok(()) };
    let reference = namespace.reference.as_str();
    let Ok(reference_type) = ReferenceType::try_from(namespace.r#type) else {
        let message = format!(
            "unknown namespace reference type {}; expected NSID, PID, FD or MICROSERVICE",
            namespace.r#type
        );
        return Err(ValidationError::new("UnknownEnumValue", &["namespace.type"], message));
    };
    if reference_type == ReferenceType::Undefined || reference.is_empty() {
        let message =
            "namespace defined without name: set both type and reference, or omit `namespace` to use the agent's own network namespace";
        return Err(ValidationError::new("NamespaceUndefined", &["namespace"], message));
    }
    let problem = match reference_type {
        ReferenceType::Undefined => None,
        ReferenceType::Nsid => name_problem(reference),
        ReferenceType::Pid => pid_problem(reference),
        ReferenceType::Fd => path_problem(reference),
        ReferenceType::Microservice => label_problem(reference),
    };
    match problem {
        None => Ok(()),
        Some(problem) => {
            let kind = reference_type.as_str_name();
            let message = format!(
                "`{}` is not a namespace reference of type {kind}: {problem}",
                reference.escape_debug()
            );
            Err(ValidationError::new("NamespaceReferenceInvalid", &["namespace.reference"], message))
        }
    }
}

/// Returns an error text if the name of a namespace is not a valid file name.
fn name_problem(name: &str) -> Option<&'static str> {
    let bad = name.len() > FILE_NAME_MAX_BYTES
        || matches!(name, "." | "..")
        || name.chars().any(|c| c == '/' || c.is_control() || c.is_whitespace());
    bad.then_some("a name has 1 to 255 bytes without slashes, whitespace or control characters, and is not `.` or `..`")
}

/// Returns an error text if a PID is invalid. Leading zeros are invalid, so that each PID has only one spelling.
fn pid_problem(pid: &str) -> Option<&'static str> {
    let canonical = pid.bytes().all(|byte| byte.is_ascii_digit()) && !pid.starts_with('0') && pid.parse::<i32>().is_ok();
    (!canonical).then_some("a PID is a positive decimal number below 2147483648, without leading zeros")
}

fn path_problem(path: &str) -> Option<&'static str> {
    let bad = !path.starts_with('/') || path.len() > PATH_MAX_BYTES || path.contains('\0');
    bad.then_some("a path begins with a slash, has at most 4095 bytes and contains no NUL")
}

fn label_problem(label: &str) -> Option<&'static str> {
    let bad = label.len() > FILE_NAME_MAX_BYTES || label.chars().any(char::is_control);
    bad.then_some("a microservice label has 1 to 255 bytes and contains no control characters")
}
