//! What an administrator has a device do: wipe, resync, reprovision; and the quarantine.

use std::process::Stdio;

use seg_core::sandbox::{Filter, Sandbox, requests};
use seg_tests::eas::{Request, basic};
use seg_tests::message::Message;
use seg_tests::program::program;
use seg_tests::{Gateway, eventually};
use serde_json::Value;

use crate::sandbox::{self, FOLDER_SYNC_REFUSED, count, folder_sync, holds_poll, is_served, ping};

/// <Provision/>
const PROVISION: &[u8] = b"\x03\x01\x6a\x00\x00\x0e\x05";
/// <Provision><RemoteWipe><Status>1
const WIPES: &[u8] = b"\x03\x01\x6a\x00\x00\x0e\x45\x4c\x4b\x031\x00\x01\x01\x01";
/// <Provision><Status>1</Status><RemoteWipe/>
const WIPE_ORDER: &[u8] = b"\x03\x01\x6a\x00\x00\x0e\x45\x4b\x031\x00\x01\x0c\x01";
/// <Provision><Status>1</Status><AccountOnlyRemoteWipe/>
const ACCOUNT_ORDER: &[u8] = b"\x03\x01\x6a\x00\x00\x0e\x45\x4b\x031\x00\x01\x3b\x01";
/// <Provision><Status>1
const NOTED: &[u8] = b"\x03\x01\x6a\x00\x00\x0e\x45\x4b\x031\x00\x01\x01";
/// <Ping><Status>7
const PING_FOLDERS: &[u8] = b"\x03\x01\x6a\x00\x00\x0d\x45\x47\x037\x00\x01\x01";
/// <Sync><Status>12
const SYNC_FOLDERS: &[u8] = b"\x03\x01\x6a\x00\x45\x4e\x0312\x00\x01\x01";

fn folder_status(status: &str) -> Vec<u8> {
    let begin = b"\x03\x01\x6a\x00\x00\x07\x56\x4c\x03".as_slice();
    [begin, status.as_bytes(), b"\x00\x01\x01"].concat()
}

fn folder_sync_with(device: &str, key: &str) -> Request {
    let begin = b"\x03\x01\x6a\x00\x00\x07\x56\x52\x03".as_slice();
    let body = [begin, key.as_bytes(), b"\x00\x01\x01"].concat();
    Request::eas("FolderSync", "alice", device, body)
}

fn sync_of(device: &str, id: &str, key: &str) -> Request {
    let body = [
        b"\x03\x01\x6a\x00\x45\x5c\x4f\x4b\x03".as_slice(),
        key.as_bytes(),
        b"\x00\x01\x52\x03",
        id.as_bytes(),
        b"\x00\x01\x01\x01\x01",
    ]
    .concat();
    Request::eas("Sync", "alice", device, body)
}

fn provision(device: &str, body: &[u8]) -> Request {
    Request::eas("Provision", "alice", device, body)
}

fn at_version(request: Request, version: &str) -> Request {
    request
        .without("MS-ASProtocolVersion")
        .header("MS-ASProtocolVersion", version)
}

