//! A real etcd server for tests, with its own data directory and free loopback ports.
//!
//! Ends only its own processes and removes only its own files. See [`Etcd::start`]. [`CuttingProxy`] simulates a broken network.

// Each test binary uses only some of these items.
#![allow(dead_code)]

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use etcd_client::{Certificate, Client, ConnectOptions, Identity, Permission, TlsOptions};
use netns_agent::store::StoreConfig;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener as TokioListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// Time limit for a server to answer.
const START_LIMIT: Duration = Duration::from_secs(20);

/// An etcd server. On drop, it is killed and its data is removed.
pub struct Etcd {
    child: Option<Child>,
    directory: TempDir,
    client_port: u16,
    peer_port: u16,
    arguments: Vec<String>,
    tls: Option<Certificates>,
}

impl Etcd {
    /// Starts a server and waits until it answers.
    pub async fn start() -> Self {
        Self::start_with(&[], None).await
    }

    /// Starts a server like [`Etcd::start`], but with additional arguments for etcd. If `tls` is given, the server uses TLS and
    /// requires client certificates.
    pub async fn start_with(arguments: &[&str], tls: Option<Certificates>) -> Self {
        let mut etcd = Self {
            child: None,
            directory: tempfile::tempdir().expect("create a temporary directory"),
            client_port: free_port(),
            peer_port: free_port(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            tls,
        };
        etcd.run().await;
        etcd
    }

    /// Returns the URL for clients.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.client_port)
    }

