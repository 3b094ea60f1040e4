//! A device that is blocked is blocked now: its next request, and what it has open.

use std::process::Stdio;

use seg_core::sandbox::{Answer, End, Filter, Play, Release, Sandbox, Script, What, requests};
use seg_tests::eas::{Request, soap};
use seg_tests::program::program;
use seg_tests::{Gateway, eventually};

use crate::sandbox::{self, FOLDER_SYNC_REFUSED, PING_REFUSED, SYNC_REFUSED};
use crate::sandbox::{count, folder_sync, holds_poll, is_served, ping};

#[tokio::test]
async fn a_blocked_device_is_refused_and_others_are_served() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    assert!(is_served(&gateway.ask(&folder_sync("BLOCKED1")).await));
    let before = count(&sandbox, "BLOCKED1");

    gateway.admin.block("BLOCKED1").await;
    for _ in 0..3 {
        let answer = gateway.ask(&folder_sync("BLOCKED1")).await;
        assert_eq!(
            (answer.status(), &answer.body[..]),
            (200, FOLDER_SYNC_REFUSED)
        );
        assert_eq!(
            answer.header("content-type"),
            Some("application/vnd.ms-sync.wbxml")
        );
    }
    assert_eq!(
        count(&sandbox, "BLOCKED1"),
        before,
        "a refused request has reached the server"
    );
    assert!(is_served(&gateway.ask(&folder_sync("FREE1")).await));

    gateway.admin.unblock("BLOCKED1").await;
    assert!(is_served(&gateway.ask(&folder_sync("BLOCKED1")).await));
}

#[tokio::test]
async fn a_mail_that_is_still_coming_in_is_not_sent_behind_a_block() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    assert!(is_served(&gateway.ask(&folder_sync("UPLOADS")).await));
    let mail = Request::eas("SendMail", "alice", "UPLOADS", requests::send_mail("late"));
    let bytes = mail.bytes();
    let (most, last) = bytes.split_at(bytes.len() - 1);
    let mut wire = gateway.connect().await;
    wire.send(most).await;
    eventually("the mail is coming in", || async {
        let (_, body) = gateway.admin.request("GET", "/v1/sessions", "").await;
        let sessions = body["sessions"].as_array().expect("a list").clone();
        sessions
            .iter()
            .any(|session| session["device"] == "UPLOADS")
            .then_some(())
    })
    .await;

    gateway.admin.block("UPLOADS").await;
    // Told at once, and not when the client has come to its end.
    let answer = wire.answer().await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("connection"), Some("close"));
    wire.send_until_closed(last).await;
    wire.ended().await;
    let line = gateway
        .event("its line", |event| event["command"] == "SendMail")
        .await;
    assert_eq!(line["outcome"], "cut", "{line}");
    assert_eq!(sandbox.count(&Filter::name("SendMail")), 0);
    assert!(sandbox.sent().is_empty());
}

#[tokio::test]
async fn a_block_ends_an_open_ping_and_an_open_sync_at_once() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let asks = [
        ("CUTPING", ping("CUTPING"), PING_REFUSED),
        (
            "CUTSYNC",
            Request::eas("Sync", "alice", "CUTSYNC", requests::sync_wait("2", 59)),
            SYNC_REFUSED,
        ),
    ];
    let mut other = gateway.connect().await;
    other.send(ping("OTHER").bytes()).await;
    holds_poll(&sandbox, "OTHER").await;
    for (device, ask, refusal) in asks {
        assert!(is_served(&gateway.ask(&folder_sync(device)).await));
        let mut wire = gateway.connect().await;
        wire.send(ask.bytes()).await;
        holds_poll(&sandbox, device).await;
        let before = count(&sandbox, device);

        gateway.admin.block(device).await;
        // The sandbox never answers this poll: what comes is the gateway's.
        let answer = wire.answer().await;
        assert_eq!(
            (answer.status(), &answer.body[..]),
            (200, refusal),
            "{device}"
        );
        abandoned(&sandbox, device).await;
        assert_eq!(count(&sandbox, device), before);

        // The connection is good for the next request, which is refused too.
        wire.send(folder_sync(device).bytes()).await;
        assert_eq!(&wire.answer().await.body[..], FOLDER_SYNC_REFUSED);
    }
    assert_eq!(
        gateway
            .admin
            .metric("seg_cuts_total", &["protocol=\"eas\""])
            .await,
        2.0
    );
    let still = sandbox.open_polls(&Filter::any().device("OTHER"));
    assert_eq!(still.len(), 1, "the block has disturbed another device");
    sandbox.release(&Filter::any().device("OTHER"), &Release::Changes);
    assert_eq!(other.answer().await.status(), 200);
}

