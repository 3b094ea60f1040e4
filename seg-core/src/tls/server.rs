//! TLS towards clients.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;
use super::choice::Choice;
use super::error::TlsError;
use super::explain::{Explanation, explain_client};
use super::{ALPN, Built, pem, pkcs12, provider, suite, versions};
use crate::config::{CertificateSource, ClientAuth, Config, ServerTls};

/// The certificate that is shown when none is configured. Made once, so that a reload doesn't
/// show a new one to those who have just accepted the old one.
static MADE_AT_START: OnceLock<SelfSigned> = OnceLock::new();

/// TLS towards clients: one configuration for each rule of client authentication that is in use,
/// and each with a ticket key of its own, so that no session crosses from one rule to another.
#[derive(Clone, Debug)]
pub struct ServerTlsSet {
    by_rule: [Option<Arc<ServerConfig>>; 3],
    usual: Arc<ServerConfig>,
}

/// A set built from files.
#[derive(Debug)]
pub struct BuiltSet {
    /// What is served.
    pub set: ServerTlsSet,
    /// The certificates that clients see.
    pub certificates: Vec<Certificate>,
    /// What is accepted, but should be mended.
    pub warnings: Vec<String>,
}

impl ServerTlsSet {
    /// Builds every configuration that `server.client.auth*` needs.
    ///
    /// # Errors
    /// A file that can't be used, or settings that contradict each other.
    pub fn build(config: &Config) -> Result<BuiltSet, TlsError> {
        let tls = &config.server.tls;
        let usual = server_config(config)?;
        let mut by_rule = [None, None, None];
        let others = tls.client_auth_hosts.values().copied();
        let others = others.chain(tls.client_auth_listeners.iter().map(|(_, rule)| *rule));
        for rule in others.filter(|rule| *rule != tls.client_auth) {
            if let Some(slot) = by_rule.get_mut(slot(rule)).filter(|slot| slot.is_none()) {
                *slot = Some(server_config_for(config, rule)?.config);
            }
        }
        Ok(BuiltSet {
            set: Self {
                by_rule,
                usual: usual.config,
            },
            certificates: usual.certificates,
            warnings: usual.warnings,
        })
    }

    /// The configuration under `server.client.auth`.
    pub fn usual(&self) -> &Arc<ServerConfig> {
        &self.usual
    }

    /// The configuration under a rule.
    pub fn under(&self, rule: ClientAuth) -> &Arc<ServerConfig> {
        let own = self.by_rule.get(slot(rule)).and_then(Option::as_ref);
        own.unwrap_or(&self.usual)
    }
}

fn slot(rule: ClientAuth) -> usize {
    match rule {
        ClientAuth::None => 0,
        ClientAuth::Optional => 1,
        ClientAuth::Required => 2,
    }
}

/// Builds the TLS configuration of `server.listen` under `server.client.auth`.
///
/// # Errors
/// A file that can't be used, or settings that contradict each other.
pub fn server_config(config: &Config) -> Result<Built<ServerConfig>, TlsError> {
    server_config_for(config, config.server.tls.client_auth)
}

fn server_config_for(config: &Config, rule: ClientAuth) -> Result<Built<ServerConfig>, TlsError> {
    let tls = &config.server.tls;
    let provider = Arc::new(chosen_suites(tls));
    let mut warnings = Vec::new();
    let keys = certified_keys(config, &provider, &mut warnings)?;
    let read = |key: &CertifiedKey| key.cert.first().and_then(Certificate::read);
    let certificates: Vec<Certificate> = keys.iter().filter_map(read).collect();
    for certificate in &certificates {
        if let Some(dates) = certificate.dates_at(Timestamp::now()) {
            let subject = &certificate.subject;
            warnings.push(format!(
                "the server's certificate {subject} {dates}; renew it"
            ));
        }
    }
    let failed = |error: rustls::Error| {
        TlsError::without_file(
            error.to_string(),
            "check the keys that start with server.tls",
        )
    };
    let mut built = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions(tls.min_version))
        .map_err(failed)?
        .with_client_cert_verifier(client_verifier(tls, rule, &provider)?)
        .with_cert_resolver(Arc::new(Choice::new(keys)));
    built.alpn_protocols = vec![ALPN.to_vec()];
    built.ticketer = aws_lc_rs::Ticketer::new().map_err(failed)?;
    // The ticket holds the whole session, so nothing is kept here; one is enough for a client
    // that uses one connection at a time.
    built.send_tls13_tickets = 1;
    built.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Built {
        config: Arc::new(built),
        certificates,
        warnings,
    })
}

fn chosen_suites(tls: &ServerTls) -> CryptoProvider {
    let mut provider = provider();
    if !tls.cipher_suites.is_empty() {
        provider.cipher_suites = tls
            .cipher_suites
            .iter()
            .filter_map(|name| suite(name))
            .collect();
    }
    provider
}

