//! `seg check --client-cert`: one person's way through the gateway, and each thing that may stand in
//! it, named with what mends it.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use seg_tests::GatewayBuilder;
use seg_tests::ad::Lab;
use seg_tests::program::program;

use crate::kerberos::before;
use crate::sandbox;

/// What `seg check` says of a certificate, and with which code it ends.
fn check(properties: &Path, certificate: &Path, user: Option<&str>) -> (Option<i32>, String) {
    let mut command = Command::new(program("seg"));
    command
        .args(["check", "--json", "--config"])
        .arg(properties)
        .arg("--client-cert")
        .arg(certificate);
    command.args(user.iter().flat_map(|user| ["--user", user]));
    let output = command.output().expect("seg runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text)
}

/// The same for a person of the lab, under these properties.
fn way(lab: &Lab, builder: &GatewayBuilder, person: &str) -> (Option<i32>, String) {
    let certificate = lab.path(&format!("pki/{person}.pem"));
    check(&builder.properties(), &certificate, None)
}

/// The line that fails, or warns, with these words.
#[track_caller]
fn assert_says(text: &str, state: &str, words: &str) {
    let said = text.lines().any(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        let message = line["message"].as_str().unwrap_or_default();
        let has_mend = state != "failed" || line["mend"].as_str().is_some();
        line["state"] == state && message.contains(words) && has_mend
    });
    assert!(said, "{state}, {words:?}: {text}");
}