#[tokio::test]
async fn sync_compliance_blocks_in_the_middle_of_a_ping() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    assert!(is_served(&gateway.ask(&folder_sync("APPL1")).await));
    let mut wire = gateway.connect().await;
    wire.send(ping("APPL1").bytes()).await;
    holds_poll(&sandbox, "APPL1").await;

    assert_eq!(
        compliance(&gateway, &["block", "appl1", "--reason", "lost"]),
        0
    );
    assert_eq!(&wire.answer().await.body[..], PING_REFUSED);
    assert_eq!(
        compliance(
            &gateway,
            &[
                "explain",
                "--device",
                "APPL1",
                "--user",
                "alice@sandbox.example"
            ]
        ),
        1,
        "a device without a record is a finding"
    );
    assert_eq!(compliance(&gateway, &["unblock", "APPL1"]), 0);
    assert!(is_served(&gateway.ask(&folder_sync("APPL1")).await));
}

#[tokio::test]
async fn a_block_tears_an_answer_that_is_under_way() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    assert!(is_served(&gateway.ask(&folder_sync("DOWNLOAD")).await));
    let long = Answer::wbxml(vec![7; 1 << 20]);
    let filter = Filter::name("ItemOperations");
    let play = Play::Cut {
        answer: Some(long),
        after: 4096,
        end: End::Hang,
    };
    sandbox.script(Script::new(filter, play));

    let mut wire = gateway.connect().await;
    wire.send(
        Request::eas(
            "ItemOperations",
            "alice",
            "DOWNLOAD",
            requests::ITEM_OPERATIONS,
        )
        .bytes(),
    )
    .await;
    while wire.received().is_empty() {
        assert_eq!(wire.receive().await, None, "ended before the answer began");
    }
    gateway.admin.block("DOWNLOAD").await;
    assert!(
        wire.try_answer(false).await.is_none(),
        "a short answer must not look whole"
    );
}

#[tokio::test]
async fn a_user_is_blocked_with_all_devices() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let bobs = Request::eas("FolderSync", "bob", "BOBS", requests::FOLDER_SYNC);
    for device in ["ONE", "TWO"] {
        assert!(is_served(&gateway.ask(&folder_sync(device)).await));
    }
    let mut wire = gateway.connect().await;
    wire.send(ping("ONE").bytes()).await;
    holds_poll(&sandbox, "ONE").await;

    let target = "/v1/users/alice@sandbox.example/override";
    gateway
        .admin
        .write("PUT", target, r#"{"verdict":"block"}"#)
        .await;
    assert_eq!(&wire.answer().await.body[..], PING_REFUSED);
    for device in ["ONE", "TWO", "NEVERSEEN"] {
        assert_eq!(
            &gateway.ask(&folder_sync(device)).await.body[..],
            FOLDER_SYNC_REFUSED,
            "{device}"
        );
    }
    let mail = Request::ews("alice", &soap(GET_INBOX));
    assert!(
        gateway
            .ask(&mail)
            .await
            .text()
            .contains("ErrorAccessDenied")
    );
    assert!(is_served(&gateway.ask(&bobs).await));

    gateway.admin.write("DELETE", target, "").await;
    assert!(is_served(&gateway.ask(&folder_sync("ONE")).await));
}

