//! TLS client for the connection to the agent, with CA certificates and an optional client certificate.

use std::{io, path::Path, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

use crate::cli::failure::Failure;

/// Paths of the system's CA certificate file on Debian, Fedora and Alpine.
const AUTHORITIES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// TLS configuration of the client.
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// Reads the certificate and key files. Trusts the system's CA certificates if `ca` is `None`.
    pub fn new(host: &str, ca: Option<&Path>, cert: Option<&Path>, key: Option<&Path>) -> Result<Self, Failure> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            Failure::new(format!("--host {host:?} is neither an IP address nor a host name"))
                .next("TLS requires a name or address that is in the agent's certificate")
        })?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::new(format!("TLS: {error}")))?
            .with_root_certificates(roots(ca)?);
        let config = match (cert, key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), Some(key)) => {
                let private = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| Failure::new(format!("--key {}: not a private key in PEM format: {error}", key.display())))?;
                builder
                    .with_client_auth_cert(certificates(cert)?, private)
                    .map_err(|error| Failure::new(format!("--cert {} and --key {}: {error}", cert.display(), key.display())))?
            }
            (Some(_), None) => return Err(Failure::new("--cert requires the private key of the certificate").next("also set --key")),
            (None, Some(_)) => return Err(Failure::new("--key requires the certificate of the key").next("also set --cert")),
        };
        Ok(Tls {
            connector: TlsConnector::from(Arc::new(config)),
            name,
        })
    }

    /// Performs the TLS handshake.
    pub async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), stream).await
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, Failure> {
    let path = ca.or_else(|| AUTHORITIES.iter().map(Path::new).find(|path| path.exists()));
    let path = path.ok_or_else(|| {
        Failure::new("this machine has no CA certificates, so the agent's certificate cannot be verified")
            .next("set the agent's CA certificate with --ca FILE")
    })?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        match (roots.add(certificate), ca) {
            // Report an invalid certificate in the file given with `--ca`, but skip an invalid certificate in the system's CA file.
            (Err(error), Some(path)) => return Err(Failure::new(format!("--ca {}: {error}", path.display()))),
            _ => continue,
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let wrong =
        |words: String| Failure::new(format!("{}: {words}", path.display())).next("expected a file with certificates in PEM format");
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(list) if list.is_empty() => Err(wrong("the file contains no certificate".to_owned())),
        Ok(list) => Ok(list),
        Err(error) => Err(wrong(error.to_string())),
    }
}
