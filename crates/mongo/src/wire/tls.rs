//! TLS of the data plane, from the same options that the driver takes.

use std::{path::Path, sync::Arc};

use mongodb::options::TlsOptions;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};

use crate::{Error, Result};

/// Reads the files that the options name.
pub(super) fn config(options: &TlsOptions) -> Result<Arc<ClientConfig>> {
    // Named, not the process's default: another crate in the process may bring another one.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::InvalidUri(format!("TLS: {error}")))?
        .with_root_certificates(roots(options.ca_file_path.as_deref())?);
    let mut config = match options.cert_key_file_path.as_deref() {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let (chain, key) = client_certificate(path)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                Error::InvalidUri(format!("tlsCertificateKeyFile {}: {error}", path.display()))
            })?
        }
    };
    if options.allow_invalid_certificates == Some(true) {
        config.dangerous().set_certificate_verifier(Arc::new(AnyCertificate(provider)));
    }
    Ok(Arc::new(config))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca_file else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let unusable = |why: String| Error::InvalidUri(format!("tlsCAFile {}: {why}", path.display()));
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?;
    let (added, _) = roots.add_parsable_certificates(certificates.flatten());
    if added == 0 {
        return Err(unusable("holds no certificate".to_owned()));
    }
    Ok(roots)
}

fn client_certificate(path: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let unusable =
        |why: String| Error::InvalidUri(format!("tlsCertificateKeyFile {}: {why}", path.display()));
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| unusable(error.to_string()))?;
    if chain.is_empty() {
        return Err(unusable("holds no certificate".to_owned()));
    }
    let key =
        PrivateKeyDer::from_pem_file(path).map_err(|error| unusable(format!("private key: {error}")))?;
    Ok((chain, key))
}

/// What `tlsAllowInvalidCertificates=true` asks for: the operator gave up on knowing whom they talk to.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
