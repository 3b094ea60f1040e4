use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

mod ews;

/// Far longer than anything takes; only a failing test waits for it.
const LIMIT: Duration = Duration::from_secs(30);

fn sandbox() -> Sandbox {
    Sandbox::start(SandboxOptions::plain()).unwrap()
}

fn post(query: &str, body: &[u8]) -> Vec<u8> {
    let login = STANDARD.encode("alice:Secret-alice-1");
    let mut request = format!(
        "POST /Microsoft-Server-ActiveSync?{query} HTTP/1.1\r\nHost: sandbox\r\n\
         Authorization: Basic {login}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

/// A client that reads answers with Content-Length.
struct Client(TcpStream);

impl Client {
    async fn to(sandbox: &Sandbox) -> Self {
        Self(TcpStream::connect(sandbox.addr()).await.unwrap())
    }

    async fn send(&mut self, request: &[u8]) {
        self.0.write_all(request).await.unwrap();
    }

    /// Head as text, body.
    async fn answer(&mut self) -> (String, Vec<u8>) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).await.unwrap();
        (head, body)
    }

    async fn ask(&mut self, request: &[u8]) -> (String, Vec<u8>) {
        self.send(request).await;
        self.answer().await
    }

    /// Everything until the sandbox closes; a reset counts as the end.
    async fn rest(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _reset = self.0.read_to_end(&mut rest).await;
        rest
    }
}

fn plain(command: &str) -> String {
    format!("Cmd={command}&User=alice&DeviceId=DEV1&DeviceType=test")
}

#[tokio::test]
async fn a_device_synchronises_its_mail() {
    let sandbox = sandbox();
    let mut client = Client::to(&sandbox).await;
    let (head, body) = client
        .ask(&post(&plain("FolderSync"), requests::FOLDER_SYNC))
        .await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(memchr::memmem::find(&body, b"Inbox").is_some());

    let (_, first) = client
        .ask(&post(&plain("Sync"), &requests::sync("0")))
        .await;
    assert_eq!(eas::recorded::text_of(&first, 0x4b), Some("1"));
    let (_, mail) = client
        .ask(&post(&plain("Sync"), &requests::sync("1")))
        .await;
    assert_eq!(eas::recorded::text_of(&mail, 0x4b), Some("2"));
    assert_eq!(memchr::memmem::find_iter(&mail, b"IPM.Note").count(), 3);
    let (_, nothing) = client
        .ask(&post(&plain("Sync"), &requests::sync("2")))
        .await;
    assert!(nothing.is_empty());

    assert_eq!(sandbox.count(&Filter::name("Sync").device("dev1")), 3);
    assert_eq!(
        sandbox.count(&Filter::kind(Kind::Eas).user("alice@sandbox.example")),
        4
    );
    let last = sandbox.last(&Filter::name("sync")).unwrap();
    assert_eq!(last.body, requests::sync("2"));
    assert!(
        last.head
            .bytes
            .starts_with(b"POST /Microsoft-Server-ActiveSync?Cmd=Sync")
    );
    assert_eq!(last.answer.unwrap().status, 200);
}

