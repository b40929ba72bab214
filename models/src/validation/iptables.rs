//! Validates rule chains. The table must have the hook of the chain, the policy must be allowed for the chain, and the iptables
//! programs must accept all names and rules.

use super::{ValidationError, check_interface_name, check_namespace, name::check_name};
use crate::proto::ligato::linux::iptables::{
    RuleChain,
    rule_chain::{ChainType, Policy, Protocol, Table},
};

/// Maximum length of a chain name in bytes (`XT_EXTENSION_MAXNAMELEN` - 1 in linux/netfilter/x_tables.h).
const CHAIN_NAME_MAX_BYTES: usize = 28;
/// Names that iptables does not accept for a new chain, because they are the names of built-in chains or standard targets.
const RESERVED_CHAIN_NAMES: [&str; 9] = [
    "INPUT",
    "OUTPUT",
    "FORWARD",
    "PREROUTING",
    "POSTROUTING",
    "ACCEPT",
    "DROP",
    "QUEUE",
    "RETURN",
];

pub(super) fn validate(chain: &RuleChain) -> Result<(), ValidationError> {
    check_name("name", &chain.name)?;
    check_namespace(chain.namespace.as_ref())?;
    for (index, interface) in chain.interfaces.iter().enumerate() {
        check_interface_name(&format!("interfaces[{index}]"), interface)?;
    }
    if Protocol::try_from(chain.protocol).is_err() {
        return Err(unknown_number("protocol", chain.protocol, "IPV4 or IPV6"));
    }
    let Ok(table) = Table::try_from(chain.table) else {
        return Err(unknown_number("table", chain.table, "FILTER, NAT, MANGLE, RAW or SECURITY"));
    };
    let Ok(chain_type) = ChainType::try_from(chain.chain_type) else {
        return Err(unknown_number(
            "chain_type",
            chain.chain_type,
            "CUSTOM, INPUT, OUTPUT, FORWARD, PREROUTING or POSTROUTING",
        ));
    };
    let Ok(policy) = Policy::try_from(chain.default_policy) else {
        return Err(unknown_number("default_policy", chain.default_policy, "NONE, ACCEPT or DROP"));
    };
    check_chain(chain, table, chain_type)?;
    check_policy(table, chain_type, policy)?;
    chain.rules.iter().enumerate().try_for_each(|(index, rule)| check_rule(index, rule))
}

fn unknown_number(field: &str, number: i32, known: &str) -> ValidationError {
    ValidationError::new("UnknownEnumValue", &[field], format!("unknown {field} {number}; expected {known}"))
}

fn check_chain(chain: &RuleChain, table: Table, chain_type: ChainType) -> Result<(), ValidationError> {
    use ChainType::{Custom, Forward, Input, Output, Postrouting, Prerouting};
    if chain_type == Custom {
        return check_chain_name(&chain.chain_name);
    }
    let allowed: &[ChainType] = match table {
        Table::Filter | Table::Security => &[Input, Forward, Output],
        Table::Nat => &[Prerouting, Output, Postrouting],
        Table::Raw => &[Prerouting, Output],
        Table::Mangle => &[Prerouting, Input, Forward, Output, Postrouting],
    };
    if allowed.contains(&chain_type) {
        return Ok(());
    }
    let names: Vec<&str> = allowed.iter().map(ChainType::as_str_name).collect();
    let message = format!(
        "provided chain is not valid for the provided table: {} is not in {}, which has {}",
        chain_type.as_str_name(),
        table.as_str_name(),
        names.join(", ")
    );
    Err(ValidationError::new("ChainNotInTable", &["chain_type"], message))
}

fn check_chain_name(name: &str) -> Result<(), ValidationError> {
    if name.is_empty() {
        let message = "iptables chain of type CUSTOM defined without chain name";
        return Err(ValidationError::new("ChainNameMissing", &["chain_name"], message));
    }
    let problem = if name.len() > CHAIN_NAME_MAX_BYTES {
        "is longer than 28 bytes"
    } else if name.starts_with(['-', '!']) {
        "begins with a character that iptables interprets as an option"
    } else if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        "contains whitespace or a control character"
    } else if RESERVED_CHAIN_NAMES.contains(&name) {
        "is the name of a built-in chain or a target"
    } else {
        return Ok(());
    };
    let message = format!("the chain name `{}` {problem}; choose another name", name.escape_debug());
    Err(ValidationError::new("ChainNameInvalid", &["chain_name"], message))
}

fn check_policy(table: Table, chain_type: ChainType, policy: Policy) -> Result<(), ValidationError> {
    let (reason, message) = match policy {
        Policy::None => return Ok(()),
        _ if table != Table::Filter => ("PolicyNotSupported", "iptables default policy can be only applied on FILTER tables"),
        _ if chain_type == ChainType::Custom => ("PolicyNotSupported", "iptables default policy cannot be applied on custom chains"),
        Policy::Accept | Policy::Drop => return Ok(()),
        Policy::Queue | Policy::Return => (
            "PolicyRefusedByKernel",
            "the kernel accepts only ACCEPT or DROP as a chain policy; to use another target, add it as the last rule",
        ),
    };
    Err(ValidationError::new(reason, &["default_policy"], message))
}

/// Checks a rule. Each rule becomes one line of input for `iptables-restore`, so a line break would inject another command.
fn check_rule(index: usize, rule: &str) -> Result<(), ValidationError> {
    let field = format!("rules[{index}]");
    if rule.trim().is_empty() {
        return Err(ValidationError::new(
            "RuleEmpty",
            &[&field],
            "the rule is empty; write the arguments that follow `iptables -A <chain>`, or remove the rule",
        ));
    }
    if rule.chars().any(char::is_control) {
        let message = format!(
            "the rule `{}` contains a line break or another control character; write each rule on a single line",
            rule.escape_debug()
        );
        return Err(ValidationError::new("RuleInvalid", &[&field], message));
    }
    Ok(())
}
