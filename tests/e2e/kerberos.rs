//! A certificate, or a ticket, comes in, Kerberos goes out: on a real domain controller and before
//! a web server that lets nobody in without a ticket.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::Stdio;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use seg_core::sandbox::requests;
use seg_tests::ad::Lab;
use seg_tests::eas::{Request, soap};
use seg_tests::message::Message;
use seg_tests::{Gateway, GatewayBuilder};
use serde_json::Value;

use crate::block::GET_INBOX;

/// A gateway before the lab's web server.
pub(crate) fn before(lab: &Lab) -> GatewayBuilder {
    let path = |name: &str| lab.path(name).display().to_string();
    Gateway::alone()
        .set("identity.default.domain", "corp.example")
        .set(
            "email.server.host.and.port",
            format!("https://{}:443", lab.address()),
        )
        .set("email.server.ca.path", path("pki/ca.pem"))
        .set("email.server.login", "kerberos")
        .set("email.server.spn", "HTTP/mail.corp.example")
        .set("server.client.auth", "optional")
        .set("server.client.ca.path", path("pki/ca.pem"))
        .set("kerberos.principals", "svc-seg@CORP.EXAMPLE")
        .set("kerberos.keytab.path", path("keytabs/seg.keytab"))
        .set("kerberos.kdc", format!("CORP.EXAMPLE={}", lab.address()))
}

pub(crate) fn bare(user: &str) -> Request {
    Request::eas("FolderSync", user, "KRB", requests::FOLDER_SYNC).without("Authorization")
}

pub(crate) async fn ask_as(
    gateway: &Gateway,
    lab: &Lab,
    certificate: &str,
    request: &Request,
) -> Message {
    let mut wire = gateway.connect_as(&lab.identity(certificate)).await;
    wire.send(request.bytes()).await;
    wire.answer().await
}

pub(crate) async fn reason(gateway: &Gateway, reason: &str) -> Value {
    gateway
        .event(reason, |event| {
            event["target"] == "seg::request" && event["reason"] == reason
        })
        .await
}

/// Apache has let this principal in.
fn is_remote_user(answer: &Message, principal: &str) {
    let text = answer.text();
    let told = format!("REMOTE_USER={principal}\n");
    assert!(text.starts_with(&told), "{text}");
}

#[tokio::test]
async fn a_certificate_becomes_a_ticket() {
    let lab = Lab::shared();
    let gateway = before(&lab).start().await;
    let ews = Request::ews("x", &soap(GET_INBOX)).without("Authorization");
    for (certificate, user) in [("alice", "alice"), ("bob", "bob"), ("alice", "alice")] {
        for request in [bare(user), ews.clone()] {
            let answer = ask_as(&gateway, &lab, certificate, &request).await;
            assert_eq!(answer.status(), 200, "{}", answer.text());
            let expected = format!("REMOTE_USER={user}@CORP.EXAMPLE\n");
            assert!(answer.text().starts_with(&expected), "{}", answer.text());
            // The server has proven itself to us; the client is owed nothing of it.
            assert_eq!(answer.all("WWW-Authenticate").count(), 0);
        }
    }
    // Who has no certificate is not asked for Kerberos; there is nothing else that he could use.
    let answer = gateway.ask(&bare("alice")).await;
    assert_eq!(answer.status(), 403);
    // Nor is one whose certificate names nobody.
    let answer = ask_as(&gateway, &lab, "nameless", &bare("alice")).await;
    assert_eq!(answer.status(), 403);
}

#[tokio::test]
async fn a_suffix_of_its_own_is_looked_up_by_the_domain_controller() {
    let lab = Lab::shared();
    let gateway = before(&lab)
        .set("kerberos.user.name", "enterprise")
        .start()
        .await;
    let answer = ask_as(&gateway, &lab, "carol", &bare("carol.smith")).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert!(answer.text().contains("carol.smith"), "{}", answer.text());
}

