//! Store settings: endpoints, certificates, user and password.
//!
//! Passwords are returned only as [`Password`], which cannot be logged by accident.

use super::{ConfigError, Given, Layers, Origin, identity, setting};
use crate::store::{Connector, Credentials, Password, StoreConfig, TlsFiles};

/// Action if the store may have lost its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStoreLoss {
    /// The agent keeps the values of missing keys until a user accepts their removal.
    Hold,
    /// The agent deletes the values of missing keys at once.
    Apply,
}

pub(super) fn on_loss(layers: &Layers<'_>) -> Result<OnStoreLoss, ConfigError> {
    let policies = [("hold", OnStoreLoss::Hold), ("apply", OnStoreLoss::Apply)];
    layers.given(setting!(on_store_loss))?.policy(&policies, "expected hold or apply")
}

/// Returns the validated settings of the etcd cluster, or `None` if no endpoints are set.
pub(super) fn check(layers: &Layers<'_>) -> Result<Option<StoreConfig>, ConfigError> {
    let [endpoints, ca, cert, key, user, password_file] = [
        setting!(etcd_endpoints),
        setting!(etcd_ca),
        setting!(etcd_cert),
        setting!(etcd_key),
        setting!(etcd_user),
        setting!(etcd_password_file),
    ]
    .map(|setting| layers.optional(setting));
    let (ca, cert, key, user, password_file) = (ca?, cert?, key?, user?, password_file?);
    let password = layers.password()?;
    let Some(endpoints) = endpoints? else {
        // Without endpoints, ETCD_PASSWORD is not an error, because it might be meant for another program.
        let idle = [ca, cert, key, user, password_file].into_iter().flatten().next();
        return idle.map_or(Ok(None), |given| {
            Err(given.wrong("the setting has no effect without etcd endpoints", "also set --etcd-endpoints"))
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
            "the list contains no endpoint",
            "expected a list such as http://10.0.0.1:2379,http://10.0.0.2:2379",
        ));
    }
    let tls = tls_files(ca, cert, key)?;
    let credentials = credentials(user, password_file, password)?;
    let config = StoreConfig {
        endpoints: list,
        tls,
        credentials,
    };
    Connector::new(config.clone()).map_err(|error| {
        ConfigError::Together(format!(
            "cannot use {} with --etcd-ca, --etcd-cert and --etcd-key: {error}",
            endpoints.origin
        ))
    })?;
    Ok(Some(config))
}

fn tls_files(ca: Option<Given>, cert: Option<Given>, key: Option<Given>) -> Result<Option<TlsFiles>, ConfigError> {
    let identity = identity(cert, key, ["also set --etcd-cert", "also set --etcd-key"])?;
    match (ca, identity) {
        (Some(ca), identity) => Ok(Some(TlsFiles { ca: ca.path()?, identity })),
        (None, Some(_)) => Err(ConfigError::Together(
            "--etcd-cert requires --etcd-ca, which verifies the etcd server".to_owned(),
        )),
        (None, None) => Ok(None),
    }
}

/// Returns the user and the password.
///
/// `--etcd-password-file` overrides `ETCD_PASSWORD`, which overrides a password file named in the environment or the configuration file.
fn credentials(user: Option<Given>, file: Option<Given>, password: Option<Given>) -> Result<Option<Credentials>, ConfigError> {
    let Some(user) = user else {
        let unused = |file: Given| file.wrong("a password requires a user name", "also set --etcd-user");
        return file.map_or(Ok(None), |file| Err(unused(file)));
    };
    if user.value.is_empty() {
        return Err(user.wrong("it is empty", "expected the name of an etcd user"));
    }
    let password = match (file, password) {
        (Some(file), password) if matches!(file.origin, Origin::Flag(_)) || password.is_none() => read_password(&file)?,
        (_, Some(password)) => Password::new(password.value),
        (_, None) => {
            return Err(user.wrong(
                "the password of the user is missing",
                "set --etcd-password-file, or ETCD_PASSWORD in the environment",
            ));
        }
    };
    Ok(Some(Credentials {
        user: user.value,
        password,
    }))
}

fn read_password(given: &Given) -> Result<Password, ConfigError> {
    let accepted = "expected a readable file whose first line is the password";
    let content = std::fs::read_to_string(&given.value).map_err(|error| given.wrong(format!("{}: {error}", given.value), accepted))?;
    match content.lines().next() {
        Some(line) if !line.is_empty() => Ok(Password::new(line)),
        _ => Err(given.wrong(format!("the first line of {} is empty", given.value), accepted)),
    }
}
