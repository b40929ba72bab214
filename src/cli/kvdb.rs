//! `netns-agent kvdb`: reads and writes keys of the store.
//!
//! Unlike the other commands, `kvdb` connects to etcd. On success, it prints the value or `OK`, as the client of ligato vpp-agent
//! does.

use std::{fs, io::Read, path::PathBuf, time::Duration};

use clap::Subcommand;
use etcd_client::{Certificate, Client, ConnectOptions, GetOptions, Identity, KeyValue, TlsOptions};
use models::key::{ALL_AGENTS_PREFIX, agent_prefix};
use serde_json::{Value as Json, json};
use tokio::time::timeout;

use self::place::Place;
use super::{
    connection::ConnectionArgs,
    failure::{Failure, Outcome, remark},
    moment,
    names::Requested,
    output::{Format, Output, visible},
};
use crate::config::connection_advice;

mod judge;
mod place;

/// Arguments of `kvdb`.
#[derive(clap::Args, Debug)]
pub struct KvdbArgs {
    /// Endpoints of etcd or of the embedded store, separated by commas; by default those of the agent, or 127.0.0.1:2379 if it does not
    /// respond
    #[arg(short, long, value_name = "URLS", env = "ETCD_ENDPOINTS", global = true, help_heading = "Store")]
    etcd_endpoints: Option<String>,

    /// Label of the agent for keys that do not begin with /; by default that of the running agent
    #[arg(long, value_name = "LABEL", env = "MICROSERVICE_LABEL", global = true, help_heading = "Store")]
    microservice_label: Option<String>,

    /// CA certificates for verifying the etcd server (PEM)
    #[arg(long, value_name = "FILE", env = "ETCD_CA", global = true, help_heading = "Store")]
    etcd_ca: Option<PathBuf>,

    /// Client certificate for etcd (PEM); requires --etcd-key
    #[arg(
        long,
        value_name = "FILE",
        env = "ETCD_CERT",
        requires = "etcd_key",
        global = true,
        help_heading = "Store"
    )]
    etcd_cert: Option<PathBuf>,

    /// Private key of --etcd-cert (PEM)
    #[arg(
        long,
        value_name = "FILE",
        env = "ETCD_KEY",
        requires = "etcd_cert",
        global = true,
        help_heading = "Store"
    )]
    etcd_key: Option<PathBuf>,

    /// etcd user name; requires the password in the environment variable ETCD_PASSWORD
    #[arg(long, value_name = "NAME", env = "ETCD_USER", global = true, help_heading = "Store")]
    etcd_user: Option<String>,

    #[command(subcommand)]
    command: KvdbCommand,
}

#[derive(Subcommand, Debug)]
enum KvdbCommand {
    /// Print the value of a key
    Get {
        /// interface/NAME, config/…, or a full key such as /vnf-agent/LABEL/…
        key: String,
    },
    /// Put a value under a key
    Put {
        /// interface/NAME, config/…, or a full key such as /vnf-agent/LABEL/…
        key: String,
        /// Value in JSON; - reads it from standard input
        value: String,
        /// Put the value even if no agent reads the key, or if the value is invalid
        #[arg(long)]
        force: bool,
    },
    /// Delete a key
    Del {
        /// interface/NAME, config/…, or a full key such as /vnf-agent/LABEL/…
        key: String,
    },
    /// List keys and values
    #[command(visible_alias = "ls")]
    List {
        /// Prefix of the keys, after /vnf-agent/; by default the keys of all agents are listed
        #[arg(default_value = "")]
        prefix: String,
        /// Omit the values
        #[arg(long)]
        keys_only: bool,
    },
}

/// Runs a subcommand of `kvdb`.
pub async fn run(args: &KvdbArgs, connection: &ConnectionArgs, output: &Output) -> Outcome {
    let key = match &args.command {
        KvdbCommand::Get { key } | KvdbCommand::Put { key, .. } | KvdbCommand::Del { key } => Some(key.as_str()),
        KvdbCommand::List { .. } => None,
    };
    let place = Place::find(args, key, connection).await?;
    let whole = |key: &str| whole_key(key, &place.label);
    // Validate the key and the value before connecting, because the validation does not depend on the store.
    let pair = match &args.command {
        KvdbCommand::Put { key, value, force } => Some(judged(&whole(key), value, *force)?),
        _ => None,
    };
    let store = Store::connect(args, &place.endpoints, connection.timeout).await?;
    match &args.command {
        KvdbCommand::Get { key } => get(&store, &whole(key), output).await?,
        KvdbCommand::Put { .. } => put(&store, pair, output).await?,
        KvdbCommand::Del { key } => del(&store, &whole(key), output).await?,
        KvdbCommand::List { prefix, keys_only } => list(&store, prefix, *keys_only, output).await?,
    }
    Ok(0)
}

