//! TLS towards mail servers.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::certificate::Certificate;
use super::error::TlsError;
use super::{ALPN, Built, pem, provider, server, versions};
use crate::config::{TlsVersion, UpstreamTls};

/// Sessions remembered for resumption, over all mail servers of a leg.
const SESSIONS: usize = 256;

/// Builds the TLS configuration of one leg: the system's CAs and the configured ones, our own
/// certificate if there is one. TLS 1.2 and 1.3.
///
/// # Errors
/// A file that can't be used, or no CA at all.
pub fn client_config(tls: &UpstreamTls) -> Result<Built<ClientConfig>, TlsError> {
    let provider = Arc::new(provider());
    let mut warnings = Vec::new();
    let verifier: Arc<dyn ServerCertVerifier> = if tls.ignore_errors {
        Arc::new(Unverified(Arc::clone(&provider)))
    } else {
        let roots = Arc::new(roots(tls, &mut warnings)?);
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| {
                TlsError::without_file(error.to_string(), "set email.server.ca.path")
            })?
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions(TlsVersion::V12))
        .map_err(|error| {
            TlsError::without_file(error.to_string(), "this is a defect of the gateway")
        })?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut certificates = Vec::new();
    let mut built = match &tls.client_certificate {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let key = server::from_pem(&pair.certificate, &pair.key, &provider)?;
            certificates.extend(key.cert.first().and_then(Certificate::read));
            let dates = certificates.first();
            if let Some(dates) = dates.and_then(|one: &Certificate| one.dates_at(Timestamp::now()))
            {
                warnings.push(format!("{}: {dates}; renew it", pair.certificate.display()));
            }
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
        }
    };
    built.alpn_protocols = vec![ALPN.to_vec()];
    built.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(Built {
        config: Arc::new(built),
        certificates,
        warnings,
    })
}

/// The system's CAs and those of `email.server.ca.path`.
fn roots(tls: &UpstreamTls, warnings: &mut Vec<String>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    // A system's store may hold what can't be used; what matters is what is left.
    roots.add_parsable_certificates(native.certs);
    if let Some(file) = &tls.ca {
        roots.extend(pem::authorities(file)?.roots);
    } else if roots.is_empty() {
        let why = native
            .errors
            .first()
            .map_or_else(|| "it is empty".to_owned(), ToString::to_string);
        warnings.push(format!(
            "the system's store of CAs can't be used ({why}): no mail server's certificate will be \
             accepted; install ca-certificates, or set email.server.ca.path"
        ));
        // The verifier wants at least one CA; without any it would refuse to be built, and the
        // gateway to start, even where no mail server is reached over TLS.
        let nobody = server::self_signed(&["no-ca-is-installed.invalid".to_owned()])?;
        roots.add_parsable_certificates([nobody.certificate]);
    }
    Ok(roots)
}

/// Takes any certificate, but still has the server prove that it holds the key of the one it
/// shows: `ignore.ssl.errors.with.exchange`.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