fn certified_keys(
    config: &Config,
    provider: &CryptoProvider,
    warnings: &mut Vec<String>,
) -> Result<Vec<CertifiedKey>, TlsError> {
    match &config.server.tls.certificate {
        CertificateSource::Pem(pairs) => pairs
            .iter()
            .map(|pair| from_pem(&pair.certificate, &pair.key, provider))
            .collect(),
        CertificateSource::Pkcs12 { path, password } => {
            pkcs12::load(path, password, provider).map(|key| vec![key])
        }
        CertificateSource::SelfSigned => {
            warnings.push(
                "no server certificate is configured: a self-signed one was made, which phones refuse; \
                 set server.tls.certificate.path and server.tls.private.key.path"
                    .to_owned(),
            );
            let pair = match MADE_AT_START.get() {
                Some(pair) => pair,
                None => {
                    let made = self_signed(&own_names(config))?;
                    MADE_AT_START.get_or_init(|| made)
                }
            };
            let key = provider
                .key_provider
                .load_private_key(pair.key.clone_key())
                .map_err(|error| {
                    TlsError::without_file(error.to_string(), "configure a certificate instead")
                })?;
            let chain = vec![pair.certificate.clone()];
            Ok(vec![CertifiedKey::new(chain, key)])
        }
    }
}

/// A certificate with its chain, and the key that belongs to it, out of PEM files: to sign with.
///
/// # Errors
/// A file that can't be used, or two that don't belong together.
pub fn signing_pair(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    from_pem(certificate, key, &provider())
}

/// Reads certificate and key from PEM files and sees that they belong together.
pub(super) fn from_pem(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let chain = pem::certificates(certificate)?;
    let signing = provider
        .key_provider
        .load_private_key(pem::private_key(key)?)
        .map_err(|error| {
            let mend = "use an RSA key of 2048 bits or more, ECDSA P-256, P-384, P-521, or Ed25519";
            TlsError::new(key, format!("the private key can't be used: {error}"), mend)
        })?;
    let certified = CertifiedKey::new(chain, signing);
    certified.keys_match().map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            let reason = format!(
                "does not belong to the certificate in {}",
                certificate.display()
            );
            TlsError::new(
                key,
                reason,
                "use the key that the certificate was requested with; in the \
                certificate's file the server's own certificate must come first, then its chain",
            )
        }
        error => {
            let reason = format!("the first certificate can't be read: {error}");
            TlsError::new(certificate, reason, "copy the file again")
        }
    })?;
    Ok(certified)
}

fn client_verifier(
    tls: &ServerTls,
    rule: ClientAuth,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let (ClientAuth::Optional | ClientAuth::Required, Some(file)) = (rule, &tls.client_ca) else {
        return Ok(WebPkiClientVerifier::no_client_auth());
    };
    let authorities = Arc::new(pem::authorities(file)?);
    let builder = WebPkiClientVerifier::builder_with_provider(authorities, Arc::clone(provider));
    let builder = match rule {
        ClientAuth::Optional => builder.allow_unauthenticated(),
        ClientAuth::Required | ClientAuth::None => builder,
    };
    builder
        .build()
        .map_err(|error| TlsError::new(file, error.to_string(), "it must hold at least one CA"))
}

/// Verifies a client's certificate and chain as a handshake would, now.
///
/// # Errors
/// Why it would be refused.
pub fn verify_client(tls: &ServerTls, chain: &[CertificateDer<'_>]) -> Result<(), Explanation> {
    let verifier =
        client_verifier(tls, strictest(tls), &Arc::new(provider())).map_err(|error| {
            Explanation {
                reason: error.to_string(),
                mend: "mend that file first",
            }
        })?;
    let Some((leaf, rest)) = chain.split_first() else {
        return Err(explain_client(&rustls::Error::NoCertificatesPresented));
    };
    if !verifier.offer_client_auth() {
        return Err(Explanation {
            reason: "client certificates aren't asked for".to_owned(),
            mend: "set server.client.auth and server.client.ca.path",
        });
    }
    verifier
        .verify_client_cert(leaf, rest, UnixTime::now())
        .map(|_| ())
        .map_err(|error| explain_client(&error))
}

/// The rule of the host or listener that asks for most.
fn strictest(tls: &ServerTls) -> ClientAuth {
    let hosts = tls.client_auth_hosts.values();
    let listeners = tls.client_auth_listeners.iter().map(|(_, rule)| rule);
    let rules = std::iter::once(&tls.client_auth)
        .chain(hosts)
        .chain(listeners);
    rules
        .copied()
        .max_by_key(|rule| slot(*rule))
        .unwrap_or(ClientAuth::None)
}

/// A certificate signed by its own key.
pub struct SelfSigned {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// The certificate for files and clients.
    pub certificate_pem: String,
}

/// Makes a self-signed certificate for host names and IP addresses, with an ECDSA P-256 key that
/// is never written anywhere.
///
/// # Errors
/// A name that no certificate can hold.
pub fn self_signed(names: &[String]) -> Result<SelfSigned, TlsError> {
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| {
        TlsError::without_file(error.to_string(), "configure a certificate instead")
    })?;
    Ok(SelfSigned {
        certificate: made.cert.der().clone(),
        key: PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into(),
        certificate_pem: made.cert.pem(),
    })
}

/// The names under which clients may know this gateway.
fn own_names(config: &Config) -> Vec<String> {
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    names.extend(
        config
            .server
            .public_url
            .iter()
            .map(|origin| origin.host.clone()),
    );
    names.extend(config.server.allowed_hosts.iter().cloned());
    names.sort();
    names.dedup();
    names
}
