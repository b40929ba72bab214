//! Names of values on the command line: kinds (`interface`, `route`, …), short keys and full keys.

use models::{
    key::{ALL_AGENTS_PREFIX, CONFIG_PREFIX},
    registry::MODELS,
};

use super::{answers::BaseStatus, failure::Failure};
use crate::config::suggest::{closest, did_you_mean};

/// Kinds that have no model, each with its key prefix and its names.
const OTHER_KINDS: &[(&str, &[&str])] = &[
    ("linux/namespace/", &["namespace", "namespaces", "netns", "ns"]),
    ("linux/microservice/", &["microservice", "microservices"]),
];

/// Aliases of the kinds that have a model.
const ALIASES: &[(&str, &[&str])] = &[
    ("interface", &["interfaces", "if", "link", "links"]),
    ("arp", &["arps", "neighbour", "neighbours"]),
    ("route", &["routes"]),
    ("rulechain", &["rulechains", "rule-chain", "iptables"]),
    ("ip", &["ips", "allocation", "allocations"]),
];

/// Possible first segments of a key, after `/vnf-agent/LABEL/`.
const KEY_CLASSES: [&str; 6] = ["config", "config-status", "linux", "netalloc", "status", "check"];

/// All states of a value. `wait` accepts only the first eight.
const STATES: [&str; 11] = [
    "CONFIGURED",
    "PENDING",
    "FAILED",
    "RETRYING",
    "INVALID",
    "UNIMPLEMENTED",
    "DISCOVERED",
    "OBTAINED",
    "NONEXISTENT",
    "REMOVED",
    "MISSING",
];
/// State that only `wait` accepts. It means that the value does not exist.
const DELETED: &str = "DELETED";

/// Parses a state filter: `configured`, or `!configured` for all other states.
pub fn parse_state(text: &str) -> Result<String, String> {
    let (sign, name) = text.strip_prefix('!').map_or(("", text), |name| ("!", name));
    state_of(name, &STATES).map(|state| format!("{sign}{state}"))
}

/// Parses the state that `wait` waits for.
pub fn parse_awaited_state(text: &str) -> Result<String, String> {
    let known: Vec<&str> = STATES.iter().copied().take(8).chain([DELETED]).collect();
    state_of(text, &known)
}

fn state_of(name: &str, known: &[&str]) -> Result<String, String> {
    let upper = name.to_uppercase();
    match known.contains(&upper.as_str()) {
        true => Ok(upper),
        false => {
            let suggestion = did_you_mean(name, known.iter().copied());
            Err(format!(
                "unknown state {name:?}{suggestion} (states are: {})",
                known.join(", ").to_lowercase()
            ))
        }
    }
}

/// A kind, key or name on the command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Requested {
    /// All values whose key has this prefix.
    Kind(String),
    /// The value with this key.
    Key(String),
    /// The value with this name, which is the rest of the key after the key prefix of its kind.
    Name(String),
}

impl Requested {
    /// Parses a kind, a key in any form (`config/…`, `linux/interfaces/…`, `/vnf-agent/LABEL/config/…`, `interface/NAME`), or a name.
    pub fn read(text: &str) -> Self {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix(ALL_AGENTS_PREFIX) {
            let key = rest.split_once('/').map_or("", |(_, key)| key);
            return Requested::Key(key.replacen("config-status/", CONFIG_PREFIX, 1));
        }
        if let Some(rest) = text.strip_prefix("config-status/") {
            return Requested::Key(format!("{CONFIG_PREFIX}{rest}"));
        }
        let below_config = format!("{CONFIG_PREFIX}{text}");
        if MODELS.iter().any(|model| below_config.starts_with(model.key_prefix)) {
            return Requested::Key(below_config);
        }
        let (kind, rest) = text.split_once('/').unwrap_or((text, ""));
        match prefix_of(kind) {
            Some(prefix) if rest.is_empty() => Requested::Kind(prefix.to_owned()),
            // The key of the agent's own namespace ends with `OWN/`, without a reference, but its name is just `OWN`.
            Some(prefix @ "linux/namespace/") if rest == "OWN" => Requested::Key(format!("{prefix}OWN/")),
            Some(prefix) => Requested::Key(format!("{prefix}{rest}")),
            None if text.contains('/') => Requested::Key(text.to_owned()),
            None => Requested::Name(text.to_owned()),
        }
    }

