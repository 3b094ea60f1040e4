//! Bytes that are no request, or are two of them to the next reader. Each gets a definite status or
//! a closed connection, one log line with the reason and a count; the server sees one well-formed
//! message or none; nobody else is disturbed.

use seg_core::sandbox::requests::FOLDER_SYNC;
use seg_tests::Gateway;
use seg_tests::eas::{Request, basic};

use crate::sandbox::{self, arrivals, count, folder_sync, is_served};

/// What may come back before the connection closes; a close without an answer is as good, because
/// an answer may be lost when the other side still writes.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    statuses: &'static [u16],
}

const EAS: &str = "/Microsoft-Server-ActiveSync";
const TARGET: &str =
    "/Microsoft-Server-ActiveSync?Cmd=FolderSync&User=alice&DeviceId=HOSTILE&DeviceType=t";

/// A FolderSync with `lines` as its framing and whatever follows its head.
fn framed(name: &'static str, lines: &str, body: &str) -> Case {
    let head = format!(
        "POST {TARGET} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nMS-ASProtocolVersion: 14.1\r\n\
         Content-Type: application/vnd.ms-sync.wbxml\r\n{lines}\r\n{body}",
        basic("alice")
    );
    Case {
        name,
        bytes: head.into_bytes(),
        statuses: &[400, 501],
    }
}

/// What two readers would understand in two ways. Behind each stands a request of another device:
/// whoever reads the first one wrongly serves the second.
fn ambiguous() -> Vec<Case> {
    let empty_chunked = "0\r\n\r\n";
    let mut cases = vec![
        framed(
            "length and coding",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            empty_chunked,
        ),
        framed(
            "coding and length",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            empty_chunked,
        ),
        framed(
            "two lengths, equal",
            "Content-Length: 4\r\nContent-Length: 4\r\n",
            "abcd",
        ),
        framed(
            "two lengths, different",
            "Content-Length: 4\r\nContent-Length: 0\r\n",
            "abcd",
        ),
        framed("a list of lengths", "Content-Length: 4, 4\r\n", "abcd"),
        framed("a signed length", "Content-Length: +4\r\n", "abcd"),
        framed("a negative length", "Content-Length: -4\r\n", "abcd"),
        framed("a hexadecimal length", "Content-Length: 0x4\r\n", "abcd"),
        framed(
            "a length with a space within",
            "Content-Length: 4 4\r\n",
            "abcd",
        ),
        framed("an empty length", "Content-Length:\r\n", ""),
        framed(
            "an unknown coding",
            "Transfer-Encoding: xchunked\r\n",
            empty_chunked,
        ),
        framed(
            "chunked is not last",
            "Transfer-Encoding: chunked, identity\r\n",
            empty_chunked,
        ),
        framed(
            "chunked twice",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            empty_chunked,
        ),
        framed(
            "a coding with a control character",
            "Transfer-Encoding: \x0bchunked\r\n",
            empty_chunked,
        ),
        framed("a space before the colon", "Content-Length : 4\r\n", "abcd"),
        framed(
            "a folded line",
            "X-Folded: one\r\n two\r\nContent-Length: 4\r\n",
            "abcd",
        ),
        framed("a folded length", "Content-Length:\r\n 4\r\n", "abcd"),
        framed(
            "bare LF behind a line",
            "X-One: 1\nContent-Length: 4\r\n",
            "abcd",
        ),
        framed(
            "bare LF at the head's end",
            "Content-Length: 4\r\nX-One: 1\r\n\n",
            "abcd",
        ),
        framed(
            "bare CR within a value",
            "X-One: 1\r2\r\nContent-Length: 4\r\n",
            "abcd",
        ),
        framed(
            "NUL within a value",
            "X-One: 1\0a\r\nContent-Length: 4\r\n",
            "abcd",
        ),
        framed(
            "a line without a colon",
            "X-One\r\nContent-Length: 4\r\n",
            "abcd",
        ),
        framed("an empty name", ": 1\r\nContent-Length: 4\r\n", "abcd"),
    ];
    let smuggled = folder_sync("SMUGGLED").bytes();
    for case in &mut cases {
        case.bytes.extend_from_slice(&smuggled);
    }
    cases
}

