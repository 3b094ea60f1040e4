//! Which device is this? The rungs that something stronger than a word of the client's stands on.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use seg_core::sandbox::{Answer, Filter, Kind, Script};
use seg_tests::Gateway;
use seg_tests::authority::Authority;
use seg_tests::eas::{Request, soap};

use crate::block::GET_INBOX;

const DENIED: &str = "ErrorAccessDenied";

/// A token as an issuer writes it. Whether its signature counts is the mail server's to say where
/// the gateway knows no issuer.
fn token(device: &str) -> String {
    let claims = format!(
        r#"{{"upn":"alice@sandbox.example","deviceid":"{device}","oid":"0c0ffee0-1111-2222-3333-444455556666"}}"#
    );
    let head = BASE64.encode(r#"{"alg":"RS256","typ":"JWT"}"#);
    let signature = BASE64.encode("signature");
    format!("{head}.{}.{signature}", BASE64.encode(claims))
}

#[tokio::test]
async fn a_certificate_names_its_device() {
    let authority = Authority::new();
    let identity = authority.numbered_client(None, 0x2a);
    for (rung, device) in [
        ("certificate:cn", "CLIENT-42"),
        ("certificate:serial", "2A"),
    ] {
        let sandbox = crate::sandbox::start();
        let builder = Gateway::before(&sandbox);
        let ca = builder.file("clients.pem", authority.pem());
        let policies = format!("[ews.native]\ndevice = ['{rung}']\n");
        let policies = builder.file("policies.toml", policies);
        let gateway = builder
            .set("compliance.policies.path", policies.display().to_string())
            .set("server.client.auth", "optional")
            .set("server.client.ca.path", ca.display().to_string())
            .start()
            .await;
        let request = Request::ews("alice", &soap(GET_INBOX));
        let mut wire = gateway.connect_as(&identity).await;
        wire.send(request.bytes()).await;
        assert_eq!(wire.answer().await.status(), 200);
        let event = gateway
            .event("by certificate", |event| {
                event["device_from"] == "certificate"
            })
            .await;
        assert_eq!(event["device"], device, "{event}");

        gateway.admin.block(device).await;
        wire.send(request.bytes()).await;
        assert!(wire.answer().await.text().contains(DENIED), "{rung}");
        // Who shows no certificate has not said which device it is.
        gateway.ask(&request).await;
        gateway
            .event("by user", |event| event["device_from"] == "user")
            .await;
    }
}

/// A proxy of the house's that shows a certificate is believed wherever it comes from.
#[tokio::test]
async fn a_header_is_believed_of_whom_a_certificate_vouches_for() {
    let authority = Authority::new();
    let sandbox = crate::sandbox::start();
    let builder = Gateway::before(&sandbox);
    let ca = builder.file("clients.pem", authority.pem());
    let policies = builder.file(
        "policies.toml",
        "[[ews.client]]\nclass = 'ens'\ncertificates = ['CN=client-7*']\n\
         [ews.ens]\ndevice = ['header:X-Device-Id']\n[ews.native]\ndevice = ['header:X-Device-Id']\n",
    );
    let gateway = builder
        .set("compliance.policies.path", policies.display().to_string())
        .set("server.client.auth", "optional")
        .set("server.client.ca.path", ca.display().to_string())
        .start()
        .await;
    let request = Request::ews("alice", &soap(GET_INBOX)).header("X-Device-Id", "TOLD");
    gateway.ask(&request).await;
    gateway
        .event("by user", |event| {
            event["device_from"] == "user" && event["client_class"] == "native"
        })
        .await;
    for (serial, class) in [(7, "ens"), (8, "native")] {
        let mut wire = gateway
            .connect_as(&authority.numbered_client(None, serial))
            .await;
        wire.send(request.bytes()).await;
        assert_eq!(wire.answer().await.status(), 200);
        let event = gateway
            .event(class, |event| {
                event["device_from"] == "header" && event["client_class"] == class
            })
            .await;
        assert_eq!(event["device"], "TOLD", "{event}");
    }
}

#[tokio::test]
async fn a_tokens_claim_names_its_device() {
    let sandbox = crate::sandbox::start();
    let folder = Answer::ok("text/xml", "<s:Envelope xmlns:s='x'/>");
    sandbox.script(Script::answer(Filter::kind(Kind::Ews), folder).always());
    let builder = Gateway::before(&sandbox);
    let policies = builder.file(
        "policies.toml",
        "[ews.native]\ndevice = ['claim:deviceid']\n",
    );
    let gateway = builder
        .set("compliance.policies.path", policies.display().to_string())
        .start()
        .await;
    let by = |device: &str| {
        Request::ews("alice", &soap(GET_INBOX))
            .without("Authorization")
            .header("Authorization", &format!("Bearer {}", token(device)))
    };
    for (device, key) in [("tablet-1", "TABLET-1"), ("phone-1", "PHONE-1")] {
        let answer = gateway.ask(&by(device)).await;
        assert!(!answer.text().contains(DENIED), "{}", answer.text());
        let event = gateway.event(key, |event| event["device"] == key).await;
        assert_eq!(event["device_from"], "claim", "{event}");
        assert_eq!(event["user"], "alice@sandbox.example", "{event}");
    }
    gateway.admin.block("PHONE-1").await;
    assert!(gateway.ask(&by("phone-1")).await.text().contains(DENIED));
    let other = gateway.ask(&by("tablet-1")).await;
    assert!(!other.text().contains(DENIED), "{}", other.text());
}
