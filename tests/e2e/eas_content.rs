//! Content policies of ActiveSync: `[[content]]` of policies.toml.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use seg_core::sandbox::{Answer, Filter, Framing, Sandbox, Script};
use seg_tests::Gateway;
use seg_tests::eas::Request;
use seg_tests::message::Message;

use crate::sandbox;

pub(crate) async fn with_policies(sandbox: &Sandbox, policies: &str, limit: &str) -> Gateway {
    let builder = Gateway::before(sandbox);
    builder.file("policies.toml", policies);
    builder
        .set("content.buffer.limit.bytes", limit)
        .start()
        .await
}

pub(crate) const LIMIT: &str = "1000000";

/// An element of the current page with this content.
pub(crate) fn element(token: u8, content: &[u8]) -> Vec<u8> {
    [&[token | 0x40], content, &[0x01]].concat()
}

pub(crate) fn text(token: u8, text: &str) -> Vec<u8> {
    element(token, &[&[0x03], text.as_bytes(), &[0x00]].concat())
}

pub(crate) fn page(number: u8) -> Vec<u8> {
    vec![0x00, number]
}

/// AirSyncBase Attachment: DisplayName, FileReference, Method, EstimatedDataSize.
fn attachment(name: &str, reference: &str) -> Vec<u8> {
    let content = [
        text(0x10, name),
        text(0x11, reference),
        text(0x12, "1"),
        text(0x0C, "12"),
    ];
    element(0x0F, &content.concat())
}

/// AirSyncBase Body: Type, EstimatedDataSize, Data.
pub(crate) fn body(kind: &str, data: &str) -> Vec<u8> {
    let size = data.len().to_string();
    let content = [text(0x06, kind), text(0x0C, &size), text(0x0B, data)];
    element(0x0A, &content.concat())
}

/// A Sync answer with one mail: Subject and From of page 2, then what stands on page 17.
pub(crate) fn sync_answer(subject: &str, base: &[Vec<u8>]) -> Vec<u8> {
    let mail = [
        page(2),
        text(0x14, subject),
        text(0x18, "bob@partner.example"),
        page(17),
        base.concat(),
        page(0),
    ];
    let add = [text(0x0D, "5:1"), element(0x1D, &mail.concat())];
    let collection = [
        text(0x0B, "2"),
        text(0x12, "5"),
        text(0x0E, "1"),
        element(0x16, &element(0x07, &add.concat())),
    ];
    let collections = element(0x1C, &element(0x0F, &collection.concat()));
    [vec![3, 1, 0x6A, 0], element(0x05, &collections)].concat()
}

pub(crate) fn sync(device: &str) -> Request {
    let body = seg_core::sandbox::requests::sync("1");
    Request::eas("Sync", "alice", device, body)
}

pub(crate) fn gives(sandbox: &Sandbox, command: &str, body: Vec<u8>) {
    let answer = Answer::wbxml(body);
    sandbox.script(Script::answer(Filter::name(command), answer).always());
}

pub(crate) fn has(message: &Message, part: &str) -> bool {
    message.text().contains(part)
}

const ATTACHMENTS: &str = r#"
[[content]]
id = "no-programs"
except = { groups = ["Board"] }
attachments = { action = "remove", extensions = ["exe"], text = "GONE {name} BY {rule}" }

[[content]]
id = "no-archives"
except = { groups = ["Board"] }
attachments = { action = "block-fetch", extensions = ["zip"] }

[[content]]
id = "no-pdf"
scope = { users = ["bob@sandbox.example"] }
attachments = { action = "block-fetch", types = ["application/pdf"] }
"#;

