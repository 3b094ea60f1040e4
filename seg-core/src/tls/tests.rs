//! Certificates made on the spot, read back and shown over real handshakes.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::{Timestamp, ToSpan};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, OtherNameValue,
    SanType,
};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use tempfile::TempDir;

use super::*;
use crate::config::{Config, PemPair, UpstreamTls, load};

/// A CA with a folder for what it signs.
struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Ca {
    fn new() -> Self {
        Self::named("Test CA")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("CA");
        let ca = Self {
            issuer,
            folder: tempfile::tempdir().expect("folder"),
        };
        ca.write("ca.pem", &ca.issuer.pem());
        ca
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("write");
    }

    /// Signs a certificate and writes `<name>.pem` and `<name>.key`.
    fn sign(&self, name: &str, params: &CertificateParams) -> PemPair {
        let key = KeyPair::generate().expect("key");
        let certificate = params.signed_by(&key, &self.issuer).expect("sign");
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
        PemPair {
            certificate: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
        }
    }

    /// A configuration from lines of a properties file in the CA's folder.
    fn config(&self, lines: &str) -> Config {
        self.write("application.properties", lines);
        load(
            Some(&self.path("application.properties")),
            std::iter::empty(),
        )
        .expect("configuration")
        .config
    }
}

fn for_host(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).expect("params")
}

fn with_upns(upns: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("params");
    params.subject_alt_names = upns
        .iter()
        .map(|upn| {
            let oid = vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3];
            SanType::OtherName((oid, OtherNameValue::Utf8String((*upn).to_owned())))
        })
        .collect();
    params
}

fn sources(cn: bool) -> &'static [NameSource] {
    if cn {
        &[NameSource::Upn, NameSource::SubjectCn]
    } else {
        &[NameSource::Upn]
    }
}

fn leaf(pair: &PemPair) -> CertificateDer<'static> {
    certificates(&pair.certificate)
        .expect("certificate")
        .remove(0)
}

/// Runs a handshake in memory and gives both ends, or the first error of either.
fn shake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).expect("name");
    let mut client = ClientConnection::new(Arc::clone(client), name)?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    while client.is_handshaking() || server.is_handshaking() {
        pass(&mut client, &mut server)?;
        pass(&mut server, &mut client)?;
    }
    // The client learns of a refused certificate only afterwards in TLS 1.3.
    pass(&mut server, &mut client)?;
    Ok((client, server))
}

fn pass<A, B, DA, DB>(from: &mut A, to: &mut B) -> Result<(), rustls::Error>
where
    A: std::ops::DerefMut<Target = rustls::ConnectionCommon<DA>>,
    B: std::ops::DerefMut<Target = rustls::ConnectionCommon<DB>>,
{
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).expect("memory");
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).expect("memory");
        to.process_new_packets()?;
    }
    Ok(())
}

fn trusting(ca: &Ca) -> UpstreamTls {
    UpstreamTls {
        ca: Some(ca.path("ca.pem")),
        ..UpstreamTls::default()
    }
}

const PEM_KEYS: &str = "server.tls.certificate.path=a.pem\nserver.tls.private.key.path=a.key\n";

#[test]
fn a_pem_certificate_is_shown_and_verified() {
    let ca = Ca::new();
    ca.sign("a", &for_host("mail.example"));
    let server = server_config(&ca.config(PEM_KEYS)).expect("server");
    assert_eq!(
        server.certificates.first().map(|one| one.names.clone()),
        Some(vec!["mail.example".to_owned()])
    );
    assert_eq!(server.warnings, Vec::<String>::new());
    let client = client_config(&trusting(&ca)).expect("client").config;
    let (client_side, server_side) =
        shake(&client, &server.config, "mail.example").expect("handshake");
    assert_eq!(client_side.alpn_protocol(), Some(b"http/1.1".as_slice()));
    assert_eq!(
        server_side.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_3)
    );
    let (again, _) = shake(&client, &server.config, "mail.example").expect("resumed");
    assert_eq!(again.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
    // A reload makes a new ticket key: nothing is resumed past it.
    let reloaded = server_config(&ca.config(PEM_KEYS)).expect("server").config;
    let (fresh, _) = shake(&client, &reloaded, "mail.example").expect("handshake");
    assert_eq!(fresh.handshake_kind(), Some(rustls::HandshakeKind::Full));
}