/// Returns the full key. Keys that do not start with `/` belong to the agent with this label.
fn whole_key(key: &str, label: &str) -> String {
    match (key.starts_with('/'), Requested::read(key)) {
        (true, _) => key.to_owned(),
        // `Requested::read` would turn the key of a status into the key of a desired value.
        (false, _) if key.starts_with("config-status/") => format!("{}{key}", agent_prefix(label)),
        (false, Requested::Key(key)) => format!("{}{key}", agent_prefix(label)),
        (false, _) => format!("{}{key}", agent_prefix(label)),
    }
}

async fn get(store: &Store, key: &str, output: &Output) -> Result<(), Failure> {
    let found = store.get(key, None).await?;
    let Some(pair) = found.first() else {
        return Err(absent(key));
    };
    match output.format {
        Format::Json | Format::Yaml => output.document(&document(pair)),
        _ => {
            output.raw(pair.value())?;
            output.raw(b"\n")
        }
    }
}

/// Returns the key and the value to put. If the value is `-`, reads it from standard input.
///
/// Unless `force` is set, rejects keys that no agent reads, and invalid values.
fn judged(key: &str, value: &str, force: bool) -> Result<(String, String), Failure> {
    if !force {
        judge::check_key(key)?;
    }
    let mut text = value.to_owned();
    if value == "-" {
        text.clear();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Failure::new(format!("standard input: {error}")))?;
    }
    if !force {
        judge::check_value(key, &text)?;
    }
    Ok((key.to_owned(), text))
}

async fn put(store: &Store, pair: Option<(String, String)>, output: &Output) -> Result<(), Failure> {
    if let Some((key, text)) = pair {
        let mut client = store.client.kv_client();
        store.answer("put", client.put(key, text, None)).await?;
    }
    output.line("OK")
}

async fn del(store: &Store, key: &str, output: &Output) -> Result<(), Failure> {
    if store.get(key, Some(GetOptions::new().with_keys_only())).await?.is_empty() {
        return Err(absent(key));
    }
    let mut client = store.client.kv_client();
    store.answer("delete", client.delete(key, None)).await?;
    output.line("OK")
}

async fn list(store: &Store, prefix: &str, keys_only: bool, output: &Output) -> Result<(), Failure> {
    let whole = if prefix.starts_with('/') {
        prefix.to_owned()
    } else {
        format!("{ALL_AGENTS_PREFIX}{prefix}")
    };
    let options = GetOptions::new().with_prefix();
    let pairs = store
        .get(&whole, Some(if keys_only { options.with_keys_only() } else { options }))
        .await?;
    if output.is_document() {
        let all: Vec<Json> = pairs.iter().map(document).collect();
        return output.document(&all);
    }
    if pairs.is_empty() {
        remark(&format!("no key begins with {whole}"));
    }
    for pair in &pairs {
        output.line(&visible(&String::from_utf8_lossy(pair.key())))?;
        if !keys_only && output.format != Format::Name {
            output.line(&visible(&String::from_utf8_lossy(pair.value())))?;
        }
    }
    Ok(())
}

fn absent(key: &str) -> Failure {
    Failure::new(format!("key does not exist: {key}{}", judge::suggestion(key))).next("`netns-agent kvdb list --keys-only` lists all keys")
}

/// Returns the key, the value and the mod revision as JSON. A value that is not JSON becomes a string.
fn document(pair: &KeyValue) -> Json {
    let text = String::from_utf8_lossy(pair.value()).into_owned();
    let value = serde_json::from_str(&text).unwrap_or(Json::String(text));
    json!({ "key": String::from_utf8_lossy(pair.key()), "value": value, "mod_revision": pair.mod_revision() })
}

struct Store {
    client: Client,
    endpoints: String,
    time_limit: Duration,
}