#[tokio::test]
async fn attachments_are_taken_out_or_can_not_be_fetched() {
    let sandbox = sandbox::start();
    let gateway = with_policies(&sandbox, ATTACHMENTS, LIMIT).await;
    let list = [
        attachment("v.EXE", "ref-exe"),
        attachment("a.zip", "ref-zip"),
        attachment("p.txt", "ref-txt"),
    ];
    let given = sync_answer("s", &[element(0x0E, &list.concat()), body("1", "Hello")]);
    gives(&sandbox, "Sync", given.clone());

    let answer = gateway.ask(&sync("CONTENT1")).await;
    let note = "Hello\r\n\r\nGONE v.EXE BY no-programs";
    let kept = [
        attachment("a.zip", "ref-zip"),
        attachment("p.txt", "ref-txt"),
    ];
    let expected = sync_answer("s", &[element(0x0E, &kept.concat()), body("1", note)]);
    assert_eq!(&answer.body[..], &expected[..], "{}", answer.text());
    let event = gateway
        .event("what was done", |event| event["reason"] == "content")
        .await;
    let detail = event["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("removed: 1, blocked: 1"), "{event}");
    assert!(detail.contains("no-programs, no-archives"), "{event}");
    let removed = ["action=\"attachment_removed\""];
    assert_eq!(
        gateway.admin.metric("seg_content_total", &removed).await,
        1.0
    );

    let target = "/v1/explain?device=CONTENT1&user=alice@sandbox.example&command=Sync";
    let explained = gateway.admin.read(target).await.to_string();
    for rule in ["no-programs", "no-archives"] {
        assert!(explained.contains(rule), "{rule}: {explained}");
    }
    assert!(!explained.contains("no-pdf"), "{explained}");

    // The same mail for somebody of the board: byte for byte, on both legs.
    let record = r#"{"groups":["Board"],"user":"alice@sandbox.example"}"#;
    gateway
        .admin
        .write("PUT", "/v1/devices/BOARD1", record)
        .await;
    let ask = sync("BOARD1").header("Accept-Encoding", "gzip");
    let answer = gateway.ask(&ask).await;
    assert_eq!(&answer.body[..], &given[..]);
    let inner = sandbox
        .last(&Filter::any().device("BOARD1"))
        .expect("it has arrived");
    assert_eq!(inner.body, seg_core::sandbox::requests::sync("1"));
    let coding = |device: &str| {
        let exchange = sandbox
            .last(&Filter::any().device(device))
            .expect("it has arrived");
        String::from_utf8_lossy(&exchange.head.bytes).to_lowercase()
    };
    assert!(coding("BOARD1").contains("accept-encoding: gzip"));
    assert!(coding("CONTENT1").contains("accept-encoding: identity"));
}

/// ItemOperations: Fetch with Status 1, FileReference, Properties (ContentType, Data in base64).
fn fetch_answer(reference: &str, declared: &str, data: &str) -> Vec<u8> {
    let properties = [page(17), text(0x17, declared), page(20), text(0x0C, data)];
    let fetch = [
        text(0x0D, "1"),
        page(17),
        text(0x11, reference),
        page(20),
        element(0x0B, &properties.concat()),
    ];
    let root = [
        text(0x0D, "1"),
        element(0x0E, &element(0x06, &fetch.concat())),
    ];
    [vec![3, 1, 0x6A, 0], page(20), element(0x05, &root.concat())].concat()
}

#[tokio::test]
async fn what_was_withheld_can_not_be_fetched() {
    let sandbox = sandbox::start();
    let gateway = with_policies(&sandbox, ATTACHMENTS, LIMIT).await;
    let list = element(0x0E, &attachment("a.zip", "ref-zip"));
    gives(&sandbox, "Sync", sync_answer("s", &[list]));
    let fetch = |user: &str, device: &str| {
        let body = seg_core::sandbox::requests::ITEM_OPERATIONS;
        Request::eas("ItemOperations", user, device, body)
    };
    gives(
        &sandbox,
        "ItemOperations",
        fetch_answer("ref-zip", "text/plain", "U0VDUkVU"),
    );
    let answer = gateway.ask(&fetch("alice", "FETCH1")).await;
    assert!(has(&answer, "U0VDUkVU"), "nothing was withheld from it yet");
    assert_eq!(gateway.ask(&sync("FETCH1")).await.status(), 200);
    let answer = gateway.ask(&fetch("alice", "FETCH1")).await;
    assert!(!has(&answer, "U0VDUkVU"), "{}", answer.text());
    assert!(
        answer
            .body
            .windows(6)
            .any(|bytes| bytes == b"\x4d\x0316\x00\x01")
    );

    // Another device of his has the same mailbox, and a reference may be written in other ways.
    let answer = gateway.ask(&fetch("alice", "FETCH9")).await;
    assert!(!has(&answer, "U0VDUkVU"), "{}", answer.text());
    sandbox.clear_scripts();
    gives(
        &sandbox,
        "ItemOperations",
        fetch_answer("ref%2Dzip", "text/plain", "U0VDUkVU"),
    );
    let answer = gateway.ask(&fetch("alice", "FETCH1")).await;
    assert!(!has(&answer, "U0VDUkVU"), "{}", answer.text());
    let get = |name: &str| {
        let command = format!("GetAttachment&AttachmentName={name}");
        Request::eas(&command, "alice", "FETCH1", "")
            .without("MS-ASProtocolVersion")
            .header("MS-ASProtocolVersion", "12.1")
    };
    for name in ["ref-zip", "ref%2Dzip", "%72ef%252dzip"] {
        assert_eq!(gateway.ask(&get(name)).await.status(), 403, "{name}");
    }
    // A piece of it is no way around: a server is asked for all of it.
    let piece = get("ref-other").header("Range", "bytes=4-");
    assert_eq!(gateway.ask(&piece).await.status(), 200);
    let arrived = sandbox
        .last(&Filter::name("GetAttachment"))
        .expect("it has arrived");
    let head = String::from_utf8_lossy(&arrived.head.bytes).to_lowercase();
    assert!(!head.contains("range:"), "{head}");

    // Judged by its content, whatever it is called.
    sandbox.clear_scripts();
    let pdf = fetch_answer("ref-other", "text/plain", "JVBERi0xLjQKJSBTRUNSRVQ=");
    gives(&sandbox, "ItemOperations", pdf.clone());
    let answer = gateway.ask(&fetch("alice", "FETCH2")).await;
    assert_eq!(&answer.body[..], &pdf[..], "the rule is about Bob");
    let answer = gateway.ask(&fetch("bob", "FETCH3")).await;
    assert!(!has(&answer, "JVBERi0"), "{}", answer.text());

    // GetAttachment brings the bytes themselves.
    sandbox.clear_scripts();
    let get = |user| {
        Request::eas("GetAttachment&AttachmentName=x", user, "FETCH4", "")
            .without("MS-ASProtocolVersion")
            .header("MS-ASProtocolVersion", "12.1")
    };
    assert_eq!(gateway.ask(&get("alice")).await.status(), 200);
    let answer = gateway.ask(&get("bob")).await;
    assert_eq!((answer.status(), answer.body.len()), (403, 0));
}

/// ItemOperations: a Fetch of a piece of an attachment.
fn piece_request(range: &str) -> Vec<u8> {
    let fetch = [
        text(0x07, "Mailbox"),
        page(17),
        text(0x11, "ref-piece"),
        page(20),
        element(0x08, &text(0x09, range)),
    ];
    let root = element(0x05, &element(0x06, &fetch.concat()));
    [vec![3, 1, 0x6A, 0], page(20), root].concat()
}

fn fetch_piece(device: &str, range: &str) -> Request {
    Request::eas("ItemOperations", "bob", device, piece_request(range))
}

/// Its answer: Range, Total and Data.
fn piece_answer(range: &str, content: &[u8]) -> Vec<u8> {
    let properties = [
        text(0x09, range),
        text(0x0A, "5000"),
        text(0x0C, &BASE64_STANDARD.encode(content)),
    ];
    let fetch = [
        text(0x0D, "1"),
        page(17),
        text(0x11, "ref-piece"),
        page(20),
        element(0x0B, &properties.concat()),
    ];
    let root = [
        text(0x0D, "1"),
        element(0x0E, &element(0x06, &fetch.concat())),
    ];
    [vec![3, 1, 0x6A, 0], page(20), element(0x05, &root.concat())].concat()
}

/// What an attachment is its first bytes say: a device that leaves them out gets nothing unseen.
#[tokio::test]
async fn a_piece_of_an_attachment_is_judged_by_its_beginning() {
    let sandbox = sandbox::start();
    let gateway = with_policies(&sandbox, ATTACHMENTS, LIMIT).await;
    let asked = |device: &str| {
        let filter = Filter::name("ItemOperations").device(device);
        sandbox.last(&filter).expect("it has arrived").body
    };
    let pdf = [b"%PDF-1.4 ".as_slice(), &[b'x'; 2_000]].concat();
    gives(
        &sandbox,
        "ItemOperations",
        piece_answer("0-1503", &pdf[..1_504]),
    );
    let answer = gateway.ask(&fetch_piece("PIECE1", "1500-1503")).await;
    assert_eq!(asked("PIECE1"), piece_request("0-1503"));
    let refused = b"\x4d\x0316\x00\x01";
    assert!(
        answer.body.windows(6).any(|bytes| bytes == refused),
        "{answer:?}"
    );
    assert!(!has(&answer, "eHh4"), "{}", answer.text());

    // What passes is cut to what was asked for, and its further pieces are no more looked at.
    sandbox.clear_scripts();
    let words: Vec<u8> = (0..2_000_u32).map(|at| b'a' + (at % 26) as u8).collect();
    gives(
        &sandbox,
        "ItemOperations",
        piece_answer("0-1503", &words[..1_504]),
    );
    let answer = gateway.ask(&fetch_piece("PIECE2", "1500-1503")).await;
    assert_eq!(
        &answer.body[..],
        &piece_answer("1500-1503", &words[1_500..1_504])[..]
    );
    sandbox.clear_scripts();
    let next = piece_answer("1504-1507", &words[1_504..1_508]);
    gives(&sandbox, "ItemOperations", next.clone());
    let request = fetch_piece("PIECE2", "1504-1507");
    assert_eq!(&gateway.ask(&request).await.body[..], &next[..]);
    assert_eq!(asked("PIECE2"), piece_request("1504-1507"));
}

const LINKS: &str = r#"
[[content]]
id = "clicks"
links = { template = "https://safe.example/?u={url_encoded}", except_domains = ["sandbox.example"] }
"#;

/// SendMail: ClientId, Mime as a byte array (page 21).
fn send_mail(mime: &str) -> Vec<u8> {
    let length = [
        0x80 | u8::try_from(mime.len() >> 7).expect("a short mail"),
        u8::try_from(mime.len() & 0x7F).expect("seven bits"),
    ];
    let mime = element(
        0x10,
        &[&[0xC3], length.as_slice(), mime.as_bytes()].concat(),
    );
    let root = [text(0x11, "client-1"), mime];
    [vec![3, 1, 0x6A, 0], page(21), element(0x05, &root.concat())].concat()
}

#[tokio::test]
async fn links_are_rewritten_and_restored() {
    let sandbox = sandbox::start();
    let gateway = with_policies(&sandbox, LINKS, LIMIT).await;
    let plain = "See https://evil.example/a?b=1, ours: https://www.sandbox.example/";
    let html = "<p>See <a href=\"https://evil.example/a?b=1\">this</a></p>";
    for (kind, data) in [("1", plain), ("2", html)] {
        sandbox.clear_scripts();
        gives(&sandbox, "Sync", sync_answer("s", &[body(kind, data)]));
        let answer = gateway.ask(&sync("LINKS1")).await;
        let rewritten = "https://safe.example/?u=https%3A%2F%2Fevil.example%2Fa%3Fb%3D1";
        let new = data.replace("https://evil.example/a?b=1", rewritten);
        let expected = sync_answer("s", &[body(kind, &new)]);
        assert_eq!(&answer.body[..], &expected[..], "{}", answer.text());

        let mail = |link: &str| {
            format!(
                "From: alice@sandbox.example\r\nTo: carol@partner.example\r\nSubject: Re: the link that you have sent\r\n\
                 Content-Type: text/plain\r\n\r\n> {link}\r\n"
            )
        };
        let answer = gateway
            .ask(&Request::eas(
                "SendMail",
                "alice",
                "LINKS1",
                send_mail(&mail(rewritten)),
            ))
            .await;
        assert_eq!(answer.status(), 200);
        let sent = sandbox.sent().pop().expect("the mail has arrived");
        let restored = send_mail(&mail("https://evil.example/a?b=1"));
        assert_eq!(sent.body, restored);
    }
    // A mail without such links is not touched.
    let untouched = send_mail("Subject: x\r\n\r\nhttps://evil.example/ and more\r\n");
    let request = Request::eas("SendMail", "alice", "LINKS1", &untouched);
    assert_eq!(gateway.ask(&request).await.status(), 200);
    assert_eq!(
        sandbox.sent().pop().expect("it has arrived").body,
        untouched
    );
}

/// Drafts and appointments of 16.x go up by Sync, with what is attached to them.
#[tokio::test]
async fn what_a_sync_brings_up_is_looked_at() {
    let sandbox = sandbox::start();
    let gateway = with_policies(&sandbox, &format!("{ATTACHMENTS}{LINKS}"), LIMIT).await;
    let add = |name: &str| {
        let content = [&[0xC3, 0x02][..], b"MZ"].concat();
        let parts = [text(0x1E, "c1"), element(0x1F, &content), text(0x10, name)];
        element(0x1C, &parts.concat())
    };
    // Sync, Collections, Collection: SyncKey, CollectionId, Commands, Add: ClientId, data.
    let upload = |data: &str, attached: &[Vec<u8>]| {
        let list = match attached {
            [] => Vec::new(),
            _ => element(0x0E, &attached.concat()),
        };
        let text_of = element(0x0A, &[text(0x06, "1"), text(0x0B, data)].concat());
        let item = [page(17), text_of, list, page(0)].concat();
        let draft = [text(0x0C, "new-1"), element(0x1D, &item)].concat();
        let collection = [
            text(0x0B, "1"),
            text(0x12, "5"),
            element(0x16, &element(0x07, &draft)),
        ];
        let root = element(0x1C, &element(0x0F, &collection.concat()));
        [vec![3, 1, 0x6A, 0], element(0x05, &root)].concat()
    };
    let arrived = || sandbox.last(&Filter::name("Sync")).expect("a Sync").body;
    let rewritten = "https://safe.example/?u=https%3A%2F%2Fevil.example%2Fa";
    let given = upload(
        &format!("see {rewritten}"),
        &[add("v.exe"), add("a.zip"), add("p.txt")],
    );
    let send = |body: Vec<u8>| {
        Request::eas("Sync", "alice", "DRAFT1", body)
            .without("MS-ASProtocolVersion")
            .header("MS-ASProtocolVersion", "16.1")
    };
    assert_eq!(gateway.ask(&send(given)).await.status(), 200);
    let notes = "GONE v.EXE BY no-programs".replace("v.EXE", "v.exe");
    let said = String::from_utf8_lossy(&arrived()).into_owned();
    assert!(
        said.contains("see https://evil.example/a\r\n\r\n"),
        "{said}"
    );
    assert!(said.contains(&notes) && said.contains("p.txt"), "{said}");
    assert_eq!(said.matches("MZ").count(), 1, "{said}");
    let harmless = upload("https://evil.example/", &[add("p.txt")]);
    assert_eq!(gateway.ask(&send(harmless.clone())).await.status(), 200);
    assert_eq!(arrived(), harmless);
}

/// A header marks a mail also where the device gets no headers: the gateway asks for them.
#[tokio::test]
async fn a_header_marks_a_mail_that_is_shown_without_it() {
    let sandbox = sandbox::start();
    let policies = "[[content]]\nid = 'secret'\n\
        classified = { headers = { X-Class = 'secret' }, text = 'Not here.' }\n";
    let gateway = with_policies(&sandbox, policies, LIMIT).await;
    let given = sync_answer("plans", &[body("2", "<p>attack at dawn</p>")]);
    let mime = |class: &str| {
        let mail = format!("Subject: plans\r\nX-Class: {class}\r\n\r\nattack at dawn");
        let fetch = [
            text(0x0D, "1"),
            page(0),
            text(0x12, "5"),
            text(0x0D, "5:1"),
            page(20),
            element(0x0B, &[page(17), body("4", &mail)].concat()),
            page(20),
        ];
        let root = [
            text(0x0D, "1"),
            element(0x0E, &element(0x06, &fetch.concat())),
        ];
        [vec![3, 1, 0x6A, 0], page(20), element(0x05, &root.concat())].concat()
    };
    let withheld = "<html><body><p>Not here.</p></body></html>";
    let withheld = sync_answer("plans", &[body("2", withheld)]);
    for (device, class, answer) in [
        ("HEADER1", "public", &given),
        ("HEADER2", "Top Secret", &withheld),
    ] {
        sandbox.clear_scripts();
        gives(&sandbox, "Sync", given.clone());
        gives(&sandbox, "ItemOperations", mime(class));
        let got = gateway.ask(&sync(device)).await;
        assert_eq!(&got.body[..], &answer[..], "{}", got.text());
    }
}

#[tokio::test]
async fn a_classified_mail_is_withheld_whole() {
    let sandbox = sandbox::start();
    let policies = r#"
[[content]]
id = "secret"
except = { managed = true }
classified = { subject = ["[SECRET]"], headers = { X-Class = "secret" }, text = "Not here ({rule})." }
"#;
    let gateway = with_policies(&sandbox, policies, LIMIT).await;
    let list = element(0x0E, &attachment("plan.txt", "ref-plan"));
    let given = sync_answer("[secret] plans", &[list, body("1", "attack at dawn")]);
    gives(&sandbox, "Sync", given.clone());
    let answer = gateway.ask(&sync("SECRET1")).await;
    let expected = sync_answer("[secret] plans", &[body("1", "Not here (secret).")]);
    assert_eq!(&answer.body[..], &expected[..], "{}", answer.text());

    let record = r#"{"managed":true,"user":"alice@sandbox.example"}"#;
    gateway
        .admin
        .write("PUT", "/v1/devices/MANAGED1", record)
        .await;
    assert_eq!(&gateway.ask(&sync("MANAGED1")).await.body[..], &given[..]);

    // As MIME, by a header; the head stays.
    sandbox.clear_scripts();
    let mime =
        "From: bob@partner.example\r\nX-Class: Secret\r\nContent-Type: text/plain\r\n\r\nattack";
    gives(&sandbox, "Sync", sync_answer("plans", &[body("4", mime)]));
    let answer = gateway.ask(&sync("SECRET1")).await;
    assert!(
        has(&answer, "X-Class: Secret") && !has(&answer, "attack"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn attachments_of_mail_as_mime_go_both_ways() {
    let sandbox = sandbox::start();
    let gateway = with_policies(&sandbox, ATTACHMENTS, LIMIT).await;
    let mail = |name: &str| {
        format!(
            "From: bob@partner.example\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n\
             Hello\r\n--b\r\nContent-Type: application/octet-stream; name=\"{name}\"\r\n\
             Content-Disposition: attachment; filename=\"{name}\"\r\n\r\nMZPAYLOAD\r\n--b--\r\n"
        )
    };
    gives(
        &sandbox,
        "Sync",
        sync_answer("s", &[body("4", &mail("v.exe"))]),
    );
    let answer = gateway.ask(&sync("MIME1")).await;
    assert!(
        has(&answer, "Hello") && !has(&answer, "MZPAYLOAD"),
        "{}",
        answer.text()
    );

    let send = |name| {
        let body = send_mail(&mail(name));
        Request::eas("SendMail", "alice", "MIME1", body)
    };
    assert_eq!(gateway.ask(&send("v.exe")).await.status(), 200);
    let sent = sandbox.sent();
    let arrived = String::from_utf8_lossy(&sent[0].body).into_owned();
    assert!(
        arrived.contains("Hello") && !arrived.contains("MZPAYLOAD"),
        "{arrived}"
    );
    // What must not be fetched must not be sent either.
    let answer = gateway.ask(&send("a.zip")).await;
    assert_eq!(
        &answer.body[..],
        b"\x03\x01\x6a\x00\x00\x15\x45\x52\x03122\x00\x01\x01"
    );
    assert_eq!(sandbox.sent().len(), 1, "a refused mail was sent");
    let harmless = send("p.txt");
    assert_eq!(gateway.ask(&harmless).await.status(), 200);
    assert_eq!(sandbox.sent()[1].body, send_mail(&mail("p.txt")));
}

/// What can't be looked into is no way around the rules, neither up nor down.
#[tokio::test]
async fn mail_that_can_not_be_read_does_not_pass() {
    let zip = "Subject: s\r\nContent-Type: application/zip; name=a.zip\r\n\r\nPKPAYLOAD";
    let deep = "Content-Type:message/rfc822\n\n".repeat(33) + zip;
    let two = "Subject: s\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--x\r\n\
               --b\r\nContent-Type: application/zip; name=a.zip\r\n\r\nPKPAYLOAD\r\n--b--\r\n";
    let split = {
        let (one, two) = zip.split_at(30);
        let piece = |part: &str| {
            let length = u8::try_from(part.len()).expect("short");
            [&[0xC3, length], part.as_bytes()].concat()
        };
        let mime = element(0x10, &[piece(one), piece(two)].concat());
        [vec![3, 1, 0x6A, 0], page(21), element(0x05, &mime)].concat()
    };
    let latin = {
        let mime = element(0x10, &[b"\x03", zip.as_bytes(), b"\xE9\x00"].concat());
        [vec![3, 1, 0x6A, 0], page(21), element(0x05, &mime)].concat()
    };
    let wbxml = |body: &[u8]| Request::eas("SendMail", "alice", "DEEP1", body);
    let mime = |body: &[u8], kind: &str| {
        let request = Request::eas("SendMail", "alice", "DEEP1", body);
        let request = request.without("Content-Type").header("Content-Type", kind);
        let request = request.without("MS-ASProtocolVersion");
        request.header("MS-ASProtocolVersion", "12.1")
    };
    for (too_large, passes) in [("withhold", false), ("pass", true)] {
        let sandbox = sandbox::start();
        let policies = format!(
            "[[content]]\nid = \"z\"\nattachments = {{ action = \"block-fetch\", extensions = [\"zip\"] }}\ntoo_large = \"{too_large}\"\n"
        );
        let gateway = with_policies(&sandbox, &policies, LIMIT).await;
        for request in [
            wbxml(&send_mail(&deep)),
            wbxml(&split),
            wbxml(&latin),
            mime(deep.as_bytes(), "message/rfc822"),
            // Where two ends are told apart, or not.
            wbxml(&send_mail(two)),
            // A server may go by the version, whatever the body calls itself.
            mime(&split, "message/rfc822"),
        ] {
            let before = sandbox.sent().len();
            let answer = gateway.ask(&request).await;
            let came = sandbox.sent().len() - before;
            assert_eq!(came, usize::from(passes), "{}", answer.text());
        }
        // What can be read is judged, whatever the case of its media type.
        for kind in [
            "message/rfc822",
            "Message/RFC822",
            "MESSAGE/RFC822 ; charset=x",
        ] {
            let before = sandbox.sent().len();
            gateway.ask(&mime(zip.as_bytes(), kind)).await;
            assert_eq!(sandbox.sent().len(), before, "{kind}");
        }
        gives(&sandbox, "Sync", sync_answer("s", &[body("4", &deep)]));
        let answer = gateway.ask(&sync("DEEP1")).await;
        assert_eq!(has(&answer, "PKPAYLOAD"), passes, "{}", answer.text());
    }
}

#[tokio::test]
async fn what_is_too_large_to_be_held_is_withheld_or_passes() {
    let large = sync_answer("s", &[body("1", &"x".repeat(100_000))]);
    for (too_large, passes) in [("withhold", false), ("pass", true)] {
        let sandbox = sandbox::start();
        let policies = format!("{LINKS}too_large = \"{too_large}\"\n");
        let gateway = with_policies(&sandbox, &policies, "65536").await;
        // Whether its length is told or not.
        for framing in [Framing::Length, Framing::Chunked(7_000)] {
            sandbox.clear_scripts();
            let given = Answer::wbxml(large.clone()).framing(framing);
            sandbox.script(Script::answer(Filter::name("Sync"), given).always());
            let answer = gateway.ask(&sync("LARGE1")).await;
            if passes {
                assert_eq!(&answer.body[..], &large[..]);
            } else {
                assert_eq!(
                    &answer.body[..],
                    b"\x03\x01\x6a\x00\x45\x4e\x03110\x00\x01\x01"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_bad_rule_is_refused_with_its_place() {
    let sandbox = sandbox::start();
    let gateway = with_policies(&sandbox, LINKS, LIMIT).await;
    let bad = "[[content]]\nid = \"a\"\nlinks = { template = \"https://safe.example/\" }\n";
    std::fs::write(gateway.path("policies.toml"), bad).expect("the file is written");
    let (status, body) = gateway.admin.request("POST", "/v1/reload", "").await;
    assert_eq!((status, &body["error"]["line"]), (422, &3.into()), "{body}");
    let message = body["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("{url_encoded}"), "{message}");
}
