//! What passes, what does not, and what is rebuilt.

use seg_core::sandbox::{Answer, Exchange, Filter, Framing, Sandbox, Script, requests};
use seg_tests::Gateway;
use seg_tests::eas::{Request, basic, soap};

use crate::sandbox::{self, folder_sync, is_served};

/// Headers by which Exchange's own servers vouch for a user: from outside they are forgeries.
const NEVER_INWARD: [&str; 6] = [
    "X-BEResource",
    "X-AnonResource-Backend",
    "X-CommonAccessToken",
    "X-Rps-CAT",
    "X-IsFromCafe",
    "msExchProxyUri",
];

#[tokio::test]
async fn forged_and_hop_by_hop_headers_stay_out() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let mut request = folder_sync("FORGED")
        .header("Connection", "keep-alive, X-Named")
        .header("Keep-Alive", "timeout=5")
        .header("X-Named", "1")
        .header("Proxy-Authorization", "Basic eDp5")
        .header("TE", "trailers")
        .header("Upgrade", "h2c")
        .header("X-Forwarded-For", "6.6.6.6")
        .header("X-Forwarded-Host", "evil.example")
        .header("X-Forwarded-Proto", "gopher")
        .header("Forwarded", "for=6.6.6.6")
        .header("X-Kept", "kept");
    for name in NEVER_INWARD {
        request = request.header(name, "forged");
    }
    assert!(is_served(&gateway.ask(&request).await));
    let seen = last(&sandbox, "FolderSync");
    let gone = [
        "Keep-Alive",
        "X-Named",
        "Proxy-Authorization",
        "TE",
        "Upgrade",
    ];
    for name in NEVER_INWARD.into_iter().chain(gone) {
        assert!(seen.head.header(name).is_none(), "{name} went in");
    }
    assert_eq!(seen.head.header("X-Kept"), Some(&b"kept"[..]));
    let one = |name: &str| -> Vec<String> {
        seen.head
            .all(name)
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .collect()
    };
    assert_eq!(one("X-Forwarded-For"), ["127.0.0.1"]);
    assert_eq!(one("X-Forwarded-Proto"), ["https"]);
    assert_eq!(one("X-Forwarded-Host"), ["localhost"]);
    let forwarded = one("Forwarded");
    assert!(
        forwarded.len() == 1
            && forwarded[0].contains("for=127.0.0.1")
            && !forwarded[0].contains("6.6.6.6")
    );
    assert_eq!(one("Host"), [sandbox.addr().to_string()]);
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox)
        .set("server.trusted.proxies", "127.0.0.0/8")
        .start()
        .await;
    let request = folder_sync("BEHIND").header("X-Forwarded-For", "203.0.113.9");
    assert!(is_served(&gateway.ask(&request).await));
    let seen = last(&sandbox, "FolderSync");
    assert_eq!(
        seen.head.header("X-Forwarded-For"),
        Some(&b"203.0.113.9, 127.0.0.1"[..])
    );
}

#[tokio::test]
async fn nothing_is_told_where_that_is_switched_off() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox)
        .set("server.forwarded.headers", "off")
        .start()
        .await;
    let request = folder_sync("QUIET").header("X-Forwarded-For", "203.0.113.9");
    assert!(is_served(&gateway.ask(&request).await));
    let seen = last(&sandbox, "FolderSync");
    for name in [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "Forwarded",
    ] {
        assert!(seen.head.header(name).is_none(), "{name}");
    }
}

#[tokio::test]
async fn bodies_pass_untouched_in_both_framings() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let content: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    for framing in [
        Framing::Length,
        Framing::Chunked(1000),
        Framing::Chunked(70_000),
    ] {
        let reply = Answer::wbxml(content.clone())
            .framing(framing)
            .header("Content-Encoding", "gzip");
        sandbox.script(Script::answer(Filter::name("ItemOperations"), reply));
        let ask = Request::eas(
            "ItemOperations",
            "alice",
            "BODIES",
            requests::ITEM_OPERATIONS,
        )
        .header("Accept-Encoding", "gzip");
        let answer = gateway.ask(&ask).await;
        assert!(
            answer.body == content,
            "{framing:?}: {} bytes",
            answer.body.len()
        );
        assert_eq!(
            answer.header("Content-Encoding"),
            Some("gzip"),
            "{framing:?}"
        );
        let length = answer.header("Content-Length").is_some();
        assert_eq!(length, framing == Framing::Length, "{framing:?}");
    }
}

