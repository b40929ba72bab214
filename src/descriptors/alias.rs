//! Aliases of links. The agent recognises its links by the ownership mark in their aliases.
//!
//! As in ligato vpp-agent, an alias starts with `/vnf-agent/<label>/` and the logical name of the interface. The names that the
//! link refers to follow. A VETH has the names `<name>/<peer>`, a link with a parent has `<name>/<parent>`, and a TAP has
//! `<name>/<VPP TAP>/<original host name>`. Names can contain `/`, so a logical name can be recognised in an alias only if it is
//! already known. The alias of `lo` in a namespace that the agent created ends with `//netns`. A logical name cannot end with
//! this suffix, because empty path elements are invalid. The alias of an adopted link ends with `//adopted`.

use models::key::ALL_AGENTS_PREFIX;

use super::value::Interface;
use netns_kernel::{ADOPTED_MARK, provisional_group};

/// Suffix of the alias of `lo` in a namespace that the agent created.
const NETNS_MARK: &str = "//netns";
/// Separator that precedes the bit mask of settings in an alias. The bit mask is hexadecimal and contains the settings that the
/// agent has set.
const SET_MARK: &str = "//set=";
/// Alias of a link that the agent has released, as in ligato vpp-agent.
pub const RELEASED: &str = "unconfigured";

/// Formats and parses the ownership marks of one agent.
#[derive(Clone, Debug)]
pub struct Marks {
    prefix: String,
}

/// Parsed alias of one of this agent's links.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark<'a> {
    /// Logical name, followed by the names that the link refers to, separated by slashes. Empty for a `lo` that belongs to no
    /// value.
    pub subject: &'a str,
    /// True if the link is the `lo` of a namespace that the agent created.
    pub created_namespace: bool,
    /// True if the link was adopted.
    pub adopted: bool,
    /// Bit set of the settings that the agent has set on the link; see [`link_kinds::Settings::set_bits`].
    pub set: u64,
}

impl Marks {
    /// Creates the marks of the agent with this microservice label.
    pub fn new(label: &str) -> Self {
        Marks {
            prefix: models::key::agent_prefix(label),
        }
    }

    /// Returns `/vnf-agent/<label>/`, the prefix of every alias.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the interface group of links that the agent has created and that have no alias yet.
    pub fn provisional_group(&self) -> u32 {
        provisional_group(&self.prefix)
    }

    /// Returns the alias of a managed interface.
    pub fn alias(&self, interface: &Interface) -> String {
        let words = interface.link.mark_words().into_iter().map(|word| format!("/{word}"));
        let set = match interface.link.settings.set_bits() {
            0 => String::new(),
            bits => format!("{SET_MARK}{bits:x}"),
        };
        format!("{}{}{}{set}", self.prefix, interface.name, words.collect::<String>())
    }

    /// Returns the alias of a managed interface whose link was adopted.
    pub fn adopted(&self, interface: &Interface) -> String {
        self.alias(interface) + ADOPTED_MARK
    }

    /// Returns the alias of `lo` in a namespace that the agent created. `name` is the managed interface of type
    /// LOOPBACK that configures this `lo`, if there is one.
    pub fn created_namespace(&self, name: Option<&str>) -> String {
        format!("{}{}{NETNS_MARK}", self.prefix, name.unwrap_or_default())
    }

    /// Parses an alias. Returns `None` if the alias is not an ownership mark of this agent.
    pub fn read<'a>(&self, alias: &'a str) -> Option<Mark<'a>> {
        let rest = alias.strip_prefix(&self.prefix)?;
        // The names end at the first `//`, because a name never contains an empty path element.
        let (subject, words) = rest
            .split_once("//")
            .map_or((rest, ""), |(subject, _)| (subject, &rest[subject.len()..]));
        let bits = words.split_once(SET_MARK).and_then(|(_, rest)| rest.split('/').next());
        Some(Mark {
            subject,
            created_namespace: words.ends_with(NETNS_MARK),
            adopted: words.ends_with(ADOPTED_MARK),
            set: bits.and_then(|bits| u64::from_str_radix(bits, 16).ok()).unwrap_or_default(),
        })
    }

    /// Returns whether an alias is the ownership mark of this or another agent.
    pub fn is_any_agents(&self, alias: &str) -> bool {
        alias.starts_with(&self.prefix) || alias.starts_with(ALL_AGENTS_PREFIX)
    }
}

impl<'a> Mark<'a> {
    /// Returns all possible logical names, shortest first. The candidates are the whole subject and each prefix of it that ends
    /// before a slash.
    pub fn candidates(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let subject = self.subject;
        let cuts = subject.match_indices('/').map(move |(at, _)| &subject[..at]);
        cuts.chain(std::iter::once(subject)).filter(|name| !name.is_empty())
    }

    /// Returns the names that the link refers to, which follow the logical name `name` in the mark. Returns an empty string if the
    /// mark contains another logical name.
    pub fn words_after(&self, name: &str) -> &'a str {
        self.subject.strip_prefix(name).unwrap_or_default().trim_start_matches('/')
    }

    /// Returns whether the mark names a value. If not, it only marks a namespace that the agent created.
    pub fn is_of_value(&self) -> bool {
        !self.subject.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates<'a>(marks: &Marks, alias: &'a str) -> Vec<&'a str> {
        marks.read(alias).into_iter().flat_map(|mark| mark.candidates()).collect()
    }

    #[test]
    fn alias_of_another_agent_is_not_recognised() {
        let marks = Marks::new("a");
        assert_eq!(marks.read("/vnf-agent/ab/veth1/veth2"), None);
        assert_eq!(marks.read("unconfigured"), None);
        assert_eq!(candidates(&marks, "/vnf-agent/a/x/y/z"), ["x", "x/y", "x/y/z"]);
    }

    #[test]
    fn created_namespace_is_recognised_with_and_without_a_managed_loopback() {
        let marks = Marks::new("a");
        let is_created = |alias: &str| marks.read(alias).is_some_and(|mark| mark.created_namespace);
        let (nobodys, alias) = (marks.created_namespace(None), marks.created_namespace(Some("lo1")));
        assert!(is_created(&nobodys) && is_created(&alias));
        assert_eq!(candidates(&marks, &alias), ["lo1"]);
        assert_eq!(candidates(&marks, &nobodys), [""; 0]);
        assert!(!is_created("/vnf-agent/a/lo1"));
    }

    #[test]
    fn alias_records_the_settings_that_the_agent_has_set() {
        let marks = Marks::new("a");
        let alias = "/vnf-agent/a/br0//set=1c//adopted";
        let mark = marks.read(alias).expect(alias);
        assert_eq!((mark.subject, mark.set, mark.adopted), ("br0", 0x1c, true));
        assert_eq!(marks.read("/vnf-agent/a/br0//adopted").map(|mark| mark.set), Some(0));
    }

    #[test]
    fn alias_records_adoption() {
        let marks = Marks::new("a");
        let mark = marks.read("/vnf-agent/a/x/y//adopted").expect("a mark");
        assert_eq!((mark.subject, mark.adopted, mark.words_after("x")), ("x/y", true, "y"));
        assert_eq!(mark.candidates().collect::<Vec<_>>(), ["x", "x/y"]);
    }
}
