//! The notification service of Boxer, from registering to a phone that never comes back.

use jiff::{SignedDuration, Timestamp};
use seg_compliance::{DeviceKey, UserKey};
use seg_core::callback::{Keys, Sealed};
use seg_core::sandbox::{Push, Pushed, Sandbox};
use seg_ews::policy::ClientClass;
use seg_tests::eas::{Request, soap};
use seg_tests::ens::Ens;
use seg_tests::program::program;
use seg_tests::{Gateway, GatewayBuilder, eventually};
use tokio::process::Command;

const POLICIES: &str = "[ews]\ntrusted_networks = ['127.0.0.1']\n\
    [[ews.client]]\nclass = 'ens'\nnetworks = ['127.0.0.1']\nagents = ['VMware-ENS/*']\n\
    [ews.ens]\ngroups = ['notify', 'metadata', 'content']\n\
    fields = ['subject', 'sender', 'time', 'read']\n\
    push_hosts = ['127.0.0.1']\ndevice = ['header:X-Device-Id']\n";

/// A gateway that stands between Exchange and ENS.
fn between(sandbox: &Sandbox) -> GatewayBuilder {
    let builder = Gateway::before(sandbox);
    let policies = builder.file("policies.toml", POLICIES);
    let public = format!("https://localhost:{}", builder.listen().port());
    builder
        .set("compliance.policies.path", policies.display().to_string())
        .set("server.public.url", public)
        .set("ens.callback.interposition", "true")
        .set("ens.callback.key.path", "keys")
}

async fn push(sandbox: &Sandbox, gateway: &Gateway, what: Push) -> Vec<Pushed> {
    let pushed = sandbox.push(what, &gateway.ca_pem).await;
    pushed.into_iter().map(|(_, said)| said).collect()
}

#[tokio::test]
async fn a_phone_that_never_comes_back_gets_nothing_more_out_of_exchange() {
    let sandbox = crate::sandbox::start();
    let gateway = between(&sandbox).start().await;
    let ens = Ens::start(gateway.address, &gateway.ca_pem).await;

    // Register: Exchange gets an address of the gateway's, and no credentials.
    let answer = ens.register("alice", "PHONE").await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let subscriptions = sandbox.subscriptions();
    let [subscription] = &subscriptions[..] else {
        panic!("{subscriptions:?}");
    };
    let own = format!(
        "https://localhost:{}/ews-callback?t=",
        gateway.address.port()
    );
    assert!(subscription.url.starts_with(&own), "{}", subscription.url);
    assert!(!subscription.url.contains("creds"), "{}", subscription.url);
    assert_eq!(subscription.status_frequency, 15);

    // Heartbeat, and a mail of which only the listed fields are fetched.
    assert_eq!(push(&sandbox, &gateway, Push::Status).await, [Pushed::Ok]);
    assert_eq!(ens.heartbeats(), 1);
    assert_eq!(push(&sandbox, &gateway, Push::NewMail).await, [Pushed::Ok]);
    let shown = ens.pushed();
    assert_eq!(shown.len(), 1);
    assert!(!shown[0].subject.is_empty() && !shown[0].body, "{shown:?}");
    gateway
        .event("the callback", |event| {
            event["command"] == "SendNotification"
                && event["outcome"] == "forwarded"
                && event["device"] == "PHONE"
        })
        .await;

    // Wiped and gone: nobody unsubscribes, and Exchange drops the subscription all the same.
    gateway.admin.block("PHONE").await;
    assert_eq!(
        push(&sandbox, &gateway, Push::NewMail).await,
        [Pushed::Unsubscribe]
    );
    assert!(sandbox.subscriptions().is_empty());
    assert_eq!(push(&sandbox, &gateway, Push::NewMail).await, []);
    assert_eq!(ens.pushed().len(), 1);
    assert_eq!(ens.register("alice", "PHONE").await.status(), 403);

    // Allowed again, its next check-in subscribes anew.
    gateway.admin.unblock("PHONE").await;
    assert_eq!(ens.register("alice", "PHONE").await.status(), 200);
    assert_eq!(push(&sandbox, &gateway, Push::NewMail).await, [Pushed::Ok]);
    assert_eq!(ens.pushed().len(), 2);

    // What ENS itself does not want any more ends too.
    ens.unregister("PHONE");
    assert_eq!(
        push(&sandbox, &gateway, Push::Status).await,
        [Pushed::Unsubscribe]
    );
    assert!(sandbox.subscriptions().is_empty());
    assert!(
        !gateway.log().contains("creds"),
        "the subscriber's URL is a secret"
    );
}