#[tokio::test]
async fn without_a_password_there_is_the_challenge_of_the_day() {
    let sandbox = sandbox();
    sandbox.set_challenges(vec!["NTLM".to_owned(), "Basic realm=\"x\"".to_owned()]);
    let mut client = Client::to(&sandbox).await;
    let request = "OPTIONS /Microsoft-Server-ActiveSync HTTP/1.1\r\nHost: sandbox\r\n\r\n";
    let (head, _) = client.ask(request.as_bytes()).await;
    assert!(head.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{head}");
    assert!(head.contains("WWW-Authenticate: NTLM\r\nWWW-Authenticate: Basic realm=\"x\"\r\n"));
    assert_eq!(sandbox.count(&Filter::name("OPTIONS").user("")), 1);
}

#[tokio::test]
async fn a_ping_is_held_until_it_is_released() {
    let sandbox = sandbox();
    let mut client = Client::to(&sandbox).await;
    client
        .send(&post(&plain("Ping"), &requests::ping(3000)))
        .await;
    let ping = Filter::name("Ping").device("DEV1");
    assert!(
        sandbox
            .wait_until(LIMIT, |sandbox| !sandbox.open_polls(&ping).is_empty())
            .await
    );
    assert_eq!(
        sandbox.open_polls(&ping)[0].limit,
        Duration::from_secs(3000)
    );
    assert_eq!(sandbox.release(&ping, &Release::Changes), 1);
    assert_eq!(client.answer().await.1, eas::recorded::PING_CHANGES);

    // Without a body the last one holds; and the change is there for the next Sync.
    client.send(&post(&plain("Ping"), b"")).await;
    assert!(
        sandbox
            .wait_until(LIMIT, |sandbox| !sandbox.open_polls(&ping).is_empty())
            .await
    );
    assert_eq!(sandbox.release(&ping, &Release::Expire), 1);
    assert_eq!(client.answer().await.1, eas::recorded::PING_EXPIRED);
    let (_, fresh) = client
        .ask(&post(&plain("Sync"), &requests::sync("2")))
        .await;
    assert!(memchr::memmem::find(&fresh, b"Fresh mail").is_some());

    client.send(&post(&plain("Ping"), b"")).await;
    assert!(
        sandbox
            .wait_until(LIMIT, |sandbox| !sandbox.open_polls(&ping).is_empty())
            .await
    );
    drop(client);
    assert!(
        sandbox
            .wait_until(LIMIT, |sandbox| sandbox.open_polls(&ping).is_empty())
            .await
    );
    let abandoned = |event: &Event| matches!(event.what, What::PollAbandoned(_));
    assert!(
        sandbox
            .wait_until(LIMIT, |sandbox| sandbox.events().iter().any(abandoned))
            .await
    );
}

#[tokio::test]
async fn a_ping_ends_by_itself_and_a_waiting_sync_brings_mail() {
    let sandbox = sandbox();
    let mut client = Client::to(&sandbox).await;
    let (_, expired) = client.ask(&post(&plain("Ping"), &requests::ping(0))).await;
    assert_eq!(expired, eas::recorded::PING_EXPIRED);

    client
        .send(&post(&plain("Sync"), &requests::sync_wait("2", 9)))
        .await;
    let sync = Filter::name("Sync");
    assert!(
        sandbox
            .wait_until(LIMIT, |sandbox| !sandbox.open_polls(&sync).is_empty())
            .await
    );
    assert_eq!(sandbox.open_polls(&sync)[0].limit, Duration::from_secs(540));
    sandbox.release(&sync, &Release::Changes);
    let (_, fresh) = client.answer().await;
    assert_eq!(eas::recorded::text_of(&fresh, 0x4b), Some("3"));

    // However long a client wants to wait, it is held and not more.
    let endless = eas::recorded::fill(
        eas::recorded::REQUEST_PING,
        &[("seconds", u64::MAX.to_string().as_bytes())],
    );
    client.send(&post(&plain("Ping"), &endless)).await;
    let ping = Filter::name("Ping");
    assert!(
        sandbox
            .wait_until(LIMIT, |sandbox| !sandbox.open_polls(&ping).is_empty())
            .await
    );
}

#[tokio::test]
async fn a_message_is_noted_each_time_it_is_sent() {
    let sandbox = sandbox();
    let mut client = Client::to(&sandbox).await;
    for id in ["one", "two"] {
        let (head, body) = client
            .ask(&post(&plain("SendMail"), &requests::send_mail(id)))
            .await;
        assert!(
            head.starts_with("HTTP/1.1 200 OK\r\n") && body.is_empty(),
            "{head}"
        );
    }
    let ids: Vec<_> = sandbox
        .sent()
        .into_iter()
        .filter_map(|sent| sent.client_id)
        .collect();
    assert_eq!(ids, ["one", "two"]);
}

#[tokio::test]
async fn an_attachment_comes_inline_and_in_parts() {
    let sandbox = sandbox();
    let mut client = Client::to(&sandbox).await;
    let request = post(&plain("ItemOperations"), requests::ITEM_OPERATIONS);
    let (_, inline) = client.ask(&request).await;
    let encoded = STANDARD.encode(eas::ATTACHMENT);
    assert!(memchr::memmem::find(&inline, encoded.as_bytes()).is_some());

    let request = String::from_utf8(request).unwrap();
    let request = request.replacen("\r\n", "\r\nMS-ASAcceptMultiPart: T\r\n", 1);
    let (head, parts) = client.ask(request.as_bytes()).await;
    assert!(
        head.contains("Content-Type: application/vnd.ms-sync.multipart\r\n"),
        "{head}"
    );
    assert!(parts.ends_with(eas::ATTACHMENT));
}

#[tokio::test]
async fn scripts_play_once_each_in_order() {
    let sandbox = sandbox();
    let sync = || Filter::name("Sync").device("DEV1");
    sandbox.script(Script::answer(
        sync(),
        Answer::status(503).header("Retry-After", "7"),
    ));
    let lie = Answer::ok("text/plain", "hello").framing(Framing::DeclaredLength(9));
    sandbox.script(Script::answer(
        Filter::name("Sync").device("OTHER"),
        Answer::status(500),
    ));
    let cut = Play::Cut {
        answer: Some(lie),
        after: 2,
        end: End::Close,
    };
    sandbox.script(Script::new(sync(), cut));
    let garbage = Play::Raw {
        bytes: Bytes::from_static(b"garbage"),
        end: End::Close,
    };
    sandbox.script(Script::new(sync(), garbage));
    sandbox.script(Script::new(sync(), Play::Close));

    let request = post(&plain("Sync"), &requests::sync("0"));
    let mut client = Client::to(&sandbox).await;
    let (head, _) = client.ask(&request).await;
    assert!(
        head.contains("503 Service Unavailable\r\nRetry-After: 7\r\n"),
        "{head}"
    );
    client.send(&request).await;
    let cut = String::from_utf8(client.rest().await).unwrap();
    assert!(
        cut.contains("Content-Length: 9\r\n") && cut.ends_with("\r\n\r\nhe"),
        "{cut}"
    );
    for expected in ["garbage", ""] {
        let mut client = Client::to(&sandbox).await;
        client.send(&request).await;
        assert_eq!(client.rest().await, expected.as_bytes());
    }
    let (head, _) = Client::to(&sandbox).await.ask(&request).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(sandbox.count(&sync()), 5);
}

#[tokio::test]
async fn an_answer_can_come_before_the_body() {
    let sandbox = sandbox();
    let refusal = Script::answer(Filter::name("SendMail"), Answer::status(413));
    sandbox.script(refusal.before_body());
    let mut client = Client::to(&sandbox).await;
    let whole = post(&plain("SendMail"), &requests::send_mail("x"));
    let head_only = memchr::memmem::find(&whole, b"\r\n\r\n").unwrap() + 4;
    client.send(&whole[..head_only]).await;
    let (head, _) = client.answer().await;
    assert!(head.starts_with("HTTP/1.1 413"), "{head}");
    assert_eq!(client.rest().await, b"");
    assert_eq!(sandbox.count(&Filter::any()), 0);
}

#[tokio::test]
async fn a_stalled_request_goes_on_when_it_is_released() {
    let sandbox = sandbox();
    let send = Filter::name("SendMail");
    sandbox.script(Script::new(send.clone(), Play::Stall).before_body());
    let mut client = Client::to(&sandbox).await;
    client
        .send(&post(&plain("SendMail"), &requests::send_mail("x")))
        .await;
    let stalls = |sandbox: &Sandbox| !sandbox.open_polls(&send).is_empty();
    assert!(sandbox.wait_until(LIMIT, stalls).await);
    assert_eq!(sandbox.count(&send), 0);
    sandbox.release(&send, &Release::Expire);
    let (head, _) = client.answer().await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(sandbox.count(&send), 1);
    let written = |event: &Event| matches!(event.what, What::Written(_));
    let is_written = |sandbox: &Sandbox| sandbox.events().iter().any(written);
    assert!(sandbox.wait_until(LIMIT, is_written).await);
}

#[tokio::test]
async fn a_client_that_waits_for_100_gets_it() {
    let sandbox = sandbox();
    let mut client = Client::to(&sandbox).await;
    let whole = String::from_utf8(post(&plain("FolderSync"), requests::FOLDER_SYNC)).unwrap();
    let whole = whole.replacen("\r\n", "\r\nExpect: 100-continue\r\n", 1);
    let (head, body) = whole.split_once("\r\n\r\n").unwrap();
    client.send(format!("{head}\r\n\r\n").as_bytes()).await;
    let mut interim = [0; 25];
    client.0.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    let (head, _) = client.ask(body.as_bytes()).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[tokio::test]
async fn what_is_no_request_is_counted_and_refused() {
    let sandbox = sandbox();
    let mut client = Client::to(&sandbox).await;
    client
        .send(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n")
        .await;
    client.send(b"Content-Length: 2\r\n\r\nx").await;
    assert!(client.rest().await.starts_with(b"HTTP/1.1 400"));
    assert_eq!((sandbox.malformed(), sandbox.count(&Filter::any())), (1, 0));
}

#[tokio::test]
async fn its_certificate_is_good_for_its_names_only() {
    use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
    let sandbox = Sandbox::start(SandboxOptions::default()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    let authority = sandbox.ca_pem().unwrap();
    roots
        .add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    for (name, good) in [
        ("localhost", true),
        ("127.0.0.1", true),
        ("elsewhere.example", false),
    ] {
        let stream = TcpStream::connect(sandbox.addr()).await.unwrap();
        let name = ServerName::try_from(name).unwrap();
        assert_eq!(connector.connect(name, stream).await.is_ok(), good);
    }
    let failed = |event: &Event| matches!(event.what, What::TlsFailed(_));
    assert!(
        sandbox
            .wait_until(LIMIT, |sandbox| sandbox.events().iter().any(failed))
            .await
    );
}