#[test]
fn verification_failures_are_explained() {
    let ca = Ca::new();
    ca.sign("a", &for_host("mail.example"));
    let server = server_config(&ca.config(PEM_KEYS)).expect("server").config;
    let client = client_config(&trusting(&ca)).expect("client").config;
    let error = shake(&client, &server, "other.example").expect_err("wrong name");
    assert!(
        explain(&error).reason.contains("for another name"),
        "{error}"
    );
    let namesake = client_config(&trusting(&Ca::new())).expect("client").config;
    let error = shake(&namesake, &server, "mail.example").expect_err("a CA of the same name");
    assert!(
        explain(&error).reason.contains("but with another key"),
        "{error}"
    );
    let stranger = client_config(&trusting(&Ca::named("Other CA")))
        .expect("client")
        .config;
    let error = shake(&stranger, &server, "mail.example").expect_err("unknown CA");
    assert!(
        explain(&error).reason.contains("CA that isn't trusted"),
        "{error}"
    );
    assert!(explain(&error).mend.contains("email.server.ca.path"));
    let mut old = for_host("mail.example");
    old.not_before = rcgen::date_time_ymd(2019, 1, 1);
    old.not_after = rcgen::date_time_ymd(2020, 1, 1);
    ca.sign("a", &old);
    let built = server_config(&ca.config(PEM_KEYS)).expect("server");
    assert!(
        built
            .warnings
            .iter()
            .any(|warning| warning.contains("expired on 2020-01-01")),
        "{:?}",
        built.warnings
    );
    let error = shake(&client, &built.config, "mail.example").expect_err("expired");
    assert!(explain(&error).reason.contains("expired"), "{error}");
}

#[test]
fn ignored_errors_still_want_the_key() {
    let ca = Ca::new();
    let tls = UpstreamTls {
        ignore_errors: true,
        ..UpstreamTls::default()
    };
    let client = client_config(&tls).expect("client").config;
    let server = server_config(&ca.config("")).expect("server");
    assert!(
        server
            .warnings
            .iter()
            .any(|warning| warning.contains("self-signed")),
        "{:?}",
        server.warnings
    );
    shake(&client, &server.config, "anything.example").expect("anything goes");
}

#[test]
fn the_self_signed_certificate_survives_a_reload() {
    let ca = Ca::new();
    let first = server_config(&ca.config("")).expect("server").certificates;
    let second = server_config(&ca.config("")).expect("server").certificates;
    assert!(!first.is_empty());
    assert_eq!(first, second);
}

#[test]
fn key_and_certificate_must_belong_together() {
    let ca = Ca::new();
    ca.sign("a", &for_host("mail.example"));
    let other = ca.sign("b", &for_host("mail.example"));
    std::fs::copy(&other.key, ca.path("a.key")).expect("copy");
    let error = server_config(&ca.config(PEM_KEYS)).expect_err("mismatch");
    assert_eq!(error.file.as_deref(), Some(ca.path("a.key").as_path()));
    assert!(
        error.reason.contains("does not belong to the certificate"),
        "{error}"
    );
}

#[test]
fn a_client_is_shown_the_certificate_for_the_host_it_asks_for() {
    let ca = Ca::new();
    ca.sign("a", &for_host("mail.example"));
    ca.sign("b", &for_host("*.corp.example"));
    ca.sign("c", &for_host("mail.corp.example"));
    let lines = "server.tls.certificate.path=a.pem,b.pem,c.pem\nserver.tls.private.key.path=a.key,b.key,c.key\n";
    let server = server_config(&ca.config(lines)).expect("server").config;
    let client = client_config(&trusting(&ca)).expect("client").config;
    for (host, shown) in [
        ("mail.example", "a"),
        ("mdm.corp.example", "b"),
        ("mail.corp.example", "c"),
        ("MAIL.CORP.EXAMPLE", "c"),
    ] {
        let (client, _) = shake(&client, &server, host).expect(host);
        let seen = client.peer_certificates().and_then(<[_]>::first);
        let file = ca.path(&format!("{shown}.pem"));
        assert_eq!(seen, certificates(&file).expect("a file").first(), "{host}");
    }
    assert!(shake(&client, &server, "other.example").is_err());
    assert!(shake(&client, &server, "a.b.corp.example").is_err());
}

