//! TLS on both legs: what stands in files becomes rustls configurations, and what stands in
//! certificates becomes users, expiry times and sentences that a person can act upon.
//!
//! The provider is aws-lc-rs and is always passed explicitly, so that it can't depend on what
//! else is linked into the process. Every build makes a new ticket key: a session can't be
//! resumed past a change of certificates, CAs or client authentication.

mod certificate;
mod choice;
mod error;
mod explain;
pub mod fuzz;
mod identity;
mod pem;
mod pkcs12;
pub mod revocation;
mod server;
mod upstream;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion, version};

use crate::config::TlsVersion;

pub use certificate::{Certificate, end_point_binding};
pub use error::TlsError;
pub use explain::{Explanation, explain, explain_client};
pub use identity::{
    ClientUser, DeviceSource, NameSource, NoUser, alternative_identities, client_device,
    client_user, serial_number,
};
pub use pem::{authorities, certificates, private_key};
pub use server::{
    BuiltSet, SelfSigned, ServerTlsSet, self_signed, server_config, signing_pair, verify_client,
};
pub use upstream::client_config;

/// A configuration built from files.
#[derive(Debug)]
pub struct Built<T> {
    /// What rustls takes.
    pub config: Arc<T>,
    /// Our own certificates, where any are shown: the server's, or ours towards an upstream.
    pub certificates: Vec<Certificate>,
    /// What is accepted, but should be mended.
    pub warnings: Vec<String>,
}

/// The only protocol that is spoken above TLS (RFC 7301).
const ALPN: &[u8] = b"http/1.1";

static TLS12_AND_13: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
static TLS13_ONLY: &[&SupportedProtocolVersion] = &[&version::TLS13];

fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

/// The cipher suite of that name, in rustls' spelling or IANA's, without case.
pub fn suite(name: &str) -> Option<SupportedCipherSuite> {
    provider()
        .cipher_suites
        .into_iter()
        .find(|suite| suite_name(*suite).eq_ignore_ascii_case(&iana(name)))
}

/// The names of all cipher suites in IANA's spelling.
pub fn suite_names() -> Vec<String> {
    provider()
        .cipher_suites
        .into_iter()
        .map(suite_name)
        .collect()
}

/// Whether a suite can come into play when no version below this one is spoken.
pub fn spoken_from(suite: SupportedCipherSuite, min: TlsVersion) -> bool {
    versions(min).contains(&suite.version())
}

fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match min {
        TlsVersion::V12 => TLS12_AND_13,
        TlsVersion::V13 => TLS13_ONLY,
    }
}

fn suite_name(suite: SupportedCipherSuite) -> String {
    iana(suite.suite().as_str().unwrap_or_default())
}

/// rustls says `TLS13_AES_…` where IANA says `TLS_AES_…`.
fn iana(name: &str) -> String {
    let name = name.to_ascii_uppercase();
    match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => name,
    }
}
