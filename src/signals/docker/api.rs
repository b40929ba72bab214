//! Docker Engine API client for the tracker's requests.
//!
//! Negotiates the API version and converts the responses. Keeps no state between requests.

use std::{
    collections::HashMap,
    error::Error as StdError,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bollard::{
    API_DEFAULT_VERSION, BollardRequest, ClientVersion, Docker,
    errors::Error as ClientError,
    models::{ContainerInspectResponse, EventMessage},
    query_parameters::{EventsOptions, InspectContainerOptions, ListContainersOptions},
};
use futures::{Stream, TryStreamExt};
use tokio::time::timeout;

use super::{HostError, registry::ListedContainer};

/// Maximum time for a response from the daemon. A starting daemon accepts connections long before it responds, because it first
/// stops the containers that the previous daemon left running. Stopping each container takes 10 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Environment variable of a container that makes it a microservice.
const LABEL_VARIABLE: &str = "MICROSERVICE_LABEL=";
/// Container label that makes a container a microservice if its environment contains no microservice label.
const LABEL_LABEL: &str = "io.ligato.microservice-label";
/// Events after which a container may have started or stopped, or may have another name.
const ACTIONS: [&str; 6] = ["start", "die", "destroy", "stop", "kill", "rename"];

/// Reason why a request to the daemon failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// The daemon could not be reached, or returned an error.
    #[error("Docker at {host}: cannot {action}: {words}")]
    Request { host: String, action: &'static str, words: String },
    /// The daemon did not respond in time.
    #[error("Docker at {host}: cannot {action}: no response within {} s; the daemon may still be starting, or may be suspended", ANSWER_TIMEOUT.as_secs())]
    Timeout { host: String, action: &'static str },
    /// A required field is missing from the response, or is invalid.
    #[error("Docker at {host}: container {container_id}: field {field} of the inspection is missing or invalid")]
    Answer {
        host: String,
        container_id: String,
        field: &'static str,
    },
}

/// Daemon address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Host {
    /// A Unix socket.
    Unix(PathBuf),
    /// Plain HTTP over TCP, as `host:port`.
    Tcp(String),
}

impl Host {
    /// Parses an address in the format of `DOCKER_HOST`.
    pub(super) fn parse(docker_host: &str) -> Result<Self, HostError> {
        let refuse = |reason| {
            Err(HostError {
                docker_host: docker_host.to_owned(),
                reason,
            })
        };
        match docker_host.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(PathBuf::from(path))),
            Some(("unix", _)) => refuse("the socket path must be absolute"),
            Some(("tcp" | "http", address)) if !address.is_empty() && !address.contains('/') => Ok(Self::Tcp(address.to_owned())),
            Some(("tcp" | "http", _)) => refuse("the address must be <host>:<port>"),
            Some(("https", _)) => refuse("TLS is not supported"),
            Some(_) => refuse("this scheme is not supported"),
            None => refuse("the scheme is missing"),
        }
    }

    /// Returns the path of the Unix socket, or `None` for a TCP address.
    pub(super) fn socket(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            Self::Tcp(_) => None,
        }
    }

    fn client(&self) -> Result<Docker, ClientError> {
        let seconds = ANSWER_TIMEOUT.as_secs();
        match self {
            Self::Unix(path) => Docker::connect_with_unix(&path.to_string_lossy(), seconds, API_DEFAULT_VERSION),
            Self::Tcp(address) => Docker::connect_with_http(address, seconds, API_DEFAULT_VERSION),
        }
    }
}

/// Client of one daemon, with a negotiated API version.
#[derive(Clone)]
pub(super) struct Api {
    host: String,
    docker: Docker,
}

/// The daemon's description of a container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Description {
    /// Container name, without the leading slash.
    pub(super) name: String,
    /// Microservice label, if the container has one.
    pub(super) label: Option<String>,
    /// Time at which the container was created.
    pub(super) created: SystemTime,
    /// Time at which the container was last started.
    pub(super) started_at: SystemTime,
    /// PID of the container's main process. `None` if the container is not running.
    pub(super) pid: Option<i32>,
}

/// A hint that a container must be inspected again, because the daemon has reported an event for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Hint {
    /// Id of the container.
    pub(super) container_id: String,
    /// Time of the event by the daemon's clock, in nanoseconds since the epoch. `None` if the event contains no time.
    pub(super) time_ns: Option<i64>,
}

impl Api {
    /// Connects to the daemon and negotiates an API version.
    pub(super) async fn connect(host: &Host) -> Result<Self, ApiError> {
        let name = match host {
            Host::Unix(path) => format!("unix://{}", path.display()),
            Host::Tcp(address) => format!("tcp://{address}"),
        };
        let failed = |error: ClientError| request_error(&name, "connect", &error);
        let docker = host.client().map_err(failed)?;
        let offer = answer(&name, "read the API version", docker.version()).await?;
        let version = agree(offer.api_version.as_deref(), offer.min_api_version.as_deref());
        let prefix = format!("/v{}.{}", version.major_version, version.minor_version);
        let docker = docker.with_request_modifier(move |request| with_version(request, &prefix));
        Ok(Self { host: name, docker })
    }

