//! Policies through the gateway: what they look at, when they change, and what time does to them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use seg_compliance::clock::ManualClock;
use seg_compliance::engine::{ImportMode, ImportOptions};
use seg_compliance::record::ndjson;
use seg_compliance::{Engine, Settings};
use seg_core::sandbox::Sandbox;
use seg_tests::eas::Request;
use seg_tests::{Gateway, GatewayBuilder, eventually};
use serde_json::Value;

use crate::sandbox::{
    self, FOLDER_SYNC_REFUSED, PING_REFUSED, folder_sync, holds_poll, is_served, ping,
};

fn with(sandbox: &Sandbox, policies: &str) -> GatewayBuilder {
    let builder = Gateway::before(sandbox);
    builder.file("policies.toml", policies);
    builder
}

async fn put(gateway: &Gateway, device: &str, record: &str) {
    let target = format!("/v1/devices/{device}");
    gateway.admin.write("PUT", &target, record).await;
}

#[tokio::test]
async fn a_policy_looks_at_the_request_as_it_came() {
    let sandbox = sandbox::start();
    let policies = r#"
        [[policy]]
        id = "clients"
        when = { user_agent = "curl*" }
        action = "block"
        [[policy]]
        id = "outside"
        when = { network_not = "127.0.0.0/8", host = "localhost", path = "/microsoft-server-*", method = "POST" }
        action = "block"
        [[policy]]
        id = "old"
        when = { protocol_version_below = "12.1" }
        action = "block"
        [[policy]]
        id = "type"
        when = { device_type = "toaster" }
        action = "block"
        [[policy]]
        id = "nameless"
        when = { user_agent_not = "*" }
        action = "block"
    "#;
    let gateway = with(&sandbox, policies)
        .set("server.trusted.proxies", "127.0.0.0/8")
        .start()
        .await;
    let plain = || folder_sync("LOOKED");
    let typed = Request::new(
        "POST",
        "/Microsoft-Server-ActiveSync?Cmd=FolderSync&User=alice&DeviceId=LOOKED&DeviceType=Toaster",
    )
    .header("Authorization", &seg_tests::eas::basic("alice"))
    .header("MS-ASProtocolVersion", "14.1")
    .header("Content-Type", "application/vnd.ms-sync.wbxml")
    .body(seg_core::sandbox::requests::FOLDER_SYNC);
    for (request, served) in [
        (plain(), true),
        (
            plain().without("User-Agent").header("User-Agent", "curl/8"),
            false,
        ),
        (plain().header("X-Forwarded-For", "192.0.2.1"), false),
        (
            plain().header("X-Forwarded-For", "192.0.2.1, 127.0.0.9"),
            false,
        ),
        (plain().header("X-Forwarded-For", "127.0.0.9"), true),
        (
            plain()
                .without("MS-ASProtocolVersion")
                .header("MS-ASProtocolVersion", "12.0"),
            false,
        ),
        (typed, false),
        (plain().without("User-Agent"), false),
    ] {
        let answer = gateway.ask(&request).await;
        assert_eq!(is_served(&answer), served, "{request:?}");
        assert_eq!(
            answer.body == FOLDER_SYNC_REFUSED,
            !served && request_is_new(&request)
        );
    }
}

/// Whether the client speaks a version in which a refusal is a Status of the answer (14.0).
fn request_is_new(request: &Request) -> bool {
    !String::from_utf8_lossy(&request.head()).contains("Version: 12.0")
}

