//! Streaming notifications: passed on as they come, and cut so that a client understands.

use seg_core::sandbox::{Answer, Filter, Framing, Release, Sandbox, Script};
use seg_tests::eas::{Request, soap};
use seg_tests::wire::Wire;
use seg_tests::{Gateway, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const ALICE: &str = "/v1/users/alice@sandbox.example/override";
const LISTEN: &str = "<m:GetStreamingEvents><m:SubscriptionIds><t:SubscriptionId>one&amp;1\
    </t:SubscriptionId></m:SubscriptionIds><m:ConnectionTimeout>30</m:ConnectionTimeout>\
    </m:GetStreamingEvents>";

fn streams() -> Filter {
    Filter::name("GetStreamingEvents")
}

async fn listening(gateway: &Gateway, sandbox: &Sandbox) -> Wire {
    let mut wire = gateway.connect().await;
    let ask = Request::ews("alice", &soap(LISTEN)).header("Accept-Encoding", "gzip, deflate");
    wire.send(ask.bytes()).await;
    eventually("an open stream", || async {
        (!sandbox.open_polls(&streams()).is_empty()).then_some(())
    })
    .await;
    wire.until("ConnectionStatus>OK<").await;
    wire
}

#[tokio::test]
async fn a_blocked_stream_ends_with_an_envelope_that_says_so() {
    let sandbox = crate::sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let mut wire = listening(&gateway, &sandbox).await;
    sandbox.release(&streams(), &Release::Changes);
    wire.until("NewMailEvent").await;
    gateway
        .admin
        .write("PUT", ALICE, r#"{"verdict":"block","reason":"lost"}"#)
        .await;
    let answer = wire.answer().await;
    let text = answer.text();
    let last = text.rsplit("<Envelope").next().unwrap_or_default();
    for part in [
        "ResponseClass=\"Error\"",
        "<m:ResponseCode>ErrorAccessDenied</m:ResponseCode>",
        "<m:ConnectionStatus>Closed</m:ConnectionStatus>",
        "lost",
    ] {
        assert!(last.contains(part), "{part}: {last}");
    }
    assert!(text.ends_with("</Envelope>"), "{text}");
    let seen = sandbox.last(&streams()).expect("a request");
    assert_eq!(seen.head.header("Accept-Encoding"), None);

    // The subscription is ended as well, with the credentials of the stream.
    eventually("the subscription is ended", || async {
        let ended = sandbox.last(&Filter::name("Unsubscribe").user("alice@sandbox.example"))?;
        ended
            .body
            .windows(9)
            .any(|bytes| bytes == b"one&amp;1")
            .then_some(())
    })
    .await;
    let event = gateway
        .event("the cut", |event| {
            event["command"] == "GetStreamingEvents" && event["outcome"] == "cut"
        })
        .await;
    assert_eq!(event["verdict"], "block", "{event}");

    // The connection is whole: after the block it serves again.
    gateway.admin.write("DELETE", ALICE, "").await;
    let inbox = Request::ews("alice", &soap(crate::block::GET_INBOX));
    wire.send(inbox.bytes()).await;
    assert_eq!(wire.answer().await.status(), 200);
}

/// A server whose stream has begun an envelope, and goes on when it is told to.
async fn server_in_the_middle(
    listener: tokio::net::TcpListener,
    go_on: tokio::sync::oneshot::Receiver<&'static str>,
) {
    let (mut stream, mut request) = loop {
        let (mut stream, _) = listener.accept().await.expect("the gateway connects");
        let mut request = Vec::new();
        while !request.ends_with(b"</s:Envelope>") && !request.starts_with(b"GET") {
            let read = stream.read_buf(&mut request).await.expect("a request");
            assert_ne!(read, 0, "the request ends early");
        }
        // What asks for its health is left standing.
        if request.starts_with(b"POST") {
            break (stream, request);
        }
    };
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nTransfer-Encoding: chunked\r\n\r\n";
    let begun = chunk("<s:Envelope xmlns:s='x'/><s:Envelope xmlns:s='x'><s:Body>half");
    let begun = [head, &begun].concat();
    stream
        .write_all(begun.as_bytes())
        .await
        .expect("the gateway reads");
    if let Ok(rest) = go_on.await {
        stream
            .write_all(chunk(rest).as_bytes())
            .await
            .expect("the gateway reads");
    }
    // Until the gateway leaves.
    while stream
        .read_buf(&mut request)
        .await
        .is_ok_and(|read| read > 0)
    {}
}

#[tokio::test]
async fn the_envelope_under_way_is_finished_first() {
    for rest in [Some(" whole</s:Body></s:Envelope><s:Envelope>next"), None] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let (tell, told) = tokio::sync::oneshot::channel();
        let server = tokio::spawn(server_in_the_middle(listener, told));
        let gateway = Gateway::alone()
            .set("email.server.host.and.port", "http://127.0.0.1:9")
            .set(
                "ews.email.server.host.and.port",
                format!("http://{address}"),
            )
            .set("ews.email.server.health.interval.seconds", "3600")
            .start()
            .await;
        let mut wire = gateway.connect().await;
        wire.send(Request::ews("alice", &soap(LISTEN)).bytes())
            .await;
        wire.until("half").await;
        gateway
            .admin
            .write("PUT", ALICE, r#"{"verdict":"block"}"#)
            .await;
        if let Some(rest) = rest {
            tell.send(rest).expect("the server waits");
            let text = wire.answer().await.text();
            let (stream, ours) = text.split_once("<Envelope").expect("our own envelope");
            assert!(
                stream.ends_with("half whole</s:Body></s:Envelope>"),
                "{text}"
            );
            assert!(ours.contains("ErrorAccessDenied"), "{text}");
        } else {
            // The server never finishes it: the answer is torn, not made to look complete.
            assert!(wire.try_answer(false).await.is_none());
        }
        server.abort();
    }
}

#[tokio::test]
async fn envelopes_in_pieces_and_what_is_no_envelope_pass_as_they_come() {
    let sandbox = crate::sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let row = "<?xml version=\"1.0\"?><s:Envelope xmlns:s='x'><s:Body>&#233;</s:Body></s:Envelope>\n\
        <Envelope/>";
    for (body, size) in [(row, 1), (row, 7), ("no envelope <at all", 5)] {
        let answer = Answer::ok("text/xml", body).framing(Framing::Chunked(size));
        sandbox.script(Script::answer(streams(), answer));
        let answer = gateway.ask(&Request::ews("alice", &soap(LISTEN))).await;
        assert_eq!(answer.text(), body);
    }
}

#[tokio::test]
async fn a_drain_closes_streams_as_a_server_does() {
    let sandbox = crate::sandbox::start();
    let mut gateway = Gateway::before(&sandbox)
        .set("server.drain.seconds", "1")
        .start()
        .await;
    let mut wire = listening(&gateway, &sandbox).await;
    gateway.signal("TERM");
    let text = wire.answer().await.text();
    assert!(
        text.contains("<m:ConnectionStatus>Closed</m:ConnectionStatus>"),
        "{text}"
    );
    assert!(!text.contains("ErrorAccessDenied"), "{text}");
    assert!(text.ends_with("</Envelope>"), "{text}");
    gateway.ended().await;
}