#[test]
fn unusable_files_are_named_with_the_mend() {
    let ca = Ca::new();
    ca.sign("a", &for_host("mail.example"));
    for (certificate, key, blamed, part) in [
        ("a.key", "a.key", "a.key", "holds no certificate"),
        ("a.pem", "a.pem", "a.pem", "holds no private key"),
        ("missing.pem", "a.key", "missing.pem", "can't be read"),
        ("cut.pem", "a.key", "cut.pem", "no intact PEM"),
        (
            "a.pem",
            "locked.key",
            "locked.key",
            "locked with a password",
        ),
    ] {
        ca.write("cut.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n");
        ca.write(
            "locked.key",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n",
        );
        let lines = format!(
            "server.tls.certificate.path={certificate}\nserver.tls.private.key.path={key}\n"
        );
        let error = server_config(&ca.config(&lines)).expect_err(certificate);
        assert_eq!(
            error.file.as_deref(),
            Some(ca.path(blamed).as_path()),
            "{error}"
        );
        assert!(error.reason.contains(part), "{error}");
        assert!(!error.mend.is_empty());
    }
}

#[test]
fn pkcs12_with_its_chain() {
    let ca = Ca::new();
    let pair = ca.sign("a", &for_host("mail.example"));
    let key = private_key(&pair.key).expect("key");
    let certificate = |der: &[u8]| p12_keystore::Certificate::from_der(der).expect("certificate");
    let chain = p12_keystore::PrivateKeyChain::new(
        vec![1_u8, 2],
        p12_keystore::PrivateKey::from_der(key.secret_der()).expect("key"),
        [certificate(&leaf(&pair)), certificate(ca.issuer.der())],
    );
    let mut store = p12_keystore::KeyStore::new();
    store.add_entry("mail", p12_keystore::KeyStoreEntry::PrivateKeyChain(chain));
    std::fs::write(
        ca.path("a.p12"),
        store.writer("s3cret").write().expect("PKCS#12"),
    )
    .expect("write");
    let lines = |password: &str| {
        format!("server.tls.pkcs12.path=a.p12\nserver.tls.pkcs12.password={password}\n")
    };
    let server = server_config(&ca.config(&lines("s3cret")))
        .expect("server")
        .config;
    let client = client_config(&trusting(&ca)).expect("client").config;
    shake(&client, &server, "mail.example").expect("handshake");
    let error = server_config(&ca.config(&lines("wrong"))).expect_err("wrong password");
    assert!(
        error.mend.contains("server.tls.pkcs12.password") && !error.to_string().contains("wrong;"),
        "{error}"
    );
}

#[test]
fn versions_and_suites_are_kept() {
    let ca = Ca::new();
    ca.sign("a", &for_host("mail.example"));
    let lines = format!(
        "{PEM_KEYS}server.tls.min.version=1.3\nserver.tls.cipher.suites=tls_aes_128_gcm_sha256\n"
    );
    let server = server_config(&ca.config(&lines)).expect("server").config;
    let client = client_config(&trusting(&ca)).expect("client").config;
    let (client, _) = shake(&client, &server, "mail.example").expect("handshake");
    let chosen = client.negotiated_cipher_suite().map(|suite| suite.suite());
    assert_eq!(chosen, Some(rustls::CipherSuite::TLS13_AES_128_GCM_SHA256));
    let old = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&version::TLS12])
        .expect("versions")
        .with_root_certificates(authorities(&ca.path("ca.pem")).expect("roots"))
        .with_no_client_auth();
    shake(&Arc::new(old), &server, "mail.example").expect_err("TLS 1.2 is too old");
}