/// A UPN whose name is not the account's: the directory knows whose it is.
#[tokio::test]
async fn the_directory_names_the_account() {
    let lab = Lab::shared();
    let gateway = before(&lab)
        .directory(&lab)
        .directory_account(&lab)
        .set("directory.groups.permitted", "Mobile-Mail-Users")
        .start()
        .await;
    let answer = ask_as(&gateway, &lab, "carol", &bare("carol.smith")).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    is_remote_user(&answer, "csmith@CORP.EXAMPLE");
    for (certificate, why) in [
        ("bob", "group_missing"),
        ("erin", "account_disabled"),
        ("nobody", "account_unknown"),
        ("frank", "kerberos_account_sensitive"),
    ] {
        let answer = ask_as(&gateway, &lab, certificate, &bare(certificate)).await;
        assert_eq!(answer.status(), 403, "{certificate}");
        reason(&gateway, why).await;
    }
}

/// A token that nobody has signed names somebody whom the directory knows: that is no proof.
#[tokio::test]
async fn a_forged_token_becomes_no_ticket() {
    let lab = Lab::shared();
    let gateway = before(&lab)
        .directory(&lab)
        .directory_account(&lab)
        .start()
        .await;
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let token = format!(
        "{}.{}.{}",
        part(r#"{"alg":"RS256","typ":"JWT"}"#),
        part(r#"{"upn":"alice@corp.example","exp":4000000000}"#),
        part("signature")
    );
    let forged = bare("alice").header("Authorization", &format!("Bearer {token}"));
    let answer = gateway.ask(&forged).await;
    assert_eq!(answer.status(), 403, "{}", answer.text());
    assert!(!answer.text().contains("REMOTE_USER"), "{}", answer.text());
    reason(&gateway, "kerberos_unproven").await;
}

/// A certificate that names nobody is mapped by the directory; one that names its owner by his mail
/// address or its subject is found by it.
#[tokio::test]
async fn certificates_without_a_upn_are_found_in_the_directory() {
    let lab = Lab::shared();
    lab.tool(&["user", "create", "mapped", lab.password()]);
    let serial = serial(&lab, "nameless");
    let bytes: Vec<&str> = (0..serial.len() / 2)
        .rev()
        .filter_map(|at| serial.get(at * 2..at * 2 + 2))
        .collect();
    let identity = format!("X509:<I>O=Lab,CN=Lab Root CA<SR>{}", bytes.concat());
    lab.attribute("mapped", "altSecurityIdentities", &identity);
    let gateway = |user: &str| {
        before(&lab)
            .set("identity.certificate.user", user)
            .directory(&lab)
            .directory_account(&lab)
    };
    let directory = gateway("upn,directory").start().await;
    let answer = ask_as(&directory, &lab, "nameless", &bare("mapped")).await;
    is_remote_user(&answer, "mapped@CORP.EXAMPLE");
    // The mail address leads to the account of another name.
    let email = gateway("email").start().await;
    let answer = ask_as(&email, &lab, "carol", &bare("carol.smith")).await;
    is_remote_user(&answer, "csmith@CORP.EXAMPLE");
    let subject = gateway("cn").start().await;
    let answer = ask_as(&subject, &lab, "alice", &bare("alice")).await;
    is_remote_user(&answer, "alice@CORP.EXAMPLE");
    // Whom nobody maps has no name.
    let answer = ask_as(&subject, &lab, "nameless", &bare("x")).await;
    assert_eq!(answer.status(), 403);
    reason(&subject, "account_unknown").await;
}

#[tokio::test]
async fn a_silent_domain_controller_is_passed_over() {
    let lab = Lab::shared();
    // It takes connections and never says a word: the library would wait ten seconds for it, at
    // each exchange.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = silent.local_addr().expect("its address").port();
    let kdcs = format!(
        "CORP.EXAMPLE=127.0.0.1:{port}, CORP.EXAMPLE={}",
        lab.address()
    );
    let gateway = before(&lab)
        .set("kerberos.kdc", kdcs)
        // Less than one wait of the library's.
        .set("kerberos.timeout.seconds", "8")
        .start()
        .await;
    let answer = ask_as(&gateway, &lab, "alice", &bare("alice")).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    gateway
        .event("the silent one", |event| {
            event["message"] == "the domain controller does not answer: no answer"
        })
        .await;

    let gateway = before(&lab)
        .set("kerberos.kdc", format!("CORP.EXAMPLE=127.0.0.1:{port}"))
        .set("kerberos.timeout.seconds", "2")
        .start()
        .await;
    let answer = ask_as(&gateway, &lab, "alice", &bare("alice")).await;
    assert_eq!(answer.status(), 503);
    reason(&gateway, "kerberos_late").await;
}

#[tokio::test]
async fn the_second_domain_controller_takes_over() {
    let lab = Lab::own();
    let second = lab.second_domain_controller();
    let kdcs = format!("CORP.EXAMPLE={}, CORP.EXAMPLE={second}", lab.address());
    let gateway = before(&lab).set("kerberos.kdc", kdcs).start().await;
    assert_eq!(
        ask_as(&gateway, &lab, "alice", &bare("alice"))
            .await
            .status(),
        200
    );
    lab.domain_controller("stop");
    // Bob's ticket has not been fetched yet; Alice's is at hand whoever is up.
    for user in ["bob", "alice"] {
        let answer = ask_as(&gateway, &lab, user, &bare(user)).await;
        assert_eq!(answer.status(), 200, "{user}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_ticket_to_us_is_passed_on() {
    let lab = Lab::shared();
    let builder = before(&lab);
    let cache = builder.file("alice.cc", "");
    let gateway = builder
        .set("kerberos.accept", "true")
        .set("server.client.auth", "none")
        .set("server.client.ca.path", "")
        .start()
        .await;
    let mut kinit = lab
        .command("kinit", &cache)
        .arg("alice@CORP.EXAMPLE")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("kinit runs");
    let mut stdin = kinit.stdin.take().expect("a pipe");
    writeln!(stdin, "{}", lab.password()).expect("kinit reads");
    drop(stdin);
    assert!(kinit.wait().expect("kinit ends").success());

    let port = gateway.address.port();
    let target = "Microsoft-Server-ActiveSync?Cmd=FolderSync&User=alice&DeviceId=HOP&DeviceType=t";
    for _ in 0..2 {
        let output = lab
            .command("curl", &cache)
            .args([
                "-sS",
                "--negotiate",
                "-u",
                ":",
                "--max-time",
                "60",
                "-i",
                "-k",
            ])
            .args(["--resolve", &format!("seg.corp.example:{port}:127.0.0.1")])
            .args(["-H", "MS-ASProtocolVersion: 14.1"])
            .args(["-H", "Content-Type: application/vnd.ms-sync.wbxml"])
            .args(["--data-binary", "x"])
            .arg(format!("https://seg.corp.example:{port}/{target}"))
            .output()
            .expect("curl runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            text.contains("REMOTE_USER=alice@CORP.EXAMPLE"),
            "{text}\n{output:?}"
        );
    }
    let event = gateway
        .event("the request", |event| {
            event["device"] == "HOP" && event["status"] == 200
        })
        .await;
    assert_eq!(event["user"], "alice@corp.example");

    // What is no ticket to us is nobody's.
    let forged = bare("alice").header("Authorization", "Negotiate YIIBgQYJKoZIhvcSAQICAQBuggFw");
    assert_eq!(gateway.ask(&forged).await.status(), 401);
}

/// A gateway whose clock is ten minutes ahead.
#[tokio::test]
async fn a_clock_that_is_wrong_is_named() {
    let lab = Lab::shared();
    let ahead = |builder: GatewayBuilder| {
        builder
            .environment(
                "LD_PRELOAD",
                "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
            )
            .environment("FAKETIME", "+600s")
    };
    let gateway = ahead(before(&lab)).start().await;
    let answer = ask_as(&gateway, &lab, "alice", &bare("alice")).await;
    assert_eq!(answer.status(), 503, "{}", answer.text());
    reason(&gateway, "kerberos_clock_skew").await;
    // `check` measures it.
    let output = std::process::Command::new(seg_tests::program::program("seg"))
        .args(["check", "--json", "--config"])
        .arg(gateway.path("application.properties"))
        .arg("--client-cert")
        .arg(lab.path("pki/alice.pem"))
        .env(
            "LD_PRELOAD",
            "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        )
        .env("FAKETIME", "+600s")
        .output()
        .expect("seg runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("its clock is -600 seconds ahead of ours")
            || text.contains("its clock is -599 seconds"),
        "{text}"
    );
}

/// What binds a ticket to the TLS connection arrives: a server that looks at it takes ours, and one
/// that was told of none says so.
#[tokio::test]
async fn tickets_are_bound_to_the_connection() {
    let lab = Lab::shared();
    for (binding, expected) in [("true", "BOUND=yes\n"), ("false", "BOUND=no\n")] {
        let server = lab.bound_server();
        let gateway = before(&lab)
            .set(
                "email.server.host.and.port",
                format!("https://{}:{}", lab.address(), server.port),
            )
            .set("kerberos.channel.binding", binding)
            .start()
            .await;
        let answer = ask_as(&gateway, &lab, "alice", &bare("alice")).await;
        assert_eq!(answer.text(), expected, "{binding}");
    }
}

/// Two forests that know nothing of each other, one gateway before both: whoever has a certificate
/// of either is logged in by its own domain controller, at its own server.
#[tokio::test]
async fn each_realm_has_its_own_controllers_and_keys() {
    let lab = Lab::shared();
    let partner = Lab::of_realm("PARTNER.EXAMPLE");
    let both = |name: &str| {
        let read = |lab: &Lab| std::fs::read(lab.path(name)).expect("a file of the lab");
        (read(&lab), read(&partner))
    };
    let builder = before(&lab);
    let (ca, other_ca) = both("pki/ca.pem");
    let authorities = builder.file("both.pem", [ca, other_ca].concat());
    // A keytab begins with two bytes of version; what follows can be put together.
    let (keys, other_keys) = both("keytabs/seg.keytab");
    let keytab = builder.file("both.keytab", [&keys[..], &other_keys[2..]].concat());
    let gateway = builder
        .set("identity.default.domain", "")
        .set("server.client.ca.path", authorities.display().to_string())
        .set("email.server.ca.path", authorities.display().to_string())
        .set(
            "ews.email.server.host.and.port",
            format!("https://{}:443", partner.address()),
        )
        .set("ews.email.server.spn", "HTTP/mail.partner.example")
        .set(
            "kerberos.principals",
            "svc-seg@CORP.EXAMPLE, svc-seg@PARTNER.EXAMPLE",
        )
        .set("kerberos.keytab.path", keytab.display().to_string())
        .set(
            "kerberos.kdc",
            format!(
                "CORP.EXAMPLE={}, PARTNER.EXAMPLE={}",
                lab.address(),
                partner.address()
            ),
        )
        .start()
        .await;
    let ews = Request::ews("x", &soap(GET_INBOX)).without("Authorization");
    for (lab, request, user) in [
        (&*lab, bare("alice"), "alice@CORP.EXAMPLE"),
        (&partner, ews, "alice@PARTNER.EXAMPLE"),
    ] {
        let answer = ask_as(&gateway, lab, "alice", &request).await;
        let expected = format!("REMOTE_USER={user}\n");
        assert!(answer.text().starts_with(&expected), "{}", answer.text());
    }
    // The one forest's Alice is not the other's: her controller knows no such server.
    let answer = ask_as(&gateway, &partner, "alice", &bare("alice")).await;
    assert_eq!(answer.status(), 503, "{}", answer.text());
    reason(&gateway, "kerberos_spn_missing").await;
}

/// The serial number of a certificate, as openssl prints it.
pub(crate) fn serial(lab: &Lab, name: &str) -> String {
    let output = std::process::Command::new("openssl")
        .args(["x509", "-noout", "-serial", "-in"])
        .arg(lab.path(&format!("pki/{name}.pem")))
        .output()
        .expect("openssl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim().trim_start_matches("serial=").to_owned()
}
