//! The settings of the store: endpoints, certificates, user and password.
//!
//! Owns the checks that need several of these settings together. Must never log or return a password other than as
//! [`Password`]. Start reading at [`StoreArgs::check`].

use super::{ConfigError, Given, Origin, path_of};
use crate::store::{Connector, Credentials, Password, StoreConfig, TlsFiles};

/// What to do if the store has lost its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStoreLoss {
    /// What it lacks stays until somebody accepts the removals.
    Hold,
    /// What it lacks is deleted.
    Apply,
}

pub(super) fn on_loss(given: Option<Given>) -> Result<OnStoreLoss, ConfigError> {
    let Some(given) = given else { return Ok(OnStoreLoss::Hold) };
    match given.value.trim() {
        "hold" => Ok(OnStoreLoss::Hold),
        "apply" => Ok(OnStoreLoss::Apply),
        other => Err(given.wrong(format!("{other:?} is no policy"), "hold or apply is expected")),
    }
}

/// What was given about the store.
pub(super) struct StoreArgs {
    pub endpoints: Option<Given>,
    pub ca: Option<Given>,
    pub cert: Option<Given>,
    pub key: Option<Given>,
    pub user: Option<Given>,
    pub password_file: Option<Given>,
    pub password: Option<Given>,
}

impl StoreArgs {
    pub fn check(self) -> Result<Option<StoreConfig>, ConfigError> {
        let Some(endpoints) = self.endpoints else {
            // A password in the environment alone may be meant for another program.
            let idle = [self.ca, self.cert, self.key, self.user, self.password_file]
                .into_iter()
                .flatten()
                .next();
            return idle.map_or(Ok(None), |given| {
                Err(given.wrong("there is no etcd to use it for", "give --etcd-endpoints too"))
            });
        };
        let list: Vec<String> = endpoints
            .value
            .split(',')
            .map(str::trim)
            .filter(|url| !url.is_empty())
            .map(str::to_owned)
            .collect();
        if list.is_empty() {
            return Err(endpoints.wrong(
                "it names no endpoint",
                "a list as http://10.0.0.1:2379,http://10.0.0.2:2379 is expected",
            ));
        }
        let tls = tls_files(self.ca, self.cert, self.key)?;
        let credentials = credentials(self.user, self.password_file, self.password)?;
        let config = StoreConfig {
            endpoints: list,
            tls,
            credentials,
        };
        Connector::new(config.clone()).map_err(|error| {
            ConfigError::Together(format!(
                "{} with its --etcd-ca, --etcd-cert and --etcd-key: {error}",
                endpoints.origin
            ))
        })?;
        Ok(Some(config))
    }
}

fn tls_files(ca: Option<Given>, cert: Option<Given>, key: Option<Given>) -> Result<Option<TlsFiles>, ConfigError> {
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((path_of(cert)?, path_of(key)?)),
        (Some(lonely), None) => return Err(lonely.wrong("it needs the private key of the certificate", "give --etcd-key too")),
        (None, Some(lonely)) => return Err(lonely.wrong("it needs the certificate of the key", "give --etcd-cert too")),
        (None, None) => None,
    };
    match (ca, identity) {
        (Some(ca), identity) => Ok(Some(TlsFiles {
            ca: path_of(ca)?,
            identity,
        })),
        (None, Some(_)) => Err(ConfigError::Together(
            "--etcd-cert needs --etcd-ca, by which etcd itself is recognised".to_owned(),
        )),
        (None, None) => Ok(None),
    }
}

/// The flag for the file beats the password in the environment, which beats the file's path given there or in the file.
fn credentials(user: Option<Given>, file: Option<Given>, password: Option<Given>) -> Result<Option<Credentials>, ConfigError> {
    let Some(user) = user else {
        let unused = |file: Given| file.wrong("there is no user whose password it is", "give --etcd-user too");
        return file.map_or(Ok(None), |file| Err(unused(file)));
    };
    if user.value.is_empty() {
        return Err(user.wrong("it is empty", "name a user of etcd"));
    }
    let password = match (file, password) {
        (Some(file), password) if matches!(file.origin, Origin::Flag(_)) || password.is_none() => read_password(&file)?,
        (_, Some(password)) => Password::new(password.value),
        (_, None) => {
            return Err(user.wrong(
                "its password is missing",
                "give --etcd-password-file, or ETCD_PASSWORD in the environment",
            ));
        }
    };
    Ok(Some(Credentials {
        user: user.value,
        password,
    }))
}

fn read_password(given: &Given) -> Result<Password, ConfigError> {
    let accepted = "a readable file is expected whose first line is the password";
    let content = std::fs::read_to_string(&given.value).map_err(|error| given.wrong(format!("{}: {error}", given.value), accepted))?;
    match content.lines().next() {
        Some(line) if !line.is_empty() => Ok(Password::new(line)),
        _ => Err(given.wrong(format!("the first line of {} is empty", given.value), accepted)),
    }
}
