//! Whose a device is: a copy of its DeviceId is known as one, and costs what is configured.

use seg_core::sandbox::{Answer, Filter, Kind, Sandbox, Script, requests};
use seg_tests::authority::{Authority, Identity};
use seg_tests::eas::Request;
use seg_tests::message::Message;
use seg_tests::{Gateway, GatewayBuilder, eventually};
use serde_json::Value;

use crate::sandbox::{
    self, FOLDER_SYNC_REFUSED, PING_REFUSED, count, folder_sync, holds_poll, is_served, ping,
};

fn binding(sandbox: &Sandbox) -> GatewayBuilder {
    Gateway::before(sandbox)
        .set("binding.mode", "first-use")
        .set("binding.suspect", "block")
}

fn by(user: &str, device: &str) -> Request {
    Request::eas("FolderSync", user, device, requests::FOLDER_SYNC)
}

async fn suspect(gateway: &Gateway, device: &str) -> Value {
    let read = gateway.admin.read(&format!("/v1/devices/{device}")).await;
    read["binding"]["suspect"].clone()
}

async fn served(gateway: &Gateway, request: &Request) {
    let answer = gateway.ask(request).await;
    assert!(is_served(&answer), "{}", answer.text());
}

async fn refused(gateway: &Gateway, request: &Request) {
    let answer = gateway.ask(request).await;
    assert_eq!(answer.body, FOLDER_SYNC_REFUSED, "{}", answer.text());
}

#[tokio::test]
async fn the_first_use_binds_and_another_person_is_refused() {
    let sandbox = sandbox::start();
    let mut gateway = binding(&sandbox).start().await;
    served(&gateway, &by("alice", "COPY1")).await;
    let before = count(&sandbox, "COPY1");
    refused(&gateway, &by("bob", "COPY1")).await;
    // The probe of Bob's password is all that the server saw.
    let asked = sandbox.count(&Filter::name("FolderSync").device("COPY1"));
    assert_eq!(asked, 1, "{before}");
    let seen = suspect(&gateway, "COPY1").await;
    assert_eq!(
        (&seen["reason"], &seen["user"]),
        (&"another_user".into(), &"bob@sandbox.example".into())
    );
    gateway
        .event("the warning", |event| {
            event["target"] == "seg::binding" && event["reason"] == "another_user"
        })
        .await;
    // Its owner is not the one who pays for it.
    served(&gateway, &by("alice", "COPY1")).await;
    // `explain` tells the step.
    let told = gateway
        .admin
        .read("/v1/explain?device=COPY1&user=bob@sandbox.example&command=FolderSync")
        .await;
    assert_eq!(
        (&told["verdict"], &told["rule"], &told["reason"]),
        (
            &"block".into(),
            &"binding.suspect".into(),
            &"another_user".into()
        ),
        "{told}"
    );
    // All of it is known after a restart.
    let file = gateway.path("data/bindings.ndjson");
    eventually("what was seen is on disk", || async {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.contains("another_user").then_some(())
    })
    .await;
    gateway.restart_after_kill().await;
    refused(&gateway, &by("bob", "COPY1")).await;
    served(&gateway, &by("alice", "COPY1")).await;
    // An administrator gives it to somebody else.
    gateway
        .admin
        .write("DELETE", "/v1/devices/COPY1/binding", "")
        .await;
    served(&gateway, &by("bob", "COPY1")).await;
    refused(&gateway, &by("alice", "COPY1")).await;
    // His word comes before the suspicion.
    let allow = r#"{"verdict":"allow","reason":"shared"}"#;
    gateway
        .admin
        .write("PUT", "/v1/devices/COPY1/override", allow)
        .await;
    served(&gateway, &by("alice", "COPY1")).await;
}

