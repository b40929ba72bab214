//! What the agent speaks to: Docker, etcd, and the agent itself.
//!
//! Owns one question to each. None of them has to be there for the agent to work, so none is a problem. Start reading at [`findings`].

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use etcd_client::Client;
use http_body_util::Empty;
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};

use super::{Finding, Verdict};
use crate::cli::{connection::Agent, kvdb::innermost, output::visible};

/// Where to look.
#[derive(clap::Args, Debug)]
pub(super) struct ServiceArgs {
    /// Socket of the Docker daemon
    #[arg(long, value_name = "URL", env = "DOCKER_HOST", default_value = "unix:///var/run/docker.sock")]
    docker_host: String,

    /// etcd servers, separated by commas; nothing means the store inside the agent
    #[arg(short, long, value_name = "URLS", env = "ETCD_ENDPOINTS")]
    etcd_endpoints: Option<String>,
}

/// Asks all of them.
pub(super) async fn findings(args: &ServiceArgs, agent: &Agent, patience: Duration) -> Vec<Finding> {
    let (docker, etcd, agent) = tokio::join!(docker(args, patience), etcd(args, patience), the_agent(agent, patience));
    vec![docker, etcd, agent]
}

async fn docker(args: &ServiceArgs, patience: Duration) -> Finding {
    let Some(path) = args.docker_host.strip_prefix("unix://").map(PathBuf::from) else {
        return Finding::new("Docker", Verdict::Warning, format!("{} is no Unix socket", args.docker_host))
            .remedy("the agent finds containers over a Unix socket only: --docker-host unix:///var/run/docker.sock");
    };
    match timeout(patience, ping(&path)).await {
        Ok(Ok(StatusCode::OK)) => Finding::ok("Docker", format!("answers at {}", path.display())),
        Ok(Ok(status)) => Finding::new("Docker", Verdict::Warning, format!("answers {status} at {}", path.display()))
            .remedy("see what else is at this socket, or say with --docker-host where Docker is"),
        Ok(Err(error)) => Finding::new("Docker", Verdict::Note, format!("nothing answers at {}: {error}", path.display()))
            .remedy("needed only for namespaces of type MICROSERVICE: start it, or say with --docker-host where its socket is"),
        Err(_) => Finding::new(
            "Docker",
            Verdict::Warning,
            format!("no answer at {} within {} s", path.display(), patience.as_secs()),
        )
        .remedy("systemctl restart docker; values of containers wait meanwhile"),
    }
}

/// `GET /_ping` (Docker Engine API).
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

async fn etcd(args: &ServiceArgs, patience: Duration) -> Finding {
    let Some(endpoints) = args.etcd_endpoints.as_deref().filter(|text| !text.trim().is_empty()) else {
        return Finding::new(
            "etcd",
            Verdict::Note,
            "none is named (--etcd-endpoints): an agent uses the store inside it",
        );
    };
    let list: Vec<&str> = endpoints.split(',').map(str::trim).filter(|text| !text.is_empty()).collect();
    let asked = async {
        let client = Client::connect(&list, None).await?;
        let status = client.maintenance_client().status().await?;
        Ok::<String, etcd_client::Error>(status.version().to_owned())
    };
    let trouble = |words: String| {
        Finding::new("etcd", Verdict::Warning, format!("{endpoints}: {words}")).remedy(
            "the agent waits for it and does nothing meanwhile: start it, or correct --etcd-endpoints; TLS and sign-in are not tried here",
        )
    };
    match timeout(patience, asked).await {
        Ok(Ok(version)) => Finding::ok("etcd", format!("version {} answers at {endpoints}", visible(&version))),
        Ok(Err(error)) => trouble(innermost(&error)),
        Err(_) => trouble(format!("no answer within {} s", patience.as_secs())),
    }
}

async fn the_agent(agent: &Agent, patience: Duration) -> Finding {
    match timeout(patience, agent.send(Method::GET, "/readiness", "")).await {
        Ok(Ok(answer)) if answer.status.is_success() => Finding::ok("agent", format!("ready at {}", agent.url())),
        Ok(Ok(answer)) if matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            Finding::ok("agent", format!("answers at {}, and wants to know who asks", agent.url()))
        }
        Ok(Ok(answer)) => Finding::new(
            "agent",
            Verdict::Warning,
            format!("not ready at {} ({})", agent.url(), answer.status),
        )
        .remedy("`netns-agent status` tells which part is in trouble"),
        Ok(Err(failure)) => Finding::new("agent", Verdict::Note, failure.message())
            .remedy("start it with `sudo netns-agent run`, or say where it is with --host and --http-port"),
        Err(_) => Finding::new(
            "agent",
            Verdict::Warning,
            format!("no answer at {} within {} s", agent.url(), patience.as_secs()),
        )
        .remedy("it hangs, or something else listens there"),
    }
}
