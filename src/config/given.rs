//! Layers of settings: the command line takes precedence over the environment, then the file, then the defaults.
//!
//! Each value is stored together with its origin, such as a flag, because error messages name the origin.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::{Args, Command};

use super::{ConfigError, layer::Layer};

/// Environment variable with the path of the configuration file.
pub(super) const CONFIG_FILE: &str = "CONFIG_FILE";

/// Layer that a setting's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag on the command line, with the name of the setting.
    Flag(&'static str),
    /// An environment variable, with its name.
    Environment(String),
    /// A member of the configuration file, with its name.
    File(&'static str),
    /// The default, with the name of the setting.
    Default(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{}", name.replace('_', "-")),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::File(member) => write!(f, "member {member} of the configuration file"),
            Self::Default(name) => write!(f, "default of --{}", name.replace('_', "-")),
        }
    }
}

/// Value of a setting, with the layer that it comes from.
#[derive(Clone)]
pub(super) struct Given {
    pub value: String,
    pub origin: Origin,
}

impl Given {
    pub fn wrong(&self, problem: impl Into<String>, accepted: &'static str) -> ConfigError {
        ConfigError::Value {
            origin: self.origin.clone(),
            problem: problem.into(),
            accepted,
        }
    }

    pub fn number<N: FromStr<Err: fmt::Display>>(&self, accepted: &'static str) -> Result<N, ConfigError> {
        let text = self.value.trim();
        text.parse().map_err(|error| self.wrong(format!("{text:?}: {error}"), accepted))
    }

    /// Returns the policy named by the value of this setting.
    pub fn policy<P: Copy>(&self, policies: &[(&str, P)], accepted: &'static str) -> Result<P, ConfigError> {
        let text = self.value.trim();
        let named = policies.iter().find(|(name, _)| *name == text);
        named
            .map(|(_, policy)| *policy)
            .ok_or_else(|| self.wrong(format!("{text:?} is not a policy"), accepted))
    }

    pub fn path(self) -> Result<PathBuf, ConfigError> {
        match self.value.is_empty() {
            true => Err(self.wrong("it is empty", "expected a path")),
            false => Ok(self.value.into()),
        }
    }
}

/// Name of a setting, and a function that reads it from a layer. Created by [`setting!`].
#[derive(Clone, Copy)]
pub(super) struct Setting {
    pub name: &'static str,
    pub read: fn(&Layer) -> Option<&OsStr>,
}

/// Creates the [`Setting`] for a field of [`Layer`].
macro_rules! setting {
    ($field:ident) => {
        $crate::config::given::Setting {
            name: stringify!($field),
            read: |layer| layer.$field.as_ref().map(AsRef::as_ref),
        }
    };
}
pub(super) use setting;

/// Function that returns the value of an environment variable.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// All layers of settings.
pub(super) struct Layers<'a> {
    flags: Layer,
    environment: Environment<'a>,
    file: Layer,
    /// Definition of the command line, which contains the environment variable and the default of each setting.
    list: Command,
}

impl<'a> Layers<'a> {
    /// Creates the layers. Reads the configuration file if the flags or the environment name one.
    pub fn new(flags: Layer, environment: Environment<'a>) -> Result<Self, ConfigError> {
        let path = match &flags.config {
            Some(path) => Some(path.clone()),
            None => from_environment(CONFIG_FILE, environment)?.map(|given| given.value.into()),
        };
        Ok(Layers {
            file: path.map_or_else(|| Ok(Layer::default()), |path| read_file(&path))?,
            flags,
            environment,
            list: Layer::augment_args(Command::default()),
        })
    }

    /// Returns the effective value of a setting that has a default.
    ///
    /// If no layer has a value, `given` returns an empty string. For a setting without a default, use [`optional`](Self::optional) instead.
    pub fn given(&self, setting: Setting) -> Result<Given, ConfigError> {
        let nothing = || Given {
            value: String::new(),
            origin: Origin::Default(setting.name),
        };
        Ok(self.optional(setting)?.unwrap_or_else(nothing))
    }

    /// Returns the effective value of a setting, or `None` if no layer has a value.
    pub fn optional(&self, Setting { name, read }: Setting) -> Result<Option<Given>, ConfigError> {
        if let Some(value) = read(&self.flags) {
            return given(value.to_owned(), Origin::Flag(name), "the path is not UTF-8").map(Some);
        }
        let listed = self.list.get_arguments().find(|listed| listed.get_id() == name);
        let variable = listed.and_then(|listed| listed.get_env()?.to_str());
        if let Some(variable) = variable
            && let Some(found) = from_environment(variable, self.environment)?
        {
            return Ok(Some(found));
        }
        let default = || {
            listed?
                .get_default_values()
                .first()
                .map(|default| (default.as_os_str(), Origin::Default(name)))
        };
        let rest = read(&self.file).map(|value| (value, Origin::File(name))).or_else(default);
        rest.map(|(value, origin)| given(value.to_owned(), origin, "it is not UTF-8"))
            .transpose()
    }

    /// Returns true if a switch is on. An environment variable or file member must be `true`, `1`, `false` or `0`. A flag takes
    /// no value.
    pub fn is_on(&self, setting: Setting) -> Result<bool, ConfigError> {
        let Some(given) = self.optional(setting)? else { return Ok(false) };
        match given.value.trim() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            other => Err(given.wrong(format!("{other:?} is not a boolean"), "expected true or false")),
        }
    }

    /// Returns the store password, which can only be set in the environment.
    pub fn password(&self) -> Result<Option<Given>, ConfigError> {
        from_environment("ETCD_PASSWORD", self.environment)
    }
}

/// Returns the value of an environment variable. An empty variable counts as unset.
fn from_environment(name: &str, environment: Environment<'_>) -> Result<Option<Given>, ConfigError> {
    let found = environment(name).filter(|value| !value.is_empty());
    found
        .map(|value| given(value, Origin::Environment(name.to_owned()), "it is not UTF-8"))
        .transpose()
}

fn given(value: OsString, origin: Origin, problem: &str) -> Result<Given, ConfigError> {
    match value.into_string() {
        Ok(value) => Ok(Given { value, origin }),
        Err(_) => Err(ConfigError::Value {
            origin,
            problem: problem.to_owned(),
            accepted: "expected UTF-8",
        }),
    }
}

fn read_file(path: &Path) -> Result<Layer, ConfigError> {
    let wrong = |words: String| ConfigError::File {
        path: path.display().to_string(),
        words,
    };
    let content = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    if content
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
    {
        return Ok(Layer::default());
    }
    serde_saphyr::from_str(&content).map_err(|error| wrong(crate::yaml::words(&error)))
}
