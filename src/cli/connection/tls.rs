//! TLS to the agent: whose certificate is believed, and which one is shown.
//!
//! Owns the reading of the files. Must never show a key. Start reading at [`Tls::new`].

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

/// Where distributions keep the authorities that everybody believes: Debian, Fedora, Alpine.
const AUTHORITIES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// A client's side of TLS.
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// Reads the files. Without `ca`, the authorities of this machine are believed.
    pub fn new(host: &str, ca: Option<&Path>, cert: Option<&Path>, key: Option<&Path>) -> Result<Self, Failure> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            Failure::new(format!("--host {host:?} is neither an address nor a name"))
                .next("TLS needs the name that is in the agent's certificate")
        })?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::new(format!("TLS: {error}")))?
            .with_root_certificates(roots(ca)?);
        let config = match (cert, key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), Some(key)) => {
                let private = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| Failure::new(format!("--key {}: no private key in PEM form: {error}", key.display())))?;
                builder
                    .with_client_auth_cert(certificates(cert)?, private)
                    .map_err(|error| Failure::new(format!("--cert {} and --key {}: {error}", cert.display(), key.display())))?
            }
            (Some(_), None) => return Err(Failure::new("--cert needs the private key of the certificate").next("give --key too")),
            (None, Some(_)) => return Err(Failure::new("--key needs its certificate").next("give --cert too")),
        };
        Ok(Tls {
            connector: TlsConnector::from(Arc::new(config)),
            name,
        })
    }

    /// Shakes hands.
    pub async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), stream).await
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, Failure> {
    let path = ca.or_else(|| AUTHORITIES.iter().map(Path::new).find(|path| path.exists()));
    let path = path.ok_or_else(|| {
        Failure::new("this machine has no list of authorities, so no certificate can be believed")
            .next("give that of the agent with --ca FILE")
    })?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        match (roots.add(certificate), ca) {
            // Of the hundred authorities of a machine, one may be unreadable; the one that the user names may not.
            (Err(error), Some(path)) => return Err(Failure::new(format!("--ca {}: {error}", path.display()))),
            _ => continue,
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let wrong =
        |words: String| Failure::new(format!("{}: {words}", path.display())).next("a file with certificates in PEM form is expected");
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(list) if list.is_empty() => Err(wrong("it holds no certificate".to_owned())),
        Ok(list) => Ok(list),
        Err(error) => Err(wrong(error.to_string())),
    }
}