    /// Streams container events starting at `since_ns` (nanoseconds since the epoch), including past events that the daemon still
    /// has. The request is sent when the stream is first polled.
    pub(super) fn events(&self, since_ns: i64) -> impl Stream<Item = Result<Hint, ApiError>> + Send + 'static {
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("event".to_owned(), ACTIONS.iter().map(|&action| action.to_owned()).collect()),
        ]);
        let since = format!("{}.{:09}", since_ns.div_euclid(1_000_000_000), since_ns.rem_euclid(1_000_000_000));
        let options = EventsOptions {
            since: Some(since),
            until: None,
            filters: Some(filters),
        };
        let host = self.host.clone();
        self.docker
            .events(Some(options))
            .map_err(move |error| request_error(&host, "read events", &error))
            .try_filter_map(|event| async move { Ok(hint(event)) })
    }

    /// Lists the running containers, including paused ones.
    pub(super) async fn list(&self) -> Result<Vec<ListedContainer>, ApiError> {
        let request = self.docker.list_containers(None::<ListContainersOptions>);
        let containers = answer(&self.host, "list containers", request).await?;
        let listed = |container: bollard::models::ContainerSummary| {
            let name = container.names.as_ref().and_then(|names| names.first());
            Some(ListedContainer {
                container_id: container.id?,
                name: name.map(|name| bare_name(name)),
            })
        };
        Ok(containers.into_iter().filter_map(listed).collect())
    }

    /// Inspects a container. Returns `None` if no container has this id.
    pub(super) async fn inspect(&self, container_id: &str) -> Result<Option<Description>, ApiError> {
        let request = self.docker.inspect_container(container_id, None::<InspectContainerOptions>);
        let found = async {
            match request.await {
                Err(ClientError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
                other => other.map(Some),
            }
        };
        match answer(&self.host, "inspect a container", found).await? {
            None => Ok(None),
            Some(inspection) => match describe(inspection) {
                Ok(description) => Ok(Some(description)),
                Err(field) => Err(ApiError::Answer {
                    host: self.host.clone(),
                    container_id: container_id.to_owned(),
                    field,
                }),
            },
        }
    }
}

async fn answer<T>(host: &str, action: &'static str, request: impl Future<Output = Result<T, ClientError>>) -> Result<T, ApiError> {
    match timeout(ANSWER_TIMEOUT, request).await {
        Ok(outcome) => outcome.map_err(|error| request_error(host, action, &error)),
        Err(_) => Err(ApiError::Timeout {
            host: host.to_owned(),
            action,
        }),
    }
}

/// Converts a client error. Appends the messages of all underlying errors, because the client's own message (such as "client
/// error (Connect)") omits the cause.
fn request_error(host: &str, action: &'static str, error: &ClientError) -> ApiError {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = next.source();
    }
    ApiError::Request {
        host: host.to_owned(),
        action,
        words,
    }
}

/// Returns the newest API version that the client and the daemon support. If no version is supported by both, returns the
/// daemon's oldest version. That version is the most likely to work, because newer versions only add fields to the responses.
fn agree(newest: Option<&str>, oldest: Option<&str>) -> ClientVersion {
    let parse = |version: &str| {
        let (major, minor) = version.split_once('.')?;
        Some((major.parse::<usize>().ok()?, minor.parse::<usize>().ok()?))
    };
    let ours = (API_DEFAULT_VERSION.major_version, API_DEFAULT_VERSION.minor_version);
    let agreed = newest.and_then(parse).map_or(ours, |newest| newest.min(ours));
    let (major_version, minor_version) = oldest.and_then(parse).map_or(agreed, |oldest| oldest.max(agreed));
    ClientVersion {
        major_version,
        minor_version,
    }
}

/// Adds the API version to the path of a request, unless the client has already added it.
///
/// The client library intends to add the version, but loses it when it joins an absolute path to its base URL. Requests without a
/// version are deprecated, and the daemon responds to them with its newest version.
fn with_version(mut request: BollardRequest, prefix: &str) -> BollardRequest {
    let uri = request.uri();
    let rest = uri.path_and_query().map_or("/", |rest| rest.as_str());
    let versioned = rest
        .strip_prefix("/v")
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
    if let (false, Some(scheme), Some(authority)) = (versioned, uri.scheme_str(), uri.authority())
        && let Ok(uri) = format!("{scheme}://{authority}{prefix}{rest}").parse()
    {
        *request.uri_mut() = uri;
    }
    request
}

fn hint(event: EventMessage) -> Option<Hint> {
    let time_ns = event.time_nano.or_else(|| event.time?.checked_mul(1_000_000_000));
    Some(Hint {
        container_id: event.actor?.id?,
        time_ns,
    })
}

