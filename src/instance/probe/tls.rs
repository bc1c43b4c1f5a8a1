//! TLS towards a server of the instance: the platform's authorities and one more if named.

use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use crate::host::Stream;

/// Whom to trust. Cheap to clone.
#[derive(Clone)]
pub struct Tls(TlsConnector);

impl Tls {
    /// The platform's authorities and those in `extra_pem`.
    pub fn new(extra_pem: Option<&[u8]>) -> Result<Tls, TlsError> {
        let mut roots = RootCertStore::empty();
        // A broken certificate among the platform's is not ours to report: what it would have
        // vouched for fails with a reason of its own.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(pem) = extra_pem {
            let mut count = 0;
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|_| TlsError::Authority)?;
                roots.add(certificate).map_err(|_| TlsError::Authority)?;
                count += 1;
            }
            if count == 0 {
                return Err(TlsError::Authority);
            }
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls(TlsConnector::from(Arc::new(config))))
    }

    /// The handshake with a server that must prove to be `name`. Without a deadline of its own.
    pub async fn wrap(&self, stream: Stream, name: &str) -> std::io::Result<Stream> {
        let name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
        Ok(Box::new(self.0.connect(name, stream).await?))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Tls")
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the extra certificate authority is not a PEM file with certificates")]
    Authority,
    #[error("cannot set up TLS")]
    Setup(#[source] tokio_rustls::rustls::Error),
}

impl crate::error::Advice for TlsError {
    fn hint(&self) -> Option<String> {
        match self {
            TlsError::Authority => Some(
                "`nginx.ca_file` must hold lines from BEGIN CERTIFICATE to END CERTIFICATE".into(),
            ),
            TlsError::Setup(_) => None,
        }
    }
}