#[tokio::test]
async fn refusals_speak_the_version_of_the_client() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    assert!(is_served(&gateway.ask(&folder_sync("OLD")).await));
    gateway.admin.block("OLD").await;

    let versions = [
        ("12.0", 403),
        ("12.1", 403),
        ("14.0", 200),
        ("14.1", 200),
        ("16.1", 200),
    ];
    for (version, status) in versions {
        let ask = folder_sync("OLD")
            .without("MS-ASProtocolVersion")
            .header("MS-ASProtocolVersion", version);
        let answer = gateway.ask(&ask).await;
        let body: &[u8] = if status == 200 {
            FOLDER_SYNC_REFUSED
        } else {
            b""
        };
        assert_eq!(
            (answer.status(), &answer.body[..]),
            (status, body),
            "{version}"
        );
    }
    let unnamed = folder_sync("OLD").without("MS-ASProtocolVersion");
    assert_eq!(gateway.ask(&unnamed).await.status(), 403);
    let raw = Request::eas("SendMail", "alice", "OLD", "From: a\r\n\r\n")
        .without("Content-Type")
        .header("Content-Type", "message/rfc822");
    assert_eq!(gateway.ask(&raw).await.status(), 403);

    let options = Request::new("OPTIONS", "/Microsoft-Server-ActiveSync")
        .header("Authorization", &seg_tests::eas::basic("alice"));
    let answer = gateway.ask(&options).await;
    assert_eq!(answer.status(), 200);
    assert!(
        answer
            .header("MS-ASProtocolVersions")
            .is_some_and(|versions| versions.contains("14.1"))
    );
}

#[tokio::test]
async fn ews_is_refused_in_the_words_of_the_operation() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let mail = Request::ews("alice", &soap(GET_INBOX));
    let served = gateway.ask(&mail).await;
    assert!(
        served.status() == 200 && served.text().contains("NoError"),
        "{}",
        served.text()
    );

    let target = "/v1/users/alice@sandbox.example/override";
    gateway
        .admin
        .write("PUT", target, r#"{"verdict":"block"}"#)
        .await;
    let before = sandbox.count(&Filter::name("GetFolder"));
    let refused = gateway.ask(&mail).await;
    assert_eq!(refused.status(), 200);
    for word in [
        "GetFolderResponse",
        "ErrorAccessDenied",
        "ServerVersionInfo",
    ] {
        assert!(
            refused.text().contains(word),
            "{word} is missing: {}",
            refused.text()
        );
    }
    assert_eq!(sandbox.count(&Filter::name("GetFolder")), before);

    gateway.admin.write("DELETE", target, "").await;
    assert!(gateway.ask(&mail).await.text().contains("NoError"));
}

#[tokio::test]
async fn observe_mode_refuses_nobody() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox)
        .set("compliance.mode", "observe")
        .start()
        .await;
    gateway.admin.block("WATCHED").await;
    assert!(is_served(&gateway.ask(&folder_sync("WATCHED")).await));
    let labels = ["verdict=\"block\"", "mode=\"observe\""];
    assert!(gateway.admin.metric("seg_decisions_total", &labels).await >= 1.0);
}

#[tokio::test]
async fn an_unknown_device_is_refused_by_default() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox)
        .set("compliance.unknown.device", "block")
        .start()
        .await;
    let answer = gateway.ask(&folder_sync("STRANGER")).await;
    assert_eq!(&answer.body[..], FOLDER_SYNC_REFUSED);

    let record = r#"{"device_id":"STRANGER","user":"alice@sandbox.example","compliant":true}"#;
    let done = gateway
        .admin
        .write("POST", "/v1/devices:import?mode=delta&source=test", record)
        .await;
    assert_eq!(done["applied"], 1, "{done}");
    assert!(is_served(&gateway.ask(&folder_sync("stranger")).await));

    // The same device with another user is a stranger again.
    let bob = Request::eas("FolderSync", "bob", "STRANGER", requests::FOLDER_SYNC);
    assert_eq!(&gateway.ask(&bob).await.body[..], FOLDER_SYNC_REFUSED);
}

#[tokio::test]
async fn both_query_forms_are_one_device() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    // MS-ASHTTP 2.2.1.1.1.1: 14.1, FolderSync, locale, DeviceId "TWOFORMS", no key, type "test".
    let base64 = "jQkJBAhUV09GT1JNUwAEdGVzdA==";
    let target = format!("/Microsoft-Server-ActiveSync?{base64}");
    let ask = Request::new("POST", &target)
        .header("Authorization", &seg_tests::eas::basic("alice"))
        .header("Content-Type", "application/vnd.ms-sync.wbxml")
        .body(requests::FOLDER_SYNC);
    assert!(is_served(&gateway.ask(&ask).await));
    gateway.admin.block("twoforms").await;
    assert_eq!(&gateway.ask(&ask).await.body[..], FOLDER_SYNC_REFUSED);
    assert_eq!(
        &gateway.ask(&folder_sync("TwoForms")).await.body[..],
        FOLDER_SYNC_REFUSED
    );
}