#[tokio::test]
async fn a_device_that_becomes_inactive_is_cut_when_it_does() {
    let sandbox = sandbox::start();
    let policies = "[[policy]]\nid=\"silent\"\nwhen={inactive_days=1}\naction=\"block\"\n";
    let gateway = with(&sandbox, policies).start().await;
    let last_seen = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(86_400 - 4);
    let record = format!(r#"{{"user":"alice@sandbox.example","last_seen":"{last_seen}"}}"#);
    put(&gateway, "FADING", &record).await;
    let mut wire = gateway.connect().await;
    wire.send(ping("FADING").bytes()).await;
    holds_poll(&sandbox, "FADING").await;
    // Nobody does anything: time alone ends the poll.
    let answer = wire.answer().await;
    assert_eq!(&answer.body[..], PING_REFUSED);
    let shown = gateway.admin.read("/v1/explain?device=FADING").await;
    assert_eq!(shown["rule"], "silent", "{shown}");
    let row = shown["steps"]
        .as_array()
        .and_then(|steps| steps.iter().find(|row| row["rule"] == "silent"))
        .expect("the policy's row");
    assert_eq!(row["line"], 1);
    assert!(
        row["saw"]["last_seen_age_seconds"].as_i64() >= Some(86_400),
        "{row}"
    );
}

#[tokio::test]
async fn a_bad_file_is_refused_with_its_place_and_the_old_one_stays() {
    let sandbox = sandbox::start();
    let block = "[[policy]]\nid=\"block\"\nwhen={user_agent=\"e2e*\"}\naction=\"block\"\n";
    let gateway = with(&sandbox, block).start().await;
    assert!(!is_served(&gateway.ask(&folder_sync("KEPT")).await));
    let bad = "# nothing\n[[policy]]\nid = \"a\"\naction = \"block\"\nwhen = { cel = \"device.managd\" }\n";
    fs::write(gateway.path("policies.toml"), bad).expect("the file is written");
    let (status, body) = gateway.admin.request("POST", "/v1/reload", "").await;
    assert_eq!(status, 422, "{body}");
    let message = body["error"]["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("line 5, column 17") && message.contains("device.managd"),
        "{body}"
    );
    assert!(!is_served(&gateway.ask(&folder_sync("KEPT")).await));
    fs::write(gateway.path("policies.toml"), "").expect("the file is written");
    eventually("the new policies", || async {
        is_served(&gateway.ask(&folder_sync("KEPT")).await).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_policy_in_test_mode_is_reported_device_by_device() {
    let sandbox = sandbox::start();
    let policies =
        "[[policy]]\nid=\"tried\"\nmode=\"test\"\nwhen={encrypted=false}\naction=\"block\"\n";
    let gateway = with(&sandbox, policies).start().await;
    put(
        &gateway,
        "OPEN1",
        r#"{"user":"alice@sandbox.example","encrypted":false}"#,
    )
    .await;
    put(
        &gateway,
        "SHUT1",
        r#"{"user":"alice@sandbox.example","encrypted":true}"#,
    )
    .await;
    for device in ["OPEN1", "SHUT1"] {
        assert!(
            is_served(&gateway.ask(&folder_sync(device)).await),
            "{device}"
        );
    }
    let shown = gateway.admin.read("/v1/devices/OPEN1").await;
    assert_eq!(shown["decision"]["trial"]["rule"], "tried", "{shown}");
    assert_eq!(shown["decision"]["verdict"], "allow");
    let shown = gateway.admin.read("/v1/devices/SHUT1").await;
    assert!(shown["decision"]["trial"].is_null(), "{shown}");
    let labels = ["mode=\"test\"", "verdict=\"block\""];
    assert_eq!(
        gateway.admin.metric("seg_decisions_total", &labels).await,
        1.0
    );
    let event = gateway.event("a request that a policy tried on", |event| {
        event["fields"]["test_rule"] == "tried" || event["test_rule"] == "tried"
    });
    event.await;
}

/// Fills a store as a source did so long ago, and never again since.
async fn reported_before(folder: &Path, ago: jiff::SignedDuration) {
    let clock = ManualClock::new(jiff::Timestamp::now() - ago);
    let (engine, _) =
        Engine::open_at(folder, Settings::default(), Arc::new(clock)).expect("a store");
    let mut import = engine.begin_import(ImportOptions {
        mode: ImportMode::Snapshot,
        source: Some("uem".to_owned()),
        ..ImportOptions::default()
    });
    let line = r#"{"device_id":"AGING","user":"alice@sandbox.example","managed":true}"#;
    let mut reader = ndjson::Reader::new();
    let mut lines = Vec::new();
    reader.feed(line.as_bytes(), &mut |line| lines.push(line));
    reader.finish(&mut |line| lines.push(line));
    for line in lines {
        import.push(line).await.expect("a record");
    }
    import.finish().await.expect("an import");
}

#[tokio::test]
async fn a_source_that_falls_silent_is_seen_and_what_then_holds_is_configured() {
    let sandbox = sandbox::start();
    let only_known = "[[policy]]\nid=\"unmanaged\"\nwhen={managed=false}\naction=\"block\"\nstale=\"last-known\"\n";
    let strict = only_known.replace("last-known", "block");
    for (answer, policies, served) in [
        ("block", only_known, false),
        ("last-known", only_known, true),
        ("allow", only_known, true),
        // A policy says for itself what holds for facts that are too old.
        ("allow", strict.as_str(), false),
    ] {
        let builder = with(&sandbox, policies)
            .set("compliance.stale.max.minutes", "60")
            .set("compliance.stale.answer", answer);
        reported_before(&builder.path("data"), jiff::SignedDuration::from_hours(2)).await;
        let gateway = builder.start().await;
        let answered = gateway.ask(&folder_sync("AGING")).await;
        assert_eq!(is_served(&answered), served, "{answer}");
        let shown = gateway.admin.read("/v1/explain?device=AGING").await;
        let steps = shown["steps"].as_array().expect("steps");
        let stale = |row: &Value| !matches!(row["saw"]["stale"], Value::Null | Value::Bool(false));
        assert!(steps.iter().any(stale), "{shown}");
        let ready = gateway.admin.read("/readyz").await;
        assert_eq!(
            ready["stale_sources"],
            serde_json::json!(["uem"]),
            "{ready}"
        );
        eventually("the age of the source", || async {
            let labels = ["source=\"uem\""];
            let age = gateway
                .admin
                .metric("seg_source_age_seconds", &labels)
                .await;
            (age >= 7_200.0).then_some(())
        })
        .await;

        // It speaks again: its facts are fresh.
        let line =
            "{\"device_id\":\"AGING\",\"user\":\"alice@sandbox.example\",\"managed\":true}\n";
        let target = "/v1/devices:import?mode=snapshot&source=uem";
        gateway.admin.write("POST", target, line).await;
        assert!(
            is_served(&gateway.ask(&folder_sync("AGING")).await),
            "{answer}"
        );
        let ready = gateway.admin.read("/readyz").await;
        assert!(ready["stale_sources"].is_null(), "{ready}");
    }
}
