//! Client certificates: who is let in by one, with whom it must agree, what the mail server is
//! told of it, who may log in with Kerberos, and that nobody else rides on his login.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::ClientConfig;
use seg_core::sandbox::{Answer, Filter, Kind, Sandbox, Script};
use seg_tests::authority::{Authority, Identity};
use seg_tests::eas::{Request, basic, soap};
use seg_tests::message::Message;
use seg_tests::wire::{Wire, client_config};
use seg_tests::{Gateway, GatewayBuilder};

use crate::block::GET_INBOX;
use crate::sandbox::{self, folder_sync, is_served};

/// A gateway that asks for certificates of this authority.
pub(crate) fn asking(sandbox: &Sandbox, authority: &Authority, rule: &str) -> GatewayBuilder {
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
pub(crate) async fn is_let_in(gateway: &Gateway, config: &Arc<ClientConfig>, device: &str) -> bool {
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

const ALL: [&str; 3] = ["Negotiate", "NTLM", "Basic realm=\"sandbox.example\""];
const NTLM_MESSAGE: &str = "TlRMTVNTUAABAAAAB4IIogAAAAAAAAAAAAAAAAAAAAAGAbEdAAAADw==";

async fn ask(gateway: &Gateway, identity: Option<&Identity>, request: &Request) -> Message {
    let Some(identity) = identity else {
        return gateway.ask(request).await;
    };
    let mut wire = gateway.connect_as(identity).await;
    wire.send(request.bytes()).await;
    wire.answer().await
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
    // Nor can the target name one host and `Host` another.
    let mut wire = Wire::open(gateway.address, "127.0.0.1", Arc::clone(&config)).await;
    let request = folder_sync("HOSTS")
        .without("Host")
        .header("Host", "127.0.0.1");
    let bytes = String::from_utf8_lossy(&request.head())
        .replacen("POST /", "POST https://localhost/", 1)
        .into_bytes();
    wire.send(bytes).await;
    assert_eq!(wire.answer().await.status(), 400);

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

/// A listener may have a rule of its own, which the usual one does not soften.
#[tokio::test]
async fn each_listener_has_its_own_rule() {
    let sandbox = sandbox::start();
    let authority = Authority::new();
    let builder = asking(&sandbox, &authority, "none");
    let rule = format!("{}=required", builder.listen());
    let gateway = builder
        .set("server.client.auth.listeners", rule)
        .start()
        .await;
    let without = client_config(&gateway.ca_pem, None);
    assert!(!is_let_in(&gateway, &without, "LISTENER").await);
    assert_eq!(sandbox.count(&Filter::any().device("LISTENER")), 0);
    let alice = authority.client("alice@sandbox.example");
    let with = client_config(&gateway.ca_pem, Some(&alice));
    assert!(is_let_in(&gateway, &with, "LISTENER").await);
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
    assert!(xml.contains("<renegotiation supported=\"0\""), "{xml}");
    assert!(!xml.contains("<compression supported=\"1\""), "{xml}");
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

#[tokio::test]
async fn negotiate_is_offered_to_those_whom_a_certificate_names() {
    let sandbox = sandbox::start();
    sandbox.set_challenges(ALL.map(str::to_owned).to_vec());
    let authority = Authority::new();
    let gateway = asking(&sandbox, &authority, "optional").start().await;
    let alice = authority.client("alice@sandbox.example");
    let (negotiate, basic) = (ALL[0], ALL[2]);
    let wrong = format!("Basic {}", BASE64_STANDARD.encode("alice:wrong"));
    let ntlm = format!("NTLM {NTLM_MESSAGE}");
    for request in [
        folder_sync("CERTIFIED"),
        Request::ews("alice", &soap(GET_INBOX)),
    ] {
        let bare = request.without("Authorization");
        let attempts = [
            bare.clone(),
            bare.clone().header("Authorization", &wrong),
            bare.header("Authorization", &ntlm),
        ];
        for attempt in attempts {
            for (identity, expected) in
                [(Some(&alice), vec![negotiate, basic]), (None, vec![basic])]
            {
                let answer = ask(&gateway, identity, &attempt).await;
                assert_eq!(answer.status(), 401);
                let offered: Vec<&str> = answer.all("WWW-Authenticate").collect();
                assert_eq!(offered, expected);
            }
        }
    }
    let ntlm = ["scheme=\"ntlm\""];
    let removed = gateway
        .admin
        .metric("seg_challenges_removed_total", &ntlm)
        .await;
    assert_eq!(removed, 12.0);
}

/// A Kerberos token is no password of a request: some servers let everything in that comes over
/// its connection from then on.
#[tokio::test]
async fn nobody_rides_on_the_connection_of_a_kerberos_login() {
    let sandbox = sandbox::start();
    let authority = Authority::new();
    let gateway = asking(&sandbox, &authority, "optional").start().await;
    let (alice, bob) = (
        authority.client("alice@sandbox.example"),
        authority.client("bob@sandbox.example"),
    );
    let open = Answer::ok("text/plain", "whoever you are");
    sandbox.script(Script::answer(Filter::any().of(Kind::Eas), open).always());
    // A GSS-API token with Kerberos' mechanism (RFC 4121 4.1); what is in it is the server's
    // business.
    let token = |content: &[u8]| {
        let gss = [
            b"\x60\x1b\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02",
            content,
        ]
        .concat();
        format!("Negotiate {}", BASE64_STANDARD.encode(gss))
    };
    // Each identity by a device of its own name, so that the server's side can tell them apart.
    let bare = |device| folder_sync(device).without("Authorization");
    let by = |device, authorization: &str| bare(device).header("Authorization", authorization);
    let (of_alice, of_bob) = (token(b"ticket of alice."), token(b"ticket of bob..."));
    let turns = [
        (Some(&alice), by("ALICE", &of_alice), 200),
        (Some(&bob), by("BOB", &of_bob), 200),
        (None, bare("NOBODY"), 403),
        (None, by("CAROL", &basic("carol")), 200),
        // A certificate alone: this request brings no login of its own.
        (Some(&alice), bare("ALICE"), 200),
        // The same ticket under another's certificate is another identity.
        (Some(&bob), by("BOB", &of_alice), 200),
    ];
    // Often enough for each to come behind each other on every core.
    for _ in 0..8 {
        for (identity, request, status) in &turns {
            let answer = ask(&gateway, *identity, request).await;
            assert_eq!(answer.status(), *status);
        }
    }
    let mut riders: BTreeMap<u64, BTreeSet<(String, String)>> = BTreeMap::new();
    for exchange in sandbox.exchanges(&Filter::kind(Kind::Eas)) {
        let login = exchange.head.header("Authorization").unwrap_or_default();
        let login = String::from_utf8_lossy(login).into_owned();
        let rider = (exchange.seen.device, login);
        riders.entry(exchange.connection).or_default().insert(rider);
    }
    // What is shared shows that anything could have been.
    assert!(riders.values().any(|riders| riders.len() > 1), "{riders:?}");
    for riders in riders.values() {
        let bound = riders
            .iter()
            .any(|(_, login)| login.starts_with("Negotiate"));
        assert!(!bound || riders.len() == 1, "{riders:?}");
    }
}
