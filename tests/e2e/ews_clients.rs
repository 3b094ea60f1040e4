//! Real EWS clients, exchangelib and DavMail, before the sandbox through the gateway.

use seg_core::sandbox::{Filter, Kind, Sandbox, SandboxOptions};
use seg_tests::{Gateway, interop};
use serde_json::Value;

/// What a server may offer to log in with.
const OFFERS: [&[&str]; 3] = [
    &["Negotiate", "NTLM", "Basic realm=\"sandbox.example\""],
    &["Negotiate, NTLM, Basic realm=\"sandbox.example\""],
    &["Basic realm=\"sandbox.example\""],
];

#[tokio::test]
async fn exchangelib_lists_and_reads_whatever_is_offered() {
    for offer in OFFERS {
        let sandbox = offering(offer);
        let gateway = Gateway::before(&sandbox).start().await;
        let listed = exchangelib(&gateway, "list", &[]).await;
        assert_eq!(listed["ok"], true, "{offer:?}: {listed}");
        let read = exchangelib(&gateway, "read", &[]).await;
        assert_eq!(read["ok"], true, "{offer:?}: {read}");
        assert!(
            read["attachment_bytes"]
                .as_u64()
                .is_some_and(|length| length > 0),
            "{read}"
        );
    }
}

#[tokio::test]
async fn exchangelib_is_refused_cleanly_and_comes_back() {
    let sandbox = offering(OFFERS[0]);
    let gateway = Gateway::before(&sandbox).start().await;
    assert_eq!(exchangelib(&gateway, "list", &[]).await["ok"], true);

    let target = "/v1/users/alice@sandbox.example/override";
    gateway
        .admin
        .write("PUT", target, r#"{"verdict":"block"}"#)
        .await;
    let before = sandbox.count(&Filter::kind(Kind::Ews).user("alice@sandbox.example"));
    let refused = exchangelib(&gateway, "list", &["--auth", "basic"]).await;
    assert_eq!(refused["error"], "ErrorAccessDenied", "{refused}");
    let after = sandbox.count(&Filter::kind(Kind::Ews).user("alice@sandbox.example"));
    assert_eq!(after, before, "a refused request has reached the server");

    gateway.admin.write("DELETE", target, "").await;
    assert_eq!(exchangelib(&gateway, "list", &[]).await["ok"], true);
}

#[tokio::test]
async fn exchangelib_sends() {
    let sandbox = offering(OFFERS[0]);
    let gateway = Gateway::before(&sandbox).start().await;
    assert_eq!(exchangelib(&gateway, "send", &[]).await["ok"], true);
    assert_eq!(sandbox.sent().len(), 1);
}

#[tokio::test]
async fn davmail_reads_is_refused_and_comes_back() {
    let sandbox = offering(OFFERS[0]);
    let gateway = Gateway::before(&sandbox).start().await;
    let read = davmail(&gateway, "read").await;
    assert_eq!(read["ok"], true, "{read}");
    assert!(
        read["mails"]
            .as_array()
            .is_some_and(|mails| !mails.is_empty()),
        "{read}"
    );

    let target = "/v1/users/alice@sandbox.example/override";
    gateway
        .admin
        .write("PUT", target, r#"{"verdict":"block"}"#)
        .await;
    let refused = davmail(&gateway, "list").await;
    assert_eq!(refused["ok"], false, "{refused}");

    gateway.admin.write("DELETE", target, "").await;
    let back = davmail(&gateway, "list").await;
    assert_eq!(back["ok"], true, "{back}");
}

fn offering(challenges: &[&str]) -> Sandbox {
    let challenges = challenges.iter().map(|line| (*line).to_owned()).collect();
    Sandbox::start(SandboxOptions {
        challenges,
        ..SandboxOptions::default()
    })
    .expect("a sandbox")
}

async fn exchangelib(gateway: &Gateway, mode: &str, more: &[&str]) -> Value {
    client("exchangelib_client.py", gateway, mode, more).await
}

async fn davmail(gateway: &Gateway, mode: &str) -> Value {
    client("davmail_client.py", gateway, mode, &[]).await
}

/// Runs a client as Alice; its last line is what it has to say.
async fn client(script: &str, gateway: &Gateway, mode: &str, more: &[&str]) -> Value {
    let mut command = interop::script(script);
    command
        .arg(format!(
            "https://localhost:{}/EWS/Exchange.asmx",
            gateway.address.port()
        ))
        .args(["alice@sandbox.example", "Secret-alice-1"])
        .arg(gateway.ca_path())
        .arg(mode)
        .args(more);
    let output = interop::output(command).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = said.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|_| {
        panic!(
            "{script}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        )
    })
}
