//! Who asks: without credentials nothing is judged and nothing is read; with unproven ones nobody
//! learns a verdict.

use seg_core::sandbox::{Answer, Filter, Kind, Sandbox, SandboxOptions, Script, requests};
use seg_tests::Gateway;
use seg_tests::eas::{Request, soap};
use seg_tests::gateway::free_address;

use crate::block::GET_INBOX;
use crate::sandbox::{self, FOLDER_SYNC_REFUSED, count, folder_sync, is_served};

const NTLM_MESSAGE: &str = "TlRMTVNTUAABAAAAB4IIogAAAAAAAAAAAAAAAAAAAAAGAbEdAAAADw==";

/// The ways to log in that Exchange offers.
fn offers_all() -> Sandbox {
    let challenges = ["Negotiate", "NTLM", "Basic realm=\"sandbox.example\""];
    let challenges = challenges.map(str::to_owned).to_vec();
    Sandbox::start(SandboxOptions {
        challenges,
        ..SandboxOptions::default()
    })
    .expect("a sandbox")
}

#[tokio::test]
async fn without_credentials_only_the_head_goes_in() {
    let sandbox = offers_all();
    let gateway = Gateway::before(&sandbox).start().await;
    for request in [
        folder_sync("NOBODY"),
        Request::ews("alice", &soap(GET_INBOX)),
    ] {
        let answer = gateway.ask(&request.without("Authorization")).await;
        assert_eq!(answer.status(), 401);
        let offered: Vec<&str> = answer.all("WWW-Authenticate").collect();
        assert_eq!(offered, ["Basic realm=\"sandbox.example\""]);
    }
    for exchange in sandbox.exchanges(&Filter::any().user("")) {
        assert!(
            exchange.body.is_empty(),
            "a body of {} went in",
            exchange.seen.name
        );
    }
}

#[tokio::test]
async fn what_a_server_says_to_nobody_is_not_passed_on() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let open = Answer::ok("text/plain", "welcome");
    sandbox.script(Script::answer(Filter::any().of(Kind::Eas), open));
    let answer = gateway
        .ask(&folder_sync("NOBODY").without("Authorization"))
        .await;
    assert_eq!(answer.status(), 403);
    assert!(!answer.text().contains("welcome"));
}

#[tokio::test]
async fn a_wrong_password_learns_no_verdict() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    gateway.admin.block("PROBED").await;
    let wrong = folder_sync("PROBED").without("Authorization").header(
        "Authorization",
        "Basic YWxpY2VAc2FuZGJveC5leGFtcGxlOndyb25n",
    );
    let answer = gateway.ask(&wrong).await;
    assert_eq!(answer.status(), 401, "the verdict shows");
    assert_eq!(sandbox.count(&Filter::name("FolderSync")), 0);

    // The right one does, and the server is asked only whether it is right.
    let answer = gateway.ask(&folder_sync("PROBED")).await;
    assert_eq!(
        (answer.status(), &answer.body[..]),
        (200, FOLDER_SYNC_REFUSED)
    );
    assert_eq!(sandbox.count(&Filter::name("FolderSync")), 0);
    let probes = sandbox.count(&Filter::name("OPTIONS").user("alice@sandbox.example"));
    assert_eq!(probes, 1);

    // Once proven, nothing more is asked.
    assert_eq!(
        &gateway.ask(&folder_sync("PROBED")).await.body[..],
        FOLDER_SYNC_REFUSED
    );
    let again = sandbox.count(&Filter::name("OPTIONS").user("alice@sandbox.example"));
    assert_eq!(again, probes);
}

/// Whether a server is there is no secret, and a client that is told 403 gives up.
#[tokio::test]
async fn a_server_that_fails_is_503_to_strangers_too() {
    let down = Gateway::alone()
        .set(
            "email.server.host.and.port",
            format!("https://{}", free_address()),
        )
        .start()
        .await;
    let sandbox = sandbox::start();
    let failing = Gateway::before(&sandbox).start().await;
    let busy = Script::answer(Filter::any(), Answer::status(503));
    sandbox.script(busy.before_body().always());
    for gateway in [&down, &failing] {
        for request in [
            folder_sync("NOBODY"),
            Request::ews("alice", &soap(GET_INBOX)),
        ] {
            let answer = gateway.ask(&request.without("Authorization")).await;
            assert_eq!(answer.status(), 503);
            assert!(answer.header("Retry-After").is_some());
        }
    }
}

