//! The protocol firewall of ActiveSync: `[eas]` of policies.toml.

use std::fs;

use seg_core::sandbox::{Filter, Sandbox, requests};
use seg_tests::eas::Request;
use seg_tests::{Gateway, eventually};

use crate::sandbox::{
    self, FOLDER_SYNC_REFUSED, arrivals, folder_sync, holds_poll, is_served, ping,
};

/// A gateway with these policies.
async fn with_policies(sandbox: &Sandbox, policies: &str) -> Gateway {
    let builder = Gateway::before(sandbox);
    builder.file("policies.toml", policies);
    builder.start().await
}

/// Search with a Status and nothing else: page 15, Search, Status (MS-ASWBXML 2.1.2.1.16).
fn search_status(status: &str) -> Vec<u8> {
    let begin = b"\x03\x01\x6a\x00\x00\x0f\x45\x4c\x03".as_slice();
    [begin, status.as_bytes(), b"\x00\x01\x01"].concat()
}

async fn refusals(gateway: &Gateway, reason: &str) -> f64 {
    let label = format!("reason=\"{reason}\"");
    gateway
        .admin
        .metric("seg_bad_requests_total", &[&label])
        .await
}

#[tokio::test]
async fn only_the_commands_and_versions_of_the_table_pass() {
    let sandbox = sandbox::start();
    let policies =
        "[eas]\ncommands = [\"FolderSync\", \"Sync\"]\nversions = [\"14.1\", \"16.1\"]\n";
    let gateway = with_policies(&sandbox, policies).await;
    assert!(is_served(&gateway.ask(&folder_sync("FIRE1")).await));
    let before = arrivals(&sandbox);

    let search = Request::eas("Search", "alice", "FIRE1", requests::SEARCH);
    let answer = gateway.ask(&search).await;
    assert_eq!(
        (answer.status(), &answer.body[..]),
        (200, &search_status("137")[..])
    );
    let old = search
        .without("MS-ASProtocolVersion")
        .header("MS-ASProtocolVersion", "12.1");
    let answer = gateway.ask(&old).await;
    assert_eq!((answer.status(), answer.body.len()), (501, 0));
    let old = folder_sync("FIRE1")
        .without("MS-ASProtocolVersion")
        .header("MS-ASProtocolVersion", "14.0");
    let answer = gateway.ask(&old).await;
    assert_eq!(
        (answer.status(), &answer.body[..]),
        (
            200,
            b"\x03\x01\x6a\x00\x00\x07\x56\x4c\x03138\x00\x01\x01".as_slice()
        )
    );
    assert_eq!(arrivals(&sandbox), before, "a refused request has passed");
    assert_eq!(refusals(&gateway, "command_not_allowed").await, 2.0);
    assert_eq!(refusals(&gateway, "version_not_allowed").await, 1.0);

    let options = Request::new("OPTIONS", "/Microsoft-Server-ActiveSync")
        .header("Authorization", &seg_tests::eas::basic("alice"));
    let answer = gateway.ask(&options).await;
    assert_eq!(answer.header("MS-ASProtocolVersions"), Some("14.1,16.1"));
    assert_eq!(
        answer.header("MS-ASProtocolCommands"),
        Some("Sync,FolderSync")
    );
}

#[tokio::test]
async fn a_blocked_device_is_told_that_it_is_blocked() {
    let sandbox = sandbox::start();
    let gateway = with_policies(&sandbox, "[eas]\ncommands = [\"Ping\"]\n").await;
    gateway.admin.block("FIRE2").await;
    let answer = gateway.ask(&folder_sync("FIRE2")).await;
    assert_eq!(&answer.body[..], FOLDER_SYNC_REFUSED);
}

