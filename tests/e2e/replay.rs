//! A connection that died in the pool: what may be asked twice is, what may not is not.

use seg_core::sandbox::{Filter, Play, Script, requests};
use seg_tests::Gateway;
use seg_tests::eas::Request;

use crate::sandbox::{self, folder_sync, is_served};

#[tokio::test]
async fn a_read_is_repeated_once_on_a_reused_connection() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let mut wire = gateway.connect().await;
    wire.send(folder_sync("TWICE").bytes()).await;
    assert!(is_served(&wire.answer().await));

    sandbox.script(Script::new(Filter::name("FolderSync"), Play::Close));
    wire.send(folder_sync("TWICE").bytes()).await;
    assert!(is_served(&wire.answer().await));
    assert_eq!(sandbox.count(&Filter::name("FolderSync")), 3);
    assert_eq!(gateway.admin.metric("seg_replays_total", &[]).await, 1.0);
}

#[tokio::test]
async fn a_read_on_a_fresh_connection_is_not_repeated() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    sandbox.script(Script::new(Filter::name("FolderSync"), Play::Close));
    assert_eq!(gateway.ask(&folder_sync("ONCE")).await.status(), 503);
    assert_eq!(sandbox.count(&Filter::name("FolderSync")), 1);
}

#[tokio::test]
async fn a_mail_is_never_sent_twice() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let mut wire = gateway.connect().await;
    wire.send(folder_sync("MAILS").bytes()).await;
    assert!(is_served(&wire.answer().await));

    sandbox.script(Script::new(Filter::name("SendMail"), Play::Close));
    wire.send(Request::eas("SendMail", "alice", "MAILS", requests::send_mail("one")).bytes())
        .await;
    assert_eq!(wire.answer().await.status(), 503);
    assert_eq!(sandbox.count(&Filter::name("SendMail")), 1);
}

#[tokio::test]
async fn a_mail_whose_sender_has_left_is_still_sent() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    // Known credentials, so that nothing stands before the command.
    assert!(is_served(&gateway.ask(&folder_sync("LEAVES")).await));
    let slow = Script::new(Filter::name("SendMail"), Play::Ordinary)
        .delay(std::time::Duration::from_secs(1));
    sandbox.script(slow);
    let mut wire = gateway.connect().await;
    wire.send(Request::eas("SendMail", "alice", "LEAVES", requests::send_mail("left")).bytes())
        .await;
    seg_tests::eventually("the mail has reached the server", || async {
        (sandbox.count(&Filter::name("SendMail")) == 1).then_some(())
    })
    .await;
    wire.tear().await;
    seg_tests::eventually("the mail is sent", || async {
        let sent = sandbox.sent();
        sent.iter()
            .any(|mail| mail.client_id.as_deref() == Some("left"))
            .then_some(())
    })
    .await;
    let line = gateway
        .event("its line", |event| event["command"] == "SendMail")
        .await;
    assert_eq!(sandbox.count(&Filter::name("SendMail")), 1, "{line}");
}

#[tokio::test]
async fn connections_to_the_server_are_reused() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox)
        .set("email.server.health.interval.seconds", "3600")
        .start()
        .await;
    let mut wire = gateway.connect().await;
    wire.send(folder_sync("POOLED").bytes()).await;
    assert!(is_served(&wire.answer().await));
    let before = sandbox.connections();
    for _ in 0..20 {
        wire.send(folder_sync("POOLED").bytes()).await;
        assert!(is_served(&wire.answer().await));
    }
    assert_eq!(sandbox.connections(), before);
}