#[test]
fn client_certificates_none_optional_required() {
    let ca = Ca::new();
    ca.sign("a", &for_host("mail.example"));
    let own = ca.sign("alice", &with_upns(&["alice@corp.example"]));
    let foreign = Ca::new();
    let strange = foreign.sign("alice", &with_upns(&["alice@corp.example"]));
    let with = |pair: Option<&PemPair>| {
        let tls = UpstreamTls {
            client_certificate: pair.cloned(),
            ..trusting(&ca)
        };
        client_config(&tls).expect("client").config
    };
    for (auth, without, trusted, untrusted) in [
        ("none", true, true, true),
        ("optional", true, true, false),
        ("required", false, true, false),
    ] {
        let ca_line = if auth == "none" {
            ""
        } else {
            "server.client.ca.path=ca.pem\n"
        };
        let lines = format!("{PEM_KEYS}server.client.auth={auth}\n{ca_line}");
        let server = server_config(&ca.config(&lines)).expect("server").config;
        for (client, wanted) in [
            (with(None), without),
            (with(Some(&own)), trusted),
            (with(Some(&strange)), untrusted),
        ] {
            assert_eq!(
                shake(&client, &server, "mail.example").is_ok(),
                wanted,
                "{auth}"
            );
        }
        let (_, server_side) =
            shake(&with(Some(&own)), &server, "mail.example").expect("own certificate");
        let shown = server_side.peer_certificates().and_then(<[_]>::first);
        assert_eq!(shown.is_some(), auth != "none");
        if let Some(shown) = shown {
            assert_eq!(
                client_user(shown, &[NameSource::Upn]).expect("user").name,
                "alice@corp.example"
            );
        }
    }
}

#[test]
fn users_of_certificates() {
    let ca = Ca::new();
    let named = |params: &CertificateParams, cn: bool| {
        client_user(&leaf(&ca.sign("u", params)), sources(cn)).map(|user| (user.name, user.source))
    };
    let with_cn = |upns: &[&str], cn: &str| {
        let mut params = with_upns(upns);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, cn);
        params
    };
    let long = format!("{}@corp.example", "a".repeat(1024));
    let upn = |name: &str| Ok((name.to_owned(), NameSource::Upn));
    assert_eq!(
        named(&with_upns(&["alice@corp.example"]), false),
        upn("alice@corp.example")
    );
    assert_eq!(
        named(&with_cn(&["Ürsula@corp.example"], "other"), true),
        upn("Ürsula@corp.example")
    );
    assert_eq!(
        named(&with_upns(&["a@x", "b@x"]), false),
        Err(NoUser::Ambiguous)
    );
    for malformed in ["alice", "a@b@c", "@x", "a@", "", "a\n@x", &long] {
        assert_eq!(
            named(&with_cn(&[malformed], "bob"), true),
            Err(NoUser::Malformed),
            "{malformed}"
        );
    }
    assert_eq!(named(&with_cn(&[], "bob"), false), Err(NoUser::Missing));
    assert_eq!(
        named(&with_cn(&[], "bob"), true),
        Ok(("bob".to_owned(), NameSource::SubjectCn))
    );
    assert_eq!(
        client_user(&CertificateDer::from(vec![0x30, 0x00]), sources(true)),
        Err(NoUser::Unreadable)
    );
}

#[test]
fn dates() {
    let ca = Ca::new();
    let mut params = for_host("mail.example");
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    let certificate = Certificate::read(&leaf(&ca.sign("d", &params))).expect("certificate");
    let end: Timestamp = "2027-01-01T00:00:00Z".parse().expect("date");
    assert_eq!(certificate.not_after, end);
    for (hours, part) in [
        (-24 * 400, "valid from"),
        (-24 * 100, ""),
        (-24 * 3, "in 3 days"),
        (1, "expired"),
    ] {
        let said = certificate
            .dates_at(end + hours.hours())
            .unwrap_or_default();
        assert!(
            if part.is_empty() {
                said.is_empty()
            } else {
                said.contains(part)
            },
            "{hours}: {said}"
        );
    }
}

#[test]
fn every_suite_is_found_in_both_spellings() {
    assert!(suite_names().iter().all(|name| suite(name).is_some()));
    assert!(suite("TLS13_AES_256_GCM_SHA384").is_some());
    assert!(suite("TLS_RSA_WITH_RC4_128_MD5").is_none());
}

proptest::proptest! {
    #[test]
    fn no_bytes_of_a_certificate_panic(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
        at in 0..2000_usize,
        to in proptest::prelude::any::<u8>(),
        cut in 0..2000_usize,
    ) {
        static GOOD: std::sync::LazyLock<Vec<u8>> =
            std::sync::LazyLock::new(|| leaf(&Ca::new().sign("u", &with_upns(&["a@x", "b@x"]))).to_vec());
        fuzz::client_certificate(&bytes);
        let mut bent = GOOD.clone();
        let at = at % bent.len();
        bent[at] = to;
        fuzz::client_certificate(&bent);
        bent.truncate(cut);
        fuzz::client_certificate(&bent);
        fuzz::revocation_list(&bytes);
        fuzz::ocsp_answer(&bent);
    }
}
