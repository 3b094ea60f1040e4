//! Client certificates: who is let in by one, with whom it must agree, what the mail server is
//! told of it, and that a revoked one ends what is open.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustls::ClientConfig;
use seg_core::sandbox::{Answer, Filter, Kind, Sandbox, Script};
use seg_tests::authority::{Authority, Identity};
use seg_tests::eas::Request;
use seg_tests::gateway::free_address;
use seg_tests::wire::{Wire, client_config};
use seg_tests::{Gateway, GatewayBuilder, eventually};

use crate::sandbox::{self, folder_sync, holds_poll, is_served, ping};

/// A gateway that asks for certificates of this authority.
fn asking(sandbox: &Sandbox, authority: &Authority, rule: &str) -> GatewayBuilder {
    let builder = Gateway::before(sandbox);
    let ca = builder.file("clients.pem", authority.pem());
    builder
        .set("server.client.auth", rule)
        .set("server.client.ca.path", ca.display().to_string())
}

async fn open(gateway: &Gateway, identity: &Identity) -> Wire {
    let config = client_config(&gateway.ca_pem, Some(identity));
    Wire::open(gateway.address, "localhost", config).await
}

/// Whether a connection of this client is served at all.
async fn is_let_in(gateway: &Gateway, config: &Arc<ClientConfig>, device: &str) -> bool {
    let mut wire = Wire::open(gateway.address, "localhost", Arc::clone(config)).await;
    wire.send_until_closed(folder_sync(device).bytes()).await;
    let answer = wire.try_answer(false).await;
    answer.is_some_and(|answer| is_served(&answer))
}

fn bare(device: &str) -> Request {
    folder_sync(device).without("Authorization")
}

fn lets_everybody_in(sandbox: &Sandbox) {
    let welcome = Answer::ok("text/plain", "welcome");
    sandbox.script(Script::answer(Filter::name("FolderSync").of(Kind::Eas), welcome).always());
}

#[tokio::test]
async fn a_certificate_alone_names_its_user() {
    let sandbox = sandbox::start();
    lets_everybody_in(&sandbox);
    let authority = Authority::new();
    let gateway = asking(&sandbox, &authority, "optional")
        .set("email.server.client.cert.header", "x-ssl-client-cert")
        .start()
        .await;
    let alice = authority.numbered_client(Some("alice@sandbox.example"), 1);
    let forged = bare("BYCERT")
        .header("X-SSL-Client-Cert", "forged")
        .header("Client-Cert", ":AAAA:")
        .header("NSClientCert", "forged");
    let mut wire = open(&gateway, &alice).await;
    wire.send(forged.bytes()).await;
    assert_eq!(wire.answer().await.status(), 200);

    let seen = sandbox
        .last(&Filter::any().device("BYCERT"))
        .expect("it arrived");
    let told = seen
        .head
        .header("X-SSL-Client-Cert")
        .expect("the certificate");
    let told = String::from_utf8_lossy(told).into_owned();
    assert!(
        told.starts_with("-----BEGIN%20CERTIFICATE-----%0AMII"),
        "{told}"
    );
    let unescaped = told
        .replace("%20", " ")
        .replace("%0A", "\n")
        .replace("%2B", "+")
        .replace("%2F", "/")
        .replace("%3D", "=");
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        lines(&unescaped),
        lines(&alice.certificate.replace("\r\n", "\n"))
    );
    assert!(seen.head.header("Client-Cert").is_none());
    assert!(seen.head.header("NSClientCert").is_none());
    let event = gateway
        .event("the request's event", |event| event["device"] == "BYCERT")
        .await;
    assert_eq!(event["user"], "alice@sandbox.example");

    // A stranger without a certificate stays one.
    let answer = gateway
        .ask(&bare("NOCERT").header("X-SSL-Client-Cert", "forged"))
        .await;
    assert_eq!(answer.status(), 403);
    for exchange in sandbox.exchanges(&Filter::any().device("NOCERT")) {
        assert!(exchange.head.header("X-SSL-Client-Cert").is_none());
    }
}