#[tokio::test]
async fn a_blocked_device_hears_of_a_failing_server_before_its_verdict() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    gateway.admin.block("UNPROVEN").await;
    for status in [502, 503, 504] {
        // The probe, and nothing else, is answered so.
        let failing = Answer::status(status);
        sandbox.script(Script::answer(Filter::name("OPTIONS"), failing).always());
        let answer = gateway.ask(&folder_sync("UNPROVEN")).await;
        assert_eq!(answer.status(), 503, "{status}");
        assert!(answer.header("Retry-After").is_some(), "{status}");
        sandbox.clear_scripts();
    }
    assert_eq!(sandbox.count(&Filter::name("FolderSync")), 0);
    // A failure proves nothing: the next request is probed anew, and then refused.
    let answer = gateway.ask(&folder_sync("UNPROVEN")).await;
    assert_eq!(&answer.body[..], FOLDER_SYNC_REFUSED);
    let down = Gateway::alone()
        .set(
            "email.server.host.and.port",
            format!("https://{}", free_address()),
        )
        .start()
        .await;
    down.admin.block("UNPROVEN").await;
    assert_eq!(down.ask(&folder_sync("UNPROVEN")).await.status(), 503);
}

/// At most 64 KiB of a stranger's body are read, whether he asks first or not; a smaller one
/// leaves the connection to his next request.
#[tokio::test]
async fn a_strangers_body_is_drained_to_its_bound() {
    const BOUND: usize = 64 * 1024;
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let stranger = |length: usize| {
        let request = folder_sync("STRANGER").without("Authorization");
        request.body(vec![0; length])
    };
    let mut wire = gateway.connect().await;
    let large = stranger(1 << 20);
    wire.send(large.head()).await;
    // As much as is read, and no more of the megabyte that was announced.
    wire.send(vec![0; BOUND]).await;
    let answer = wire.answer().await;
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.header("Connection"), Some("close"));
    wire.ended().await;

    let mut wire = gateway.connect().await;
    wire.send(stranger(BOUND - 1).bytes()).await;
    let answer = wire.answer().await;
    assert_eq!((answer.status(), answer.header("Connection")), (401, None));
    wire.send(folder_sync("STRANGER").bytes()).await;
    assert!(is_served(&wire.answer().await));
    for exchange in sandbox.exchanges(&Filter::any().user("")) {
        assert!(exchange.body.is_empty(), "a stranger's body went in");
    }
}

#[tokio::test]
async fn a_wrong_password_gets_the_servers_401() {
    let sandbox = offers_all();
    let gateway = Gateway::before(&sandbox).start().await;
    let wrong = folder_sync("WRONG").without("Authorization").header(
        "Authorization",
        "Basic YWxpY2VAc2FuZGJveC5leGFtcGxlOndyb25n",
    );
    let answer = gateway.ask(&wrong).await;
    assert_eq!(answer.status(), 401);
    let offered: Vec<&str> = answer.all("WWW-Authenticate").collect();
    assert_eq!(offered, ["Basic realm=\"sandbox.example\""]);
}

#[tokio::test]
async fn ntlm_is_refused_in_every_wrapping() {
    let sandbox = offers_all();
    let gateway = Gateway::before(&sandbox).start().await;
    // An NTLMSSP message within a NegTokenInit (RFC 4178 4.2.1).
    let spnego = "YFEGBisGAQUFAqBHMEWgDjAMBgorBgEEAYI3AgIKojMEMU5UTE1TU1AAAQAAAAeCCKIAAAAAAAAAAAAAAAAAAAAABgGxHQAAAA8AAAAAAAAAAAA=";
    let attempts = [
        format!("NTLM {NTLM_MESSAGE}"),
        format!("ntlm {NTLM_MESSAGE}"),
        format!("Negotiate {NTLM_MESSAGE}"),
        format!("Negotiate {spnego}"),
        "Digest username=\"alice\"".to_owned(),
    ];
    for authorization in attempts {
        let request = Request::ews("alice", &soap(GET_INBOX))
            .without("Authorization")
            .header("Authorization", &authorization);
        let answer = gateway.ask(&request).await;
        assert_eq!(answer.status(), 401, "{authorization}");
        let offered: Vec<&str> = answer.all("WWW-Authenticate").collect();
        assert_eq!(
            offered,
            ["Basic realm=\"sandbox.example\""],
            "{authorization}"
        );
    }
    for exchange in sandbox.exchanges(&Filter::any()) {
        assert!(
            exchange.head.header("Authorization").is_none(),
            "{:?} carried credentials in",
            exchange.seen
        );
    }
}