/// What stands in a certificate, and what is against it.
#[tokio::test]
async fn certificates_and_accounts() {
    let lab = Lab::shared();
    let builder = before(&lab);
    let crls = builder.path("crls");
    std::fs::create_dir_all(&crls).expect("a folder");
    std::fs::copy(lab.path("pki/ca.crl.pem"), crls.join("ca.crl")).expect("a list");
    let builder = builder
        .set("enable.cert.revocation.validation", "true")
        .set(
            "cert.based.auth.crl.files.parent.dir.path",
            crls.display().to_string(),
        );
    let (code, text) = way(&lab, &builder, "alice");
    assert_eq!(code, Some(0), "{text}");
    assert_says(
        &text,
        "ok",
        "a ticket is given in the name of alice@corp.example",
    );
    assert_says(&text, "ok", "with Kerberos");
    assert_says(&text, "ok", "the certificate was not revoked");
    assert_says(&text, "warning", "only one domain controller is named");
    // What is to be done at the CA, in the SCEP profile and on the phone.
    for words in [
        "Client Authentication",
        "User Principal Name={UserPrincipalName}",
        "the certificate as its identity",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    for (certificate, words) in [
        (
            "nameless",
            "names no user principal name, and no mail address either",
        ),
        ("purpose", "isn't meant for client authentication"),
        ("expired", "expired"),
        ("revoked", "was revoked (ca.crl)"),
        ("erin", "the account is disabled"),
        ("frank", "sensitive and cannot be delegated"),
        ("nobody", "no account has this name"),
    ] {
        let (code, text) = way(&lab, &builder, certificate);
        assert_eq!(code, Some(1), "{certificate}: {text}");
        assert_says(&text, "failed", words);
    }
    let own = check(
        &builder.properties(),
        &lab.path("pki/alice.pem"),
        Some("CORP\\alice"),
    );
    assert_eq!(own.0, Some(1), "{}", own.1);
    assert_says(
        &own.1,
        "failed",
        "the certificate is for alice@corp.example, not for corp\\alice",
    );
    // Another forest's authority.
    let stranger = seg_tests::authority::Authority::new().client("alice@corp.example");
    let stranger = builder.file("stranger.pem", stranger.certificate);
    let (code, text) = check(&builder.properties(), &stranger, None);
    assert_eq!(code, Some(1), "{text}");
    assert_says(&text, "failed", "CA that isn't trusted");
}

/// Whom the gateway asks, and what it may ask for.
#[tokio::test]
async fn controllers_keys_and_delegation() {
    let lab = Lab::shared();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let silent = silent.local_addr().expect("its address").port();
    let own = format!("CORP.EXAMPLE={}", lab.address());
    let stale = stale_keytab(&lab, "svc-check-stale");
    let set = |keys: &[(&str, &str)]| {
        let all = keys.iter();
        all.fold(before(&lab), |builder, (key, value)| {
            builder.set(key, *value)
        })
    };
    let beside_silent = format!("{own}, CORP.EXAMPLE=127.0.0.1:{silent}");
    let silent_alone = format!("CORP.EXAMPLE=127.0.0.1:{silent}");
    let beside_closed = format!("{own}, CORP.EXAMPLE=127.0.0.1:1");
    for (builder, words, has_ticket) in [
        (
            set(&[("email.server.spn", "HTTP/nowhere.corp.example")]),
            "no account has the mail server's service name",
            false,
        ),
        (
            set(&[("email.server.spn", "HTTP/other.corp.example")]),
            "may not delegate to this service",
            false,
        ),
        (
            set(&[
                ("kerberos.principals", "svc-check-stale@CORP.EXAMPLE"),
                ("kerberos.keytab.path", &stale),
            ]),
            "does not hold the account's current key",
            false,
        ),
        (
            set(&[
                ("kerberos.kdc", &silent_alone),
                ("kerberos.timeout.seconds", "2"),
            ]),
            "no answer",
            false,
        ),
        // One of two that is silent is named, and stands in nobody's way.
        (set(&[("kerberos.kdc", &beside_silent)]), "no answer", true),
        (set(&[("kerberos.kdc", &beside_closed)]), "refused", true),
    ] {
        let (code, text) = way(&lab, &builder, "alice");
        assert_eq!(code, Some(1), "{words}: {text}");
        assert_says(&text, "failed", words);
        let given = text.contains("a ticket is given in the name of alice");
        assert_eq!(given, has_ticket, "{text}");
    }
}

/// With an account of its own in the directory it tells apart what a domain controller answers with
/// one code.
#[tokio::test]
async fn the_directory_tells_which_delegation_is_missing() {
    let lab = Lab::shared();
    let (bare, based) = ("svc-check-bare", "svc-check-based");
    let keytab = lab.service(bare).display().to_string();
    let _keytab = lab.service(based);
    lab.tool(&["delegation", "add-principal", based, "svc-seg"]);
    let asking = || before(&lab).directory(&lab).directory_account(&lab);
    let (code, text) = way(&lab, &asking(), "alice");
    assert_eq!(code, Some(0), "{text}");
    assert_says(&text, "ok", "svc-mail's, and svc-seg may ask for it");
    for (builder, state, words) in [
        (
            asking()
                .set("kerberos.principals", format!("{bare}@CORP.EXAMPLE"))
                .set("kerberos.keytab.path", keytab),
            "failed",
            "is not trusted for delegation with any authentication protocol",
        ),
        (
            asking().set("email.server.spn", "HTTP/other.corp.example"),
            "failed",
            "is not in msDS-AllowedToDelegateTo of svc-seg",
        ),
        (
            asking().set("email.server.spn", format!("HTTP/{based}.corp.example")),
            "warning",
            "resource-based delegation",
        ),
        (
            asking().set("email.server.spn", "HTTP/nowhere.corp.example"),
            "failed",
            "no account has this service name",
        ),
    ] {
        let (code, text) = way(&lab, &builder, "alice");
        assert_eq!(code, Some(1), "{words}: {text}");
        assert_says(&text, state, words);
    }
    for (person, words) in [
        ("frank", "the account is sensitive and cannot be delegated"),
        ("erin", "erin@corp.example: account_disabled"),
        ("nobody", "nobody@corp.example: account_unknown"),
    ] {
        let (code, text) = way(&lab, &asking(), person);
        assert_eq!(code, Some(1), "{person}: {text}");
        assert_says(&text, "failed", words);
    }
    let grouped = asking().set("directory.groups.permitted", "Mobile-Mail-Users");
    let (code, text) = way(&lab, &grouped, "bob");
    assert_eq!(code, Some(1), "{text}");
    assert_says(&text, "failed", "group_missing");
}

/// A server that takes no tickets, and legs that want different things.
#[tokio::test]
async fn servers_that_want_something_else() {
    let lab = Lab::shared();
    let (basic, both) = (sandbox::start_plain(), sandbox::start_plain());
    basic.set_challenges(vec!["Basic realm=\"x\"".to_owned()]);
    let offered = ["Negotiate", "Basic realm=\"x\""];
    both.set_challenges(offered.map(str::to_owned).to_vec());
    let legs = |eas: &str, ews: &str| {
        before(&lab)
            .set("email.server.host.and.port", eas)
            .set("ews.email.server.host.and.port", ews)
            .set("enable.boxer.ens.ews.proxy", "true")
    };
    let (code, text) = way(&lab, &legs(&both.url(), &both.url()), "alice");
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = way(&lab, &legs(&basic.url(), &basic.url()), "alice");
    assert_eq!(code, Some(1), "{text}");
    assert_says(&text, "failed", "answers 401 without Negotiate");
    let (_, text) = way(&lab, &legs(&both.url(), &basic.url()), "alice");
    assert_says(&text, "warning", "EWS by kerberos and offers Basic");
    let passing = legs(&both.url(), &both.url()).set("ews.email.server.login", "pass");
    let (code, text) = way(&lab, &passing, "alice");
    assert_eq!(code, Some(0), "{text}");
    assert_says(&text, "warning", "ActiveSync is logged in at by kerberos");
}

/// Which device a certificate belongs to, by its own word or the directory's.
#[tokio::test]
async fn the_device_of_a_certificate() {
    let lab = Lab::shared();
    let asking = || {
        before(&lab)
            .directory(&lab)
            .directory_account(&lab)
            .set("identity.certificate.device", "directory")
            .set("directory.device.attribute", "description")
            .set("directory.device.filter", "(info={serial})")
    };
    let carol = crate::kerberos::serial(&lab, "carol");
    lab.tool(&["computer", "create", "phone-carol"]);
    lab.attribute("phone-carol$", "info", &carol);
    lab.attribute("phone-carol$", "description", "CAROLS");
    let (code, text) = way(&lab, &asking(), "carol");
    assert_eq!(code, Some(0), "{text}");
    assert_says(&text, "ok", "the directory names CAROLS");
    let (code, text) = way(&lab, &asking(), "alice");
    assert_eq!(code, Some(1), "{text}");
    assert_says(&text, "failed", "device_unknown: (info=");
    let by_name = before(&lab).set("identity.certificate.device", "cn");
    let (_, text) = way(&lab, &by_name, "alice");
    assert_says(&text, "ok", "the certificate belongs to alice alone");
}

/// A keytab from before the account's last change of its password.
fn stale_keytab(lab: &Lab, account: &str) -> String {
    let keytab = lab.service(account);
    lab.tool(&[
        "user",
        "setpassword",
        account,
        "--newpassword=An0ther-Lab-Pass",
    ]);
    keytab.display().to_string()
}
