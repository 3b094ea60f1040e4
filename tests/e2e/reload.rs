//! Configuration that changes under a running gateway.

use std::fs;

use seg_tests::authority::{Authority, Identity};
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
    let renewed = Authority::new();
    let _paths = renewed
        .server(&["localhost"])
        .write(&gateway.path(""), "server");
    gateway.admin.write("POST", "/v1/reload", "").await;
    let mut wire = seg_tests::wire::Wire::connect(gateway.address, &renewed.pem()).await;
    wire.send(folder_sync("RENEWED").bytes()).await;
    assert!(is_served(&wire.answer().await));
}

/// Renewed as by whoever renews certificates: the same name, and nobody is told.
#[tokio::test]
async fn a_renewed_authority_of_clients_is_noticed() {
    let sandbox = sandbox::start();
    let (old, new) = (Authority::new(), Authority::new());
    let builder = Gateway::before(&sandbox);
    let ca = builder.file("clients.pem", old.pem());
    let gateway = builder
        .set("server.client.auth", "required")
        .set("server.client.ca.path", ca.display().to_string())
        .start()
        .await;
    let name = "alice@sandbox.example";
    let (of_old, of_new) = (old.client(name), new.client(name));
    assert!(serves(&gateway, &of_old).await);
    assert!(!serves(&gateway, &of_new).await);
    replace(&gateway, "clients.pem", &new.pem());
    eventually("a client of the new authority", || async {
        serves(&gateway, &of_new).await.then_some(())
    })
    .await;
    assert!(!serves(&gateway, &of_old).await);
}

#[tokio::test]
async fn a_renewed_authority_of_the_mail_server_is_noticed() {
    let sandbox = sandbox::start();
    let gateway = Gateway::alone()
        .upstream(&sandbox.url(), &Authority::new().pem())
        .start()
        .await;
    assert_eq!(gateway.ask(&folder_sync("UNTRUSTED")).await.status(), 503);
    let ca = sandbox.ca_pem().expect("it speaks TLS");
    replace(&gateway, "upstream-ca.pem", ca);
    eventually("a mail server that is trusted", || async {
        is_served(&gateway.ask(&folder_sync("TRUSTED")).await).then_some(())
    })
    .await;
    // And back: what was trusted once is not for ever.
    replace(&gateway, "upstream-ca.pem", &Authority::new().pem());
    eventually("a mail server that is not trusted any more", || async {
        let answer = gateway.ask(&folder_sync("UNTRUSTED")).await;
        (answer.status() == 503).then_some(())
    })
    .await;
}

/// Whether a client with this certificate is.
async fn serves(gateway: &Gateway, identity: &Identity) -> bool {
    let mut wire = gateway.connect_as(identity).await;
    wire.send_until_closed(folder_sync("CERTIFIED").bytes())
        .await;
    let answer = wire.try_answer(false).await;
    answer.is_some_and(|answer| is_served(&answer))
}

fn replace(gateway: &Gateway, name: &str, content: &str) {
    let new = gateway.path("renewed");
    fs::write(&new, content).expect("a new file");
    fs::rename(&new, gateway.path(name)).expect("a rename");
}

fn edited(gateway: &Gateway, from: &str, to: &str) -> String {
    let text = fs::read_to_string(gateway.path("application.properties")).expect("the properties");
    assert!(text.contains(from), "{from} is not in the properties");
    text.replace(from, to)
}
