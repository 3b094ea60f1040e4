//! Client certificates: who has one may log in with Kerberos, and nobody else rides on his login.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use seg_core::sandbox::{Answer, Filter, Kind, Sandbox, Script};
use seg_tests::Gateway;
use seg_tests::authority::{Authority, Identity};
use seg_tests::eas::{Request, basic, soap};
use seg_tests::message::Message;

use crate::block::GET_INBOX;
use crate::sandbox::{self, folder_sync};

const ALL: [&str; 3] = ["Negotiate", "NTLM", "Basic realm=\"sandbox.example\""];
const NTLM_MESSAGE: &str = "TlRMTVNTUAABAAAAB4IIogAAAAAAAAAAAAAAAAAAAAAGAbEdAAAADw==";

/// A gateway that asks for client certificates of `authority`.
async fn asks_for_certificates(sandbox: &Sandbox, authority: &Authority) -> Gateway {
    let builder = Gateway::before(sandbox);
    let ca = builder.file("clients.pem", authority.pem());
    builder
        .set("server.client.auth", "optional")
        .set("server.client.ca.path", ca.display().to_string())
        .start()
        .await
}

async fn ask(gateway: &Gateway, identity: Option<&Identity>, request: &Request) -> Message {
    let Some(identity) = identity else {
        return gateway.ask(request).await;
    };
    let mut wire = gateway.connect_as(identity).await;
    wire.send(request.bytes()).await;
    wire.answer().await
}

#[tokio::test]
async fn negotiate_is_offered_to_those_whom_a_certificate_names() {
    let sandbox = sandbox::start();
    sandbox.set_challenges(ALL.map(str::to_owned).to_vec());
    let authority = Authority::new();
    let gateway = asks_for_certificates(&sandbox, &authority).await;
    let alice = authority.client("alice@sandbox.example");
    let (negotiate, basic) = (ALL[0], ALL[2]);
    let wrong = format!("Basic {}", BASE64_STANDARD.encode("alice:wrong"));
    let ntlm = format!("NTLM {NTLM_MESSAGE}");
    for request in [
        folder_sync("CERTIFIED"),
        Request::ews("alice", &soap(GET_INBOX)),
    ] {
        let bare = request.without("Authorization");
        let attempts = [
            bare.clone(),
            bare.clone().header("Authorization", &wrong),
            bare.header("Authorization", &ntlm),
        ];
        for attempt in attempts {
            for (identity, expected) in
                [(Some(&alice), vec![negotiate, basic]), (None, vec![basic])]
            {
                let answer = ask(&gateway, identity, &attempt).await;
                assert_eq!(answer.status(), 401);
                let offered: Vec<&str> = answer.all("WWW-Authenticate").collect();
                assert_eq!(offered, expected);
            }
        }
    }
    let ntlm = ["scheme=\"ntlm\""];
    let removed = gateway
        .admin
        .metric("seg_challenges_removed_total", &ntlm)
        .await;
    assert_eq!(removed, 12.0);
}

/// A Kerberos token is no password of a request: some servers let everything in that comes over
/// its connection from then on.
#[tokio::test]
async fn nobody_rides_on_the_connection_of_a_kerberos_login() {
    let sandbox = sandbox::start();
    let authority = Authority::new();
    let gateway = asks_for_certificates(&sandbox, &authority).await;
    let (alice, bob) = (
        authority.client("alice@sandbox.example"),
        authority.client("bob@sandbox.example"),
    );
    let open = Answer::ok("text/plain", "whoever you are");
    sandbox.script(Script::answer(Filter::any().of(Kind::Eas), open).always());
    // A GSS-API token with Kerberos' mechanism (RFC 4121 4.1); what is in it is the server's
    // business.
    let token = |content: &[u8]| {
        let gss = [
            b"\x60\x1b\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02",
            content,
        ]
        .concat();
        format!("Negotiate {}", BASE64_STANDARD.encode(gss))
    };
    // Each identity by a device of its own name, so that the server's side can tell them apart.
    let bare = |device| folder_sync(device).without("Authorization");
    let by = |device, authorization: &str| bare(device).header("Authorization", authorization);
    let (of_alice, of_bob) = (token(b"ticket of alice."), token(b"ticket of bob..."));
    let turns = [
        (Some(&alice), by("ALICE", &of_alice), 200),
        (Some(&bob), by("BOB", &of_bob), 200),
        (None, bare("NOBODY"), 403),
        (None, by("CAROL", &basic("carol")), 200),
        // A certificate alone: this request brings no login of its own.
        (Some(&alice), bare("ALICE"), 200),
        // The same ticket under another's certificate is another identity.
        (Some(&bob), by("BOB", &of_alice), 200),
    ];
    // Often enough for each to come behind each other on every core.
    for _ in 0..8 {
        for (identity, request, status) in &turns {
            let answer = ask(&gateway, *identity, request).await;
            assert_eq!(answer.status(), *status);
        }
    }
    let mut riders: BTreeMap<u64, BTreeSet<(String, String)>> = BTreeMap::new();
    for exchange in sandbox.exchanges(&Filter::kind(Kind::Eas)) {
        let login = exchange.head.header("Authorization").unwrap_or_default();
        let login = String::from_utf8_lossy(login).into_owned();
        let rider = (exchange.seen.device, login);
        riders.entry(exchange.connection).or_default().insert(rider);
    }
    // What is shared shows that anything could have been.
    assert!(riders.values().any(|riders| riders.len() > 1), "{riders:?}");
    for riders in riders.values() {
        let bound = riders
            .iter()
            .any(|(_, login)| login.starts_with("Negotiate"));
        assert!(!bound || riders.len() == 1, "{riders:?}");
    }
}
