//! Real EWS clients, exchangelib and DavMail, before the sandbox through the gateway.

use seg_core::sandbox::{
    Answer, Filter, Kind, Push, Pushed, Release, Sandbox, SandboxOptions, Script as Throttled,
};
use seg_tests::{Gateway, eventually, interop};
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
async fn exchangelib_streams_is_cut_cleanly_and_comes_back() {
    let sandbox = offering(OFFERS[0]);
    let gateway = Gateway::before(&sandbox).start().await;
    let streams = Filter::name("GetStreamingEvents");
    let target = "/v1/users/alice@sandbox.example/override";
    for blocked in [false, true, false] {
        let mut client = Script::start(&gateway, "stream");
        assert_eq!(client.json().await["subscribed"], true);
        eventually("an open stream", || async {
            (!sandbox.open_polls(&streams).is_empty()).then_some(())
        })
        .await;
        if blocked {
            let block = r#"{"verdict":"block"}"#;
            gateway.admin.write("PUT", target, block).await;
            let said = client.json().await;
            assert_eq!(said["error"], "ErrorAccessDenied", "{said}");
            gateway.admin.write("DELETE", target, "").await;
        } else {
            sandbox.release(&streams, &Release::Changes);
            let said = client.json().await;
            assert_eq!(said["event"], "NewMailEvent", "{said}");
        }
        eventually("the stream is left", || async {
            sandbox.open_polls(&streams).is_empty().then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn ews_javascript_api_lists_is_refused_and_comes_back() {
    let sandbox = offering(OFFERS[0]);
    let gateway = Gateway::before(&sandbox).start().await;
    let list = || async {
        let mut command = interop::node("ews_js_client.js");
        command
            .arg(format!(
                "https://localhost:{}/EWS/Exchange.asmx",
                gateway.address.port()
            ))
            .args(["alice@sandbox.example", "Secret-alice-1"])
            .env("NODE_EXTRA_CA_CERTS", gateway.ca_path());
        let output = interop::output(command).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = said.lines().last().unwrap_or_default().to_owned();
        serde_json::from_str::<Value>(&last)
            .unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)))
    };
    let listed = list().await;
    assert_eq!(listed["ok"], true, "{listed}");
    assert!(
        listed["subjects"]
            .as_array()
            .is_some_and(|all| !all.is_empty()),
        "{listed}"
    );
    let target = "/v1/users/alice@sandbox.example/override";
    gateway
        .admin
        .write("PUT", target, r#"{"verdict":"block"}"#)
        .await;
    let refused = list().await;
    assert_eq!(refused["error"], "ErrorAccessDenied", "{refused}");
    gateway.admin.write("DELETE", target, "").await;
    assert_eq!(list().await["ok"], true);
}

/// The server's own way to slow a client down reaches it as it is, and is no denial.
#[tokio::test]
async fn exchangelib_hears_that_the_server_is_busy() {
    let sandbox = offering(OFFERS[0]);
    let gateway = Gateway::before(&sandbox).start().await;
    let finds = Filter::name("FindItem");
    sandbox.script(Throttled::answer(finds.clone(), Answer::ews_busy(300_000)));
    let busy = exchangelib(&gateway, "list", &["--auth", "basic"]).await;
    assert_eq!(busy["error"], "ErrorServerBusy", "{busy}");
    assert_eq!(sandbox.count(&finds), 1, "asked once, by the client alone");
    let event = gateway
        .event("the throttled request", |event| {
            event["command"] == "FindItem"
        })
        .await;
    assert_eq!(
        (&event["outcome"], &event["status"]),
        (&"forwarded".into(), &500.into()),
        "{event}"
    );
    assert_eq!(exchangelib(&gateway, "list", &[]).await["ok"], true);
}

#[tokio::test]
async fn exchangelib_pulls() {
    let sandbox = offering(OFFERS[0]);
    let gateway = Gateway::before(&sandbox).start().await;
    let mut client = Script::start(&gateway, "pull");
    assert_eq!(client.json().await["subscribed"], true);
    sandbox.new_mail("alice@sandbox.example");
    client.go_on().await;
    let said = client.json().await;
    assert_eq!(
        said["events"],
        serde_json::json!(["NewMailEvent"]),
        "{said}"
    );
}

#[tokio::test]
async fn exchangelib_is_pushed_to_through_the_gateway() {
    let sandbox = offering(OFFERS[0]);
    let builder = Gateway::before(&sandbox);
    let policies = builder.file(
        "policies.toml",
        "[ews.native]\npush_hosts = ['127.0.0.1']\n",
    );
    let public = format!("https://localhost:{}", builder.listen().port());
    let gateway = builder
        .set("compliance.policies.path", policies.display().to_string())
        .set("server.public.url", public)
        .set("ens.callback.interposition", "true")
        .start()
        .await;
    let mut client = Script::start(&gateway, "push");
    let said = client.json().await;
    assert_eq!(said["subscribed"], true, "{said}");
    assert!(!sandbox.subscriptions()[0].url.contains("PUSHSECRET"));
    let pushed = sandbox.push(Push::NewMail, &gateway.ca_pem).await;
    assert_eq!(pushed[0].1, Pushed::Ok, "{pushed:?}");
    let said = client.json().await;
    assert_eq!(
        said["events"],
        serde_json::json!(["NewMailEvent"]),
        "{said}"
    );
}

#[tokio::test]
async fn ntlm_that_is_offered_and_can_not_work_breaks_clients_where_it_is_not_removed() {
    let sandbox = offering(OFFERS[1]);
    let gateway = Gateway::before(&sandbox)
        .set("remove.unsupported.auth.for.ews", "false")
        .start()
        .await;
    let listed = exchangelib(&gateway, "list", &[]).await;
    assert_eq!(listed["ok"], false, "{listed}");
    let read = davmail(&gateway, "list").await;
    assert_eq!(read["ok"], false, "{read}");
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

/// A client that is running as Alice, line by line.
struct Script(interop::Running);

impl Script {
    fn start(gateway: &Gateway, mode: &str) -> Self {
        let mut command = as_alice("exchangelib_client.py", gateway, mode);
        command.args(["--auth", "basic"]);
        Self(interop::Running::start(command))
    }

    async fn json(&mut self) -> Value {
        let line = self.0.line().await;
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"))
    }

    async fn go_on(&mut self) {
        self.0.say("go on").await;
    }
}

/// Runs a client as Alice; its last line is what it has to say.
async fn client(script: &str, gateway: &Gateway, mode: &str, more: &[&str]) -> Value {
    let mut command = as_alice(script, gateway, mode);
    command.args(more);
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

fn as_alice(script: &str, gateway: &Gateway, mode: &str) -> tokio::process::Command {
    let mut command = interop::script(script);
    command
        .arg(format!(
            "https://localhost:{}/EWS/Exchange.asmx",
            gateway.address.port()
        ))
        .args(["alice@sandbox.example", "Secret-alice-1"])
        .arg(gateway.ca_path())
        .arg(mode);
    command
}