/// A password that was not checked yet binds nothing, and accuses nobody.
#[tokio::test]
async fn who_guesses_passwords_takes_no_device() {
    let sandbox = sandbox::start();
    let gateway = binding(&sandbox).start().await;
    let wrong = by("bob", "GUESS").without("Authorization").header(
        "Authorization",
        "Basic Ym9iQHNhbmRib3guZXhhbXBsZTp3cm9uZw==",
    );
    assert_eq!(gateway.ask(&wrong).await.status(), 401);
    served(&gateway, &by("alice", "GUESS")).await;
    assert_eq!(gateway.ask(&wrong).await.status(), 401);
    assert_eq!(suspect(&gateway, "GUESS").await, Value::Null);
}

/// The management system knows better than the first use.
#[tokio::test]
async fn a_record_gives_the_device_to_its_user() {
    let sandbox = sandbox::start();
    let gateway = binding(&sandbox).start().await;
    served(&gateway, &by("bob", "SQUAT")).await;
    let record = r#"{"user":"alice@sandbox.example","compliant":true}"#;
    gateway
        .admin
        .write("PUT", "/v1/devices/SQUAT", record)
        .await;
    served(&gateway, &by("alice", "SQUAT")).await;
    refused(&gateway, &by("bob", "SQUAT")).await;
    let read = gateway.admin.read("/v1/devices/SQUAT").await;
    assert_eq!(read["binding"]["user"], "alice@sandbox.example");
}

#[tokio::test]
async fn another_client_or_certificate_is_another_device() {
    let sandbox = sandbox::start();
    let welcome = Answer::ok("text/plain", "welcome");
    sandbox.script(Script::answer(Filter::name("FolderSync").of(Kind::Eas), welcome).always());
    let authority = Authority::new();
    let builder = binding(&sandbox);
    let ca = builder.file("clients.pem", authority.pem());
    let gateway = builder
        .set("server.client.auth", "optional")
        .set("server.client.ca.path", ca.display().to_string())
        .set("binding.suspect", "quarantine")
        .start()
        .await;
    let alice = Some("alice@sandbox.example");
    let (phone, laptop) = (
        authority.numbered_client(alice, 1),
        authority.numbered_client(alice, 2),
    );
    let ask = async |identity: Option<&Identity>, agent: &str| -> Message {
        let request = folder_sync("CERTBOUND")
            .without("User-Agent")
            .header("User-Agent", agent);
        let Some(identity) = identity else {
            return gateway.ask(&request).await;
        };
        let mut wire = gateway.connect_as(identity).await;
        wire.send(request.bytes()).await;
        wire.answer().await
    };
    let is_welcome = |answer: &Message| answer.text() == "welcome";
    assert!(is_welcome(
        &ask(Some(&phone), "Apple-iPhone15C2/2101.219").await
    ));
    // An update of the same client is the same client.
    assert!(is_welcome(
        &ask(Some(&phone), "Apple-iPhone15C2/2202.75").await
    ));
    for (identity, agent, reason) in [
        (
            Some(&laptop),
            "Apple-iPhone15C2/2202.75",
            "another_certificate",
        ),
        (None, "Apple-iPhone15C2/2202.75", "no_certificate"),
        (Some(&phone), "Thunderbird/1", "another_agent"),
    ] {
        assert!(!is_welcome(&ask(identity, agent).await), "{reason}");
        assert_eq!(suspect(&gateway, "CERTBOUND").await["reason"], reason);
        let event = gateway
            .event(reason, |event| {
                event["target"] == "seg::request"
                    && event["verdict"] == "quarantine"
                    && event.to_string().contains(reason)
            })
            .await;
        assert_eq!(event["device"], "CERTBOUND");
    }
    assert!(is_welcome(
        &ask(Some(&phone), "Apple-iPhone15C2/2202.75").await
    ));
}

