//! Client of the REST API. It uses HTTP/1.1 with one connection per request, and supports TLS and authentication with a token.
//!
//! Error messages contain the address of the agent and the flag that sets it, but never a token or a private key.

mod tls;

use std::{path::PathBuf, time::Duration};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use super::{failure::Failure, moment};

/// Options for the connection to the agent. `--ca`, `--cert` and `--key` have explicit clap ids, because some commands have an
/// argument with the id `key`.
#[derive(clap::Args, Clone, Debug)]
pub struct ConnectionArgs {
    /// Host name or address of the agent
    #[arg(
        short = 'H',
        long,
        global = true,
        env = "AGENT_HOST",
        default_value = "127.0.0.1",
        help_heading = "Connection"
    )]
    host: String,

    /// Port of the agent's REST API
    #[arg(long, global = true, value_name = "PORT", default_value_t = 9191, help_heading = "Connection")]
    http_port: u16,

    /// Timeout for responses, and for `wait` and `apply --wait`, such as 30s or 2m
    #[arg(
        long,
        global = true,
        value_name = "DURATION",
        default_value = "120s",
        value_parser = moment::parse_span,
        help_heading = "Connection"
    )]
    pub timeout: Duration,

    /// File whose first line is the access token; alternatively, set NETNS_AGENT_TOKEN to the token
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "NETNS_AGENT_TOKEN_FILE",
        help_heading = "Connection"
    )]
    token_file: Option<PathBuf>,

    /// Use TLS; the agent's certificate is verified with the CA certificates of this machine, or with --ca
    #[arg(long, global = true, help_heading = "Connection")]
    tls: bool,

    /// CA certificates for verifying the agent (PEM); implies --tls
    #[arg(
        id = "client_ca",
        long = "ca",
        global = true,
        value_name = "FILE",
        env = "NETNS_AGENT_CA",
        help_heading = "Connection"
    )]
    ca: Option<PathBuf>,

    /// Client certificate (PEM); requires --key; implies --tls
    #[arg(
        id = "client_cert",
        long = "cert",
        global = true,
        value_name = "FILE",
        env = "NETNS_AGENT_CERT",
        help_heading = "Connection"
    )]
    cert: Option<PathBuf>,

    /// Private key of --cert (PEM)
    #[arg(
        id = "client_key",
        long = "key",
        global = true,
        value_name = "FILE",
        env = "NETNS_AGENT_KEY",
        help_heading = "Connection"
    )]
    key: Option<PathBuf>,
}

impl ConnectionArgs {
    /// Returns whether the host is a loopback address or `localhost`.
    pub fn is_local(&self) -> bool {
        let host = self.host.trim_matches(['[', ']']);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// HTTP client for one agent.
pub struct Agent {
    host: String,
    port: u16,
    tls: Option<tls::Tls>,
    token: Option<String>,
    time_limit: Duration,
}

/// Response of the agent.
pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Agent {
    /// Validates the options, and reads the token and certificate files. Does not connect yet.
    pub fn new(args: &ConnectionArgs) -> Result<Self, Failure> {
        let wants_tls = args.tls || args.ca.is_some() || args.cert.is_some() || args.key.is_some();
        let host = args.host.trim_matches(['[', ']']).to_owned();
        let tls = wants_tls
            .then(|| tls::Tls::new(&host, args.ca.as_deref(), args.cert.as_deref(), args.key.as_deref()))
            .transpose()?;
        Ok(Agent {
            host,
            port: args.http_port,
            tls,
            token: token(args)?,
            time_limit: args.timeout,
        })
    }

    /// Returns the base URL of the agent's REST API.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// Sends a request and returns the response regardless of its status code.
    pub async fn send(&self, method: Method, target: &str, body: impl Into<Bytes>) -> Result<Answer, Failure> {
        let exchange = async {
            let request = self.request(&method, target, body.into())?;
            let stream = self.connect().await?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
            let driver = tokio::spawn(connection);
            let response = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(|error| self.broken(&error))?;
            driver.abort();
            Ok(Answer {
                status,
                body: body.to_bytes(),
            })
        };
        match timeout(self.time_limit, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::new(format!(
                "the agent at {} did not respond to {method} {target} within {}",
                self.url(),
                moment::duration(self.time_limit)
            ))
            .next("use a longer --timeout, or run `netns-agent doctor` on the agent's machine to check for problems")),
        }
    }

    fn request(&self, method: &Method, target: &str, body: Bytes) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, self.authority())
            .header(USER_AGENT, concat!("netns-agent/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/yaml");
        }
        // Do not show the error from the `http` crate, because it does not say which value is invalid.
        request
            .body(Full::new(body))
            .map_err(|_| Failure::new("invalid request: the host, the key or the token contains characters that HTTP does not allow"))
    }

    /// Returns whether the agent accepts connections.
    pub async fn is_listening(&self) -> bool {
        TcpStream::connect((self.host.as_str(), self.port)).await.is_ok()
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, Failure> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|error| {
            Failure::new(format!("cannot reach the agent at {}: {error}", self.url())).next(
                "start the agent with `sudo netns-agent run`; if it is already running at another address, pass its --http-listen \
                 address with --host and --http-port",
            )
        })?;
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some(tls) => {
                let stream = tls.connect(stream).await.map_err(|error| {
                    Failure::new(format!("TLS handshake with the agent at {} failed: {error}", self.url()))
                        .next("set the agent's CA certificate with --ca; if the agent does not use TLS, omit --tls, --ca and --cert")
                })?;
                Ok(Box::new(stream))
            }
        }
    }

    fn broken(&self, error: &hyper::Error) -> Failure {
        let next = match self.tls {
            None => "if the agent uses TLS (--http-cert), set --tls or --ca; otherwise, check that the port belongs to netns-agent",
            Some(_) => "if the agent requires client certificates, set --cert and --key; or check that the port belongs to netns-agent",
        };
        // Append the underlying errors, which contain the messages from TLS and from the kernel.
        let mut words = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            let text = inner.to_string();
            if !words.contains(&text) {
                words.push_str(&format!(": {text}"));
            }
            cause = inner.source();
        }
        Failure::new(format!("HTTP request to the agent at {} failed: {words}", self.url())).next(next)
    }

    /// Sends a GET request and parses the JSON response. Fails if the status is an error.
    pub async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, Failure> {
        self.json(target, self.send(Method::GET, target, "").await?)
    }

    /// Parses a JSON response. Fails if its status is an error.
    pub fn json<T: DeserializeOwned>(&self, target: &str, answer: Answer) -> Result<T, Failure> {
        let answer = self.success(target, answer)?;
        serde_json::from_slice(&answer.body).map_err(|error| {
            Failure::new(format!("unexpected response from {}{target}: {error}", self.url()))
                .next("check that the client (`netns-agent --version`) and the agent (`netns-agent status`) have the same version")
        })
    }

    /// Returns the response if its status is not an error. Otherwise, fails with the error message from the response.
    pub fn success(&self, target: &str, answer: Answer) -> Result<Answer, Failure> {
        if answer.status.is_success() || answer.status.is_redirection() {
            return Ok(answer);
        }
        let words = words_of(&answer.body);
        let failure = match answer.status {
            StatusCode::UNAUTHORIZED => Failure::new(format!("the agent at {} requires authentication: {words}", self.url()))
                .next("set a token with --token-file FILE or the environment variable NETNS_AGENT_TOKEN"),
            StatusCode::FORBIDDEN => {
                Failure::new(format!("permission denied by the agent at {}: {words}", self.url())).next("use a token with role write")
            }
            status => Failure::new(format!("{words} ({} from {}{})", status.as_u16(), self.url(), path_of(target))),
        };
        Err(failure)
    }
}