    /// Returns the address for clients.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.client_port).into()
    }

    /// Returns agent settings for this server, without TLS and without a user.
    pub fn config(&self) -> StoreConfig {
        StoreConfig::plain([self.url()])
    }

    /// Returns a new client for the test.
    pub async fn client(&self) -> Client {
        let options = self.tls.as_ref().map(|tls| ConnectOptions::new().with_tls(tls.client_options()));
        Client::connect([self.url()], options).await.expect("create a client")
    }

    /// Returns the certificates with which the server was started.
    pub fn certificates(&self) -> &Certificates {
        self.tls.as_ref().expect("the server was started with TLS")
    }

    /// Returns a client that signs in as this user.
    pub async fn client_of(&self, user: &str, password: &str) -> Client {
        let options = ConnectOptions::new().with_user(user, password).with_auto_token_refresh(true);
        Client::connect([self.url()], Some(options)).await.expect("sign in")
    }

    /// Enables authentication, and adds two users: `root` with password `root`, and `user`, who may access only keys that begin
    /// with `prefix`.
    pub async fn enable_authentication(&self, user: &str, password: &str, prefix: &str) {
        let mut client = self.client().await;
        let permission = Permission::read_write(prefix).with_prefix();
        client.user_add("root", "root", None).await.expect("add the user root");
        client.user_grant_role("root", "root").await.expect("grant the role root");
        client.user_add(user, password, None).await.expect("add the user");
        client.role_add("agent").await.expect("add the role");
        client
            .role_grant_permission("agent", permission)
            .await
            .expect("grant the permission");
        client.user_grant_role(user, "agent").await.expect("grant the role");
        client.auth_enable().await.expect("enable authentication");
    }

    /// Kills the server, as in a crash. Its data is kept.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill the server");
            child.wait().expect("wait for the server");
        }
    }

    /// Starts the server again on the same ports and waits until it answers.
    pub async fn restart(&mut self) {
        self.kill();
        self.run().await;
    }

    /// Removes all data. The server must be killed first.
    pub fn wipe(&mut self) {
        assert!(self.child.is_none(), "kill the server first");
        std::fs::remove_dir_all(self.data()).expect("remove the data directory");
    }

    /// Suspends the process. Connections stay open, but the server answers nothing.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Resumes a suspended process.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the server is running");
        let pid = i32::try_from(child.id()).expect("a PID is positive");
        kill(Pid::from_raw(pid), signal).expect("signal the server");
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    async fn run(&mut self) {
        let client_url = self.url();
        let peer_url = format!("http://127.0.0.1:{}", self.peer_port);
        let mut command = Command::new("etcd");
        command.arg("--name=test").arg("--data-dir").arg(self.data());
        command.args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url]);
        command.args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
        command.args([
            "--initial-cluster",
            &format!("test={peer_url}"),
            "--log-level=error",
            "--heartbeat-interval=20",
        ]);
        command.args(["--election-timeout=200"]).args(&self.arguments);
        if let Some(tls) = &self.tls {
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(tls.ca());
            command
                .arg("--cert-file")
                .arg(tls.file("server.pem"))
                .arg("--key-file")
                .arg(tls.file("server.key"));
        }
        let log = std::fs::File::create(self.directory.path().join("log")).expect("create the log file");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("etcd is installed (Debian: etcd-server)"));
        self.answers().await;
    }

    /// Polls until the server answers, because nothing else shows that it is ready.
    async fn answers(&self) {
        let limit = Instant::now() + START_LIMIT;
        loop {
            let mut client = self.client().await;
            // With authentication enabled, a rejected read also shows that the server is ready.
            match tokio::time::timeout(Duration::from_secs(2), client.get("ready?", None)).await {
                Ok(Ok(_)) => return,
                Ok(Err(etcd_client::Error::GRpcStatus(status))) if status.message().contains("user name is empty") => return,
                other if Instant::now() > limit => {
                    let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                    panic!("etcd does not answer: {other:?}\n{log}");
                }
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns a loopback port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    listener.local_addr().expect("a bound address").port()
}

/// A certificate authority, a server certificate for 127.0.0.1 and a client certificate, created by `openssl`.
pub struct Certificates {
    directory: TempDir,
}

impl Certificates {
    /// Creates the certificates.
    pub fn create() -> Self {
        let certificates = Self {
            directory: tempfile::tempdir().expect("create a temporary directory"),
        };
        let authority = ["-x509", "-subj", "/CN=test authority", "-addext", "keyUsage=critical,keyCertSign"];
        certificates.openssl("ca", &authority);
        let ca = certificates.ca();
        let ca_key = certificates.file("ca.key");
        let signed = [
            "-x509",
            "-CA",
            text(&ca),
            "-CAkey",
            text(&ca_key),
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ];
        certificates.openssl(
            "server",
            &[&signed[..], &["-subj", "/CN=server", "-addext", "subjectAltName=IP:127.0.0.1"]].concat(),
        );
        certificates.openssl(
            "client",
            &[&signed[..], &["-subj", "/CN=client", "-addext", "extendedKeyUsage=clientAuth"]].concat(),
        );
        certificates
    }

    /// Returns the path of the authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// Returns the paths of the client certificate and its key.
    pub fn client(&self) -> (PathBuf, PathBuf) {
        (self.file("client.pem"), self.file("client.key"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn openssl(&self, name: &str, arguments: &[&str]) {
        let mut command = Command::new("openssl");
        command.args([
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ]);
        command
            .arg("-keyout")
            .arg(self.file(&format!("{name}.key")))
            .arg("-out")
            .arg(self.file(&format!("{name}.pem")));
        let output = command.args(arguments).output().expect("openssl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn client_options(&self) -> TlsOptions {
        let read = |path: &Path| std::fs::read(path).expect("read a certificate file");
        let (certificate, key) = self.client();
        TlsOptions::new()
            .ca_certificate(Certificate::from_pem(read(&self.ca())))
            .identity(Identity::from_pem(read(&certificate), read(&key)))
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is UTF-8")
}

/// A TCP proxy that can cut connections and reject new ones.
pub struct CuttingProxy {
    address: SocketAddr,
    cuts: watch::Sender<usize>,
    open: watch::Sender<bool>,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl CuttingProxy {
    /// Listens on loopback and forwards to `target`.
    pub async fn start(target: SocketAddr) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST, target).await
    }

    /// Listens on this address and forwards to `target`.
    pub async fn start_on(address: Ipv4Addr, target: SocketAddr) -> Self {
        let listener = TokioListener::bind((address, 0)).await.expect("bind to a free port");
        let address = listener.local_addr().expect("a bound address");
        let (cuts, cut) = watch::channel(0);
        let (open, is_open) = watch::channel(true);
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = accepted.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                if !*is_open.borrow() {
                    continue;
                }
                counter.fetch_add(1, Ordering::Relaxed);
                let mut cut = cut.clone();
                cut.mark_unchanged();
                connections.spawn(async move {
                    tokio::select! {
                        () = forward(client, target) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self {
            address,
            cuts,
            open,
            accepted,
            task,
        }
    }

    /// Returns the URL of the proxy.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Cuts all current connections. New connections are accepted.
    pub fn cut(&self) {
        self.cuts.send_modify(|count| *count += 1);
    }

    /// Cuts all connections, and closes new ones until [`CuttingProxy::open`] is called.
    pub fn close(&self) {
        self.open.send_replace(false);
        self.cut();
    }

    /// Accepts connections again.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Returns the number of connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(mut client: TcpStream, target: SocketAddr) {
    if let Ok(mut server) = TcpStream::connect(target).await {
        // Ignore errors, because either end can disconnect at any time.
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}
