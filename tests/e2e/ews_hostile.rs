//! Bodies that are made to be read in two ways, and heads that speak of another body.

use seg_core::sandbox::{Answer, Filter, Kind, Sandbox, Script};
use seg_tests::Gateway;
use seg_tests::eas::{Request, soap};
use serde_json::Value;

use crate::block::GET_INBOX;

const VECTORS: &str = include_str!("../../seg-ews/fixtures/ews-hostile-vectors.json");

/// A server that answers everything of EWS alike.
fn serving() -> Sandbox {
    let sandbox = crate::sandbox::start();
    let served = Answer::ok("text/xml", "<s:Envelope xmlns:s='x'>served</s:Envelope>");
    sandbox.script(Script::answer(Filter::kind(Kind::Ews), served).always());
    sandbox
}

#[tokio::test]
async fn no_hostile_body_is_taken_for_another_than_it_is() {
    let sandbox = serving();
    let gateway = Gateway::before(&sandbox).start().await;
    // Her password is proven, so that a refusal asks the server nothing.
    gateway.ask(&Request::ews("alice", &soap(GET_INBOX))).await;
    let vectors: Value = serde_json::from_str(VECTORS).expect("JSON");
    let vectors = vectors["soap"].as_array().expect("a list");
    assert_eq!(vectors.len(), 32);
    let mut refused = 0;
    for vector in vectors {
        let text = |key: &str| vector[key].as_str().expect("text");
        let mut request = Request::ews("alice", text("body"));
        for (name, value) in vector["headers"].as_object().expect("headers") {
            let value = value.as_str().expect("text");
            request = request.without(name).header(name, value);
        }
        let before = sandbox.count(&Filter::kind(Kind::Ews));
        let answer = gateway.ask(&request).await;
        let name = text("name");
        let reached = sandbox.count(&Filter::kind(Kind::Ews)) - before;
        if text("expect") == "REJECT" {
            refused += 1;
            assert_eq!(
                (answer.status(), reached),
                (400, 0),
                "{name}: {}",
                answer.text()
            );
            continue;
        }
        // It is what the list says, and what the rules without a policy say to that.
        let operation = text("expect")
            .split(['+', '/', ' '])
            .next()
            .unwrap_or_default();
        let denied = answer.text().contains("ErrorAccessDenied");
        assert_eq!(reached, u64::from(!denied), "{name}: {}", answer.text());
        let event = gateway
            .event(name, |event| {
                event["command"] == operation && (event["outcome"] == "refused") == denied
            })
            .await;
        let risky = ["ExportItems", "SearchMailboxes"].contains(&operation)
            || text("expect").contains(['+', '/']);
        assert_eq!(denied, risky, "{name}: {event}");
    }
    assert_eq!(refused, 14);
}

#[tokio::test]
async fn a_head_that_two_readers_take_for_two_bodies_is_refused() {
    let sandbox = serving();
    let gateway = Gateway::before(&sandbox).start().await;
    let plain = Request::ews("alice", &soap(GET_INBOX));
    for (name, values) in [
        ("Content-Type", &["text/xml", "text/xml; charset=utf-7"][..]),
        ("Content-Type", &["text/xml; charset=utf-7; x=\u{e9}"]),
        ("Content-Type", &["text/xml; x=y charset=utf-7"]),
        ("Content-Type", &["multipart/related; type=\"text/xml\""]),
        ("Content-Encoding", &["identity", "gzip"]),
        ("Content-Encoding", &["deflate"]),
    ] {
        let mut request = plain.clone().without(name);
        for value in values {
            request = request.header(name, value);
        }
        assert_eq!(gateway.ask(&request).await.status(), 400, "{values:?}");
    }
    assert_eq!(sandbox.count(&Filter::kind(Kind::Ews)), 0);
    assert_eq!(gateway.ask(&plain).await.status(), 200);
}

/// What is too large to be held goes on while it is read; its end waits for the judgement.
#[tokio::test]
async fn a_large_body_that_goes_wrong_at_its_end_never_arrives_whole() {
    let sandbox = serving();
    let gateway = Gateway::before(&sandbox).start().await;
    let item = format!(
        "<t:Message><t:Subject>{}</t:Subject></t:Message>",
        "x".repeat(300_000)
    );
    let whole = soap(&format!(
        "<m:CreateItem><m:Items>{item}</m:Items></m:CreateItem>"
    ));
    let created = Filter::name("CreateItem");
    let answer = gateway.ask(&Request::ews("alice", &whole)).await;
    assert_eq!((answer.status(), sandbox.count(&created)), (200, 1));
    let second = whole.replace("</s:Body>", "<m:ExportItems/></s:Body>");
    let mismatched = whole.replace("</m:CreateItem>", "</m:createItem>");
    for wrong in [
        format!("{whole}<s:Envelope/>"),
        whole.trim_end_matches('>').to_owned(),
        second,
        mismatched,
        whole.replace("</m:Items>", "&undefined;</m:Items>"),
        whole.replace("</m:Items>", "<a b='1' b='2'/></m:Items>"),
    ] {
        let mut wire = gateway.connect().await;
        let request = Request::ews("alice", &wrong);
        wire.send_until_closed(request.bytes()).await;
        if let Some(answer) = wire.try_answer(false).await {
            assert_eq!(answer.status(), 400, "{}", &wrong[wrong.len() - 80..]);
        }
        assert_eq!(sandbox.count(&created), 1, "{}", &wrong[wrong.len() - 80..]);
    }
}