#[tokio::test]
async fn the_certificate_is_told_in_each_form() {
    for (word, name, start) in [
        ("none", "", ""),
        ("client-cert", "Client-Cert", ":MII"),
        ("nsclientcert", "NSClientCert", "MII"),
    ] {
        let sandbox = sandbox::start();
        let authority = Authority::new();
        let gateway = asking(&sandbox, &authority, "required")
            .set("email.server.client.cert.header", word)
            .start()
            .await;
        let alice = authority.numbered_client(Some("alice@sandbox.example"), 1);
        let mut wire = open(&gateway, &alice).await;
        wire.send(folder_sync("FORMS").bytes()).await;
        assert!(is_served(&wire.answer().await));
        let seen = sandbox
            .last(&Filter::any().device("FORMS"))
            .expect("it arrived");
        for header in ["Client-Cert", "X-SSL-Client-Cert", "NSClientCert"] {
            let told = seen.head.header(header).map(String::from_utf8_lossy);
            match told {
                Some(told) => assert!(header == name && told.starts_with(start), "{word}: {told}"),
                None => assert_ne!(header, name, "{word}"),
            }
        }
    }
}

#[tokio::test]
async fn certificate_and_password_must_agree() {
    let sandbox = sandbox::start();
    let authority = Authority::new();
    let gateway = asking(&sandbox, &authority, "optional").start().await;
    let bob = authority.numbered_client(Some("bob@sandbox.example"), 2);
    let mut wire = open(&gateway, &bob).await;
    wire.send(folder_sync("AGREE").bytes()).await;
    let answer = wire.answer().await;
    assert_eq!(answer.status(), 403);
    assert_eq!(sandbox.count(&Filter::any().device("AGREE")), 0);
    let event = gateway
        .event("the refusal", |event| {
            event["reason"] == "certificate_user_mismatch"
        })
        .await;
    assert_eq!(event["outcome"], "refused");

    let alice = authority.numbered_client(Some("alice@sandbox.example"), 1);
    let mut wire = open(&gateway, &alice).await;
    wire.send(folder_sync("AGREE").bytes()).await;
    assert!(is_served(&wire.answer().await));
}

#[tokio::test]
async fn a_certificate_of_a_device_serves_no_other() {
    let sandbox = sandbox::start();
    let authority = Authority::new();
    let builder = asking(&sandbox, &authority, "required");
    let map = builder.file("map.csv", "serial,user,device\n00:03,alice,OWNPHONE\n");
    let gateway = builder
        .set("identity.certificate.device", "cn")
        .set("identity.certificate.device.pattern", "client-(.+)")
        .set("identity.certificate.map.path", map.display().to_string())
        .start()
        .await;
    for (serial, device, status) in [(77, "77", 200), (77, "78", 403), (3, "OWNPHONE", 200)] {
        let client = authority.numbered_client(None, serial);
        let mut wire = open(&gateway, &client).await;
        wire.send(folder_sync(device).bytes()).await;
        let answer = wire.answer().await;
        assert_eq!(answer.status(), status, "{serial} as {device}");
    }
    let reason = "certificate_device_mismatch";
    gateway
        .event("the refusal", |event| event["reason"] == reason)
        .await;
}

#[tokio::test]
async fn names_are_mapped_by_a_pattern() {
    let sandbox = sandbox::start();
    lets_everybody_in(&sandbox);
    let authority = Authority::new();
    let gateway = asking(&sandbox, &authority, "required")
        .set("identity.certificate.user.pattern", r"(.+)@pki\.example")
        .set("identity.certificate.user.as", "$1@sandbox.example")
        .start()
        .await;
    let mut wire = open(
        &gateway,
        &authority.numbered_client(Some("alice@pki.example"), 1),
    )
    .await;
    wire.send(bare("MAPPED").bytes()).await;
    assert_eq!(wire.answer().await.status(), 200);
    let event = gateway
        .event("the request's event", |event| event["device"] == "MAPPED")
        .await;
    assert_eq!(event["user"], "alice@sandbox.example");
    // Another domain's name is nobody's here.
    let mut wire = open(
        &gateway,
        &authority.numbered_client(Some("alice@evil.example"), 2),
    )
    .await;
    wire.send(bare("UNMAPPED").bytes()).await;
    assert_eq!(wire.answer().await.status(), 403);
}