/// Runs `sync-compliance` and returns its exit code.
fn compliance(gateway: &Gateway, arguments: &[&str]) -> i32 {
    let status = std::process::Command::new(program("sync-compliance"))
        .args(arguments)
        .args(["--admin", &format!("http://{}", gateway.admin.address)])
        .arg("--token-file")
        .arg(gateway.token_path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .expect("sync-compliance runs");
    status.code().unwrap_or(-1)
}

async fn order_of(gateway: &Gateway, device: &str) -> Value {
    gateway.admin.read(&format!("/v1/devices/{device}")).await["order"].clone()
}

fn from_us(message: &Message) -> &[u8] {
    &message.body[..]
}

#[tokio::test]
async fn a_wipe_reaches_its_device_and_is_acknowledged() {
    let sandbox = sandbox::start();
    let mut gateway = Gateway::before(&sandbox).start().await;
    assert!(is_served(&gateway.ask(&folder_sync("WIPE1")).await));
    let mut wire = gateway.connect().await;
    wire.send(ping("WIPE1").bytes()).await;
    holds_poll(&sandbox, "WIPE1").await;

    assert_eq!(
        compliance(&gateway, &["wipe", "WIPE1", "--reason", "lost"]),
        0
    );
    assert_eq!(
        from_us(&wire.answer().await),
        b"\x03\x01\x6a\x00\x00\x0d\x45\x47\x03140\x00\x01\x01",
        "the open Ping"
    );
    let before = count(&sandbox, "WIPE1");
    assert_eq!(order_of(&gateway, "WIPE1").await["state"], "pending");

    // The order outlives the process.
    gateway.restart_after_kill().await;
    let answer = gateway.ask(&folder_sync("WIPE1")).await;
    assert_eq!(from_us(&answer), folder_status("140"));
    let old = at_version(folder_sync("WIPE1"), "12.1");
    assert_eq!(gateway.ask(&old).await.status(), 449);
    // Nobody else's device is told.
    assert!(is_served(&gateway.ask(&folder_sync("OTHER1")).await));

    let answer = gateway.ask(&provision("WIPE1", PROVISION)).await;
    assert_eq!(from_us(&answer), WIPE_ORDER);
    let order = order_of(&gateway, "WIPE1").await;
    assert_eq!(
        (&order["action"], &order["state"], &order["reason"]),
        (&"wipe".into(), &"given".into(), &"lost".into())
    );
    let answer = gateway.ask(&provision("WIPE1", WIPES)).await;
    assert_eq!(from_us(&answer), NOTED);
    let device = gateway.admin.read("/v1/devices/WIPE1").await;
    assert_eq!(device["order"]["state"], "done", "{device}");
    assert_eq!(device["decision"]["verdict"], "block", "{device}");
    assert_eq!(device["decision"]["reason"], "wiped", "{device}");
    let answer = gateway.ask(&folder_sync("WIPE1")).await;
    assert_eq!(from_us(&answer), FOLDER_SYNC_REFUSED);
    assert_eq!(
        sandbox.count(&Filter::any().device("WIPE1")),
        before,
        "a command has reached the server"
    );
}

#[tokio::test]
async fn a_blocked_device_is_wiped_and_a_stranger_is_told_nothing() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    gateway.admin.block("WIPE2").await;
    gateway
        .admin
        .write("POST", "/v1/devices/WIPE2:wipe", "")
        .await;
    let stranger = |request: Request| {
        request.without("Authorization").header(
            "Authorization",
            "Basic YWxpY2VAc2FuZGJveC5leGFtcGxlOndyb25n",
        )
    };
    for request in [
        folder_sync("WIPE2"),
        provision("WIPE2", PROVISION),
        provision("WIPE2", WIPES),
    ] {
        assert_eq!(gateway.ask(&stranger(request)).await.status(), 401);
    }
    assert_eq!(order_of(&gateway, "WIPE2").await["state"], "pending");
    // An acknowledgement before the order is none.
    let answer = gateway.ask(&provision("WIPE2", WIPES)).await;
    assert_eq!(from_us(&answer), WIPE_ORDER);
    assert_eq!(order_of(&gateway, "WIPE2").await["state"], "given");
}

#[tokio::test]
async fn an_account_is_wiped_where_the_device_knows_how() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    assert_eq!(
        compliance(&gateway, &["wipe", "WIPE3", "--account-only"]),
        0
    );
    // 14.1 has no such order, and must not take it for a wipe of everything.
    assert!(is_served(&gateway.ask(&folder_sync("WIPE3")).await));
    let new = |request| at_version(request, "16.1");
    let answer = gateway.ask(&new(folder_sync("WIPE3"))).await;
    assert_eq!(from_us(&answer), folder_status("140"));
    let answer = gateway.ask(&new(provision("WIPE3", PROVISION))).await;
    assert_eq!(from_us(&answer), ACCOUNT_ORDER);
    // The device says that it can't: it is told again.
    let fails = b"\x03\x01\x6a\x00\x00\x0e\x45\x7b\x4b\x032\x00\x01\x01\x01";
    let answer = gateway.ask(&new(provision("WIPE3", fails))).await;
    assert_eq!(from_us(&answer), ACCOUNT_ORDER);
    assert_eq!(order_of(&gateway, "WIPE3").await["state"], "failed");

    assert_eq!(compliance(&gateway, &["wipe", "WIPE3", "--cancel"]), 0);
    assert!(is_served(&gateway.ask(&new(folder_sync("WIPE3"))).await));
    assert_eq!(compliance(&gateway, &["wipe", "WIPE3", "--cancel"]), 1);
}

