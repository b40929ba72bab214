//! What users call values, and the keys that they mean.
//!
//! Owns kinds (`interface`, `route`, …) and how a key may be shortened. Must never ask the agent. Start reading at [`Wanted::read`].

use models::{
    key::{ALL_AGENTS_PREFIX, CONFIG_PREFIX},
    registry::MODELS,
};

use super::{answers::BaseStatus, failure::Failure};
use crate::config::suggest::{closest, did_you_mean};

/// Kinds that are no models: what the keys begin with, and names.
const OTHER_KINDS: &[(&str, &[&str])] = &[
    ("linux/namespace/", &["namespace", "namespaces", "netns", "ns"]),
    ("linux/microservice/", &["microservice", "microservices"]),
];

/// Other names of models than their type.
const ALIASES: &[(&str, &[&str])] = &[
    ("interface", &["interfaces", "if", "link", "links"]),
    ("arp", &["arps", "neighbour", "neighbours"]),
    ("route", &["routes"]),
    ("rulechain", &["rulechains", "rule-chain", "iptables"]),
    ("ip", &["ips", "allocation", "allocations"]),
];

/// First elements of the keys of the agent.
const KEY_CLASSES: [&str; 6] = ["config", "config-status", "linux", "netalloc", "status", "check"];

/// States of values.
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
/// State to wait for that stands for "there is no such value".
const DELETED: &str = "DELETED";

/// Reads the state of a filter: `configured`, or `!configured` for all others.
pub fn parse_state(text: &str) -> Result<String, String> {
    let (sign, name) = text.strip_prefix('!').map_or(("", text), |name| ("!", name));
    state_of(name, &STATES).map(|state| format!("{sign}{state}"))
}

/// Reads the state that `wait` waits for.
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
                "there is no state {name:?}{suggestion} (states are: {})",
                known.join(", ").to_lowercase()
            ))
        }
    }
}

/// What a user named.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// All of a kind: what their keys begin with.
    Kind(String),
    /// One key.
    Key(String),
    /// The last part of a key, such as the name of an interface.
    Name(String),
}

impl Wanted {
    /// A kind, a key in any of its forms (`config/…`, `linux/interfaces/…`, `/vnf-agent/LABEL/config/…`, `interface/NAME`), or a name.
    pub fn read(text: &str) -> Self {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix(ALL_AGENTS_PREFIX) {
            let key = rest.split_once('/').map_or("", |(_, key)| key);
            return Wanted::Key(key.replacen("config-status/", CONFIG_PREFIX, 1));
        }
        if let Some(rest) = text.strip_prefix("config-status/") {
            return Wanted::Key(format!("{CONFIG_PREFIX}{rest}"));
        }
        let below_config = format!("{CONFIG_PREFIX}{text}");
        if MODELS.iter().any(|model| below_config.starts_with(model.key_prefix)) {
            return Wanted::Key(below_config);
        }
        let (kind, rest) = text.split_once('/').unwrap_or((text, ""));
        match prefix_of(kind) {
            Some(prefix) if rest.is_empty() => Wanted::Kind(prefix.to_owned()),
            Some(prefix) => Wanted::Key(format!("{prefix}{rest}")),
            None if text.contains('/') => Wanted::Key(text.to_owned()),
            None => Wanted::Name(text.to_owned()),
        }
    }

    /// As [`Wanted::read`], for text that a user typed.
    ///
    /// # Errors
    /// The text begins with a word that is neither a kind nor the beginning of a key, as in `intrface/left`.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let wanted = Wanted::read(text);
        let Wanted::Key(key) = &wanted else { return Ok(wanted) };
        let first = key.split('/').next().unwrap_or_default();
        if KEY_CLASSES.contains(&first) {
            return Ok(wanted);
        }
        if first.is_empty() {
            return Err(Failure::new(format!("{text:?} is no key of an agent"))
                .next("keys are written interface/NAME, config/…, or /vnf-agent/LABEL/config/…"));
        }
        let suggestion = did_you_mean(first, kinds().chain(KEY_CLASSES));
        let known: Vec<&str> = MODELS.iter().map(|model| model.type_name).collect();
        Err(Failure::new(format!("there is no kind {first:?}{suggestion}")).next(format!("kinds are: {}, namespace", known.join(", "))))
    }

    /// Returns whether one of the values, or something derived from one, is meant.
    pub fn matches_any(&self, values: &[BaseStatus]) -> bool {
        let mut keys = values
            .iter()
            .flat_map(|base| std::iter::once(&base.value).chain(&base.derived_values).map(|status| &status.key));
        matches!(self, Wanted::Kind(_)) || keys.any(|key| self.matches(key))
    }

    /// Whether a key is meant.
    pub fn matches(&self, key: &str) -> bool {
        match self {
            Wanted::Kind(prefix) => key.starts_with(prefix.as_str()),
            Wanted::Key(wanted) => key == wanted,
            Wanted::Name(name) => kind_and_name(key).1 == name.as_str(),
        }
    }
}

