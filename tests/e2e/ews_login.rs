//! Logging in to EWS: what the server says of it that is not for the client.

use seg_core::sandbox::{Answer, Filter, Kind, Sandbox, SandboxOptions, Script};
use seg_tests::eas::{Request, soap};
use seg_tests::{Gateway, eventually};

use crate::block::GET_INBOX;
use crate::sandbox::folder_sync;

#[tokio::test]
async fn what_speaks_of_the_servers_connection_stays_there() {
    let sandbox = crate::sandbox::start();
    let answer = Answer::ok("text/xml", "<s:Envelope xmlns:s='x'/>")
        .header("Persistent-Auth", "true")
        .header("Proxy-Support", "Session-Based-Authentication")
        .header(
            "WWW-Authenticate",
            "Negotiate oYG2MIGzoAMKAQChCwYJKoZIgvcSAQIC",
        )
        .header("X-Kept", "yes");
    sandbox.script(Script::answer(Filter::kind(Kind::Ews), answer).always());
    let gateway = Gateway::before(&sandbox).start().await;
    let answer = gateway.ask(&Request::ews("alice", &soap(GET_INBOX))).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("X-Kept"), Some("yes"));
    for name in ["Persistent-Auth", "Proxy-Support", "WWW-Authenticate"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
}

#[tokio::test]
async fn legs_that_offer_different_logins_are_told_of() {
    let offering = |challenge: &str| {
        let options = SandboxOptions {
            challenges: vec![challenge.to_owned()],
            ..SandboxOptions::plain()
        };
        Sandbox::start(options).expect("a sandbox")
    };
    let (eas, ews) = (offering("Basic realm=\"x\""), offering("Bearer"));
    let gateway = Gateway::before_all(&[&eas])
        .set("ews.email.server.host.and.port", ews.url())
        .start()
        .await;
    let strangers = [
        folder_sync("STRANGER"),
        Request::ews("alice", &soap(GET_INBOX)),
    ];
    for stranger in strangers {
        let answer = gateway.ask(&stranger.without("Authorization")).await;
        assert_eq!(answer.status(), 401, "{}", answer.text());
    }
    eventually("a warning", || async {
        let log = gateway.log();
        let line = log
            .lines()
            .find(|line| line.contains("offer different ways to log in"))?;
        (line.contains("basic") && line.contains("bearer") && line.contains("WARN")).then_some(())
    })
    .await;
}