#[tokio::test]
async fn a_chunked_request_arrives_whole() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let head = folder_sync("CHUNKED")
        .without("Content-Length")
        .header("Transfer-Encoding", "chunked")
        .head();
    let mut wire = gateway.connect().await;
    wire.send(head).await;
    for piece in requests::FOLDER_SYNC.chunks(3) {
        wire.send(format!("{:x}\r\n", piece.len())).await;
        wire.send(piece).await;
        wire.send("\r\n").await;
    }
    wire.send("0\r\n\r\n").await;
    assert!(is_served(&wire.answer().await));
    assert_eq!(
        &last(&sandbox, "FolderSync").body[..],
        requests::FOLDER_SYNC
    );
}

#[tokio::test]
async fn a_client_that_expects_100_gets_it_before_its_body() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let request = folder_sync("EXPECTS").header("Expect", "100-continue");
    let mut wire = gateway.connect().await;
    wire.send(request.head()).await;
    let asked = b"HTTP/1.1 100 Continue\r\n\r\n";
    while wire.received().len() < asked.len() {
        assert_eq!(wire.receive().await, None, "closed instead of 100");
    }
    assert_eq!(wire.received(), asked);
    wire.send(requests::FOLDER_SYNC).await;
    // Once: the next that comes is the answer.
    wire.receive().await;
    let behind = wire.received().get(asked.len()..).unwrap_or_default();
    assert!(
        behind.starts_with(b"HTTP/1.1 200"),
        "{}",
        behind.escape_ascii()
    );
    assert!(is_served(&wire.answer().await));
    // Over the same connection, without the question.
    wire.send(folder_sync("EXPECTS").bytes()).await;
    assert!(is_served(&wire.answer().await));
    for exchange in sandbox.exchanges(&Filter::name("FolderSync")) {
        assert_eq!(exchange.head.header("Expect"), None, "asked of the server");
    }
}

/// The head is enough to refuse a request: the answer comes at once, and no body is asked for.
#[tokio::test]
async fn a_blocked_client_that_expects_100_is_not_asked_for_its_body() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    assert!(is_served(&gateway.ask(&folder_sync("REFUSED")).await));
    gateway.admin.block("REFUSED").await;
    let before = sandbox::count(&sandbox, "REFUSED");
    let small = folder_sync("REFUSED");
    let large = folder_sync("REFUSED").body(vec![0; 1 << 20]);
    for request in [small, large] {
        let mut wire = gateway.connect().await;
        wire.send(request.header("Expect", "100-continue").head())
            .await;
        while wire.received().is_empty() {
            assert_eq!(wire.receive().await, None, "closed without an answer");
        }
        let first = wire.received().to_vec();
        assert!(
            first.starts_with(b"HTTP/1.1 200"),
            "{}",
            first.escape_ascii()
        );
        let answer = wire.answer().await;
        assert_eq!(&answer.body[..], sandbox::FOLDER_SYNC_REFUSED);
        // The body may come all the same: nobody reads on behind it.
        assert_eq!(answer.header("Connection"), Some("close"));
        wire.ended().await;
    }
    assert_eq!(sandbox::count(&sandbox, "REFUSED"), before);
}

/// A stranger's body is not asked for where it would not be read to its end.
#[tokio::test]
async fn a_strangers_large_body_is_not_asked_for() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let request = folder_sync("STRANGER")
        .without("Authorization")
        .header("Expect", "100-continue")
        .body(vec![0; 1 << 20]);
    let mut wire = gateway.connect().await;
    wire.send(request.head()).await;
    while wire.received().is_empty() {
        assert_eq!(wire.receive().await, None, "closed without an answer");
    }
    let first = wire.received().to_vec();
    assert!(
        first.starts_with(b"HTTP/1.1 401"),
        "{}",
        first.escape_ascii()
    );
}