#[tokio::test]
async fn nothing_to_log_in_with_is_a_403() {
    for (word, status, offered) in [("403", 403, 0), ("basic", 401, 1), ("bearer", 401, 1)] {
        let sandbox = sandbox::start();
        sandbox.set_challenges(vec!["NTLM".to_owned(), "Negotiate".to_owned()]);
        let gateway = Gateway::before(&sandbox)
            .set("remove.unsupported.auth.empty", word)
            .start()
            .await;
        let answer = gateway
            .ask(&folder_sync("NOWAY").without("Authorization"))
            .await;
        assert_eq!(answer.status(), status, "{word}");
        assert_eq!(answer.all("WWW-Authenticate").count(), offered, "{word}");
    }
}

#[tokio::test]
async fn every_collected_challenge_is_filtered_as_it_should() {
    let Some(facts) = seg_tests::shared_file("facts/ews-www-authenticate-vectors.json") else {
        println!("the collected challenges are not at hand");
        return;
    };
    let facts: serde_json::Value = serde_json::from_str(&facts).expect("JSON");
    let vectors = facts["vectors"].as_array().expect("a list");
    assert!(!vectors.is_empty());
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let lines = |value: &serde_json::Value| -> Vec<String> {
        let lines = value.as_array().into_iter().flatten();
        lines
            .filter_map(|line| line.as_str().map(str::to_owned))
            .collect()
    };
    for vector in vectors {
        sandbox.set_challenges(lines(&vector["input_header_lines"]));
        let answer = gateway
            .ask(&Request::ews("alice", &soap(GET_INBOX)).without("Authorization"))
            .await;
        let expected = lines(&vector["upn_null"]["kept_one_per_line"]);
        let status = if expected.is_empty() { 403 } else { 401 };
        assert_eq!(answer.status(), status, "{}", vector["name"]);
        let kept: Vec<&str> = answer.all("WWW-Authenticate").collect();
        assert_eq!(kept, expected, "{}", vector["name"]);
    }
    println!("{} collected challenges", vectors.len());
}

#[tokio::test]
async fn one_person_under_several_names_is_one_user() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox)
        .set("identity.domain.map", "SANDBOX=sandbox.example")
        .start()
        .await;
    assert!(is_served(&gateway.ask(&folder_sync("NAMES")).await));
    gateway
        .admin
        .write(
            "PUT",
            "/v1/users/alice@sandbox.example/override",
            r#"{"verdict":"block"}"#,
        )
        .await;
    let before = count(&sandbox, "NAMES");
    let names = [
        "alice@sandbox.example",
        "ALICE@Sandbox.Example",
        "alice",
        "SANDBOX\\alice",
        "sandbox\\Alice",
    ];
    for name in names {
        let pair = base64::Engine::encode(
            &base64::prelude::BASE64_STANDARD,
            format!("{name}:Secret-alice-1"),
        );
        let request = folder_sync("NAMES")
            .without("Authorization")
            .header("Authorization", &format!("Basic {pair}"));
        let answer = gateway.ask(&request).await;
        // The sandbox need not know every spelling: then it says 401 to the probe. It never sees
        // the command.
        assert!(
            &answer.body[..] == FOLDER_SYNC_REFUSED || answer.status() == 401,
            "{name}: {}",
            answer.start
        );
    }
    assert_eq!(count(&sandbox, "NAMES"), before);
    let proven = gateway.ask(&folder_sync("NAMES")).await;
    assert_eq!(&proven.body[..], FOLDER_SYNC_REFUSED);
}

#[tokio::test]
async fn another_user_in_the_query_can_be_refused() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox)
        .set("identity.user.mismatch", "refuse")
        .start()
        .await;
    let target = "/Microsoft-Server-ActiveSync?Cmd=FolderSync&User=bob&DeviceId=MIS&DeviceType=t";
    let request = Request::new("POST", target)
        .header("Authorization", &seg_tests::eas::basic("alice"))
        .header("MS-ASProtocolVersion", "14.1")
        .header("Content-Type", "application/vnd.ms-sync.wbxml")
        .body(requests::FOLDER_SYNC);
    let answer = gateway.ask(&request).await;
    assert!(!is_served(&answer), "{}", answer.start);
    assert_eq!(count(&sandbox, "MIS"), 0);
}
