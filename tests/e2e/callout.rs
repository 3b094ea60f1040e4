//! A decision service of somebody else's that the gateway asks: what it is asked again, how long is
//! waited for it, and what holds without it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use seg_core::sandbox::Sandbox;
use seg_tests::eas::{Request, basic};
use seg_tests::gateway::free_address;
use seg_tests::{Gateway, GatewayBuilder, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::decision::deciding;
use crate::sandbox::{self, folder_sync, is_served};

/// A service that answers every question with the same words, or with none.
#[derive(Default)]
struct Service {
    /// Status and body; nothing: it never answers.
    answer: Mutex<Option<(u16, &'static str)>>,
    asked: Mutex<Vec<String>>,
}

impl Service {
    async fn start(answer: Option<(u16, &'static str)>) -> (Arc<Self>, SocketAddr) {
        let service = Arc::new(Self {
            answer: Mutex::new(answer),
            ..Self::default()
        });
        let listener = tokio::net::TcpListener::bind(free_address()).await;
        let listener = listener.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let serving = Arc::clone(&service);
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 16 * 1024];
                let read = stream.read(&mut head).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&head[..read]).into_owned();
                serving.asked.lock().expect("nobody panicked").push(text);
                let answer = *serving.answer.lock().expect("nobody panicked");
                let Some((status, body)) = answer else {
                    open.push(stream);
                    continue;
                };
                let answer = format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                // Who asked may have gone.
                let _written = stream.write_all(answer.as_bytes()).await;
            }
        });
        (service, address)
    }

    fn says(&self, answer: Option<(u16, &'static str)>) {
        *self.answer.lock().expect("nobody panicked") = answer;
    }

    fn asked(&self) -> usize {
        self.asked.lock().expect("nobody panicked").len()
    }
}

const ALLOW: Option<(u16, &str)> = Some((200, "{\"result\":\"allow\"}"));
const DENY: Option<(u16, &str)> = Some((200, "{\"result\":\"deny\"}"));

fn asking(sandbox: &Sandbox, service: SocketAddr) -> GatewayBuilder {
    Gateway::before(sandbox)
        .set("compliance.unknown.device", "allow")
        .set("callout.url", format!("http://{service}/authorize"))
}

#[tokio::test]
async fn an_answer_holds_for_the_question_that_it_was_given_to_and_for_no_other() {
    let sandbox = sandbox::start();
    let (service, address) = Service::start(ALLOW).await;
    let gateway = asking(&sandbox, address)
        .set("callout.cache.seconds", "3600")
        .set("server.trusted.proxies", "127.0.0.1/32")
        .start()
        .await;
    let first = || folder_sync("ASKED1");
    let is_asked_about = |request: Request| {
        let (gateway, service) = (&gateway, &service);
        async move {
            let before = service.asked();
            assert!(is_served(&gateway.ask(&request).await));
            service.asked() - before
        }
    };
    assert_eq!(is_asked_about(first()).await, 1);
    assert_eq!(is_asked_about(first()).await, 0, "it is remembered");
    let other =
        |request: Request, name: &str, value: &str| request.without(name).header(name, value);
    for (what, request) in [
        ("device", folder_sync("ASKED2")),
        ("user", other(first(), "Authorization", &basic("bob"))),
        ("client", other(first(), "User-Agent", "Other/1.0")),
        ("address", first().header("X-Forwarded-For", "192.0.2.77")),
        ("host", other(first(), "Host", "mail.example")),
    ] {
        assert_eq!(is_asked_about(request.clone()).await, 1, "another {what}");
        assert_eq!(is_asked_about(request).await, 0, "that {what} again");
    }
    // What is remembered of one is no answer to another, whatever the service says by now.
    service.says(DENY);
    assert_eq!(is_asked_about(first()).await, 0);
    assert!(!is_served(&gateway.ask(&folder_sync("ASKED3")).await));
    // A no is remembered as well.
    service.says(ALLOW);
    assert!(!is_served(&gateway.ask(&folder_sync("ASKED3")).await));
    let asked = service.asked.lock().expect("nobody panicked").concat();
    for word in [
        "user=alice%40sandbox.example",
        "DeviceId=ASKED1",
        "ip=192.0.2.77",
        "agent=Other%2F1.0",
    ] {
        assert!(asked.contains(word), "{word}: {asked}");
    }
}