    /// Parses like [`Requested::read`], but rejects unknown kinds.
    ///
    /// # Errors
    /// Fails if the text begins with a word that is neither a kind nor the first segment of a key, such as `intrface/left`.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let requested = Requested::read(text);
        let Requested::Key(key) = &requested else { return Ok(requested) };
        let first = key.split('/').next().unwrap_or_default();
        if KEY_CLASSES.contains(&first) {
            return Ok(requested);
        }
        if first.is_empty() {
            return Err(Failure::new(format!("{text:?} is not a key of an agent"))
                .next("expected a key such as interface/NAME, config/…, or /vnf-agent/LABEL/config/…"));
        }
        let suggestion = did_you_mean(first, kinds().chain(KEY_CLASSES));
        let known: Vec<&str> = MODELS.iter().map(|model| model.type_name).collect();
        Err(Failure::new(format!("unknown kind {first:?}{suggestion}")).next(format!("kinds are: {}, namespace", known.join(", "))))
    }

    /// Returns whether any value or derived value in the list matches the request. A request for a kind always matches.
    pub fn matches_any(&self, values: &[BaseStatus]) -> bool {
        let mut keys = values
            .iter()
            .flat_map(|base| std::iter::once(&base.value).chain(&base.derived_values).map(|status| &status.key));
        matches!(self, Requested::Kind(_)) || keys.any(|key| self.matches(key))
    }

    /// Returns whether a key matches the request.
    pub fn matches(&self, key: &str) -> bool {
        match self {
            Requested::Kind(prefix) => key.starts_with(prefix.as_str()),
            Requested::Key(requested) => key == requested,
            Requested::Name(name) => kind_and_name(key).1 == name.as_str(),
        }
    }
}

/// Returns the key that a text refers to. A name is looked up in `known`, where it must be unambiguous.
pub fn one_key(text: &str, known: &[BaseStatus]) -> Result<String, Failure> {
    let requested = Requested::parse(text)?;
    let name = match &requested {
        Requested::Key(key) => return Ok(key.clone()),
        Requested::Kind(_) => {
            return Err(
                Failure::new(format!("{text:?} is a kind, but a single value is expected")).next(format!(
                    "specify {text}/NAME; `netns-agent get {text}` lists the values of this kind"
                )),
            );
        }
        Requested::Name(name) => name,
    };
    let keys: Vec<&str> = known
        .iter()
        .map(|base| base.value.key.as_str())
        .filter(|key| requested.matches(key))
        .collect();
    match keys.as_slice() {
        [key] => Ok((*key).to_owned()),
        [] => Err(Failure::new(format!("there is no value {name:?}{}", similar(name, known))).next("`netns-agent get` lists all values")),
        several => Err(Failure::new(format!("{name:?} is ambiguous: {}", several.join(" or "))).next("specify the key")),
    }
}

/// Returns `; did you mean X?` if a kind or a value has a similar name, and an empty string otherwise.
pub fn similar(text: &str, known: &[BaseStatus]) -> String {
    let named = known.iter().map(|base| kind_and_name(&base.value.key));
    let shortened = match Requested::read(text) {
        Requested::Key(key) => short(&key),
        _ => text.to_owned(),
    };
    let Some((kind, name)) = shortened.split_once('/') else {
        let words: Vec<String> = kinds().map(str::to_owned).chain(named.map(|(_, name)| name.to_owned())).collect();
        return did_you_mean(text, words.iter().map(String::as_str));
    };
    let of_kind: Vec<String> = named.filter(|(other, _)| *other == kind).map(|(_, name)| name.to_owned()).collect();
    match closest(name, of_kind.iter().map(String::as_str)) {
        Some(name) => format!("; did you mean {kind}/{name}?"),
        None => String::new(),
    }
}

/// Returns the names and aliases of all kinds.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    let models = MODELS.iter().map(|model| model.type_name);
    let aliases = ALIASES.iter().chain(OTHER_KINDS).flat_map(|(_, names)| names.iter().copied());
    models.chain(aliases)
}

/// Returns whether a text is a bare name, which must be looked up among the existing values.
pub fn is_name(text: &str) -> bool {
    matches!(Requested::read(text), Requested::Name(_))
}

/// Splits a key into kind and name, such as `interface` and `left`. If the key has no kind, returns an empty kind and the whole key.
pub fn kind_and_name(key: &str) -> (&'static str, &str) {
    let models = MODELS.iter().map(|model| (model.key_prefix, model.type_name));
    let others = OTHER_KINDS.iter().filter_map(|(prefix, names)| Some((*prefix, *names.first()?)));
    let found = models
        .chain(others)
        .find_map(|(prefix, kind)| Some((kind, key.strip_prefix(prefix)?)));
    match found {
        Some((kind, "OWN/")) => (kind, "OWN"),
        Some(found) => found,
        None => ("", key),
    }
}

/// Returns the shortest form of a key that [`Requested::read`] accepts, such as `interface/left`.
pub fn short(key: &str) -> String {
    match kind_and_name(key) {
        ("", key) => key.to_owned(),
        (kind, name) => format!("{kind}/{name}"),
    }
}

/// Returns whether a key belongs to a desired value rather than to an observed fact.
pub fn is_configuration(key: &str) -> bool {
    key.starts_with(CONFIG_PREFIX)
}

