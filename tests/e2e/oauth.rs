//! Bearer tokens that the gateway checks itself: a server that publishes its keys, and tokens that
//! are signed with them, or not.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use seg_core::sandbox::{Answer, Filter, Kind, Sandbox, Script};
use seg_tests::eas::{Request, soap};
use seg_tests::{Gateway, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::block::GET_INBOX;
use crate::sandbox::{self, folder_sync};

const ISSUER: &str = "https://issuer.example/";
const AUDIENCE: &str = "https://mail.corp.example";

/// One signing key of the issuer.
struct Key {
    id: &'static str,
    pair: EcdsaKeyPair,
}

impl Key {
    fn new(id: &'static str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        Self { id, pair }
    }

    fn jwk(&self) -> String {
        let point = self.pair.public_key().as_ref();
        let (x, y) = (BASE64.encode(&point[1..33]), BASE64.encode(&point[33..65]));
        let id = self.id;
        format!(r#"{{"kty":"EC","use":"sig","kid":"{id}","crv":"P-256","x":"{x}","y":"{y}"}}"#)
    }

    fn sign(&self, claims: &str) -> String {
        let head = format!(r#"{{"alg":"ES256","typ":"JWT","kid":"{}"}}"#, self.id);
        let message = format!("{}.{}", BASE64.encode(head), BASE64.encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes());
        let signature = signature.expect("a signature");
        format!("{message}.{}", BASE64.encode(signature.as_ref()))
    }
}

fn claims(audience: &str, expires: i64, more: &str) -> String {
    format!(
        r#"{{"iss":"{ISSUER}","aud":"{audience}","exp":{expires},"upn":"alice@sandbox.example"{more}}}"#
    )
}

fn good(more: &str) -> String {
    claims(
        AUDIENCE,
        4_000_000_000,
        &format!(r#","scp":"EAS.AccessAsUser.All"{more}"#),
    )
}

fn publish(issuer: &Sandbox, keys: &[&Key]) {
    let keys: Vec<String> = keys.iter().map(|key| key.jwk()).collect();
    let document = format!(r#"{{"keys":[{}]}}"#, keys.join(","));
    issuer.clear_scripts();
    let answer = Answer::ok("application/json", document);
    issuer.script(Script::answer(Filter::any(), answer).always());
}

fn with(token: &str, device: &str) -> Request {
    folder_sync(device)
        .without("Authorization")
        .header("Authorization", &format!("Bearer {token}"))
}

fn trusting() -> Sandbox {
    let sandbox = sandbox::start();
    let welcome = Answer::ok("text/plain", "welcome");
    sandbox.script(Script::answer(Filter::kind(Kind::Eas), welcome).always());
    sandbox
}

async fn before(sandbox: &Sandbox, issuer: &Sandbox) -> Gateway {
    Gateway::before(sandbox)
        .set("oauth.issuers", format!("{ISSUER} {}/keys", issuer.url()))
        .set("oauth.audiences", AUDIENCE)
        .start()
        .await
}

#[tokio::test]
async fn only_tokens_that_count_come_in() {
    let (sandbox, issuer) = (trusting(), sandbox::start_plain());
    let (own, stranger) = (Key::new("k1"), Key::new("k1"));
    publish(&issuer, &[&own]);
    let gateway = before(&sandbox, &issuer).await;
    let answer = gateway.ask(&with(&own.sign(&good("")), "TOKEN")).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let before = sandbox.count(&Filter::any().device("TOKEN"));
    let unsigned = {
        let head = BASE64.encode(r#"{"alg":"none","kid":"k1"}"#);
        format!("{head}.{}.", BASE64.encode(good("")))
    };
    for (token, why) in [
        (
            own.sign(&claims("https://other.example", 4_000_000_000, "")),
            "token_audience",
        ),
        (own.sign(&claims(AUDIENCE, 1_000_000_000, "")), "token_time"),
        (stranger.sign(&good("")), "token_signature"),
        (unsigned, "token_algorithm"),
        (
            own.sign(&good("").replace(ISSUER, "https://evil.example/")),
            "token_issuer",
        ),
    ] {
        let answer = gateway.ask(&with(&token, "TOKEN")).await;
        assert_eq!(answer.status(), 401, "{why}");
        let offered: Vec<&str> = answer.all("WWW-Authenticate").collect();
        assert_eq!(
            offered,
            ["Bearer realm=\"seg\", error=\"invalid_token\""],
            "{why}"
        );
        gateway.event(why, |event| event["reason"] == why).await;
    }
    // What lets an application be anybody is nobody's phone, whether we validate tokens or not.
    let anybody = own.sign(&good(r#","roles":["full_access_as_app"]"#));
    let believing = Gateway::before(&sandbox).start().await;
    for gateway in [&gateway, &believing] {
        assert_eq!(gateway.ask(&with(&anybody, "TOKEN")).await.status(), 403);
        let why = "token_impersonates";
        gateway.event(why, |event| event["reason"] == why).await;
    }
    assert_eq!(sandbox.count(&Filter::any().device("TOKEN")), before);
}

#[tokio::test]
async fn keys_are_rotated_and_outlive_their_issuer() {
    let (sandbox, issuer) = (trusting(), sandbox::start_plain());
    let (old, new) = (Key::new("old"), Key::new("new"));
    publish(&issuer, &[&old]);
    let mut gateway = before(&sandbox, &issuer).await;
    let (by_old, by_new) = (old.sign(&good("")), new.sign(&good("")));
    assert_eq!(gateway.ask(&with(&by_old, "ROTATE")).await.status(), 200);
    publish(&issuer, &[&old, &new]);
    eventually("the new key", || async {
        let answer = gateway.ask(&with(&by_new, "ROTATE")).await;
        (answer.status() == 200).then_some(())
    })
    .await;
    issuer.clear_scripts();
    issuer.script(Script::answer(Filter::any(), Answer::status(500)).always());
    gateway.restart_after_kill().await;
    for token in [&by_old, &by_new] {
        assert_eq!(gateway.ask(&with(token, "ROTATE")).await.status(), 200);
    }
    // A key that its issuer takes back takes back what was verified with it.
    let newest = Key::new("newest");
    publish(&issuer, &[&new, &newest]);
    let by_newest = newest.sign(&good(""));
    eventually("the newest key", || async {
        let answer = gateway.ask(&with(&by_newest, "ROTATE")).await;
        (answer.status() == 200).then_some(())
    })
    .await;
    assert_eq!(gateway.ask(&with(&by_old, "ROTATE")).await.status(), 401);
    assert_eq!(gateway.ask(&with(&by_new, "ROTATE")).await.status(), 200);
}

/// Exchange says where to fetch a token; what clients see of it is ours to say.
#[tokio::test]
async fn the_servers_bearer_challenge_is_passed_or_replaced() {
    const EXCHANGE: &str = "Bearer client_id=\"00000002-0000-0ff1-ce00-000000000000\", trusted_issuers=\"00000001-0000-0000-c000-000000000000@*\", token_types=\"app_asserted_user_v1 service_asserted_app_v1\", authorization_uri=\"https://login.windows.net/common/oauth2/authorize\"";
    const OWN: &str =
        "Bearer realm=\"mail\", authorization_uri=\"https://login.corp.example/authorize\"";
    let sandbox = sandbox::start();
    sandbox.set_challenges(vec![EXCHANGE.to_owned(), "Basic realm=\"x\"".to_owned()]);
    for (rule, expected) in [
        ("pass", vec![EXCHANGE, "Basic realm=\"x\""]),
        ("remove", vec!["Basic realm=\"x\""]),
        (OWN, vec![OWN, "Basic realm=\"x\""]),
    ] {
        let gateway = Gateway::before(&sandbox)
            .set("oauth.challenge", rule)
            .start()
            .await;
        let bare = folder_sync("CHALLENGED").without("Authorization");
        let wrong = bare
            .clone()
            .header("Authorization", "Basic YWxpY2U6d3Jvbmc=");
        for request in [bare, wrong] {
            let answer = gateway.ask(&request).await;
            assert_eq!(answer.status(), 401);
            let offered: Vec<&str> = answer.all("WWW-Authenticate").collect();
            assert_eq!(offered, expected, "{rule}");
        }
    }
}

/// Who sends a token with a key that nobody has, and leaves, does not take the fetch of the keys with
/// him: it is the one that may be made for a while.
#[tokio::test]
async fn a_client_that_leaves_does_not_starve_the_keys() {
    let sandbox = trusting();
    let issuer = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = issuer.local_addr().expect("an address");
    let gateway = Gateway::before(&sandbox)
        .set("oauth.issuers", format!("{ISSUER} http://{address}/keys"))
        .set("oauth.audiences", AUDIENCE)
        .start()
        .await;
    let (own, forged) = (Key::new("own"), Key::new("forged"));
    let mut client = gateway.connect().await;
    client
        .send(with(&forged.sign(&good("")), "FORGED").bytes())
        .await;
    let (mut asked, _) = issuer.accept().await.expect("the gateway");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(asked.read_u8().await.expect("a request"));
    }
    client.tear().await;
    gateway
        .event("the client that has left", |event| {
            event["outcome"] == "client_gone"
        })
        .await;
    let keys = format!(r#"{{"keys":[{}]}}"#, own.jwk());
    let length = keys.len();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{keys}");
    asked.write_all(answer.as_bytes()).await.expect("it waits");
    let answer = gateway.ask(&with(&own.sign(&good("")), "OWN")).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
}

/// A server's Negotiate is kept for those whom a token names that we have validated; what a token
/// merely claims keeps nothing.
#[tokio::test]
async fn negotiate_is_offered_to_those_whom_a_validated_token_names() {
    let (sandbox, issuer) = (sandbox::start(), sandbox::start_plain());
    let own = Key::new("k1");
    publish(&issuer, &[&own]);
    let offered = ["Negotiate", "NTLM", "Basic realm=\"x\""];
    sandbox.set_challenges(offered.map(str::to_owned).to_vec());
    let validating = before(&sandbox, &issuer).await;
    let believing = Gateway::before(&sandbox).start().await;
    let bearer = format!("Bearer {}", own.sign(&good("")));
    for (gateway, expected) in [
        (&validating, vec!["Negotiate", "Basic realm=\"x\""]),
        (&believing, vec!["Basic realm=\"x\""]),
    ] {
        for request in [
            folder_sync("NEGOTIATE"),
            Request::ews("x", &soap(GET_INBOX)),
        ] {
            let request = request
                .without("Authorization")
                .header("Authorization", &bearer);
            let answer = gateway.ask(&request).await;
            assert_eq!(answer.status(), 401, "{}", answer.text());
            let offered: Vec<&str> = answer.all("WWW-Authenticate").collect();
            assert_eq!(offered, expected);
        }
    }
    // Both have asked the server, which refuses every token.
    assert!(sandbox.count(&Filter::any().device("NEGOTIATE")) >= 2);
}