#[tokio::test]
async fn a_resync_begins_folders_and_mail_anew() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    assert!(is_served(&gateway.ask(&folder_sync("ANEW1")).await));
    let mut wire = gateway.connect().await;
    wire.send(ping("ANEW1").bytes()).await;
    holds_poll(&sandbox, "ANEW1").await;
    assert_eq!(compliance(&gateway, &["resync", "ANEW1"]), 0);
    assert_eq!(from_us(&wire.answer().await), PING_FOLDERS);

    let answer = gateway.ask(&sync_of("ANEW1", "5", "17")).await;
    assert_eq!(from_us(&answer), SYNC_FOLDERS);
    let answer = gateway.ask(&folder_sync_with("ANEW1", "17")).await;
    assert_eq!(from_us(&answer), folder_status("9"));
    assert!(is_served(&gateway.ask(&folder_sync("ANEW1")).await));
    assert_eq!(order_of(&gateway, "ANEW1").await["state"], "done");

    // <Sync><Collections><Collection><SyncKey>0<CollectionId>5<Status>3
    let begin_anew = b"\x03\x01\x6a\x00\x45\x5c\x4f\x4b\x030\x00\x01\x52\x035\x00\x01\x4e\x033\x00\
                       \x01\x01\x01\x01";
    let answer = gateway.ask(&sync_of("ANEW1", "5", "17")).await;
    assert_eq!(from_us(&answer), begin_anew);
    let before = count(&sandbox, "ANEW1");
    for key in ["0", "1"] {
        let answer = gateway.ask(&sync_of("ANEW1", "5", key)).await;
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(count(&sandbox, "ANEW1"), before + 2);
}

#[tokio::test]
async fn a_device_fetches_its_policies_again() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    assert_eq!(compliance(&gateway, &["reprovision", "POLICY1"]), 0);
    let answer = gateway.ask(&folder_sync("POLICY1")).await;
    assert_eq!(from_us(&answer), folder_status("142"));
    let old = at_version(folder_sync("POLICY1"), "12.1");
    assert_eq!(gateway.ask(&old).await.status(), 449);
    for (body, state) in [
        (requests::PROVISION, "given"),
        (requests::PROVISION_AGREE, "done"),
    ] {
        let answer = gateway.ask(&provision("POLICY1", body)).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(order_of(&gateway, "POLICY1").await["state"], state);
    }
    assert_eq!(
        sandbox.count(&Filter::name("Provision").device("POLICY1")),
        2
    );
    assert!(is_served(&gateway.ask(&folder_sync("POLICY1")).await));
}