#[tokio::test]
async fn document_libraries_and_file_shares_are_out_of_reach() {
    let sandbox = sandbox::start();
    let gateway = with_policies(&sandbox, "[eas]\n").await;
    let ask = |command, body: &[u8]| Request::eas(command, "alice", "PEAS", body);
    // <Search><Store><Name>DocumentLibrary</Name><Query><EqualTo><LinkId/><Value>\\dc\share
    let search =
        b"\x03\x01\x6a\x00\x00\x0f\x45\x47\x48\x03DocumentLibrary\x00\x01\x49\x51\x00\x13\x05\
                   \x00\x0f\x52\x03\\\\dc\\share\x00\x01\x01\x01\x01\x01";
    let answer = gateway.ask(&ask("Search", search)).await;
    assert_eq!(&answer.body[..], search_status("130"));
    // <ItemOperations><Fetch><Store>DocumentLibrary</Store><LinkId>\\dc\share\a
    let fetch = b"\x03\x01\x6a\x00\x00\x14\x45\x46\x47\x03DocumentLibrary\x00\x01\x00\x13\x45\
                  \x03\\\\dc\\share\\a\x00\x01\x01\x01";
    let answer = gateway.ask(&ask("ItemOperations", fetch)).await;
    assert_eq!(
        &answer.body[..],
        b"\x03\x01\x6a\x00\x00\x14\x45\x4d\x03130\x00\x01\x01"
    );
    assert_eq!(arrivals(&sandbox), 0);
    assert_eq!(refusals(&gateway, "document_library").await, 2.0);
    let event = gateway
        .event("the refusal", |event| event["reason"] == "document_library")
        .await;
    assert_eq!(event["outcome"], "rejected", "{event}");
    // Mail is searched as before.
    let answer = gateway.ask(&ask("Search", requests::SEARCH)).await;
    assert_eq!((answer.status(), arrivals(&sandbox)), (200, 1));
}

#[tokio::test]
async fn a_body_is_what_its_command_says() {
    let sandbox = sandbox::start();
    let gateway = with_policies(&sandbox, "[eas]\nunknown_tags = \"refuse\"\n").await;
    let ask = |body: &[u8]| Request::eas("FolderSync", "alice", "FIRE3", body);
    let whole = requests::FOLDER_SYNC;
    let cases: [(&[u8], &str); 5] = [
        (&requests::sync("0"), "wbxml_root"),
        (&whole[..whole.len() - 1], "wbxml_cut_off"),
        (&[whole, b"\x01"].concat(), "wbxml_outside_root"),
        (
            b"\x03\x01\x6a\x00\x00\x07\x56\x52\x03\xff\x00\x01\x01",
            "wbxml_utf8",
        ),
        (b"\x03\x01\x6a\x00\x00\x07\x56\x3f\x01", "wbxml_unknown_tag"),
    ];
    for (body, reason) in cases {
        let answer = gateway.ask(&ask(body)).await;
        assert_eq!(answer.status(), 400, "{reason}");
        assert_eq!(refusals(&gateway, reason).await, 1.0, "{reason}");
    }
    let squeezed = folder_sync("FIRE3").header("Content-Encoding", "gzip");
    assert_eq!(gateway.ask(&squeezed).await.status(), 415);
    assert_eq!(arrivals(&sandbox), 0);
    assert!(is_served(&gateway.ask(&folder_sync("FIRE3")).await));
}

#[tokio::test]
async fn unknown_tags_pass_and_are_counted() {
    let sandbox = sandbox::start();
    let gateway = with_policies(&sandbox, "[eas]\n").await;
    let body = b"\x03\x01\x6a\x00\x00\x07\x56\x3f\x52\x030\x00\x01\x01";
    let answer = gateway
        .ask(&Request::eas("FolderSync", "alice", "FIRE4", body))
        .await;
    assert!(is_served(&answer));
    assert_eq!(
        gateway
            .admin
            .metric("seg_eas_unknown_tags_total", &[])
            .await,
        1.0
    );
}