#[tokio::test]
async fn two_places_at_once_end_what_is_open_in_both() {
    let sandbox = sandbox::start();
    let gateway = binding(&sandbox)
        .set("binding.compare", "user,places")
        .set("binding.places.changes", "4")
        .set("server.trusted.proxies", "127.0.0.0/8")
        .start()
        .await;
    let from = |request: Request, address: &str| request.header("X-Forwarded-For", address);
    let mut poll = gateway.connect().await;
    poll.send(from(ping("TWICE"), "192.0.2.1").bytes()).await;
    holds_poll(&sandbox, "TWICE").await;
    let (home, elsewhere) = ("192.0.2.1", "198.51.100.1");
    for address in [home, elsewhere, home, elsewhere] {
        served(&gateway, &from(folder_sync("TWICE"), address)).await;
    }
    // The fourth change tells it; the poll that was open before is refused with it.
    served(&gateway, &from(folder_sync("TWICE"), home)).await;
    assert_eq!(poll.answer().await.body, PING_REFUSED);
    for address in [home, elsewhere] {
        refused(&gateway, &from(folder_sync("TWICE"), address)).await;
    }
    let read = gateway.admin.read("/v1/devices/TWICE").await;
    assert_eq!(read["binding"]["suspect"]["stands"], true, "{read}");
    assert_eq!(read["decision"]["verdict"], "block");
    gateway
        .admin
        .write("DELETE", "/v1/devices/TWICE/binding", "")
        .await;
    served(&gateway, &from(folder_sync("TWICE"), home)).await;
}

#[tokio::test]
async fn a_table_says_it_for_single_devices_and_policies_say_what_it_costs() {
    let sandbox = sandbox::start();
    let builder = Gateway::before(&sandbox);
    let table = builder.file(
        "bindings.csv",
        "device,user,certificate,agent\nlisted,alice@sandbox.example,,e2e/*\nBobs,bob@sandbox.example,,\n",
    );
    builder.file(
        "policies.toml",
        "[[policy]]\nid = \"copies\"\nwhen = { suspect = [\"another_*\", \"unbound\"] }\naction = \"block\"\n",
    );
    let gateway = builder
        .set("binding.mode", "configured")
        .set("binding.path", table.display().to_string())
        .start()
        .await;
    served(&gateway, &by("alice", "LISTED")).await;
    let other = by("alice", "LISTED")
        .without("User-Agent")
        .header("User-Agent", "other/1");
    refused(&gateway, &other).await;
    refused(&gateway, &by("alice", "BOBS")).await;
    refused(&gateway, &by("alice", "NOTLISTED")).await;
    let event = gateway
        .event("the policy", |event| event["rule"] == "copies")
        .await;
    assert_eq!(event["step"], "policy");
    // The table is read again when it changes.
    std::fs::write(&table, "NOTLISTED,alice\n").expect("the table");
    eventually("the new table", || async {
        is_served(&gateway.ask(&by("alice", "NOTLISTED")).await).then_some(())
    })
    .await;
}

/// What a client offers in its handshake is compared where that is wanted.
#[tokio::test]
async fn another_tls_stack_is_another_client() {
    let sandbox = sandbox::start();
    let gateway = binding(&sandbox)
        .set("binding.compare", "user,agent,tls")
        .start()
        .await;
    served(&gateway, &folder_sync("STACK")).await;
    served(&gateway, &folder_sync("STACK")).await;
    let request = folder_sync("STACK");
    let body = gateway.path("body");
    std::fs::write(&body, requests::FOLDER_SYNC).expect("a file");
    let output = std::process::Command::new("curl")
        .args(["-sS", "-k", "-u", "alice@sandbox.example:Secret-alice-1"])
        .args(["-H", "MS-ASProtocolVersion: 14.1", "-A", "e2e/2"])
        .args(["-H", "Content-Type: application/vnd.ms-sync.wbxml"])
        .arg("--data-binary")
        .arg(format!("@{}", body.display()))
        .arg(format!(
            "https://{}/Microsoft-Server-ActiveSync?Cmd=FolderSync&User=alice&DeviceId=STACK&DeviceType=test",
            gateway.address
        ))
        .output()
        .expect("curl runs");
    assert_eq!(output.stdout, FOLDER_SYNC_REFUSED, "{output:?}");
    assert_eq!(suspect(&gateway, "STACK").await["reason"], "another_tls");
    served(&gateway, &request).await;
}
