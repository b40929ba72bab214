//! `netns-agent kvdb`: keys of the store, as etcd has them.
//!
//! Owns short keys and the limits of what is deleted. The only command that speaks to etcd and not to the agent. What it prints on
//! success is what the reference's client prints: the value, or `OK`. Start reading at [`run`].

use std::{fs, io::Read, path::PathBuf, time::Duration};

use clap::Subcommand;
use etcd_client::{Certificate, Client, ConnectOptions, GetOptions, Identity, KeyValue, TlsOptions};
use models::{
    Model,
    key::{ALL_AGENTS_PREFIX, agent_prefix},
    registry::model_of_key,
};
use serde_json::{Value as Json, json};
use tokio::time::timeout;

use super::{
    failure::{Failure, Outcome},
    moment,
    names::Wanted,
    output::{Format, Output, visible},
};

/// Arguments of `kvdb`.
#[derive(clap::Args, Debug)]
pub struct KvdbArgs {
    /// etcd servers, or the agent's own store, separated by commas
    #[arg(
        short,
        long,
        value_name = "URLS",
        env = "ETCD_ENDPOINTS",
        default_value = "127.0.0.1:2379",
        global = true,
        help_heading = "Store"
    )]
    etcd_endpoints: String,

    /// Label of the agent whose keys are meant when a key does not begin with /
    #[arg(
        long,
        value_name = "LABEL",
        env = "MICROSERVICE_LABEL",
        default_value = "vpp1",
        global = true,
        help_heading = "Store"
    )]
    service_label: String,

    /// Certificates of the authority that signed etcd's certificate (PEM)
    #[arg(long, value_name = "FILE", env = "ETCD_CA", global = true, help_heading = "Store")]
    etcd_ca: Option<PathBuf>,

    /// Certificate to show to etcd (PEM); together with --etcd-key
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

    /// User to sign in to etcd as; the password is in the environment as ETCD_PASSWORD
    #[arg(long, value_name = "NAME", env = "ETCD_USER", global = true, help_heading = "Store")]
    etcd_user: Option<String>,

    #[command(subcommand)]
    command: KvdbCommand,
}

#[derive(Subcommand, Debug)]
enum KvdbCommand {
    /// The value of a key
    Get {
        /// interface/NAME, config/…, or a whole key as /vnf-agent/LABEL/…
        key: String,
    },
    /// Put a value under a key
    Put {
        /// interface/NAME, config/…, or a whole key as /vnf-agent/LABEL/…
        key: String,
        /// The value, as JSON; - reads it from standard input
        value: String,
        /// Put it even when the agent could not use it
        #[arg(long)]
        force: bool,
    },
    /// Delete a key
    Del {
        /// interface/NAME, config/…, or a whole key as /vnf-agent/LABEL/…
        key: String,
    },
    /// Keys and their values
    #[command(visible_alias = "ls")]
    List {
        /// What the keys begin with, after /vnf-agent/; nothing lists those of all agents
        #[arg(default_value = "")]
        prefix: String,
        /// Without the values
        #[arg(long)]
        keys_only: bool,
    },
}

/// Does it.
pub async fn run(args: &KvdbArgs, output: &Output, patience: Duration) -> Outcome {
    let store = Store::connect(args, patience).await?;
    let whole = |key: &str| whole_key(key, &args.service_label);
    match &args.command {
        KvdbCommand::Get { key } => get(&store, &whole(key), output).await?,
        KvdbCommand::Put { key, value, force } => put(&store, &whole(key), value, *force, output).await?,
        KvdbCommand::Del { key } => del(&store, &whole(key), output).await?,
        KvdbCommand::List { prefix, keys_only } => list(&store, prefix, *keys_only, output).await?,
    }
    Ok(0)
}