/// The one key that is meant, looked up among those that there are where only a name was given.
pub fn one_key(text: &str, known: &[BaseStatus]) -> Result<String, Failure> {
    let wanted = Wanted::parse(text)?;
    let name = match &wanted {
        Wanted::Key(key) => return Ok(key.clone()),
        Wanted::Kind(_) => {
            return Err(Failure::new(format!("{text:?} is a kind of values, and one value is needed"))
                .next(format!("write {text}/NAME; `netns-agent get {text}` lists them")));
        }
        Wanted::Name(name) => name,
    };
    let keys: Vec<&str> = known
        .iter()
        .map(|base| base.value.key.as_str())
        .filter(|key| wanted.matches(key))
        .collect();
    match keys.as_slice() {
        [key] => Ok((*key).to_owned()),
        [] => Err(Failure::new(format!("there is no value {name:?}{}", similar(name, known)))
            .next("`netns-agent get` lists the values that there are")),
        several => Err(Failure::new(format!("{name:?} may be {}", several.join(" or "))).next("write the key")),
    }
}

/// Returns `; did you mean X?` if a kind or a value has nearly this name.
pub fn similar(text: &str, known: &[BaseStatus]) -> String {
    let named = known.iter().map(|base| kind_and_name(&base.value.key));
    let shortened = match Wanted::read(text) {
        Wanted::Key(key) => short(&key),
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

/// All words for kinds.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    let models = MODELS.iter().map(|model| model.type_name);
    let aliases = ALIASES.iter().chain(OTHER_KINDS).flat_map(|(_, names)| names.iter().copied());
    models.chain(aliases)
}

/// Whether one of these needs to be looked up among those that there are.
pub fn is_name(text: &str) -> bool {
    matches!(Wanted::read(text), Wanted::Name(_))
}

/// Kind and name, as the columns of a table show them: `interface` and `left`. What is of no kind has its key as name.
pub fn kind_and_name(key: &str) -> (&'static str, &str) {
    let models = MODELS.iter().map(|model| (model.key_prefix, model.type_name));
    let others = OTHER_KINDS.iter().filter_map(|(prefix, names)| Some((*prefix, *names.first()?)));
    let found = models
        .chain(others)
        .find_map(|(prefix, kind)| Some((kind, key.strip_prefix(prefix)?)));
    found.unwrap_or(("", key))
}

/// The shortest text that [`Wanted::read`] takes for the key: `interface/left`.
pub fn short(key: &str) -> String {
    match kind_and_name(key) {
        ("", key) => key.to_owned(),
        (kind, name) => format!("{kind}/{name}"),
    }
}

/// Whether it is a value that somebody asks for, and no fact.
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
    fn a_key_may_be_written_in_every_form_that_people_meet() {
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
            assert_eq!(Wanted::read(text), Wanted::Key(LEFT.to_owned()), "{text}");
        }
        assert_eq!(
            Wanted::read("routes/10.0.0.0/8/left"),
            Wanted::Key("config/linux/l3/v2/route/10.0.0.0/8/left".to_owned())
        );
        assert_eq!(Wanted::read("ns/NSID/red"), Wanted::Key("linux/namespace/NSID/red".to_owned()));
        assert_eq!(
            Wanted::read("linux/interface/state/left/UP"),
            Wanted::Key("linux/interface/state/left/UP".to_owned())
        );
        assert_eq!(Wanted::read("arps"), Wanted::Kind("config/linux/l3/v2/arp/".to_owned()));
        assert_eq!(Wanted::read("left"), Wanted::Name("left".to_owned()));
    }

    #[test]
    fn a_short_form_leads_back_to_its_key() {
        for key in [
            LEFT,
            "config/linux/l3/v2/arp/left/10.0.0.1",
            "linux/namespace/NSID/red",
            "linux/interface/state/left/UP",
        ] {
            assert_eq!(Wanted::read(&short(key)), Wanted::Key(key.to_owned()));
        }
    }

    #[test]
    fn a_name_must_be_that_of_one_value() {
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
    fn a_mistyped_kind_is_no_key() {
        for (text, words) in [
            ("intrface/left", "no kind \"intrface\"; did you mean interface?"),
            ("cofnig/linux/l3/v2/arp/a/b", "no kind \"cofnig\"; did you mean config?"),
            ("bridge/left", "no kind \"bridge\""),
            ("/etc/passwd", "no key of an agent"),
        ] {
            let failure = Wanted::parse(text).expect_err(text);
            assert!(failure.message().contains(words), "{failure}");
        }
        // Values without a model are published as INVALID, so users may ask for them.
        for text in ["config/linux/l9/v2/x", "linux/interface/state/left/UP", "left", "if"] {
            assert_eq!(Wanted::parse(text).expect(text), Wanted::read(text));
        }
    }

    #[test]
    fn states_are_checked() {
        assert_eq!(parse_state("configured").as_deref(), Ok("CONFIGURED"));
        assert_eq!(parse_state("!PENDING").as_deref(), Ok("!PENDING"));
        let error = parse_state("CONFIGURD").expect_err("mistyped");
        assert!(
            error.starts_with("there is no state \"CONFIGURD\"; did you mean CONFIGURED?"),
            "{error}"
        );
        assert_eq!(parse_awaited_state("deleted").as_deref(), Ok("DELETED"));
        parse_awaited_state("removed").expect_err("nothing stays in that state");
    }
}
