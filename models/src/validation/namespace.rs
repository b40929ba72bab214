//! Validation of references to network namespaces, by the type of the reference.

use super::ValidationError;
use crate::proto::ligato::linux::namespace::{NetNamespace, net_namespace::ReferenceType};

/// Longest name of a file in bytes (`NAME_MAX` of linux/limits.h). Docker has no smaller limit for a label.
const FILE_NAME_MAX_BYTES: usize = 255;
/// Longest path in bytes, without the final NUL (`PATH_MAX` - 1 of linux/limits.h).
const PATH_MAX_BYTES: usize = 4095;

/// Checks a reference to a namespace. An unset reference is valid and means the agent's own namespace.
///
/// # Errors
/// The type is missing or unknown, or the reference is missing or invalid for its type.
pub fn check_namespace(namespace: Option<&NetNamespace>) -> Result<(), ValidationError> {
    let Some(namespace) = namespace else { return Ok(()) };
    let reference = namespace.reference.as_str();
    let Ok(reference_type) = ReferenceType::try_from(namespace.r#type) else {
        let message = format!(
            "there is no type {} of namespace references; give NSID, PID, FD or MICROSERVICE",
            namespace.r#type
        );
        return Err(ValidationError::new("UnknownEnumValue", &["namespace.type"], message));
    };
    if reference_type == ReferenceType::Undefined || reference.is_empty() {
        let message = "namespace defined without name: give both type and reference, or leave namespace out for the agent's own";
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

/// Returns the problem with a name, which must be the name of a file in one directory.
fn name_problem(name: &str) -> Option<&'static str> {
    let bad = name.len() > FILE_NAME_MAX_BYTES
        || matches!(name, "." | "..")
        || name.chars().any(|c| c == '/' || c.is_control() || c.is_whitespace());
    bad.then_some("a name has 1 to 255 bytes, no slash, no white space and no control characters, and is not `.` or `..`")
}

/// Returns the problem with a PID. Leading zeros are rejected, so that each process has one text.
fn pid_problem(pid: &str) -> Option<&'static str> {
    let canonical = pid.bytes().all(|byte| byte.is_ascii_digit()) && !pid.starts_with('0') && pid.parse::<i32>().is_ok();
    (!canonical).then_some("a PID is a positive decimal number below 2147483648, without leading zeros")
}

fn path_problem(path: &str) -> Option<&'static str> {
    let bad = !path.starts_with('/') || path.len() > PATH_MAX_BYTES || path.contains('\0');
    bad.then_some("a path begins with a slash, has at most 4095 bytes and no NUL")
}

fn label_problem(label: &str) -> Option<&'static str> {
    let bad = label.len() > FILE_NAME_MAX_BYTES || label.chars().any(char::is_control);
    bad.then_some("a microservice label has 1 to 255 bytes and no control characters")
}