/// A short key belongs to the agent with this label.
fn whole_key(key: &str, label: &str) -> String {
    match (key.starts_with('/'), Wanted::read(key)) {
        (true, _) => key.to_owned(),
        // A status key is meant as it is written.
        (false, _) if key.starts_with("config-status/") => format!("{}{key}", agent_prefix(label)),
        (false, Wanted::Key(key)) => format!("{}{key}", agent_prefix(label)),
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

async fn put(store: &Store, key: &str, value: &str, force: bool, output: &Output) -> Result<(), Failure> {
    let mut text = value.to_owned();
    if value == "-" {
        text.clear();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Failure::new(format!("standard input: {error}")))?;
    }
    if !force {
        check(key, &text)?;
    }
    let mut client = store.client.kv_client();
    store.answer("put", client.put(key, text, None)).await?;
    output.line("OK")
}

/// What the agent would only report as INVALID is told before it is put.
fn check(key: &str, text: &str) -> Result<(), Failure> {
    let below = key.strip_prefix(ALL_AGENTS_PREFIX).and_then(|rest| rest.split_once('/'));
    let Some((_, below)) = below.filter(|(_, below)| model_of_key(below).is_some()) else {
        return Ok(());
    };
    let wrong = |words: String| Failure::new(format!("{key}: {words}")).next("nothing was put; --force puts it all the same");
    let model = Model::decode(below, text.as_bytes()).map_err(|error| wrong(error.to_string()))?;
    model.validate().map_err(|error| wrong(error.to_string()))
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
    for pair in &pairs {
        output.line(&visible(&String::from_utf8_lossy(pair.key())))?;
        if !keys_only && output.format != Format::Name {
            output.line(&visible(&String::from_utf8_lossy(pair.value())))?;
        }
    }
    Ok(())
}

fn absent(key: &str) -> Failure {
    Failure::new(format!("key does not exist: {}", visible(key))).next("`netns-agent kvdb list --keys-only` lists the keys that there are")
}

/// A JSON value as such, other text as text.
fn document(pair: &KeyValue) -> Json {
    let text = String::from_utf8_lossy(pair.value()).into_owned();
    let value = serde_json::from_str(&text).unwrap_or(Json::String(text));
    json!({ "key": String::from_utf8_lossy(pair.key()), "value": value, "mod_revision": pair.mod_revision() })
}

struct Store {
    client: Client,
    endpoints: String,
    patience: Duration,
}

impl Store {
    async fn connect(args: &KvdbArgs, patience: Duration) -> Result<Self, Failure> {
        let endpoints: Vec<&str> = args
            .etcd_endpoints
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .collect();
        let mut options = ConnectOptions::new().with_connect_timeout(patience);
        if let Some(tls) = tls(args)? {
            options = options.with_tls(tls);
        }
        if let Some(user) = &args.etcd_user {
            options = options.with_user(user, std::env::var("ETCD_PASSWORD").unwrap_or_default());
        }
        let endpoints_text = args.etcd_endpoints.clone();
        let connected = timeout(patience, Client::connect(&endpoints, Some(options))).await;
        let client = match connected {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(unreachable(&endpoints_text, "connect", &error)),
            Err(_) => return Err(late(&endpoints_text, patience)),
        };
        Ok(Store {
            client,
            endpoints: endpoints_text,
            patience,
        })
    }

    async fn get(&self, key: &str, options: Option<GetOptions>) -> Result<Vec<KeyValue>, Failure> {
        // What an agent publishes of many values is more than the usual four MiB.
        let mut client = self.client.kv_client().max_decoding_message_size(usize::MAX);
        let mut answer = self.answer("read", client.get(key, options)).await?;
        Ok(answer.take_kvs())
    }

    async fn answer<T>(&self, what: &str, call: impl Future<Output = Result<T, etcd_client::Error>>) -> Result<T, Failure> {
        match timeout(self.patience, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(unreachable(&self.endpoints, what, &error)),
            Err(_) => Err(late(&self.endpoints, self.patience)),
        }
    }
}

fn unreachable(endpoints: &str, what: &str, error: &etcd_client::Error) -> Failure {
    // The library quotes its inner error as a program would see it; a person needs the innermost words only.
    let words = match error {
        etcd_client::Error::GRpcStatus(status) => {
            let mut words = status.message().to_owned();
            let mut cause = std::error::Error::source(status);
            while let Some(inner) = cause {
                words = inner.to_string();
                cause = inner.source();
            }
            words
        }
        other => other.to_string(),
    };
    Failure::new(format!("cannot {what} at the store {endpoints}: {}", visible(&words)))
        .next("--etcd-endpoints says where it is; an agent without etcd has a store of its own at --embedded-listen (127.0.0.1:2379)")
}

fn late(endpoints: &str, patience: Duration) -> Failure {
    Failure::new(format!(
        "the store {endpoints} did not answer within {}",
        moment::duration(patience)
    ))
    .next("--etcd-endpoints says where it is, --timeout gives it more time")
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

    #[test]
    fn what_an_agent_could_not_use_is_told_before_it_is_put() {
        let key = "/vnf-agent/x/config/linux/interfaces/v2/interface/left";
        check(key, r#"{"name":"left","type":"DUMMY"}"#).expect("usable");
        check("/vnf-agent/x/config/other", "anything").expect("not ours to judge");
        let failure = check(key, r#"{"nme":"left"}"#).expect_err("an unknown field");
        assert!(failure.message().contains("nme"), "{failure}");
        let failure = check(key, r#"{"name":"right","type":"DUMMY"}"#).expect_err("another key");
        assert!(failure.message().contains("interface/right"), "{failure}");
    }
}