/// What is no HTTP/1.1 request to anybody.
fn nonsense() -> Vec<Case> {
    let case = |name, bytes: &[u8], statuses| Case {
        name,
        bytes: bytes.to_vec(),
        statuses,
    };
    vec![
        case(
            "no HTTP at all",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello hello\r\n\r\n",
            &[400],
        ),
        case(
            "HTTP/2 without being asked",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            &[400, 505],
        ),
        case(
            "an unknown HTTP version",
            b"GET / HTTP/1.7\r\nHost: localhost\r\n\r\n",
            &[400, 505],
        ),
        case("HTTP/0.9", b"GET /\r\n\r\n", &[400]),
        case(
            "two spaces in the request line",
            b"GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            &[400],
        ),
        case(
            "NUL in the target",
            b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            &[400],
        ),
        case(
            "a tunnel",
            b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            &[400, 404, 405],
        ),
    ]
}

#[tokio::test]
async fn ambiguous_messages_reach_nobody() {
    check(ambiguous()).await;
}

#[tokio::test]
async fn nonsense_closes_the_connection() {
    check(nonsense()).await;
}

async fn check(cases: Vec<Case>) {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    for (at, case) in cases.iter().enumerate() {
        let mut wire = gateway.connect().await;
        wire.send_until_closed(&case.bytes).await;
        if let Some(answer) = wire.try_answer(false).await {
            assert!(
                case.statuses.contains(&answer.status()),
                "{}: {}",
                case.name,
                answer.start
            );
        }
        wire.ended().await;
        counted(&gateway, at + 1, case.name).await;
        assert_eq!(arrivals(&sandbox), 0, "{}: reached the server", case.name);
        assert_eq!(
            sandbox.malformed(),
            0,
            "{}: the server saw half a message",
            case.name
        );
    }
    assert_eq!(count(&sandbox, "SMUGGLED"), 0);
    logged_with_reasons(&gateway, cases.len()).await;
    assert!(is_served(&gateway.ask(&folder_sync("WELLBEHAVED")).await));
}

/// A client may send its next request before it has its answer: that one's head is looked at like
/// any other, wherever in the stream it begins and in however many pieces it comes.
#[tokio::test]
async fn a_head_behind_another_request_is_looked_at_too() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let whole = folder_sync("FIRST").bytes();
    let chunked = framed("", "Transfer-Encoding: chunked\r\n", "");
    let body = format!("{:x};x=y\r\n", FOLDER_SYNC.len());
    let chunked = [
        chunked.bytes.as_slice(),
        body.as_bytes(),
        FOLDER_SYNC,
        b"\r\n0\r\nX-Trailer: 1\r\n\r\n",
    ]
    .concat();
    let flawed = &ambiguous()[0];
    let split = flawed
        .bytes
        .windows(6)
        .position(|window| window == b"Transf")
        .expect("a second framing line");
    let mut expected = 0;
    for first in [&whole, &chunked] {
        // The flaw stands in what came together with the first request, or only behind its answer.
        for (together, served) in [
            (flawed.bytes.len(), false),
            (0, true),
            (10, true),
            (split, true),
        ] {
            let (early, late) = flawed.bytes.split_at(together);
            let mut wire = gateway.connect().await;
            wire.send([first.as_slice(), early].concat()).await;
            let before = arrivals(&sandbox);
            if served {
                assert!(is_served(&wire.answer().await), "the first, {together}");
                assert!(arrivals(&sandbox) <= before + 1);
                wire.send_until_closed(late).await;
            }
            expected += 1;
            let answer = wire.try_answer(false).await;
            if let Some(answer) = answer {
                assert_eq!(answer.status(), 400, "{together}: {}", answer.start);
            }
            wire.ended().await;
            counted(&gateway, expected, "the second").await;
            assert_eq!(count(&sandbox, "SMUGGLED"), 0, "{together}");
            assert_eq!(sandbox.malformed(), 0, "{together}");
        }
    }
    // Six were answered, and nothing of what stood behind them went on.
    assert_eq!(arrivals(&sandbox), 6);
}

#[tokio::test]
async fn requests_behind_each_other_are_answered_in_order() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let request = folder_sync("ROW").bytes();
    let chunked = folder_sync("ROW").without("Content-Length");
    let chunked = chunked.header("Transfer-Encoding", "chunked").head();
    let body = format!("{:x}\r\n", FOLDER_SYNC.len());
    let chunked = [&chunked, body.as_bytes(), FOLDER_SYNC, b"\r\n0\r\n\r\n"].concat();
    let row = [request.as_slice(), &chunked, &request, &chunked].concat();
    for step in [row.len(), 700, 61] {
        let mut wire = gateway.connect().await;
        for piece in row.chunks(step) {
            wire.send(piece).await;
        }
        for number in 0..4 {
            assert!(
                is_served(&wire.answer().await),
                "number {number}, step {step}"
            );
        }
    }
    assert_eq!(count(&sandbox, "ROW"), 12);
    let bad = gateway.admin.metric("seg_bad_requests_total", &[]).await;
    assert_eq!(bad, 0.0);
}