#[tokio::test]
async fn an_answer_holds_no_longer_than_configured() {
    let sandbox = sandbox::start();
    let (service, address) = Service::start(ALLOW).await;
    let forgets = asking(&sandbox, address)
        .set("callout.cache.seconds", "0")
        .start()
        .await;
    for asked in 1..=3 {
        assert!(is_served(&forgets.ask(&folder_sync("BRIEF")).await));
        assert_eq!(service.asked(), asked);
    }
    let remembers = asking(&sandbox, address)
        .set("callout.cache.seconds", "1")
        .start()
        .await;
    assert!(is_served(&remembers.ask(&folder_sync("BRIEF")).await));
    service.says(DENY);
    eventually("the answer is asked for again", || async {
        (!is_served(&remembers.ask(&folder_sync("BRIEF")).await)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_an_answer_in_time_and_in_its_words_the_configured_one_holds() {
    let sandbox = sandbox::start();
    let (service, address) = Service::start(None).await;
    for (failure, served) in [("block", false), ("allow", true)] {
        let gateway = asking(&sandbox, address)
            .set("callout.timeout.seconds", "1")
            .set("callout.cache.seconds", "3600")
            .set("callout.failure", failure)
            .start()
            .await;
        for (number, says) in [
            // It takes the question and never answers.
            None,
            Some((200, "maybe")),
            Some((200, "a long way round to say allow")),
            Some((200, "{\"allowed\":false}")),
            Some((200, "disallow")),
            Some((500, "{\"result\":\"allow\"}")),
        ]
        .into_iter()
        .enumerate()
        {
            service.says(says);
            let device = format!("FAILED{number}");
            let answered = gateway.ask(&folder_sync(&device)).await;
            assert_eq!(is_served(&answered), served, "{failure} {says:?}");
            // What was not said is not remembered.
            service.says(if served { DENY } else { ALLOW });
            let answered = gateway.ask(&folder_sync(&device)).await;
            assert_eq!(is_served(&answered), !served, "{failure} {says:?}");
        }
    }
}

#[tokio::test]
async fn the_gateway_itself_asks_and_fails_as_configured() {
    let sandbox = sandbox::start();
    let (_other, address) = deciding(&sandbox).await;
    let start = |url: String, failure: &str| {
        Gateway::before(&sandbox)
            .set("callout.url", url)
            .set("callout.failure", failure)
            .start()
    };
    let url = format!("http://{address}/services/ActiveSync/Authorize");
    let gateway = start(url, "block").await;
    assert!(is_served(&gateway.ask(&folder_sync("GOOD1")).await));
    assert!(!is_served(&gateway.ask(&folder_sync("BAD1")).await));
    let gone = format!("http://{}/x", free_address());
    let closed = start(gone.clone(), "block").await;
    assert!(!is_served(&closed.ask(&folder_sync("GOOD1")).await));
    let open = start(gone, "allow").await;
    assert!(is_served(&open.ask(&folder_sync("GOOD1")).await));
}

#[tokio::test]
async fn who_only_observes_is_told_what_the_other_service_would_refuse() {
    let sandbox = sandbox::start();
    let (_other, address) = deciding(&sandbox).await;
    let gateway = Gateway::before(&sandbox)
        .set(
            "callout.url",
            format!("http://{address}/services/ActiveSync/Authorize"),
        )
        .set("compliance.mode", "observe")
        .start()
        .await;
    assert!(is_served(&gateway.ask(&folder_sync("BAD1")).await));
    let event = gateway
        .event("the request that would have been refused", |event| {
            event["rule"] == "callout"
        })
        .await;
    assert_eq!(event["verdict"], "block");
    assert_eq!(event["enforced"], false);
    assert_eq!(event["verdict_reason"], "callout_denied");
}
