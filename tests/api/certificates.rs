//! Creates certificates for the tests with `openssl`, and opens TLS connections that use them. See [`make`].

use std::{io, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, ClientConnection, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

use crate::support::command;

/// Directory of the certificates and keys that [`make`] creates.
pub const FOLDER: &str = "/run/live";

/// Command-line arguments that enable TLS in the agent.
pub const IDENTITY: [&str; 4] = ["--http-cert", "/run/live/server.pem", "--http-key", "/run/live/server.key"];

/// Creates a certificate authority (`ca`) and three certificates that it signs: `server`, `client` and `expired`. Also creates a
/// second authority (`stranger`), which the agent does not trust, and a client certificate signed by that authority (`nobodys`).
pub fn make() {
    let script = "set -e
        cd /run/live
        for name in ca stranger; do
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=$name -keyout $name.key -out $name.pem
        done
        request() {
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=$1 -keyout $1.key -out $1.csr
            printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' > $1.ext
        }
        sign() {
            request $1
            openssl x509 -req -in $1.csr -CA $2.pem -CAkey $2.key -CAcreateserial -days 2 -extfile $1.ext -out $1.pem
        }
        sign server ca
        sign client ca
        sign nobodys stranger
        request expired
        touch index.txt
        echo 01 > serial
        printf '[ca]\\ndefault_ca=own\\n[own]\\ndatabase=index.txt\\nserial=serial\\nnew_certs_dir=.\\npolicy=any\\ndefault_md=sha256\\n[any]\\ncommonName=supplied\\n' > ca.conf
        openssl ca -batch -config ca.conf -cert ca.pem -keyfile ca.key -in expired.csr -out expired.pem -notext \\
            -startdate 20010101000000Z -enddate 20010102000000Z -extfile expired.ext";
    let output = command::output("sh", &["-c", script]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Returns a TLS client configuration that trusts the authority `ca`. `identity` names the client certificate (`None` for no
/// certificate), and `protocols` lists the protocols to offer with ALPN.
pub fn config(identity: Option<&str>, protocols: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(format!("{FOLDER}/ca.pem")).expect("read the certificate");
    roots.add(authority).expect("add the authority");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the versions are known")
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let certificate = CertificateDer::from_pem_file(format!("{FOLDER}/{name}.pem")).expect("read the certificate");
            let key = PrivateKeyDer::from_pem_file(format!("{FOLDER}/{name}.key")).expect("read the key");
            builder.with_client_auth_cert(vec![certificate], key).expect("the key fits")
        }
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

fn server() -> ServerName<'static> {
    ServerName::try_from("127.0.0.1").expect("an address")
}

/// Opens a TLS connection to this address.
pub async fn connect(address: &str, identity: Option<&str>, protocols: &[&str]) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(config(identity, protocols)).connect(server(), stream).await
}

/// Returns a ClientHello, the first message that a TLS client sends.
pub fn hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut client = ClientConnection::new(config(None, &[]), server()).expect("a client");
    client.write_tls(&mut bytes).expect("write the message to memory");
    bytes
}
