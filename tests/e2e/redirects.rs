//! A mailbox that has moved is found by the gateway, and keeps being judged here.

use seg_core::sandbox::{Answer, Filter, Kind, Play, Sandbox, Script, requests};
use seg_tests::eas::Request;
use seg_tests::{Gateway, GatewayBuilder};
use serde_json::Value;

use crate::sandbox::{self, FOLDER_SYNC_REFUSED, arrivals, count, folder_sync, is_served, ping};

/// A gateway before `home`, which trusts the certificate of `there` too.
fn before(home: &Sandbox, there: &Sandbox) -> GatewayBuilder {
    let authorities = [home, there].map(|sandbox| sandbox.ca_pem().unwrap_or_default());
    Gateway::alone().upstream(&home.url(), &authorities.concat())
}

fn moved_to(url: &str) -> Answer {
    Answer::status(451).header(
        "X-MS-Location",
        format!("{url}/Microsoft-Server-ActiveSync"),
    )
}

fn always(home: &Sandbox, answer: Answer) {
    home.script(Script::new(Filter::kind(Kind::Eas), Play::Answer(answer)).always());
}

async fn listed(gateway: &Gateway) -> Vec<Value> {
    let body = gateway.admin.read("/v1/redirects").await;
    body["redirects"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn a_redirect_is_followed_remembered_judged_and_forgotten() {
    for answer in [451, 302, 307] {
        let (home, there) = (sandbox::start(), sandbox::start());
        let gateway = before(&home, &there)
            .set("redirect.allowed.hosts", "127.0.0.1")
            .start()
            .await;
        let location = format!("{}/Microsoft-Server-ActiveSync", there.url());
        let name = if answer == 451 {
            "X-MS-Location"
        } else {
            "Location"
        };
        always(&home, Answer::status(answer).header(name, location));

        let followed = gateway.ask(&folder_sync("MOVED")).await;
        assert!(is_served(&followed), "{answer}: {}", followed.text());
        assert!(followed.header("x-ms-location").is_none());
        assert_eq!((count(&home, "MOVED"), count(&there, "MOVED")), (1, 1));
        // What was refused there has not happened: it may be sent on, once.
        let mail = Request::eas("SendMail", "alice", "MOVED", requests::send_mail("moved"));
        assert_eq!(gateway.ask(&mail).await.status(), 200);
        assert_eq!((home.sent().len(), there.sent().len()), (0, 1));
        assert_eq!(count(&home, "MOVED"), 1, "remembered");
        let moves = listed(&gateway).await;
        assert_eq!(moves.len(), 1);
        assert_eq!(moves[0]["user"], "alice@sandbox.example");
        assert_eq!(moves[0]["to"], there.url());

        gateway.admin.block("MOVED").await;
        let refused = gateway.ask(&folder_sync("MOVED")).await;
        assert_eq!(&refused.body[..], FOLDER_SYNC_REFUSED);
        gateway.admin.unblock("MOVED").await;

        let target = "/v1/redirects?user=alice@sandbox.example";
        let removed = gateway.admin.write("DELETE", target, "").await;
        assert_eq!(removed["removed"], 1);
        assert!(listed(&gateway).await.is_empty());
        home.clear_scripts();
        assert!(is_served(&gateway.ask(&folder_sync("HOME")).await));
        assert_eq!((count(&home, "HOME"), count(&there, "HOME")), (1, 0));
    }
}

#[tokio::test]
async fn what_is_remembered_ends_with_its_time() {
    let (home, there) = (sandbox::start(), sandbox::start());
    let gateway = before(&home, &there)
        .set("redirect.allowed.hosts", "127.0.0.1")
        .set("redirect.remember.seconds", "1")
        .start()
        .await;
    always(&home, moved_to(&there.url()));
    assert!(is_served(&gateway.ask(&folder_sync("AGAIN")).await));
    assert_eq!(count(&home, "AGAIN"), 1);
    seg_tests::eventually("its first server is asked again", || async {
        assert!(is_served(&gateway.ask(&folder_sync("AGAIN")).await));
        (count(&home, "AGAIN") == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_poll_that_is_sent_on_comes_again_by_itself() {
    let (home, there) = (sandbox::start(), sandbox::start());
    let gateway = before(&home, &there)
        .set("redirect.allowed.hosts", "127.0.0.1")
        .start()
        .await;
    always(&home, moved_to(&there.url()));
    let ended = gateway.ask(&ping("POLLED")).await;
    assert_eq!(ended.status(), 200, "an empty normal answer");
    let mut wire = gateway.connect().await;
    wire.send(ping("POLLED").bytes()).await;
    sandbox::holds_poll(&there, "POLLED").await;
    wire.tear().await;
}

#[tokio::test]
async fn what_is_not_listed_is_not_followed() {
    let (home, there) = (sandbox::start(), sandbox::start());
    let port = there.addr().port();
    let cases = [
        ("", there.url()),
        ("127.0.0.2", there.url()),
        ("*.example", there.url()),
        ("mail.example", "https://mail.example.evil".to_owned()),
        // Plain HTTP, another service's scheme, a user in the address, the metadata of a cloud.
        ("127.0.0.1", format!("http://127.0.0.1:{port}")),
        ("127.0.0.1", format!("ftp://127.0.0.1:{port}")),
        ("127.0.0.1", format!("https://x@127.0.0.1:{port}")),
        ("127.0.0.0/8", "https://169.254.169.254".to_owned()),
    ];
    for (allowed, url) in cases {
        let gateway = before(&home, &there)
            .set("redirect.allowed.hosts", allowed)
            .start()
            .await;
        home.clear_scripts();
        always(&home, moved_to(&url));
        let answer = gateway.ask(&folder_sync("DENIED")).await;
        assert_eq!(answer.status(), 403, "{allowed} {url}");
        assert!(answer.header("x-ms-location").is_none());
        assert!(listed(&gateway).await.is_empty());
    }
    assert_eq!(arrivals(&there), 0);
    // A page of the same server that is no service of mail.
    let gateway = before(&home, &there)
        .set("redirect.allowed.hosts", "127.0.0.1")
        .start()
        .await;
    home.clear_scripts();
    always(
        &home,
        Answer::status(302).header("Location", format!("{}/owa/auth/logon.aspx", there.url())),
    );
    let answer = gateway.ask(&folder_sync("LOGON")).await;
    assert_eq!(answer.status(), 403);
    assert!(answer.header("location").is_none());
    assert_eq!(arrivals(&there), 0);
}

#[tokio::test]
async fn redirects_in_a_circle_end() {
    let (home, there) = (sandbox::start(), sandbox::start());
    let gateway = before(&home, &there)
        .set("redirect.allowed.hosts", "127.0.0.1")
        .start()
        .await;
    always(&home, moved_to(&there.url()));
    always(&there, moved_to(&home.url()));
    let answer = gateway.ask(&folder_sync("CIRCLE")).await;
    assert_eq!(answer.status(), 403);
    assert!(count(&home, "CIRCLE") + count(&there, "CIRCLE") <= 4);
    let line = gateway
        .event("the line", |event| event["device"] == "CIRCLE")
        .await;
    assert_eq!(line["reason"], "redirect_loop", "{line}");
}

#[tokio::test]
async fn rewritten_a_client_comes_back_to_us_and_finds_its_mailbox() {
    let (home, there) = (sandbox::start(), sandbox::start());
    let gateway = before(&home, &there)
        .set("redirect.mode", "rewrite")
        .set("server.public.url", "https://mail.public.example")
        .set("redirect.allowed.hosts", "127.0.0.1")
        .start()
        .await;
    always(&home, moved_to(&there.url()));
    let told = gateway.ask(&folder_sync("TOLD")).await;
    assert_eq!(told.status(), 451);
    assert_eq!(
        told.header("x-ms-location"),
        Some("https://mail.public.example/Microsoft-Server-ActiveSync")
    );
    assert!(is_served(&gateway.ask(&folder_sync("TOLD")).await));
    assert_eq!((count(&home, "TOLD"), count(&there, "TOLD")), (1, 1));
}

#[tokio::test]
async fn denied_nobody_moves() {
    let (home, there) = (sandbox::start(), sandbox::start());
    let gateway = before(&home, &there)
        .set("redirect.mode", "deny")
        .set("redirect.allowed.hosts", "127.0.0.1")
        .start()
        .await;
    always(&home, moved_to(&there.url()));
    assert_eq!(gateway.ask(&folder_sync("STAYS")).await.status(), 403);
    assert_eq!(arrivals(&there), 0);
}
