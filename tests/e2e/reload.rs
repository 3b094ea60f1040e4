//! Configuration that changes under a running gateway.

use std::fs;

use seg_tests::{Gateway, eventually};

use crate::sandbox::{self, FOLDER_SYNC_REFUSED, folder_sync, is_served};

#[tokio::test]
async fn a_changed_file_is_taken_up() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    assert!(is_served(&gateway.ask(&folder_sync("RELOADED")).await));
    let changed = edited(
        &gateway,
        "compliance.unknown.device=allow",
        "compliance.unknown.device=block",
    );

    // Written beside and renamed into place, as editors and configuration tools do.
    fs::write(gateway.path("new"), &changed).expect("a new file");
    fs::rename(gateway.path("new"), gateway.path("application.properties")).expect("a rename");
    eventually("the new configuration", || async {
        let answer = gateway.ask(&folder_sync("RELOADED")).await;
        (&answer.body[..] == FOLDER_SYNC_REFUSED).then_some(())
    })
    .await;
    assert_eq!(gateway.admin.metric("seg_config_reload_ok", &[]).await, 1.0);
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_why() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let bad = edited(
        &gateway,
        "compliance.unknown.device=allow",
        "compliance.unknown.devise=block",
    );
    fs::write(gateway.path("application.properties"), bad).expect("the file is written");

    let (status, body) = gateway.admin.request("POST", "/v1/reload", "").await;
    assert_eq!(status, 422, "{body}");
    assert_eq!(body["error"]["key"], "compliance.unknown.devise", "{body}");
    assert!(body["error"]["line"].is_u64(), "{body}");
    assert!(
        body["error"]["message"]
            .as_str()
            .is_some_and(|text| text.contains("compliance.unknown.device")),
        "{body}"
    );
    assert!(is_served(&gateway.ask(&folder_sync("STEADY")).await));
    assert_eq!(gateway.admin.metric("seg_config_reload_ok", &[]).await, 0.0);
}

#[tokio::test]
async fn a_reload_on_request_names_what_has_changed() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let changed = edited(
        &gateway,
        "compliance.unknown.device=allow",
        "compliance.unknown.device=block",
    ) + "server.drain.seconds=7\ndata.dir=elsewhere\n";
    let changed = changed.replace("data.dir=data\n", "");
    fs::write(gateway.path("application.properties"), changed).expect("the file is written");
    // The watcher may have been faster; then nothing is left to change.
    let (status, body) = gateway.admin.request("POST", "/v1/reload", "").await;
    assert_eq!(status, 200, "{body}");
    assert!(
        body["changed"].is_array() && body["restart_required"].is_array(),
        "{body}"
    );
    let answer = gateway.ask(&folder_sync("NAMED")).await;
    assert_eq!(&answer.body[..], FOLDER_SYNC_REFUSED);
}

#[tokio::test]
async fn sighup_reloads() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let changed = edited(
        &gateway,
        "compliance.unknown.device=allow",
        "compliance.unknown.device=block",
    );
    fs::write(gateway.path("application.properties"), changed).expect("the file is written");
    gateway.signal("HUP");
    eventually("the new configuration", || async {
        let answer = gateway.ask(&folder_sync("HUNGUP")).await;
        (&answer.body[..] == FOLDER_SYNC_REFUSED).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_connections() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let renewed = seg_tests::authority::Authority::new();
    let _paths = renewed
        .server(&["localhost"])
        .write(&gateway.path(""), "server");
    gateway.admin.write("POST", "/v1/reload", "").await;
    let mut wire = seg_tests::wire::Wire::connect(gateway.address, &renewed.pem()).await;
    wire.send(folder_sync("RENEWED").bytes()).await;
    assert!(is_served(&wire.answer().await));
}

fn edited(gateway: &Gateway, from: &str, to: &str) -> String {
    let text = fs::read_to_string(gateway.path("application.properties")).expect("the properties");
    assert!(text.contains(from), "{from} is not in the properties");
    text.replace(from, to)
}