#[tokio::test]
async fn only_our_own_tokens_lead_to_a_subscriber() {
    let sandbox = crate::sandbox::start();
    let gateway = between(&sandbox).start().await;
    let ens = Ens::start(gateway.address, &gateway.ca_pem).await;
    assert_eq!(ens.register("alice", "PHONE").await.status(), 200);
    let url = sandbox.subscriptions()[0].url.clone();
    let (_, token) = url.split_once("?t=").expect("a token");
    let call = |method: &str, token: &str, body: &str| {
        Request::new(method, &format!("/ews-callback?t={token}"))
            .header("Content-Type", "text/xml")
            .body(body)
    };
    let mut forged = token.to_owned();
    forged.replace_range(20..21, if &token[20..21] == "A" { "B" } else { "A" });
    for (what, request, status) in [
        ("no token", call("POST", "", "<a/>"), 403),
        ("a forged one", call("POST", &forged, "<a/>"), 403),
        ("no notification", call("POST", token, "<a/>"), 400),
        ("no XML", call("POST", token, "<!DOCTYPE a>"), 400),
        ("a GET", call("GET", token, ""), 405),
    ] {
        assert_eq!(gateway.ask(&request).await.status(), status, "{what}");
    }
    assert_eq!(
        ens.heartbeats(),
        0,
        "nothing of it has reached the subscriber"
    );

    // A new key in front seals from now on, and the old one still opens.
    let keys = gateway.path("keys");
    let old = std::fs::read_to_string(&keys).expect("the keys");
    let new = "ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY3ODk=";
    std::fs::write(&keys, format!("{new}\n{old}")).expect("written");
    gateway.admin.write("POST", "/v1/reload", "").await;
    assert_eq!(push(&sandbox, &gateway, Push::Status).await, [Pushed::Ok]);
    // Without it, what it has sealed is nobody's.
    std::fs::write(&keys, format!("{new}\n")).expect("written");
    gateway.admin.write("POST", "/v1/reload", "").await;
    let refused = push(&sandbox, &gateway, Push::Status).await;
    assert!(
        matches!(&refused[..], [Pushed::Failed(said)] if said.contains("403")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_token_ends_when_its_time_is_over() {
    let sandbox = crate::sandbox::start();
    let gateway = between(&sandbox).start().await;
    let ens = Ens::start(gateway.address, &gateway.ca_pem).await;
    assert_eq!(ens.register("alice", "PHONE").await.status(), 200);

    // Tokens of the gateway's own key for the same subscriber: one that is good, one that was.
    let keys = Keys::load_or_create(&gateway.path("keys")).expect("the gateway's keys");
    let sealed = Sealed {
        url: ens.address_of(1).into(),
        user: UserKey::new("alice").expect("a user"),
        device: DeviceKey::new("PHONE").ok(),
        class: ClientClass::Ens,
    };
    let call = |until: Timestamp| {
        let token = keys.seal(&sealed, until).expect("a token");
        Request::new("POST", &format!("/ews-callback?t={token}"))
            .header("Content-Type", "text/xml")
            .body(soap("<m:SendNotification/>"))
    };
    let minute = SignedDuration::from_mins(1);
    let good = gateway.ask(&call(Timestamp::now() + minute)).await;
    assert_eq!(good.status(), 200, "{}", good.text());
    assert_eq!(ens.heartbeats(), 1);

    let expired = gateway.ask(&call(Timestamp::now() - minute)).await;
    assert_eq!(expired.status(), 403);
    assert_eq!(ens.heartbeats(), 1, "the subscriber heard of it");
    let refused = ["reason=\"callback_expired\""];
    let counted = gateway
        .admin
        .metric("seg_bad_requests_total", &refused)
        .await;
    assert!(counted > 0.0, "{counted}");
}

/// What `docs/ens.md` promises of the example: another program that registers, passes on and blocks.
#[tokio::test]
async fn the_example_of_a_notification_service_does_what_it_says() {
    let example = program("examples/ens_proxy");
    let ended = Command::new(example).output().await.expect("it runs");
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{said}{ended:?}");
    let lines: Vec<&str> = said.lines().collect();
    let [sent, relayed, answered, refused] = lines[..] else {
        panic!("{said}");
    };
    let own = "<t:URL>https://gate.example/called?ticket=1</t:URL>";
    assert!(
        sent.starts_with("to Exchange: ") && sent.contains(own),
        "{sent}"
    );
    assert!(
        !said.contains("SECRET"),
        "Exchange is told the subscriber's secret"
    );
    assert_eq!(relayed, "called while compliant: passed on");
    assert!(
        answered.starts_with("called after the block: ")
            && answered.contains("<SubscriptionStatus>Unsubscribe</SubscriptionStatus>"),
        "{answered}"
    );
    assert!(
        refused.starts_with("subscribing again: Refuse("),
        "{refused}"
    );
}

#[tokio::test]
async fn without_interposition_exchange_calls_the_subscriber_itself() {
    let sandbox = crate::sandbox::start();
    let gateway = between(&sandbox)
        .set("ens.callback.interposition", "false")
        .start()
        .await;
    let ens = Ens::start(gateway.address, &gateway.ca_pem).await;
    assert_eq!(ens.register("alice", "PHONE").await.status(), 200);
    assert!(
        sandbox.subscriptions()[0]
            .url
            .contains("/notify?id=1&creds=")
    );
    assert_eq!(push(&sandbox, &gateway, Push::NewMail).await, [Pushed::Ok]);
    assert_eq!(ens.pushed().len(), 1);
    // ENS may be called, but what it fetches is refused once the phone is blocked.
    gateway.admin.block("PHONE").await;
    assert_eq!(push(&sandbox, &gateway, Push::NewMail).await, [Pushed::Ok]);
    eventually("an empty push", || async {
        (ens.pushed().len() == 2 && ens.pushed()[1].subject.is_empty()).then_some(())
    })
    .await;
    let closed = Request::new("POST", "/ews-callback?t=x").body("<a/>");
    assert_eq!(gateway.ask(&closed).await.status(), 404);
}