#[tokio::test]
async fn head_and_options_are_answered_as_they_are() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let to = |method: &str| {
        Request::new(method, "/Microsoft-Server-ActiveSync")
            .header("Authorization", &basic("alice"))
    };
    let mut wire = gateway.connect().await;
    wire.send(to("OPTIONS").bytes()).await;
    let options = wire.answer().await;
    assert_eq!(options.status(), 200);
    for name in ["MS-ASProtocolVersions", "MS-ASProtocolCommands"] {
        assert!(options.header(name).is_some(), "{name}");
    }
    let description = |method: &str| {
        Request::new(method, "/EWS/Services.wsdl").header("Authorization", &basic("alice"))
    };
    wire.send(description("GET").bytes()).await;
    let whole = wire.answer().await;
    assert_eq!(whole.status(), 200);
    assert!(!whole.body.is_empty());
    wire.send(description("HEAD").bytes()).await;
    let answer = wire.answer_to_head().await;
    assert_eq!((answer.status(), answer.body.len()), (200, 0));
    let length = whole.body.len().to_string();
    assert_eq!(answer.header("Content-Length"), Some(&*length));
    // Nothing of a body stands on the connection: the next answer begins where it should.
    wire.send(to("OPTIONS").bytes()).await;
    assert_eq!(wire.answer().await.status(), 200);
}

#[tokio::test]
async fn no_secret_is_logged() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let of_12_1 = |command: &str, query: &str| {
        let target = format!(
            "/Microsoft-Server-ActiveSync?Cmd={command}&User=alice&DeviceId=SILENT&DeviceType=t{query}"
        );
        Request::new("POST", &target)
            .header("Authorization", &basic("alice"))
            .header("MS-ASProtocolVersion", "12.1")
    };
    let mail = "From: alice@sandbox.example\r\nTo: confidant@other.example\r\n\
                Subject: Merger-of-foxes\r\n\r\nNobody-must-read-this.\r\n";
    let soap_mail = soap(
        "<m:CreateItem MessageDisposition=\"SendOnly\"><m:Items><t:Message>\
         <t:Subject>Merger-of-foxes</t:Subject><t:Body BodyType=\"Text\">Nobody-must-read-this.</t:Body>\
         </t:Message></m:Items></m:CreateItem>",
    );
    let requests = [
        of_12_1("GetAttachment", "&AttachmentName=secret-name.pdf").body(""),
        of_12_1("SendMail", "&SaveInSent=T")
            .header("Content-Type", "message/rfc822")
            .body(mail),
        Request::eas(
            "SendMail",
            "alice",
            "SILENT",
            requests::send_mail("silent-id"),
        ),
        // What can't be read is told of, and not what stands in it.
        Request::eas("Sync", "alice", "SILENT", mail),
        Request::ews("alice", &soap_mail),
        Request::ews("alice", &soap_mail.replace("</t:Subject>", "</t:Subjcet>")),
    ];
    for request in &requests {
        let _whatever = gateway.ask(request).await;
    }
    seg_tests::eventually("a line of each request", || async {
        let events = gateway.events();
        let told = events.iter().filter(|event| event["command"].is_string());
        (told.count() >= requests.len()).then_some(())
    })
    .await;
    let log = gateway.log();
    for secret in [
        "secret-name",
        "Merger-of-foxes",
        "Nobody-must-read-this",
        "confidant",
        "silent-id",
        "Secret-alice-1",
        basic("alice").trim_start_matches("Basic "),
    ] {
        assert!(!log.contains(secret), "{secret} stands in the log");
    }
}

fn last(sandbox: &Sandbox, name: &str) -> Exchange {
    sandbox
        .last(&Filter::name(name))
        .expect("the request has arrived")
}