#[tokio::test]
async fn a_long_mail_is_checked_while_it_passes() {
    let sandbox = sandbox::start();
    let policies = "[eas.body_max_bytes]\ndefault = 1000\nSendMail = 300000\n";
    let gateway = with_policies(&sandbox, policies).await;
    // <SendMail><ClientId>1</ClientId><Mime>, 200,000 bytes as an opaque array.
    let mail = |mime: usize, end: &[u8]| {
        let begin = b"\x03\x01\x6a\x00\x00\x15\x45\x51\x031\x00\x01\x50\xc3".as_slice();
        let length = [
            0x80 | u8::try_from(mime >> 14).unwrap(),
            0x80 | u8::try_from(mime >> 7 & 0x7F).unwrap(),
            u8::try_from(mime & 0x7F).unwrap(),
        ];
        let body = [begin, &length, &vec![b'x'; mime], b"\x01\x01", end].concat();
        Request::eas("SendMail", "alice", "FIRE5", body)
    };
    assert_eq!(gateway.ask(&mail(200_000, b"")).await.status(), 200);
    let arrived = sandbox.sent();
    assert_eq!(arrived.len(), 1);
    assert_eq!(arrived[0].body.len(), 200_000 + 19);

    let answer = gateway.ask(&mail(200_000, b"more")).await;
    assert_eq!(answer.status(), 400);
    let long = Request::eas("FolderSync", "alice", "FIRE5", vec![0; 2_000]);
    for announced in [mail(400_000, b""), long] {
        // Refused for the length that the head tells.
        let mut wire = gateway.connect().await;
        wire.send(announced.head()).await;
        assert_eq!(wire.answer().await.status(), 413);
    }
    assert_eq!(sandbox.sent().len(), 1, "a refused mail was sent");
    assert_eq!(refusals(&gateway, "wbxml_outside_root").await, 1.0);
}

#[tokio::test]
async fn a_device_holds_so_many_pings_and_asks_so_often() {
    let sandbox = sandbox::start();
    let policies = "[eas]\nmax_pings = 1\nretry_after_seconds = 17\n";
    let gateway = with_policies(&sandbox, policies).await;
    let mut first = gateway.connect().await;
    first.send(ping("FIRE6").bytes()).await;
    holds_poll(&sandbox, "FIRE6").await;
    let answer = gateway.ask(&ping("FIRE6")).await;
    assert_eq!(
        (answer.status(), answer.header("Retry-After")),
        (503, Some("17"))
    );
    let mut other = gateway.connect().await;
    other.send(ping("FIRE7").bytes()).await;
    holds_poll(&sandbox, "FIRE7").await;
    sandbox.release(
        &Filter::any().device("FIRE6"),
        &seg_core::sandbox::Release::Changes,
    );
    assert_eq!(first.answer().await.status(), 200);
    first.send(ping("FIRE6").bytes()).await;
    holds_poll(&sandbox, "FIRE6").await;

    fs::write(
        gateway.path("policies.toml"),
        "[eas]\nrequests_per_minute = 3\nwhen_busy = \"status\"\n",
    )
    .expect("the file is written");
    gateway.admin.write("POST", "/v1/reload", "").await;
    for _ in 0..3 {
        assert!(is_served(&gateway.ask(&folder_sync("FIRE8")).await));
    }
    let answer = gateway.ask(&folder_sync("FIRE8")).await;
    assert_eq!(
        &answer.body[..],
        b"\x03\x01\x6a\x00\x00\x07\x56\x4c\x03111\x00\x01\x01"
    );
    assert!(is_served(&gateway.ask(&folder_sync("FIRE9")).await));
}

#[tokio::test]
async fn a_changed_table_is_taken_up_and_a_bad_one_refused_with_its_place() {
    let sandbox = sandbox::start();
    let gateway = with_policies(&sandbox, "[eas]\ncommands = [\"FolderSync\"]\n").await;
    let bad = "[eas]\nmax_pings = 2\nversions = [\"14.1\", \"fourteen\"]\n";
    fs::write(gateway.path("policies.toml"), bad).expect("the file is written");
    let (status, body) = gateway.admin.request("POST", "/v1/reload", "").await;
    assert_eq!((status, &body["error"]["line"]), (422, &3.into()), "{body}");
    let message = body["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("line 3, column 12"), "{message}");
    assert!(is_served(&gateway.ask(&folder_sync("FIRE10")).await));

    fs::write(
        gateway.path("policies.toml"),
        "[eas]\ncommands = [\"Ping\"]\n",
    )
    .expect("the file is written");
    eventually("the new table", || async {
        let answer = gateway.ask(&folder_sync("FIRE10")).await;
        (!is_served(&answer)).then_some(())
    })
    .await;
}