impl Store {
    async fn connect(args: &KvdbArgs, endpoints_text: &str, time_limit: Duration) -> Result<Self, Failure> {
        let endpoints: Vec<&str> = endpoints_text.split(',').map(str::trim).filter(|text| !text.is_empty()).collect();
        let mut options = ConnectOptions::new().with_connect_timeout(time_limit);
        if let Some(tls) = tls(args)? {
            options = options.with_tls(tls);
        }
        if let Some(user) = &args.etcd_user {
            options = options.with_user(user, std::env::var("ETCD_PASSWORD").unwrap_or_default());
        }
        let endpoints_text = endpoints_text.to_owned();
        let connected = timeout(time_limit, Client::connect(&endpoints, Some(options))).await;
        let client = match connected {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(unreachable(&endpoints_text, "connect", &error)),
            Err(_) => return Err(late(&endpoints_text, time_limit)),
        };
        Ok(Store {
            client,
            endpoints: endpoints_text,
            time_limit,
        })
    }

    async fn get(&self, key: &str, options: Option<GetOptions>) -> Result<Vec<KeyValue>, Failure> {
        // Remove the default message limit of 4 MiB, because the statuses of many values can exceed it.
        let mut client = self.client.kv_client().max_decoding_message_size(usize::MAX);
        let mut answer = self.answer("read", client.get(key, options)).await?;
        Ok(answer.take_kvs())
    }

    async fn answer<T>(&self, what: &str, call: impl Future<Output = Result<T, etcd_client::Error>>) -> Result<T, Failure> {
        match timeout(self.time_limit, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(unreachable(&self.endpoints, what, &error)),
            Err(_) => Err(late(&self.endpoints, self.time_limit)),
        }
    }
}

fn unreachable(endpoints: &str, what: &str, error: &etcd_client::Error) -> Failure {
    let words = innermost(error);
    let is_denied = words.contains("permission denied") || words.contains("user name is empty") || words.contains("authentication failed");
    let remedy = match connection_advice(&words) {
        Some(remedy) => remedy,
        None if is_denied => "name a user who has the permission with --etcd-user, and set ETCD_PASSWORD",
        None => {
            "set the address of the store with --etcd-endpoints; the embedded store listens on --embedded-listen (default: 127.0.0.1:2379)"
        }
    };
    Failure::new(format!("store {endpoints}: {what} failed: {words}")).next(remedy)
}

/// Returns the error message of the server or the operating system, without the messages that the client library adds to it.
pub(super) fn innermost(error: &etcd_client::Error) -> String {
    let words = |outer: &dyn std::error::Error, mut words: String| {
        let mut cause = outer.source();
        while let Some(inner) = cause {
            words = inner.to_string();
            cause = inner.source();
        }
        words
    };
    match error {
        etcd_client::Error::GRpcStatus(status) => words(status, status.message().to_owned()),
        etcd_client::Error::TransportError(inner) => words(inner, inner.to_string()),
        other => words(other, other.to_string()),
    }
}

fn late(endpoints: &str, time_limit: Duration) -> Failure {
    Failure::new(format!(
        "the store {endpoints} did not respond within {}",
        moment::duration(time_limit)
    ))
    .next("set the address of the store with --etcd-endpoints, or a longer timeout with --timeout")
}

fn tls(args: &KvdbArgs) -> Result<Option<TlsOptions>, Failure> {
    let read = |path: &PathBuf| fs::read(path).map_err(|error| Failure::new(format!("{}: {error}", path.display())));
    let Some(ca) = &args.etcd_ca else { return Ok(None) };
    let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read(ca)?));
    if let (Some(cert), Some(key)) = (&args.etcd_cert, &args.etcd_key) {
        tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
    }
    Ok(Some(tls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_keys_belong_to_the_agent_with_the_label() {
        for (short, whole) in [
            ("/a/b", "/a/b"),
            ("interface/left", "/vnf-agent/x/config/linux/interfaces/v2/interface/left"),
            ("config/anything", "/vnf-agent/x/config/anything"),
            (
                "config-status/linux/l3/v2/arp/a/b",
                "/vnf-agent/x/config-status/linux/l3/v2/arp/a/b",
            ),
            ("left", "/vnf-agent/x/left"),
        ] {
            assert_eq!(whole_key(short, "x"), whole);
        }
    }
}