/// Waits until so many bad requests are counted; the count may come just behind the answer.
pub(crate) async fn counted(gateway: &Gateway, expected: usize, what: &str) {
    seg_tests::eventually(
        &format!("{what}: seg_bad_requests_total {expected}"),
        || async {
            let counted = gateway.admin.metric("seg_bad_requests_total", &[]).await;
            (counted == expected as f64).then_some(())
        },
    )
    .await;
}

/// One line for each, with the reason.
pub(crate) async fn logged_with_reasons(gateway: &Gateway, expected: usize) {
    let reasons = || {
        let events = gateway.events();
        events
            .iter()
            .filter(|event| event["reason"].is_string())
            .count()
    };
    seg_tests::eventually("the log lines", || {
        std::future::ready((reasons() >= expected).then_some(()))
    })
    .await;
    assert_eq!(reasons(), expected, "lines with a reason");
}

/// Requests that are well-formed HTTP, and wrong.
fn wrong() -> Vec<(&'static str, Request, u16)> {
    let to = |target: &str| {
        Request::new("POST", target)
            .header("Authorization", &basic("alice"))
            .header("MS-ASProtocolVersion", "14.1")
            .header("Content-Type", "application/vnd.ms-sync.wbxml")
            .body(FOLDER_SYNC)
    };
    let eas = |query: &str| to(&format!("/Microsoft-Server-ActiveSync?{query}"));
    let by = |method: &str, target: &str| {
        Request::new(method, target).header("Authorization", &basic("alice"))
    };
    let plain = "User=alice&DeviceId=WRONG&DeviceType=t";
    vec![
        (
            "no host",
            eas(&format!("Cmd=FolderSync&{plain}")).without("Host"),
            400,
        ),
        (
            "two hosts",
            eas(&format!("Cmd=FolderSync&{plain}")).header("Host", "evil.example"),
            400,
        ),
        (
            "a host that is none",
            eas(&format!("Cmd=FolderSync&{plain}"))
                .without("Host")
                .header("Host", "a b/c"),
            400,
        ),
        ("no command", eas(plain), 400),
        (
            "an unknown command",
            eas(&format!("Cmd=Explode&{plain}")),
            400,
        ),
        (
            "two commands",
            eas(&format!("Cmd=FolderSync&Cmd=Ping&{plain}")),
            400,
        ),
        (
            "two devices",
            eas(&format!("Cmd=FolderSync&{plain}&DeviceId=OTHER")),
            400,
        ),
        (
            "two users",
            eas(&format!("Cmd=FolderSync&{plain}&User=bob")),
            400,
        ),
        (
            "broken percent encoding",
            eas("Cmd=FolderSync&User=alice&DeviceId=%ZZ&DeviceType=t"),
            400,
        ),
        ("garbage", eas("%00%01%02&&==&=%"), 400),
        (
            "base64 that is none",
            eas("jQkJBAhUV09GT1JNUwAEdGVzdA*="),
            400,
        ),
        ("base64 that ends early", eas("jQkJBAhUV0"), 400),
        (
            "both forms at once",
            eas("jQkJBAhUV09GT1JNUwAEdGVzdA==&Cmd=FolderSync"),
            400,
        ),
        ("a method of WebDAV", by("PROPFIND", EAS), 405),
        ("PUT", by("PUT", EAS), 405),
        ("DELETE", by("DELETE", EAS), 405),
        ("EWS by PUT", by("PUT", "/EWS/Exchange.asmx"), 405),
        ("EWS by DELETE", by("DELETE", "/EWS/Exchange.asmx"), 405),
        (
            "a photo by POST",
            by("POST", "/EWS/Exchange.asmx/s/GetUserPhoto?email=a@b"),
            405,
        ),
        (
            "a description by POST",
            by("POST", "/EWS/Services.wsdl"),
            405,
        ),
    ]
}

