//! `/eas`: everybody fetches his own mail profile, and nobody another one's.

use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use seg_core::sandbox::{Filter, Kind, Sandbox};
use seg_tests::ad::Lab;
use seg_tests::authority::Authority;
use seg_tests::eas::Request;
use seg_tests::{Gateway, GatewayBuilder};

use crate::sandbox;

const TEMPLATE: &str = "<?xml version=\"1.0\"?><plist version=\"1.0\"><dict>\
<key>EmailAddress</key><string>{{mail}}</string><key>Host</key><string>{{host}}</string>\
<key>UserName</key><string>{{account}}</string><key>PayloadUUID</key><string>{{uuid:mail}}</string>\
<key>Certificate</key><data>{{pkcs12}}</data></dict></plist>";

fn before(sandbox: &Sandbox, lab: &Lab) -> GatewayBuilder {
    Gateway::before(sandbox)
        .set("server.public.url", "https://mail.public.example")
        .directory(lab)
}

fn fetch(path: &str, name: &str, password: &str) -> Request {
    let pair = BASE64_STANDARD.encode(format!("{name}:{password}"));
    Request::new("GET", path).header("Authorization", &format!("Basic {pair}"))
}

#[tokio::test]
async fn a_folder_gives_each_his_own() {
    let lab = Lab::shared();
    let sandbox = sandbox::start();
    let builder = before(&sandbox, &lab);
    let folder = builder.file("x", "").with_file_name("profiles");
    let of_dave = folder.join("dave@corp.example");
    std::fs::create_dir_all(&of_dave).expect("a folder");
    let signed = b"\x30\x82signed already".as_slice();
    let write = |name: &str, content: &[u8]| {
        std::fs::write(folder.join(name), content).expect("a profile");
    };
    write("alice@corp.example.mobileconfig", signed);
    write("bob@corp.example.mobileconfig", b"<plist>of bob</plist>");
    std::fs::write(of_dave.join("Phone.mobileconfig"), b"<plist>phone</plist>").expect("a profile");
    std::fs::write(
        of_dave.join("Tablet.mobileconfig"),
        b"<plist>tablet</plist>",
    )
    .expect("a profile");
    let gateway = builder
        .set("enrolment.profiles.path", folder.display().to_string())
        .start()
        .await;
    let password = lab.password();
    for (path, name) in [
        ("/eas", "alice"),
        ("/EAS/", "CORP\\ALICE"),
        ("/eas", "Alice@Corp.Example"),
    ] {
        let answer = gateway.ask(&fetch(path, name, password)).await;
        assert_eq!(answer.status(), 200, "{path} {name}");
        assert_eq!(answer.body, signed);
        assert_eq!(
            answer.header("Content-Type"),
            Some("application/x-apple-aspen-config")
        );
        assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    }
    let page = gateway.ask(&fetch("/eas", "dave", password)).await.text();
    assert!(
        page.contains("/eas/Phone.mobileconfig") && page.contains("/eas/Tablet.mobileconfig"),
        "{page}"
    );
    let tablet = gateway
        .ask(&fetch("/eas/Tablet.mobileconfig", "dave", password))
        .await;
    assert_eq!(tablet.text(), "<plist>tablet</plist>");
    // Nobody gets what is not his, however he asks; who has none gets none.
    for (path, name, status) in [
        ("/eas", "csmith", 404),
        ("/eas/Tablet.mobileconfig", "alice", 404),
        ("/eas/bob@corp.example.mobileconfig", "alice", 404),
        ("/eas/..%2fbob@corp.example.mobileconfig", "alice", 400),
        ("/eas/../bob@corp.example.mobileconfig", "alice", 400),
        ("/eas/dave@corp.example/Phone.mobileconfig", "alice", 404),
    ] {
        let answer = gateway.ask(&fetch(path, name, password)).await;
        assert_eq!(answer.status(), status, "{path} {name}");
    }
    assert_eq!(
        gateway.ask(&fetch("/eas", "alice", "wrong")).await.status(),
        401
    );
    let answer = gateway.ask(&Request::new("GET", "/eas")).await;
    assert_eq!(answer.status(), 401);
    assert!(answer.header("WWW-Authenticate").is_some());
    let token = Request::new("GET", "/eas").header(
        "Authorization",
        "Bearer eyJhbGciOiJub25lIn0.eyJ1cG4iOiJhbGljZUBjb3JwLmV4YW1wbGUiLCJleHAiOjQwMDAwMDAwMDB9.x",
    );
    assert_eq!(gateway.ask(&token).await.status(), 401);
    // Whom an administrator has blocked gets no new one.
    gateway
        .admin
        .write(
            "PUT",
            "/v1/users/alice@corp.example/override",
            r#"{"verdict":"block"}"#,
        )
        .await;
    let answer = gateway.ask(&fetch("/eas", "alice", password)).await;
    assert_eq!(answer.status(), 403);
    for kind in [Kind::Eas, Kind::Ews, Kind::Autodiscover] {
        assert_eq!(sandbox.count(&Filter::kind(kind)), 0);
    }
}

#[tokio::test]
async fn a_template_is_filled_and_signed() {
    let lab = Lab::shared();
    let sandbox = sandbox::start();
    let authority = Authority::new();
    let builder = before(&sandbox, &lab);
    let template = builder.file("mail.mobileconfig", TEMPLATE);
    let folder = template.with_file_name("pkcs12");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("alice@corp.example.p12"), b"her key").expect("a file");
    let signer = authority.server(&["signer.corp.example"]);
    let (certificate, key) = signer.write(&folder, "signer");
    let ca = builder.file("signers.pem", authority.pem());
    let gateway = builder
        .directory_account(&lab)
        .set("enrolment.template.path", template.display().to_string())
        .set("enrolment.pkcs12.path", folder.display().to_string())
        .set(
            "enrolment.signing.certificate.path",
            certificate.display().to_string(),
        )
        .set(
            "enrolment.signing.private.key.path",
            key.display().to_string(),
        )
        .start()
        .await;
    let answer = gateway.ask(&fetch("/eas", "alice", lab.password())).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let signed = gateway.path("signed.der");
    std::fs::write(&signed, &answer.body).expect("a file");
    let output = Command::new("openssl")
        .args([
            "cms", "-verify", "-inform", "DER", "-purpose", "any", "-binary", "-in",
        ])
        .arg(&signed)
        .arg("-CAfile")
        .arg(&ca)
        .output()
        .expect("openssl runs");
    assert!(output.status.success(), "{output:?}");
    let profile = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in [
        "<string>alice@corp.example</string>",
        "<string>mail.public.example</string>",
        "<string>alice</string>",
        "<data>aGVyIGtleQ==</data>",
    ] {
        assert!(profile.contains(part), "{part}: {profile}");
    }
    // Bob has no certificate yet.
    let answer = gateway.ask(&fetch("/eas", "bob", lab.password())).await;
    assert_eq!(answer.status(), 404);
}

#[tokio::test]
async fn it_is_closed_where_nobody_has_opened_it() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let answer = gateway.ask(&Request::new("GET", "/eas")).await;
    assert_eq!(answer.status(), 404);
}
