//! A log from which nobody learns who has which phone, and in which each can be followed all the same.

use std::fs;

use seg_tests::eas::{Request, basic, soap};
use seg_tests::{Gateway, eventually};
use serde_json::Value;

use crate::block::GET_INBOX;
use crate::sandbox::{self, FOLDER_SYNC_REFUSED, folder_sync, is_served};

const USER: &str = "alice";

#[tokio::test]
async fn devices_and_users_stand_in_the_log_under_pseudonyms() {
    let sandbox = sandbox::start();
    let builder = Gateway::before(&sandbox);
    let key = builder.file("pseudonyms.key", "a key of thirty-two bytes, or so");
    let gateway = builder
        .set("log.pseudonym.key.path", key.display().to_string())
        .start()
        .await;
    // Served, refused, malformed, in both protocols; and what an administrator does.
    assert!(is_served(&gateway.ask(&folder_sync("HIDDEN1")).await));
    assert!(is_served(&gateway.ask(&folder_sync("HIDDEN2")).await));
    gateway.admin.block("HIDDEN1").await;
    assert_eq!(
        &gateway.ask(&folder_sync("HIDDEN1")).await.body[..],
        FOLDER_SYNC_REFUSED
    );
    gateway.admin.unblock("HIDDEN1").await;
    let target = format!("/v1/users/{USER}@sandbox.example/override");
    gateway
        .admin
        .write("PUT", &target, r#"{"verdict":"allow"}"#)
        .await;
    gateway
        .admin
        .write("POST", "/v1/devices/HIDDEN2:resync", "")
        .await;
    let twice = "/Microsoft-Server-ActiveSync?Cmd=FolderSync&User=alice&DeviceId=HIDDEN1&DeviceId=HIDDEN2&DeviceType=t";
    let twice = Request::new("POST", twice).header("Authorization", &basic(USER));
    assert_eq!(gateway.ask(&twice).await.status(), 400);
    let mail = gateway.ask(&Request::ews(USER, &soap(GET_INBOX))).await;
    assert_eq!(mail.status(), 200);

    let seen = eventually("a line of each request", || async {
        let seen = requests(&gateway);
        (seen.len() == 5).then_some(seen)
    })
    .await;
    let devices: Vec<&str> = texts(&seen, "device");
    let [first, second, again] = devices[..] else {
        panic!("{devices:?}");
    };
    assert_eq!(first, again, "a device can't be followed");
    assert_ne!(first, second, "two devices look like one");
    let users = texts(&seen, "user");
    assert!(users.len() >= 4 && users.iter().all(|user| *user == users[0]));
    for pseudonym in [first, second, users[0]] {
        let hex = pseudonym.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(hex && pseudonym.len() == 20, "{pseudonym}");
    }

    // The key's file belongs to the configuration: a new one is noticed, and is another name.
    fs::write(gateway.path("new.key"), "another key, of thirty-two bytes").expect("a key");
    fs::rename(gateway.path("new.key"), &key).expect("a rename");
    eventually("another pseudonym", || async {
        assert!(is_served(&gateway.ask(&folder_sync("HIDDEN3")).await));
        let seen = requests(&gateway);
        let mut names = texts(&seen, "user");
        names.dedup();
        (names.len() > 1).then_some(())
    })
    .await;

    let log = gateway.log().to_ascii_lowercase();
    for name in ["hidden1", "hidden2", "hidden3", USER] {
        assert!(!log.contains(name), "{name} stands in the log");
    }
}

fn requests(gateway: &Gateway) -> Vec<Value> {
    let mut events = gateway.events();
    events.retain(|event| event["micros"].is_u64());
    events
}

fn texts<'e>(events: &'e [Value], member: &str) -> Vec<&'e str> {
    let members = events.iter().map(|event| event[member].as_str());
    members.flatten().collect()
}