#[tokio::test]
async fn wrong_requests_are_told_so() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    for (at, (name, request, status)) in wrong().into_iter().enumerate() {
        let answer = gateway.ask(&request).await;
        assert_eq!(answer.status(), status, "{name}");
        counted(&gateway, at + 1, name).await;
    }
    assert_eq!(arrivals(&sandbox), 0);
    logged_with_reasons(&gateway, wrong().len()).await;
    assert!(is_served(&gateway.ask(&folder_sync("WELLBEHAVED")).await));
}

/// A head that is no request draws no challenge either: a stranger's reaches nobody.
#[tokio::test]
async fn wrong_requests_of_strangers_are_told_so() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    for (name, request, status) in wrong() {
        let anonymous = request.without("Authorization");
        let unreadable = anonymous
            .clone()
            .header("Authorization", "Digest username=\"alice\"");
        for stranger in [anonymous, unreadable] {
            let answer = gateway.ask(&stranger).await;
            assert_eq!(answer.status(), status, "{name}");
        }
    }
    assert_eq!(arrivals(&sandbox), 0);
    let challenge = gateway
        .ask(&folder_sync("STRANGER").without("Authorization"))
        .await;
    assert_eq!(challenge.status(), 401);
}

#[tokio::test]
async fn a_head_of_a_megabyte_is_refused() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let huge = folder_sync("HUGE").header("X-Huge", &"x".repeat(1 << 20));
    let mut wire = gateway.connect().await;
    wire.send_until_closed(huge.bytes()).await;
    if let Some(answer) = wire.try_answer(false).await {
        assert!([400, 431].contains(&answer.status()), "{}", answer.start);
    }
    wire.ended().await;
    assert_eq!(arrivals(&sandbox), 0);
    counted(&gateway, 1, "a huge head").await;
    logged_with_reasons(&gateway, 1).await;
    assert!(is_served(&gateway.ask(&folder_sync("WELLBEHAVED")).await));
}

#[tokio::test]
async fn a_body_that_ends_early_is_no_request() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let framings = ["Content-Length: 1000\r\n", "Transfer-Encoding: chunked\r\n"];
    for (framing, number) in framings.into_iter().zip(1..) {
        let case = framed("ends early", framing, "3e8\r\nabc");
        let mut wire = gateway.connect().await;
        wire.send(&case.bytes).await;
        wire.tear().await;
        counted(&gateway, number, framing).await;
    }
    logged_with_reasons(&gateway, framings.len()).await;
    let early = |event: &serde_json::Value| event["reason"] == "body_ended_early";
    gateway.event("the end of a body as a reason", early).await;
    assert!(is_served(&gateway.ask(&folder_sync("WELLBEHAVED")).await));
    assert_eq!(count(&sandbox, "HOSTILE"), 0, "half a request was served");
}

#[tokio::test]
async fn broken_chunks_are_no_request() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let bodies = [
        "zz\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
    ];
    for (body, number) in bodies.into_iter().zip(1..) {
        let case = framed("broken chunk", "Transfer-Encoding: chunked\r\n", body);
        let mut wire = gateway.connect().await;
        wire.send_until_closed(&case.bytes).await;
        if let Some(answer) = wire.try_answer(false).await {
            assert_eq!(answer.status(), 400, "{body:?}");
        }
        wire.ended().await;
        counted(&gateway, number, body).await;
    }
    logged_with_reasons(&gateway, bodies.len()).await;
    assert!(is_served(&gateway.ask(&folder_sync("WELLBEHAVED")).await));
    assert_eq!(count(&sandbox, "HOSTILE"), 0, "half a request was served");
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_before_it_is_sent_on() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox)
        .set("server.body.max.bytes", "1000")
        .start()
        .await;
    let request = Request::eas("FolderSync", "alice", "LARGE", vec![0; 1001]);
    let mut wire = gateway.connect().await;
    wire.send_until_closed(request.bytes()).await;
    assert_eq!(wire.answer().await.status(), 413);
    assert_eq!(arrivals(&sandbox), 0);
}

#[tokio::test]
async fn a_client_without_tls_disturbs_nobody() {
    use tokio::io::AsyncWriteExt as _;

    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let mut plain = tokio::net::TcpStream::connect(gateway.address)
        .await
        .expect("a connection");
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .expect("bytes are sent");
    gateway
        .event("a log line about the handshake", |event| {
            event["message"]
                .as_str()
                .is_some_and(|text| text.contains("TLS"))
        })
        .await;
    counted(&gateway, 1, "no TLS").await;
    assert!(is_served(&gateway.ask(&folder_sync("WELLBEHAVED")).await));
}
