//! Checks Docker, etcd and a running agent, with one request to each.
//!
//! The agent can start without any of these services, so a missing service is never a [`Verdict::Problem`].

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use etcd_client::Client;
use http_body_util::Empty;
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};
use tonic::{Code, Status};

use super::{Finding, Verdict};
use crate::cli::{connection::Agent, kvdb::innermost, output::visible};

/// Addresses of the services.
#[derive(clap::Args, Debug)]
pub(super) struct ServiceArgs {
    /// Unix socket of the Docker daemon
    #[arg(long, value_name = "URL", env = "DOCKER_HOST", default_value = "unix:///var/run/docker.sock")]
    docker_host: String,

    /// etcd endpoints, separated by commas; by default the embedded store is assumed
    #[arg(short, long, value_name = "URLS", env = "ETCD_ENDPOINTS")]
    etcd_endpoints: Option<String>,
}

/// Checks all services concurrently.
pub(super) async fn findings(args: &ServiceArgs, agent: &Agent, time_limit: Duration) -> Vec<Finding> {
    let (docker, etcd, agent) = tokio::join!(docker(args, time_limit), etcd(args, time_limit), the_agent(agent, time_limit));
    vec![docker, etcd, agent]
}

async fn docker(args: &ServiceArgs, time_limit: Duration) -> Finding {
    let Some(path) = args.docker_host.strip_prefix("unix://").map(PathBuf::from) else {
        return Finding::new("Docker", Verdict::Warning, format!("{} is not a Unix socket", args.docker_host))
            .remedy("the agent supports Unix sockets only: --docker-host unix:///var/run/docker.sock");
    };
    match timeout(time_limit, ping(&path)).await {
        Ok(Ok(StatusCode::OK)) => Finding::ok("Docker", format!("available at {}", path.display())),
        Ok(Ok(status)) => Finding::new("Docker", Verdict::Warning, format!("responded with {status} at {}", path.display()))
            .remedy("check which program uses this socket, or set Docker's socket with --docker-host"),
        Ok(Err(error)) => Finding::new("Docker", Verdict::Note, format!("not available at {}: {error}", path.display()))
            .remedy("required only for namespaces of type MICROSERVICE: start Docker, or set its socket with --docker-host"),
        Err(_) => Finding::new(
            "Docker",
            Verdict::Warning,
            format!("no response at {} within {} s", path.display(), time_limit.as_secs()),
        )
        .remedy("run: systemctl restart docker; values in containers wait until Docker responds"),
    }
}

/// Sends `GET /_ping` (Docker Engine API) to the Unix socket at `path` and returns the status code.
async fn ping(path: &Path) -> Result<StatusCode, String> {
    let stream = UnixStream::connect(path).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let driver = tokio::spawn(connection);
    let request = Request::builder().method(Method::GET).uri("/_ping").header("Host", "docker");
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(|error| error.to_string());
    driver.abort();
    answer.map(|answer| answer.status())
}

async fn etcd(args: &ServiceArgs, time_limit: Duration) -> Finding {
    let Some(endpoints) = args.etcd_endpoints.as_deref().filter(|text| !text.trim().is_empty()) else {
        return Finding::new(
            "etcd",
            Verdict::Note,
            "no endpoints given (--etcd-endpoints): the agent uses its embedded store",
        );
    };
    let list: Vec<&str> = endpoints.split(',').map(str::trim).filter(|text| !text.is_empty()).collect();
    let requested = async {
        let client = Client::connect(&list, None).await?;
        let status = client.maintenance_client().status().await?;
        Ok::<String, etcd_client::Error>(status.version().to_owned())
    };
    let warning = |words: &str| Finding::new("etcd", Verdict::Warning, format!("{endpoints}: {words}"));
    let trouble = |words: &str| {
        warning(words).remedy(
            "start etcd, or correct --etcd-endpoints; the agent applies nothing until it is connected. This check does not use TLS or \
             authentication",
        )
    };
    match timeout(time_limit, requested).await {
        Ok(Ok(version)) => Finding::ok("etcd", format!("version {} available at {endpoints}", visible(&version))),
        Ok(Err(etcd_client::Error::GRpcStatus(status))) if is_answer(&status) => warning(status.message()).remedy(
            "etcd runs, but refused this check, which uses neither a user nor a client certificate; `netns-agent kvdb list` checks the \
             settings of the agent",
        ),
        Ok(Err(error)) => trouble(&innermost(&error)),
        Err(_) => trouble(&format!("no response within {} s", time_limit.as_secs())),
    }
}

/// Returns whether etcd itself sent this status. If there is no connection, the client makes a status with one of the other codes.
fn is_answer(status: &Status) -> bool {
    !matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded
    )
}

async fn the_agent(agent: &Agent, time_limit: Duration) -> Finding {
    match timeout(time_limit, agent.send(Method::GET, "/readiness", "")).await {
        Ok(Ok(answer)) if answer.status.is_success() => Finding::ok("agent", format!("ready at {}", agent.url())),
        Ok(Ok(answer)) if matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            Finding::ok("agent", format!("running at {} (requires authentication)", agent.url()))
        }
        Ok(Ok(answer)) => Finding::new(
            "agent",
            Verdict::Warning,
            format!("not ready at {} ({})", agent.url(), answer.status),
        )
        .remedy("`netns-agent status` shows which part has a problem"),
        Ok(Err(failure)) => Finding::new("agent", Verdict::Note, failure.message()).remedy(
            "start the agent with `sudo netns-agent run`; if it is already running at another address, pass its --http-listen address \
             with --host and --http-port",
        ),
        Err(_) => Finding::new(
            "agent",
            Verdict::Warning,
            format!("no response at {} within {} s", agent.url(), time_limit.as_secs()),
        )
        .remedy("restart the agent, or check whether another program listens on this port"),
    }
}