fn prefix_of(kind: &str) -> Option<&'static str> {
    let model = MODELS.iter().find(|model| {
        let aliases = ALIASES
            .iter()
            .find(|(name, _)| *name == model.type_name)
            .map(|(_, aliases)| *aliases);
        model.type_name == kind || model.name == kind || aliases.unwrap_or_default().contains(&kind)
    });
    let other = || {
        OTHER_KINDS
            .iter()
            .find(|(_, names)| names.contains(&kind))
            .map(|(prefix, _)| *prefix)
    };
    model.map(|model| model.key_prefix).or_else(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: &str = "config/linux/interfaces/v2/interface/left";

    #[test]
    fn keys_are_accepted_in_all_their_forms() {
        for text in [
            LEFT,
            "linux/interfaces/v2/interface/left",
            "/vnf-agent/vpp1/config/linux/interfaces/v2/interface/left",
            "/vnf-agent/vpp1/config-status/linux/interfaces/v2/interface/left",
            "config-status/linux/interfaces/v2/interface/left",
            "interface/left",
            "interfaces/left",
            "if/left",
        ] {
            assert_eq!(Requested::read(text), Requested::Key(LEFT.to_owned()), "{text}");
        }
        assert_eq!(
            Requested::read("routes/10.0.0.0/8/left"),
            Requested::Key("config/linux/l3/v2/route/10.0.0.0/8/left".to_owned())
        );
        assert_eq!(
            Requested::read("ns/NSID/red"),
            Requested::Key("linux/namespace/NSID/red".to_owned())
        );
        assert_eq!(
            Requested::read("linux/interface/state/left/UP"),
            Requested::Key("linux/interface/state/left/UP".to_owned())
        );
        assert_eq!(Requested::read("arps"), Requested::Kind("config/linux/l3/v2/arp/".to_owned()));
        assert_eq!(Requested::read("left"), Requested::Name("left".to_owned()));
    }

    #[test]
    fn short_forms_are_parsed_back_to_their_keys() {
        for key in [
            LEFT,
            "config/linux/l3/v2/arp/left/10.0.0.1",
            "linux/namespace/NSID/red",
            "linux/interface/state/left/UP",
        ] {
            assert_eq!(Requested::read(&short(key)), Requested::Key(key.to_owned()));
        }
    }

    #[test]
    fn a_name_must_be_unambiguous() {
        let known = [
            LEFT,
            "config/linux/iptables/v2/rulechain/left",
            "config/linux/interfaces/v2/interface/right",
        ]
        .map(|key| {
            let mut base = BaseStatus::default();
            base.value.key = key.to_owned();
            base
        });
        assert_eq!(one_key("right", &known).expect("one"), "config/linux/interfaces/v2/interface/right");
        assert!(one_key("left", &known).expect_err("two").message().contains("rulechain/left"));
        assert!(one_key("none", &known).expect_err("none").message().contains("no value"));
        assert!(one_key("routes", &known).expect_err("a kind").message().contains("kind"));
        let mistyped = one_key("rigth", &known).expect_err("mistyped");
        assert!(mistyped.message().ends_with("did you mean right?"), "{mistyped}");
        assert_eq!(similar("interface/rihgt", &known), "; did you mean interface/right?");
        assert_eq!(similar("interface/none", &known), "");
    }

    #[test]
    fn mistyped_kinds_are_rejected() {
        for (text, words) in [
            ("intrface/left", "unknown kind \"intrface\"; did you mean interface?"),
            ("cofnig/linux/l3/v2/arp/a/b", "unknown kind \"cofnig\"; did you mean config?"),
            ("bridge/left", "unknown kind \"bridge\""),
            ("/etc/passwd", "not a key of an agent"),
        ] {
            let failure = Requested::parse(text).expect_err(text);
            assert!(failure.message().contains(words), "{failure}");
        }
        // The agent reports values without a model as INVALID, so users can also request these values.
        for text in ["config/linux/l9/v2/x", "linux/interface/state/left/UP", "left", "if"] {
            assert_eq!(Requested::parse(text).expect(text), Requested::read(text));
        }
    }

    #[test]
    fn unknown_states_are_rejected() {
        assert_eq!(parse_state("configured").as_deref(), Ok("CONFIGURED"));
        assert_eq!(parse_state("!PENDING").as_deref(), Ok("!PENDING"));
        let error = parse_state("CONFIGURD").expect_err("mistyped");
        assert!(
            error.starts_with("unknown state \"CONFIGURD\"; did you mean CONFIGURED?"),
            "{error}"
        );
        assert_eq!(parse_awaited_state("deleted").as_deref(), Ok("DELETED"));
        parse_awaited_state("removed").expect_err("no value stays in this state");
    }
}