#[tokio::test]
async fn each_host_has_its_own_rule() {
    let sandbox = sandbox::start();
    let authority = Authority::new();
    let gateway = asking(&sandbox, &authority, "none")
        .set(
            "server.client.auth.hosts",
            "127.0.0.1=none, localhost=required",
        )
        .start()
        .await;
    let alice = authority.numbered_client(Some("alice@sandbox.example"), 1);
    let mut wire = open(&gateway, &alice).await;
    wire.send(folder_sync("HOSTS").bytes()).await;
    assert!(is_served(&wire.answer().await));

    // Under another name no certificate is asked for; but the host in the request decides.
    let config = client_config(&gateway.ca_pem, None);
    let mut wire = Wire::open(gateway.address, "127.0.0.1", Arc::clone(&config)).await;
    wire.send(folder_sync("HOSTS").bytes()).await;
    assert_eq!(wire.answer().await.status(), 421);
    let mut wire = Wire::open(gateway.address, "127.0.0.1", Arc::clone(&config)).await;
    let elsewhere = folder_sync("HOSTS")
        .without("Host")
        .header("Host", "127.0.0.1");
    wire.send(elsewhere.bytes()).await;
    assert!(is_served(&wire.answer().await));
    assert!(
        !is_let_in(&gateway, &config, "HOSTS").await,
        "without a certificate"
    );
}

#[tokio::test]
async fn a_list_revokes_new_resumed_and_open_connections() {
    let sandbox = sandbox::start();
    let authority = Authority::new();
    let builder = asking(&sandbox, &authority, "required");
    let folder = builder.file("crls", "").with_extension("d");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("ca.crl"), authority.revoke(&[666])).expect("a list");
    let gateway = builder
        .set("enable.cert.revocation.validation", "true")
        .set(
            "cert.based.auth.crl.files.parent.dir.path",
            folder.display().to_string(),
        )
        .start()
        .await;
    let config = client_config(
        &gateway.ca_pem,
        Some(&authority.numbered_client(Some("alice@sandbox.example"), 41)),
    );
    assert!(is_let_in(&gateway, &config, "CRL").await);
    let mut resumed = Wire::open(gateway.address, "localhost", Arc::clone(&config)).await;
    assert!(resumed.is_resumed());
    resumed.send(ping("CRL").bytes()).await;
    holds_poll(&sandbox, "CRL").await;
    let revoked = client_config(&gateway.ca_pem, Some(&authority.numbered_client(None, 666)));
    assert!(!is_let_in(&gateway, &revoked, "CRL").await);

    std::fs::write(folder.join("ca.crl"), authority.revoke(&[666, 41])).expect("a list");
    assert!(
        resumed.try_answer(false).await.is_none(),
        "the open poll goes on"
    );
    let before = sandbox.count(&Filter::any().device("CRL"));
    for _ in 0..3 {
        assert!(!is_let_in(&gateway, &config, "CRL").await);
    }
    assert_eq!(sandbox.count(&Filter::any().device("CRL")), before);
    let told = gateway
        .event("the reason", |event| event["serial"] == "29")
        .await;
    assert!(told.to_string().contains("revoked (ca.crl)"), "{told}");
    // Others are not disturbed.
    let other = client_config(
        &gateway.ca_pem,
        Some(&authority.numbered_client(Some("alice@sandbox.example"), 42)),
    );
    assert!(is_let_in(&gateway, &other, "CRL").await);
}

#[tokio::test]
async fn fetched_lists_are_fetched_again_and_outlive_a_restart() {
    let sandbox = sandbox::start();
    let lists = sandbox::start_plain();
    let authority = Authority::new();
    let serve = |serials: &[u64]| {
        lists.clear_scripts();
        let answer = Answer::ok("application/pkix-crl", authority.revoke(serials));
        lists.script(Script::answer(Filter::any(), answer).always());
    };
    // The server of lists is down: that is not in the way of a start.
    lists.script(Script::answer(Filter::any(), Answer::status(500)).always());
    let mut gateway = asking(&sandbox, &authority, "required")
        .set("enable.cert.revocation.validation", "true")
        .set(
            "remote.crl.distribution.http.uris",
            format!("{}/ca.crl", lists.url()),
        )
        .set("remote.crl.fetch.interval.in.minutes", "1440")
        .start()
        .await;
    let config = client_config(
        &gateway.ca_pem,
        Some(&authority.numbered_client(Some("alice@sandbox.example"), 9)),
    );
    assert!(is_let_in(&gateway, &config, "FETCH").await, "soft fail");
    serve(&[9]);
    // After a failure it is asked again within a minute; a restart asks at once.
    gateway.restart_after_kill().await;
    eventually("a refusal", || async {
        (!is_let_in(&gateway, &config, "FETCH").await).then_some(())
    })
    .await;

    lists.clear_scripts();
    lists.script(Script::answer(Filter::any(), Answer::status(500)).always());
    gateway.restart_after_kill().await;
    assert!(
        !is_let_in(&gateway, &config, "FETCH").await,
        "the kept list is forgotten"
    );
}