/// A GetFolder of the inbox.
pub(crate) const GET_INBOX: &str = "<m:GetFolder><m:FolderShape><t:BaseShape>Default</t:BaseShape></m:FolderShape>\
    <m:FolderIds><t:DistinguishedFolderId Id=\"inbox\"/></m:FolderIds></m:GetFolder>";

/// Runs sync-compliance and returns its exit code.
fn compliance(gateway: &Gateway, words: &[&str]) -> i32 {
    let output = std::process::Command::new(program("sync-compliance"))
        .arg("--admin")
        .arg(format!("http://{}", gateway.admin.address))
        .arg("--token-file")
        .arg(gateway.token_path())
        .args(words)
        .stdin(Stdio::null())
        .output()
        .expect("sync-compliance runs");
    println!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output.status.code().unwrap_or(-1)
}

/// Waits until the gateway has left the poll that the sandbox holds.
async fn abandoned(sandbox: &Sandbox, device: &str) {
    eventually("the poll is left", || async {
        let mut events = sandbox.events().into_iter();
        events
            .any(|event| matches!(&event.what, What::PollAbandoned(seen) if seen.device == device))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_poll() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let mut wire = gateway.connect().await;
    wire.send(ping("GONE").bytes()).await;
    holds_poll(&sandbox, "GONE").await;
    wire.tear().await;
    abandoned(&sandbox, "GONE").await;
}

#[tokio::test]
async fn an_upstream_that_ends_a_poll_is_heard() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let mut wire = gateway.connect().await;
    wire.send(ping("HEARD").bytes()).await;
    holds_poll(&sandbox, "HEARD").await;
    sandbox.release(&Filter::any().device("HEARD"), &Release::Expire);
    let answer = wire.answer().await;
    assert!(
        answer
            .body
            .starts_with(b"\x03\x01\x6a\x00\x00\x0d\x45\x47\x031\x00\x01"),
        "{:?}",
        answer.body
    );
}

#[tokio::test]
async fn a_block_ends_an_open_ews_stream() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let mail = Request::ews("alice", &soap(GET_INBOX));
    assert_eq!(gateway.ask(&mail).await.status(), 200);
    let ask = "<m:GetStreamingEvents><m:SubscriptionIds><t:SubscriptionId>one</t:SubscriptionId>\
        </m:SubscriptionIds><m:ConnectionTimeout>30</m:ConnectionTimeout></m:GetStreamingEvents>";
    let mut wire = gateway.connect().await;
    wire.send(Request::ews("alice", &soap(ask)).bytes()).await;
    let streams = Filter::name("GetStreamingEvents");
    eventually("an open stream", || async {
        (!sandbox.open_polls(&streams).is_empty()).then_some(())
    })
    .await;

    let target = "/v1/users/alice@sandbox.example/override";
    gateway
        .admin
        .write("PUT", target, r#"{"verdict":"block"}"#)
        .await;
    if let Some(answer) = wire.try_answer(false).await {
        // Nothing of the stream had been passed on: then there is room for a refusal.
        assert!(
            answer.text().contains("ErrorAccessDenied"),
            "{}",
            answer.text()
        );
    }
    eventually("the stream is left", || async {
        sandbox.open_polls(&streams).is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn ews_can_be_refused_with_403() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox)
        .set("ews.refusal", "403")
        .start()
        .await;
    let mail = Request::ews("alice", &soap(GET_INBOX));
    assert_eq!(gateway.ask(&mail).await.status(), 200);
    let target = "/v1/users/alice@sandbox.example/override";
    gateway
        .admin
        .write("PUT", target, r#"{"verdict":"quarantine"}"#)
        .await;
    assert_eq!(gateway.ask(&mail).await.status(), 403);
}

#[tokio::test]
async fn what_is_open_and_what_was_seen_is_shown() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let mut wire = gateway.connect().await;
    wire.send(ping("SHOWN").bytes()).await;
    holds_poll(&sandbox, "SHOWN").await;
    let sessions = gateway.admin.read("/v1/sessions").await;
    let session = &sessions["sessions"][0];
    assert_eq!(
        (&session["device"], &session["command"]),
        (&"SHOWN".into(), &"Ping".into()),
        "{sessions}"
    );
    assert_eq!(session["user"], "alice@sandbox.example", "{sessions}");
    assert_eq!(session["protocol"], "eas", "{sessions}");
    let members = session.as_object().expect("an object");
    let mut names: Vec<&str> = members.keys().map(String::as_str).collect();
    names.sort_unstable();
    let all = ["command", "deadline", "device", "protocol", "since", "user"];
    assert_eq!(names, all, "{sessions}");
    // The device's own 3540 seconds, and the margin.
    let time = |name: &str| -> jiff::Timestamp {
        let text = session[name].as_str().expect("a time");
        text.parse().expect("as RFC 3339 writes it")
    };
    let allowed = time("deadline").duration_since(time("since")).as_secs();
    assert!((3600..3660).contains(&allowed), "{sessions}");

    let unknown = gateway.admin.read("/v1/devices?known=false").await;
    assert!(
        unknown["devices"].to_string().contains("SHOWN"),
        "{unknown}"
    );
    let explained = gateway
        .admin
        .read("/v1/explain?device=SHOWN&user=alice@sandbox.example")
        .await;
    assert_eq!(explained["verdict"], "allow", "{explained}");
    assert!(
        explained["steps"]
            .as_array()
            .is_some_and(|steps| !steps.is_empty()),
        "{explained}"
    );

    gateway.admin.block("SHOWN").await;
    assert_eq!(&wire.answer().await.body[..], PING_REFUSED);
    eventually("no session", || async {
        let sessions = gateway.admin.read("/v1/sessions").await;
        (sessions["sessions"] == serde_json::json!([])).then_some(())
    })
    .await;
}

/// Clients look at the version before they look at the answer.
#[tokio::test]
async fn a_refusal_carries_the_version_that_the_server_named_last() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox)
        .set("ews.refusal.server.version", "15.0.1497.2")
        .start()
        .await;
    let ask = Request::ews("alice", &soap(GET_INBOX));
    let user = "/v1/users/alice@sandbox.example/override";
    let refusal = || async {
        gateway
            .admin
            .write("PUT", user, r#"{"verdict":"block"}"#)
            .await;
        let refused = gateway.ask(&ask).await.text();
        gateway.admin.write("DELETE", user, "").await;
        assert!(refused.contains("ErrorAccessDenied"), "{refused}");
        let start = refused.find("ServerVersionInfo").expect("a version");
        let end = refused[start..].find('>').expect("its end") + start;
        refused[start..end].to_owned()
    };
    let names = |version: &str, numbers: [u16; 4]| {
        let [major, minor, build, revision] = numbers;
        for (name, number) in [
            ("MajorVersion", major),
            ("MinorVersion", minor),
            ("MajorBuildNumber", build),
            ("MinorBuildNumber", revision),
        ] {
            let member = format!("{name}=\"{number}\"");
            assert!(version.contains(&member), "{member} is not in {version}");
        }
    };
    // Before the server has said anything.
    names(&refusal().await, [15, 0, 1497, 2]);
    assert_eq!(gateway.ask(&ask).await.status(), 200);
    names(&refusal().await, [15, 2, 1544, 4]);
}

#[tokio::test]
async fn the_feed_tells_of_the_block_and_of_the_cut() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let mut wire = gateway.connect().await;
    wire.send(ping("FED").bytes()).await;
    holds_poll(&sandbox, "FED").await;
    let mut feed = std::process::Command::new(program("sync-compliance"))
        .args([
            "watch",
            "--json",
            "--admin",
            &format!("http://{}", gateway.admin.address),
        ])
        .arg("--token-file")
        .arg(gateway.token_path())
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(gateway.path("feed")).expect("a file"))
        .stderr(Stdio::null())
        .spawn()
        .expect("sync-compliance runs");
    let said = || std::fs::read_to_string(gateway.path("feed")).unwrap_or_default();
    // The feed begins with what happens next: it is open once a change is seen in it.
    eventually("an open feed", || async {
        gateway.admin.block("KNOCK").await;
        said().contains("KNOCK").then_some(())
    })
    .await;
    gateway.admin.block("FED").await;
    assert_eq!(&wire.answer().await.body[..], PING_REFUSED);
    eventually("change and cut in the feed", || async {
        let said = said();
        let about = |kind: &str| {
            let kind = format!("\"event\":\"{kind}\"");
            said.lines()
                .any(|line| line.contains(&kind) && line.contains("FED"))
        };
        (about("change") && about("cut")).then_some(())
    })
    .await;
    feed.kill().expect("the feed can be ended");
    feed.wait().expect("the feed has ended");
}