/// Returns a request target: the path, followed by the URL-encoded parameters.
pub fn target(path: &str, parameters: &[(&str, &str)]) -> String {
    match parameters.is_empty() {
        true => path.to_owned(),
        false => {
            let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
            format!("{path}?{query}")
        }
    }
}

fn path_of(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}

/// Extracts the message from the body of an error response.
///
/// The message is the member `message`, `Error` or `error` of a JSON object. If the body is a list, the messages of its elements
/// are joined. Any other body is returned as it is.
fn words_of(body: &[u8]) -> String {
    let text = |json: &Json| -> Option<String> {
        let message = json
            .get("message")
            .or_else(|| json.get("Error"))
            .or_else(|| json.get("error"))?
            .as_str()?;
        let path = json.get("path").and_then(Json::as_str).filter(|path| !path.is_empty());
        Some(path.map_or_else(|| message.to_owned(), |path| format!("{path}: {message}")))
    };
    let words = match serde_json::from_slice::<Json>(body) {
        Ok(Json::Array(list)) => Some(list.iter().filter_map(text).collect::<Vec<_>>().join("; ")),
        Ok(json) => text(&json),
        Err(_) => None,
    };
    let words = words.filter(|words| !words.is_empty());
    super::output::visible(words.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned()).trim())
}

fn token(args: &ConnectionArgs) -> Result<Option<String>, Failure> {
    let given = match &args.token_file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::new(format!("token file {}: {error}", path.display())).next("expected a file whose first line is the token")
            })?;
            text.lines().next().unwrap_or_default().trim().to_owned()
        }
        None => std::env::var("NETNS_AGENT_TOKEN").unwrap_or_default().trim().to_owned(),
    };
    match (given.is_empty(), &args.token_file) {
        (false, _) => Ok(Some(given)),
        (true, None) => Ok(None),
        (true, Some(path)) => Err(Failure::new(format!("token file {}: the first line is empty", path.display()))
            .next("expected a file whose first line is the token")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_messages_of_all_endpoints_are_extracted() {
        for (body, words) in [
            (r#"{"Error":"a","message":"b"}"#, "b"),
            (
                r#"[{"path":"linuxConfig.routes[0]","error":"x"},{"error":"y"}]"#,
                "linuxConfig.routes[0]: x; y",
            ),
            ("plain\n", "plain"),
            ("[]", "[]"),
        ] {
            assert_eq!(words_of(body.as_bytes()), words);
        }
    }

    #[test]
    fn parameters_are_escaped() {
        assert_eq!(target("/a", &[]), "/a");
        assert_eq!(target("/a", &[("key", "x/1 &?"), ("n", "2")]), "/a?key=x%2F1+%26%3F&n=2");
    }
}
