//! Interface aliases: the mark by which the agent knows its links again.
//!
//! Owns the one printer and the one parser. Must never look at anything but the text. Start reading at [`Marks`].
//!
//! Form: `/vnf-agent/<label>/` and then, as in the reference, the logical name; for a VETH `<name>/<peer>`, for a link
//! with a parent `<name>/<parent>`, for a TAP `<name>/<VPP TAP>/<original host name>`. Names may contain `/`, so a reader must already know the candidates. The `lo` of a
//! namespace that the agent created ends with `//netns`, which no logical name can (empty path elements are refused); the alias of a
//! link that the agent took over from somebody else ends with `//adopted`.

use models::key::ALL_AGENTS_PREFIX;

use super::value::Interface;
use netns_kernel::{ADOPTED_MARK, provisional_group};

/// Ends the alias of `lo` in a namespace that the agent created.
const NETNS_MARK: &str = "//netns";
/// Stands before the bits, as a hexadecimal number, of the settings that the agent has set and that it would leave alone otherwise.
const SET_MARK: &str = "//set=";
/// Alias of a link that the agent gave back, as in the reference.
pub const RELEASED: &str = "unconfigured";

/// Prints and parses the marks of one agent.
#[derive(Clone, Debug)]
pub struct Marks {
    prefix: String,
}

impl Marks {
    /// For the agent with this microservice label.
    pub fn new(label: &str) -> Self {
        Marks {
            prefix: models::key::agent_prefix(label),
        }
    }

    /// `/vnf-agent/<label>/`: what every alias starts with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Interface group of a link that the agent has created and not given its alias yet.
    pub fn provisional_group(&self) -> u32 {
        provisional_group(&self.prefix)
    }

    /// Alias of a managed interface.
    pub fn alias(&self, interface: &Interface) -> String {
        let words = interface.link.mark_words().into_iter().map(|word| format!("/{word}"));
        let set = match interface.set {
            0 => String::new(),
            bits => format!("{SET_MARK}{bits:x}"),
        };
        format!("{}{}{}{set}", self.prefix, interface.name, words.collect::<String>())
    }

    /// Alias of a managed interface that was somebody else's before.
    pub fn adopted(&self, interface: &Interface) -> String {
        self.alias(interface) + ADOPTED_MARK
    }

    /// Alias of `lo` in a namespace that the agent created and whose `lo` is the managed interface `name` (or nobody's).
    pub fn created_namespace(&self, name: Option<&str>) -> String {
        format!("{}{}{NETNS_MARK}", self.prefix, name.unwrap_or_default())
    }

    /// Whether the alias of `lo` says that the agent created the namespace.
    pub fn is_created_namespace(&self, alias: &str) -> bool {
        alias.starts_with(&self.prefix) && alias.ends_with(NETNS_MARK)
    }

    /// What follows the prefix and precedes the mark of a created namespace or an adopted link; `None` if the alias is not this agent's. Empty for
    /// a `lo` that is nobody's.
    pub fn subject<'a>(&self, alias: &'a str) -> Option<&'a str> {
        let rest = alias.strip_prefix(&self.prefix)?;
        // No name has an empty element.
        Some(rest.split_once("//").map_or(rest, |(subject, _)| subject))
    }

    /// Bits of the settings that the agent has set on the link; see [`Interface::set`].
    pub fn set_bits(&self, alias: &str) -> u64 {
        let words = alias.strip_prefix(&self.prefix).and_then(|rest| rest.split_once(SET_MARK));
        let bits = words.and_then(|(_, rest)| rest.split('/').next());
        bits.and_then(|bits| u64::from_str_radix(bits, 16).ok()).unwrap_or_default()
    }

    /// Whether the alias is that of a link which this or another agent has taken.
    pub fn is_any_agents(&self, alias: &str) -> bool {
        alias.starts_with(&self.prefix) || alias.starts_with(ALL_AGENTS_PREFIX)
    }

    /// The logical names that an alias may mean: the whole, or what stands before one of its slashes; the shortest first.
    pub fn candidates<'a>(&self, alias: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        let subject = self.subject(alias).unwrap_or_default();
        let cuts = subject.match_indices('/').map(|(at, _)| &subject[..at]);
        cuts.chain(std::iter::once(subject)).filter(|name| !name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_of_another_agent_is_nobodys() {
        let marks = Marks::new("a");
        assert_eq!(marks.subject("/vnf-agent/ab/veth1/veth2"), None);
        assert_eq!(marks.subject("unconfigured"), None);
        assert_eq!(marks.candidates("/vnf-agent/a/x/y/z").collect::<Vec<_>>(), ["x", "x/y", "x/y/z"]);
    }

    #[test]
    fn a_created_namespace_is_recognised_whoever_has_its_loopback() {
        let marks = Marks::new("a");
        assert!(marks.is_created_namespace(&marks.created_namespace(None)));
        let alias = marks.created_namespace(Some("lo1"));
        assert!(marks.is_created_namespace(&alias));
        assert_eq!(marks.candidates(&alias).collect::<Vec<_>>(), ["lo1"]);
        assert_eq!(marks.candidates(&marks.created_namespace(None)).count(), 0);
        assert!(!marks.is_created_namespace("/vnf-agent/a/lo1"));
    }

    #[test]
    fn the_settings_that_the_agent_has_set_are_recognised() {
        let marks = Marks::new("a");
        let alias = "/vnf-agent/a/br0//set=1c//adopted";
        assert_eq!((marks.subject(alias), marks.set_bits(alias)), (Some("br0"), 0x1c));
        assert_eq!(marks.set_bits("/vnf-agent/a/br0//adopted"), 0);
    }

    #[test]
    fn an_adopted_link_is_recognised() {
        let marks = Marks::new("a");
        assert_eq!(marks.subject("/vnf-agent/a/x/y//adopted"), Some("x/y"));
        assert_eq!(marks.candidates("/vnf-agent/a/x/y//adopted").collect::<Vec<_>>(), ["x", "x/y"]);
    }
}