#[tokio::test]
async fn where_nobody_knows_hard_fail_refuses() {
    let sandbox = sandbox::start();
    let authority = Authority::new();
    let gateway = asking(&sandbox, &authority, "required")
        .set("enable.cert.revocation.validation", "true")
        .set("revocation.unknown", "refuse")
        .start()
        .await;
    let alice = authority.numbered_client(Some("alice@sandbox.example"), 1);
    let config = client_config(&gateway.ca_pem, Some(&alice));
    assert!(!is_let_in(&gateway, &config, "HARD").await);
}

#[tokio::test]
async fn a_responder_is_asked_and_ends_open_connections() {
    let sandbox = sandbox::start();
    let authority = Authority::new();
    let builder = asking(&sandbox, &authority, "required");
    let responder = Responder::start(&builder, &authority, &[(0x51, false), (0x52, true)]);
    let gateway = builder
        .set("enable.cert.revocation.validation", "true")
        .set("revocation.unknown", "refuse")
        .set(
            "revocation.ocsp",
            format!("test authority=http://{}", responder.address),
        )
        .set("revocation.ocsp.max.age.seconds", "1")
        .start()
        .await;
    let client = |serial| {
        client_config(
            &gateway.ca_pem,
            Some(&authority.numbered_client(Some("alice@sandbox.example"), serial)),
        )
    };
    // openssl's responder serves one after the other and needs a moment to listen.
    let good = client(0x51);
    eventually("an answer of the responder", || async {
        is_let_in(&gateway, &good, "OCSP").await.then_some(())
    })
    .await;
    assert!(!is_let_in(&gateway, &client(0x52), "OCSP").await, "revoked");
    assert!(!is_let_in(&gateway, &client(0x53), "OCSP").await, "unknown");

    let mut wire = Wire::open(gateway.address, "localhost", Arc::clone(&good)).await;
    wire.send(ping("OCSP").bytes()).await;
    holds_poll(&sandbox, "OCSP").await;
    responder.write_index(&[(0x51, true)]);
    assert!(
        wire.try_answer(false).await.is_none(),
        "the open poll goes on"
    );
    assert!(!is_let_in(&gateway, &good, "OCSP").await);
}

/// `sslscan`, an independent eye.
#[tokio::test]
async fn a_scanner_finds_nothing_weak() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let output = Command::new("sslscan")
        .args(["--xml=-", "--no-colour", &gateway.address.to_string()])
        .stdin(Stdio::null())
        .output()
        .expect("sslscan runs; the package sslscan");
    let xml = String::from_utf8_lossy(&output.stdout).into_owned();
    for (version, enabled) in [
        ("2", "0"),
        ("3", "0"),
        ("1.0", "0"),
        ("1.1", "0"),
        ("1.2", "1"),
        ("1.3", "1"),
    ] {
        let kind = if version.len() == 1 { "ssl" } else { "tls" };
        let line =
            format!("<protocol type=\"{kind}\" version=\"{version}\" enabled=\"{enabled}\" />");
        assert!(xml.contains(&line), "{line}: {xml}");
    }
    let ciphers: Vec<&str> = xml
        .lines()
        .filter(|line| line.contains("<cipher "))
        .collect();
    assert!(!ciphers.is_empty(), "{xml}");
    for cipher in ciphers {
        let is_good = ["strong", "acceptable"]
            .iter()
            .any(|word| cipher.contains(&format!("strength=\"{word}\"")));
        assert!(is_good, "{cipher}");
        for weak in ["CBC", "RC4", "3DES", "NULL", "EXP", "MD5"] {
            assert!(!cipher.contains(weak), "{cipher}");
        }
    }
    for line in [
        "<renegotiation supported=\"0\"",
        "<compression supported=\"0\" />",
        "<fallback supported=",
    ] {
        assert!(xml.contains(line), "{line}: {xml}");
    }
    assert!(!xml.contains("vulnerable=\"1\""), "{xml}");
}