/// Converts an inspection response. The error names the missing or invalid field.
fn describe(inspection: ContainerInspectResponse) -> Result<Description, &'static str> {
    let state = inspection.state.ok_or("State")?;
    let config = inspection.config.unwrap_or_default();
    let label = microservice_label(config.env.as_deref().unwrap_or_default(), config.labels.as_ref());
    let created = inspection.created.as_deref().and_then(parse_time).ok_or("Created")?;
    let running = state.running.unwrap_or_default();
    let pid = match state.pid {
        // Docker reports a container that is waiting to be restarted as running with PID 0.
        None | Some(0) => None,
        Some(pid) if running => Some(i32::try_from(pid).map_err(|_| "State.Pid")?),
        Some(_) => None,
    };
    let started_at = state.started_at.as_deref().and_then(parse_time);
    let started_at = match pid {
        Some(_) => started_at.ok_or("State.StartedAt")?,
        None => started_at.unwrap_or(SystemTime::UNIX_EPOCH),
    };
    let name = bare_name(inspection.name.as_deref().unwrap_or_default());
    Ok(Description {
        name,
        label,
        created,
        started_at,
        pid,
    })
}

/// Returns the microservice label. The environment takes precedence over the container label, because ligato vpp-agent reads only
/// the environment.
fn microservice_label(environment: &[String], labels: Option<&HashMap<String, String>>) -> Option<String> {
    let from_environment = environment
        .iter()
        .filter_map(|entry| entry.strip_prefix(LABEL_VARIABLE))
        .find(|label| !label.is_empty());
    let from_label = || labels?.get(LABEL_LABEL).map(String::as_str).filter(|label| !label.is_empty());
    from_environment.or_else(from_label).map(str::to_owned)
}

fn bare_name(name: &str) -> String {
    name.strip_prefix('/').unwrap_or(name).to_owned()
}

/// Parses an RFC 3339 time with up to nine decimal places.
fn parse_time(text: &str) -> Option<SystemTime> {
    let timestamp: prost_types::Timestamp = text.parse().ok()?;
    timestamp.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_takes_precedence_over_container_label() {
        let labels = HashMap::from([(LABEL_LABEL.to_owned(), "from-label".to_owned())]);
        let environment = |entries: &[&str]| entries.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>();
        let read = |entries: &[&str], labels| microservice_label(&environment(entries), labels);
        assert_eq!(
            read(&["PATH=/bin", "MICROSERVICE_LABEL=web"], Some(&labels)).as_deref(),
            Some("web")
        );
        assert_eq!(
            read(&["MICROSERVICE_LABEL=", "XMICROSERVICE_LABEL=no"], Some(&labels)).as_deref(),
            Some("from-label")
        );
        assert_eq!(read(&["MICROSERVICE_LABEL=a=b"], None).as_deref(), Some("a=b"));
        assert_eq!(read(&["MICROSERVICE_LABEL", "MICROSERVICE_LABEL="], None), None);
        let empty = HashMap::from([(LABEL_LABEL.to_owned(), String::new())]);
        assert_eq!(read(&[], Some(&empty)), None);
    }

    #[test]
    fn newest_common_api_version_is_used() {
        let agreed = |newest, oldest| {
            let version = agree(newest, oldest);
            (version.major_version, version.minor_version)
        };
        let ours = (API_DEFAULT_VERSION.major_version, API_DEFAULT_VERSION.minor_version);
        assert_eq!(agreed(Some("1.41"), Some("1.12")), (1, 41));
        assert_eq!(agreed(Some("1.999"), Some("1.44")), ours);
        assert_eq!(agreed(Some("2.3"), Some("2.0")), (2, 0));
        assert_eq!(agreed(Some("nonsense"), None), ours);
    }

    #[test]
    fn host_is_parsed_like_docker_host() {
        assert_eq!(
            Host::parse("unix:///run/docker.sock"),
            Ok(Host::Unix(PathBuf::from("/run/docker.sock")))
        );
        assert_eq!(Host::parse("tcp://127.0.0.1:2375"), Ok(Host::Tcp("127.0.0.1:2375".to_owned())));
        for wrong in [
            "",
            "/run/docker.sock",
            "unix://relative",
            "https://h:2376",
            "ssh://h",
            "tcp://",
            "npipe:////./pipe/docker",
        ] {
            assert!(Host::parse(wrong).is_err(), "{wrong:?} must be rejected");
        }
    }

    #[test]
    fn times_keep_nanoseconds_and_time_zone() {
        let plain = parse_time("2026-11-24T03:49:21.491547589Z");
        assert!(plain.is_some());
        assert_eq!(plain, parse_time("2026-11-24T04:49:21.491547589+01:00"));
        assert!(plain < parse_time("2026-11-24T03:49:21.49154759Z"));
        assert!(parse_time("0001-01-01T00:00:00Z") < plain);
        assert_eq!(parse_time("yesterday"), None);
    }
}
