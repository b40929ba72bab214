//! TLS configuration of a listener: certificate, key, and CAs for client certificates.

use std::{path::Path, sync::Arc};

use tokio_rustls::rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

/// Error in the TLS configuration. The message never contains a key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or does not contain the expected certificate or key.
    #[error("{path}: {words}")]
    File {
        /// Path of the file.
        path: String,
        /// Description of the problem.
        words: String,
    },
    /// The certificate and the private key cannot be used together.
    #[error("certificate {certificate} and key {key}: {words}")]
    Together {
        /// Path of the certificate file.
        certificate: String,
        /// Path of the key file.
        key: String,
        /// Description of the problem.
        words: String,
    },
}

/// Creates the TLS configuration of a server (TLS 1.2 and newer).
///
/// If `client_ca` is given, a client must present a certificate that one of the CAs in this file has signed.
///
/// # Errors
/// Fails if a file cannot be used. The error contains its path.
pub fn server(certificate: &Path, key: &Path, client_ca: Option<&Path>, protocols: &[&str]) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| file(key, format!("not a valid PEM private key: {error}")))?;
    let together = |words: String| TlsError::Together {
        certificate: certificate.display().to_string(),
        key: key.display().to_string(),
        words,
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| together(error.to_string()))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(authorities)? {
                roots.add(certificate).map_err(|error| file(authorities, error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|error| file(authorities, error.to_string()))?)
        }
    };
    let mut config = builder
        .with_single_cert(chain, private)
        .map_err(|error| together(error.to_string()))?;
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(list) if list.is_empty() => Err(file(path, "the file contains no PEM certificate".to_owned())),
        Ok(list) => Ok(list),
        Err(error) => Err(file(path, format!("not a valid PEM certificate: {error}"))),
    }
}

fn file(path: &Path, words: String) -> TlsError {
    TlsError::File {
        path: path.display().to_string(),
        words,
    }
}