#[tokio::test]
async fn a_tls_scan_finds_nothing_old() {
    let sandbox = sandbox::start();
    let authority = Authority::new();
    let gateway = asking(&sandbox, &authority, "optional").start().await;
    let scan = |arguments: &[&str]| {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &gateway.address.to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("openssl runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let spoken = |text: &str| text.contains("Cipher is TLS") || text.contains("Cipher is ECDHE");
    for old in ["-ssl3", "-tls1", "-tls1_1"] {
        assert!(
            !spoken(&scan(&[old, "-cipher", "ALL:@SECLEVEL=0"])),
            "{old}"
        );
    }
    for weak in [
        "RC4", "3DES", "NULL", "aNULL", "EXPORT", "CBC", "kRSA", "DHE",
    ] {
        let cipher = format!("{weak}:@SECLEVEL=0");
        assert!(!spoken(&scan(&["-tls1_2", "-cipher", &cipher])), "{weak}");
    }
    for good in ["-tls1_2", "-tls1_3"] {
        let text = scan(&[good]);
        assert!(spoken(&text), "{good}: {text}");
        // It names the authorities whose certificates it takes, and offers no compression.
        assert!(text.contains("test authority"), "{text}");
        assert!(!text.contains("Compression: zlib"), "{text}");
    }
}

/// `openssl ocsp`, as a responder that the authority itself signs for.
struct Responder {
    child: Child,
    index: std::path::PathBuf,
    address: std::net::SocketAddr,
}

impl Responder {
    fn start(
        builder: &GatewayBuilder,
        authority: &Authority,
        certificates: &[(u64, bool)],
    ) -> Self {
        let ca = builder.file("responder.pem", authority.pem());
        let key = builder.file("responder.key", authority.key_pem());
        let index = builder.file("index.txt", "");
        builder.file("index.txt.attr", "unique_subject = no\n");
        let address = free_address();
        write_index(&index, certificates);
        let child = Command::new("openssl")
            .args(["ocsp", "-port", &address.port().to_string(), "-ndays", "1"])
            .arg("-index")
            .arg(&index)
            .arg("-CA")
            .arg(&ca)
            .arg("-rsigner")
            .arg(&ca)
            .arg("-rkey")
            .arg(&key)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs");
        Self {
            child,
            index,
            address,
        }
    }

    fn write_index(&self, certificates: &[(u64, bool)]) {
        write_index(&self.index, certificates);
    }
}

/// The database of `openssl ca`.
fn write_index(index: &std::path::Path, certificates: &[(u64, bool)]) {
    let line = |(serial, revoked): &(u64, bool)| {
        let (state, since) = if *revoked {
            ("R", "260101000000Z")
        } else {
            ("V", "")
        };
        format!("{state}\t450101000000Z\t{since}\t{serial:02X}\tunknown\t/CN=client-{serial}\n")
    };
    let text: String = certificates.iter().map(line).collect();
    // openssl tells a changed index by its inode, and by its time in whole seconds.
    let anew = index.with_extension("new");
    std::fs::write(&anew, text).expect("the index");
    std::fs::rename(&anew, index).expect("the index");
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _already_collected = self.child.wait();
    }
}

/// Wrong authority, wrong purpose, out of date: the handshake fails, and the log says why.
#[tokio::test]
async fn certificates_that_do_not_count() {
    let sandbox = sandbox::start();
    let authority = Authority::new();
    let gateway = asking(&sandbox, &authority, "optional").start().await;
    let stranger = Authority::new().numbered_client(Some("alice@sandbox.example"), 1);
    let purpose = authority.server(&["alice.example"]);
    for (identity, words) in [
        (&stranger, "another key"),
        (&purpose, "isn't meant for client authentication"),
    ] {
        let config = client_config(&gateway.ca_pem, Some(identity));
        assert!(!is_let_in(&gateway, &config, "WRONG").await, "{words}");
        gateway
            .event(words, |event| event.to_string().contains(words))
            .await;
    }
    assert_eq!(sandbox.count(&Filter::any().device("WRONG")), 0);
    // One that counts is served as ever.
    let fine = client_config(
        &gateway.ca_pem,
        Some(&authority.numbered_client(Some("alice@sandbox.example"), 1)),
    );
    assert!(is_let_in(&gateway, &fine, "WRONG").await);
}