#[tokio::test]
async fn a_quarantined_device_sees_why_and_begins_anew_at_release() {
    let sandbox = sandbox::start();
    let builder = Gateway::before(&sandbox);
    let notice = "[eas.quarantine]\nsubject = \"Please enrol\"\ntext = \"Because: {reason}\"\n";
    builder.file("policies.toml", notice);
    let gateway = builder.start().await;
    assert!(is_served(&gateway.ask(&folder_sync("QUAR1")).await));
    let mut wire = gateway.connect().await;
    wire.send(ping("QUAR1").bytes()).await;
    holds_poll(&sandbox, "QUAR1").await;
    assert_eq!(
        compliance(&gateway, &["quarantine", "QUAR1", "--reason", "new phone"]),
        0
    );
    assert_eq!(from_us(&wire.answer().await), PING_FOLDERS);
    let before = count(&sandbox, "QUAR1");

    // What it has is nothing any more; it begins with folders of ours.
    let answer = gateway.ask(&sync_of("QUAR1", "5", "17")).await;
    assert_eq!(from_us(&answer), SYNC_FOLDERS);
    let answer = gateway.ask(&folder_sync_with("QUAR1", "17")).await;
    assert_eq!(from_us(&answer), folder_status("9"));
    let answer = gateway.ask(&folder_sync("QUAR1")).await;
    assert!(answer.text().contains("seg-quarantine:inbox"), "{answer:?}");
    let inbox = "seg-quarantine:inbox";
    let answer = gateway.ask(&sync_of("QUAR1", inbox, "0")).await;
    assert!(answer.text().contains("seg-quarantine-0"), "{answer:?}");
    let answer = gateway
        .ask(&sync_of("QUAR1", inbox, "seg-quarantine-0"))
        .await;
    for part in ["Please enrol", "Because: new phone", "seg-quarantine-1"] {
        assert!(answer.text().contains(part), "{part}: {answer:?}");
    }
    let answer = gateway
        .ask(&sync_of("QUAR1", inbox, "seg-quarantine-1"))
        .await;
    assert_eq!((answer.status(), answer.body.len()), (200, 0));
    let search = Request::eas("Search", "alice", "QUAR1", requests::SEARCH);
    let answer = gateway.ask(&search).await;
    assert_eq!(
        from_us(&answer),
        b"\x03\x01\x6a\x00\x00\x0f\x45\x4c\x03129\x00\x01\x01"
    );
    assert_eq!(count(&sandbox, "QUAR1"), before, "mail was within reach");
    let answer = gateway.ask(&provision("QUAR1", requests::PROVISION)).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(
        count(&sandbox, "QUAR1"),
        before + 1,
        "policies are not mail"
    );

    // A Ping waits, and ends with the release.
    wire.send(ping("QUAR1").bytes()).await;
    holds_itself(&gateway).await;
    gateway.admin.unblock("QUAR1").await;
    assert_eq!(from_us(&wire.answer().await), PING_FOLDERS);
    let answer = gateway
        .ask(&folder_sync_with("QUAR1", "seg-quarantine-1"))
        .await;
    assert_eq!(from_us(&answer), folder_status("9"));
    let answer = gateway
        .ask(&sync_of("QUAR1", inbox, "seg-quarantine-1"))
        .await;
    assert!(
        answer.body.ends_with(b"\x4e\x033\x00\x01\x01\x01\x01"),
        "{answer:?}"
    );
    assert!(is_served(&gateway.ask(&folder_sync("QUAR1")).await));
    let answer = gateway.ask(&sync_of("QUAR1", "5", "0")).await;
    assert_eq!(answer.status(), 200);
    assert!(!answer.text().contains("seg-quarantine"), "{answer:?}");
}

