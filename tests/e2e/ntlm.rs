//! NTLM by pinning, before a server and with clients that really speak it.

use seg_tests::eas::{Request, soap};
use seg_tests::interop::{self, Running};
use seg_tests::{Gateway, GatewayBuilder};
use serde_json::Value;

use crate::block::GET_INBOX;

/// What a client says next.
async fn json(running: &mut Running) -> Value {
    let line = running.line().await;
    serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"))
}

/// A mail server that takes NTLM only, and a gateway before it.
async fn before_ntlm() -> (Running, GatewayBuilder) {
    let mut command = interop::script("ntlm_server.py");
    command.args(["alice=Secret-alice-1", "bob=Secret-bob-1"]);
    let mut server = Running::start(command);
    let port = server.line().await;
    let builder = Gateway::alone()
        .set(
            "email.server.host.and.port",
            format!("http://127.0.0.1:{port}"),
        )
        .set("identity.domain.map", "SANDBOX=sandbox.example");
    (server, builder)
}

fn client(gateway: &Gateway, user: &str, password: &str, mode: &str) -> Running {
    let mut command = interop::script("ntlm_client.py");
    command
        .arg(format!(
            "https://localhost:{}/EWS/Exchange.asmx",
            gateway.address.port()
        ))
        .args([user, password])
        .arg(gateway.ca_path())
        .arg(mode);
    Running::start(command)
}

#[tokio::test]
async fn a_pinned_connection_is_its_own_clients_and_nobody_elses() {
    let (_server, builder) = before_ntlm().await;
    let gateway = builder.set("ews.ntlm.pinning", "true").start().await;
    let mut alice = client(&gateway, "alice", "Secret-alice-1", "wait");
    let (first, second) = (json(&mut alice).await, json(&mut alice).await);
    for answer in [&first, &second] {
        assert_eq!(answer["status"], 200, "{answer}");
        assert!(
            answer["who"]
                .as_str()
                .is_some_and(|who| who.contains("alice")),
            "{answer}"
        );
    }
    assert_eq!(first["connection"], second["connection"], "one connection");
    let event = gateway
        .event("Alice by her handshake", |event| {
            event["command"] == "GetFolder" && event["outcome"] == "forwarded"
        })
        .await;
    assert_eq!(event["user"], "alice@sandbox.example", "{event}");

    // Her connection to the server is idle now. Whoever else asks gets another one.
    for _ in 0..8 {
        let stranger = Request::ews("alice", &soap(GET_INBOX)).without("Authorization");
        let answer = gateway.ask(&stranger).await;
        assert_eq!(answer.status(), 401, "{}", answer.text());
        assert_eq!(answer.header("X-Who"), None);
    }
    let mut bob = client(&gateway, "bob", "Secret-bob-1", "ask");
    for _ in 0..3 {
        let answer = json(&mut bob).await;
        assert!(
            answer["who"]
                .as_str()
                .is_some_and(|who| who.contains("bob")),
            "{answer}"
        );
        assert_ne!(answer["connection"], first["connection"], "{answer}");
    }
    let mut wrong = client(&gateway, "alice", "wrong", "ask");
    let answer = json(&mut wrong).await;
    assert_eq!(
        (&answer["status"], &answer["who"]),
        (&401.into(), &Value::Null),
        "{answer}"
    );

    // Every request is judged, also on a connection that needs no credentials any more.
    let target = "/v1/users/alice@sandbox.example/override";
    gateway
        .admin
        .write("PUT", target, r#"{"verdict":"block"}"#)
        .await;
    alice.say("go on").await;
    let third = json(&mut alice).await;
    assert_eq!(
        (&third["denied"], &third["who"]),
        (&true.into(), &Value::Null),
        "{third}"
    );
    // A blocked user with a right password is refused, and never asked for another.
    let mut again = client(&gateway, "alice", "Secret-alice-1", "ask");
    let refused = json(&mut again).await;
    assert_eq!(
        (&refused["denied"], &refused["status"]),
        (&true.into(), &200.into()),
        "{refused}"
    );
    let mut guess = client(&gateway, "alice", "wrong", "ask");
    let guessed = json(&mut guess).await;
    assert_eq!(
        (&guessed["denied"], &guessed["status"]),
        (&false.into(), &401.into()),
        "{guessed}"
    );
}

#[tokio::test]
async fn a_stream_on_a_pinned_connection_is_cut_and_its_connection_closed() {
    let (mut server, builder) = before_ntlm().await;
    let gateway = builder.set("ews.ntlm.pinning", "true").start().await;
    let mut alice = client(&gateway, "alice", "Secret-alice-1", "stream");
    let first = json(&mut alice).await;
    json(&mut alice).await;
    let stream = json(&mut alice).await;
    assert!(
        stream["who"]
            .as_str()
            .is_some_and(|who| who.contains("alice")),
        "{stream}"
    );
    let target = "/v1/users/alice@sandbox.example/override";
    gateway
        .admin
        .write("PUT", target, r#"{"verdict":"block"}"#)
        .await;
    let ended = json(&mut alice).await;
    assert_eq!(
        (&ended["whole"], &ended["denied"]),
        (&true.into(), &true.into()),
        "{ended}"
    );
    let closed = format!(
        "closed {}",
        first["connection"].as_str().unwrap_or_default()
    );
    assert_eq!(server.line().await, closed);
    gateway
        .event("the cut", |event| {
            event["command"] == "GetStreamingEvents" && event["outcome"] == "cut"
        })
        .await;
}

#[tokio::test]
async fn without_pinning_ntlm_is_neither_offered_nor_taken() {
    let (_server, builder) = before_ntlm().await;
    let gateway = builder.start().await;
    let mut alice = client(&gateway, "alice", "Secret-alice-1", "ask");
    let answer = json(&mut alice).await;
    assert_eq!(
        (&answer["status"], &answer["challenge"]),
        (&403.into(), &Value::Null),
        "{answer}"
    );
    let first = "NTLM TlRMTVNTUAABAAAAB4IIogAAAAAAAAAAAAAAAAAAAAAKALpHAAAADw==";
    let request = Request::ews("alice", &soap(GET_INBOX))
        .without("Authorization")
        .header("Authorization", first);
    let answer = gateway.ask(&request).await;
    assert_eq!(answer.status(), 403);
    assert_eq!(answer.header("WWW-Authenticate"), None);
}