/// Waits until the gateway has a Ping that it holds itself and no server sees.
async fn holds_itself(gateway: &Gateway) {
    eventually("a Ping in flight", || async {
        let labels = [r#"command="Ping""#];
        let live = gateway.admin.metric("seg_live_requests", &labels).await;
        (live == 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_quarantine_becomes_a_block_in_the_middle_of_a_ping() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    assert!(is_served(&gateway.ask(&folder_sync("QUAR2")).await));
    assert_eq!(compliance(&gateway, &["quarantine", "QUAR2"]), 0);
    let mut wire = gateway.connect().await;
    wire.send(ping("QUAR2").bytes()).await;
    holds_itself(&gateway).await;
    gateway.admin.block("QUAR2").await;
    assert_eq!(from_us(&wire.answer().await), sandbox::PING_REFUSED);
}

/// Every action is there for people and for programs, is shown, and outlives the process.
#[tokio::test]
async fn every_action_is_given_in_both_ways_is_shown_and_outlives_a_restart() {
    let sandbox = sandbox::start();
    let mut gateway = Gateway::before(&sandbox).start().await;
    // An action, where it is shown, and as what.
    let actions = [
        ("wipe", "/order/action", "wipe"),
        ("reprovision", "/order/action", "reprovision"),
        ("resync", "/order/action", "resync"),
        ("block", "/override/verdict", "block"),
        ("quarantine", "/override/verdict", "quarantine"),
    ];
    for (action, ..) in actions {
        let by_hand = format!("CLI{action}");
        assert_eq!(compliance(&gateway, &[action, &by_hand]), 0, "{action}");
        let (method, target, body) = match action {
            "block" | "quarantine" => (
                "PUT",
                format!("/v1/devices/API{action}/override"),
                format!(r#"{{"verdict":"{action}"}}"#),
            ),
            _ => (
                "POST",
                format!("/v1/devices/API{action}:{action}"),
                String::new(),
            ),
        };
        let (status, said) = gateway.admin.request(method, &target, &body).await;
        assert!((200..300).contains(&status), "{action}: {status} {said}");
    }
    let account = r#"{"account_only":true}"#;
    let (status, _) = gateway
        .admin
        .request("POST", "/v1/devices/APIaccount:wipe", account)
        .await;
    assert_eq!(status, 200);
    assert_eq!(
        compliance(&gateway, &["wipe", "CLIaccount", "--account-only"]),
        0
    );
    for restarted in [false, true] {
        if restarted {
            gateway.restart_after_kill().await;
        }
        for way in ["CLI", "API"] {
            for (action, place, shown) in actions {
                let device = gateway
                    .admin
                    .read(&format!("/v1/devices/{way}{action}"))
                    .await;
                let found = device.pointer(place);
                assert_eq!(found, Some(&shown.into()), "{restarted} {device}");
                if place.starts_with("/order") {
                    assert_eq!(device["order"]["state"], "pending", "{device}");
                }
            }
            let order = order_of(&gateway, &format!("{way}account")).await;
            assert_eq!(order["action"], "wipe-account", "{restarted} {order}");
        }
    }
    // Each is still told, in the way of the device's version.
    for way in ["CLI", "API"] {
        for (action, status) in [
            ("wipe", "140"),
            ("reprovision", "142"),
            ("resync", "9"),
            ("block", "129"),
            ("quarantine", "9"),
        ] {
            let ask = folder_sync_with(&format!("{way}{action}"), "17");
            let answer = gateway.ask(&ask).await;
            assert_eq!(from_us(&answer), folder_status(status), "{way} {action}");
        }
    }
    for action in ["wipe", "reprovision"] {
        let old = at_version(folder_sync(&format!("CLI{action}")), "12.1");
        assert_eq!(gateway.ask(&old).await.status(), 449, "{action}");
    }
}

#[tokio::test]
async fn orders_are_asked_for_by_name_and_by_the_token() {
    let sandbox: Sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let ask =
        |target: &'static str, body: &'static str| gateway.admin.request("POST", target, body);
    assert_eq!(ask("/v1/devices/NAME1:erase", "").await.0, 404);
    assert_eq!(ask("/v1/devices/NAME1", "").await.0, 404);
    assert_eq!(
        ask("/v1/devices/NAME1:wipe", r#"{"all":true}"#).await.0,
        400
    );
    let (status, body) = ask("/v1/devices/NAME1:resync", r#"{"account_only":true}"#).await;
    assert_eq!(
        (status, &body["error"]["key"]),
        (400, &"account_only".into())
    );
    let (status, _) = gateway.admin.request("GET", "/v1/devices/NAME1", "").await;
    assert_eq!(status, 404, "nothing was ordered");
    // The order concerns the user who is named, and nobody else on the same device.
    let order = r#"{"user":"bob@sandbox.example"}"#;
    assert_eq!(ask("/v1/devices/NAME1:wipe", order).await.0, 200);
    assert!(is_served(&gateway.ask(&folder_sync("NAME1")).await));
    let bob = folder_sync("NAME1")
        .without("Authorization")
        .header("Authorization", &basic("bob"));
    eventually("the order", || async {
        let answer = gateway.ask(&bob).await;
        (from_us(&answer) == folder_status("140")).then_some(())
    })
    .await;
}
