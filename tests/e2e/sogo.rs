//! A real mail server, SOGo with its ActiveSync part, and real clients, with taps on both legs.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use seg_tests::message::Message;
use seg_tests::program::program;
use seg_tests::sogo::Lab;
use seg_tests::tap::{Exchange, Tap};
use seg_tests::{Gateway, eventually, interop};

/// How a header line differs between the two legs.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Change {
    Added,
    Removed,
    Changed,
}

/// Every difference that the gateway may make to a request.
const REQUEST_CHANGES: [(&str, Change); 7] = [
    // Hop-by-hop (RFC 9110 7.6.1): the client's word about its own connection.
    ("connection", Change::Removed),
    // Of a request without a body, which needs none (RFC 9112 6.3).
    ("content-length", Change::Removed),
    // The server's own name instead of the gateway's: `email.server.host.header`.
    ("host", Change::Changed),
    // Who the client is and what it asked for.
    ("forwarded", Change::Added),
    ("x-forwarded-for", Change::Added),
    ("x-forwarded-host", Change::Added),
    ("x-forwarded-proto", Change::Added),
];

/// The ones that no request goes without.
const ALWAYS: [(&str, Change); 5] = [
    ("host", Change::Changed),
    ("forwarded", Change::Added),
    ("x-forwarded-for", Change::Added),
    ("x-forwarded-host", Change::Added),
    ("x-forwarded-proto", Change::Added),
];

/// Every difference that it may make to an answer.
const ANSWER_CHANGES: [(&str, Change); 1] = [
    // Hop-by-hop (RFC 9110 7.6.1): the server's word about its own connection.
    ("connection", Change::Removed),
];

#[tokio::test]
async fn a_phone_works_through_the_gateway_at_14_1() {
    walk("alice", "14.1").await;
}

#[tokio::test]
async fn a_phone_works_through_the_gateway_at_14_0() {
    walk("dave", "14.0").await;
}

#[tokio::test]
async fn a_phone_works_through_the_gateway_at_12_1() {
    walk("erin", "12.1").await;
}

#[tokio::test]
async fn a_ping_without_mail_ends_when_the_server_says_so() {
    let rig = Rig::start().await;
    rig.scenario("heartbeat", "frank", "14.1").await;
}

#[tokio::test]
async fn a_block_in_the_middle_of_a_ping_at_14_1() {
    let rig = Rig::start().await;
    rig.scenario("block", "grace", "14.1").await;
}

#[tokio::test]
async fn a_block_in_the_middle_of_a_ping_at_12_1() {
    let rig = Rig::start().await;
    rig.scenario("block", "frank", "12.1").await;
}

/// Rules for one user; nobody else's mail is looked at.
const CONTENT: &str = r#"
[[content]]
id = "no-csv"
scope = { users = ["carol@lab.test"] }
attachments = { action = "remove", extensions = ["csv"] }

[[content]]
id = "no-pdf"
scope = { users = ["carol@lab.test"] }
attachments = { action = "block-fetch", types = ["application/pdf"] }

[[content]]
id = "clicks"
scope = { users = ["carol@lab.test"] }
links = { template = "https://safe.test/?u={url_encoded}" }

[[content]]
id = "marked"
scope = { users = ["carol@lab.test"] }
classified = { subject = ["long html"], text = "Withheld." }
"#;

/// Rules for everybody but one group.
const ALL: &str = r#"
[[content]]
id = "no-csv"
except = { groups = ["Board"] }
attachments = { action = "remove", extensions = ["csv"] }

[[content]]
id = "no-pdf"
except = { groups = ["Board"] }
attachments = { action = "block-fetch", types = ["application/pdf"] }

[[content]]
id = "clicks"
except = { groups = ["Board"] }
links = { template = "https://safe.test/?u={url_encoded}" }

[[content]]
id = "marked"
except = { groups = ["Board"] }
classified = { subject = ["long html"], body = ["tlp:red"], headers = { X-Classification = "secret" }, text = "Withheld." }

[[eas.folders]]
id = "no-sent"
except = { groups = ["Board"] }
action = "hide"
types = ["sent"]
"#;

/// All that the rules and an administrator do to a device, read by pyactivesync; and one of the same user
/// that is exempt, whose mail passes byte for byte.
#[tokio::test]
async fn pyactivesync_sees_what_the_rules_make_of_mail() {
    let rig = Rig::with(ALL).await;
    let (strict, exempt) = ("PYSTRICT1", "PYEXEMPT1");
    for (device, group) in [(strict, "Staff"), (exempt, "Board")] {
        let record = format!(r#"{{"groups":["{group}"],"user":"heidi@lab.test"}}"#);
        let target = format!("/v1/devices/{device}");
        let (status, _) = rig.gateway.admin.request("PUT", &target, &record).await;
        assert_eq!(status, 200);
    }
    let mut arguments = rig.arguments();
    arguments.extend(rig.administration());
    arguments.extend(["--strict", strict, "--exempt", exempt].map(str::to_owned));
    println!(
        "{}",
        interop::run("pyactivesync_policies.py", arguments).await
    );
    rig.compare_legs_of(|exchange| exchange.request.target().contains(exempt));

    // Whole mail was asked for in the device's name, and told to nobody.
    let asks = |exchanges: &[Exchange]| {
        let of_device = exchanges.iter().filter(|exchange| {
            let target = exchange.request.target();
            target.contains("Cmd=ItemOperations") && target.contains(strict)
        });
        of_device.count()
    };
    let (outer, inner) = (asks(&rig.outer.exchanges()), asks(&rig.inner.exchanges()));
    assert!(inner > outer, "{inner} fetches of {outer}");
}

#[tokio::test]
async fn content_is_changed_for_whom_the_rules_are_about() {
    let rig = Rig::with(CONTENT).await;
    rig.scenario("content", "carol", "14.1").await;
}

#[tokio::test]
async fn the_mail_of_everybody_else_passes_byte_for_byte() {
    let rig = Rig::with(CONTENT).await;
    rig.scenario("walk", "alice", "14.1").await;
    rig.compare_legs();
}

#[tokio::test]
async fn orders_and_a_quarantine_reach_a_phone() {
    let rig = Rig::start().await;
    rig.scenario("orders", "dave", "14.1").await;
}

#[tokio::test]
async fn pyactivesync_works_through_the_gateway() {
    let rig = Rig::start().await;
    let arguments = rig.arguments();
    let said = interop::run("pyactivesync_client.py", arguments).await;
    println!("{said}");
    rig.compare_legs();
}

#[tokio::test]
async fn a_health_page_that_wants_a_password_is_alive() {
    let rig = Rig::start().await;
    eventually("a health check", || async {
        let exchanges = rig.inner.exchanges();
        // Both legs lead to this server; it knows one of them.
        let health = exchanges.iter().find(|exchange| {
            is_health(exchange) && !exchange.request.target().starts_with("/EWS/")
        })?;
        assert_eq!(health.answer.status(), 401);
        Some(())
    })
    .await;
    eventually("seg_upstream_up is 1", || async {
        (rig.gateway.admin.metric("seg_upstream_up", &[]).await >= 1.0).then_some(())
    })
    .await;
}

async fn walk(user: &str, version: &str) {
    let rig = Rig::start().await;
    rig.scenario("walk", user, version).await;
    rig.compare_legs();
}

/// Client, tap, gateway, tap, SOGo.
struct Rig {
    outer: Tap,
    gateway: Gateway,
    inner: Tap,
    lab: Arc<Lab>,
    ca: tempfile::NamedTempFile,
}

impl Rig {
    async fn start() -> Self {
        Self::with("").await
    }

    /// With these policies.
    async fn with(policies: &str) -> Self {
        let lab = Lab::shared();
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, lab.port()));
        let inner = Tap::before(server, &lab.ca_pem()).await;
        let builder = Gateway::alone();
        builder.file("policies.toml", policies);
        let gateway = builder
            .upstream(&format!("https://{}", inner.address), &inner.ca_pem)
            .set("identity.default.domain", "lab.test")
            .set("email.server.health.interval.seconds", "1")
            .start()
            .await;
        let outer = Tap::before(gateway.address, &gateway.ca_pem).await;
        let ca = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(ca.path(), &outer.ca_pem).expect("the file is written");
        Self {
            outer,
            gateway,
            inner,
            lab,
            ca,
        }
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = self.lab.arguments();
        arguments.push("--server".to_owned());
        arguments.push(format!("localhost:{}", self.outer.address.port()));
        arguments.push("--ca".to_owned());
        arguments.push(self.ca.path().display().to_string());
        arguments
    }

    /// How its administrator reaches the gateway.
    fn administration(&self) -> Vec<String> {
        let more = [
            ("--admin", format!("http://{}", self.gateway.admin.address)),
            ("--token", self.gateway.token_path().display().to_string()),
            (
                "--program",
                program("sync-compliance").display().to_string(),
            ),
        ];
        let more = more.into_iter();
        more.flat_map(|(flag, value)| [flag.to_owned(), value])
            .collect()
    }

    /// Runs one as a user of its own: mail for somebody else must not end its Ping.
    async fn scenario(&self, name: &str, user: &str, version: &str) {
        let mut arguments = vec![name.to_owned()];
        arguments.extend(self.arguments());
        arguments.extend(["--user", user, "--version", version].map(str::to_owned));
        arguments.extend(self.administration());
        println!("{}", interop::run("eas_scenarios.py", arguments).await);
    }

    /// What the client and the server saw of the same exchanges is the same, but for the written
    /// differences.
    fn compare_legs(&self) {
        self.compare_legs_of(|exchange| !is_health(exchange));
    }

    /// The same of some exchanges.
    fn compare_legs_of(&self, among: impl Fn(&Exchange) -> bool) {
        let some = |exchanges: Vec<Exchange>| -> Vec<Exchange> {
            exchanges.into_iter().filter(&among).collect()
        };
        let (outer, inner) = (some(self.outer.exchanges()), some(self.inner.exchanges()));
        assert!(outer.len() >= 10, "only {} exchanges", outer.len());
        let starts = |exchanges: &[Exchange]| -> Vec<String> {
            exchanges
                .iter()
                .map(|exchange| exchange.request.start.clone())
                .collect()
        };
        assert_eq!(
            starts(&outer),
            starts(&inner),
            "the requests of the two legs"
        );

        let (known, always) = (listed(&REQUEST_CHANGES), listed(&ALWAYS));
        let answers = listed(&ANSWER_CHANGES);
        for (outside, inside) in outer.iter().zip(&inner) {
            let what = &outside.request.start;
            assert!(
                outside.request.body == inside.request.body,
                "{what}: request bodies differ"
            );
            assert!(
                outside.answer.body == inside.answer.body,
                "{what}: answer bodies differ"
            );
            assert_eq!(outside.answer.status(), inside.answer.status(), "{what}");
            let changes = differences(&outside.request, &inside.request);
            assert!(
                changes.is_subset(&known) && changes.is_superset(&always),
                "{what}: {changes:?}"
            );
            let changes = differences(&inside.answer, &outside.answer);
            assert!(
                changes.is_subset(&answers),
                "{what}: answered with {changes:?}"
            );
        }
    }
}

fn listed(changes: &[(&str, Change)]) -> BTreeSet<(String, Change)> {
    changes
        .iter()
        .map(|(name, change)| ((*name).to_owned(), *change))
        .collect()
}

/// What happened to header lines on the way; their order between different names and the case of
/// names do not count (RFC 9110 5.1, 5.3).
fn differences(before: &Message, after: &Message) -> BTreeSet<(String, Change)> {
    let names = |message: &Message| -> BTreeSet<String> {
        message
            .headers
            .iter()
            .map(|(name, _)| name.to_ascii_lowercase())
            .collect()
    };
    let (old, new) = (names(before), names(after));
    let added = new
        .difference(&old)
        .map(|name| (name.clone(), Change::Added));
    let removed = old
        .difference(&new)
        .map(|name| (name.clone(), Change::Removed));
    let changed = old
        .intersection(&new)
        .filter(|name| !before.all(name).eq(after.all(name)))
        .map(|name| (name.clone(), Change::Changed));
    added.chain(removed).chain(changed).collect()
}

fn is_health(exchange: &Exchange) -> bool {
    exchange.request.target().ends_with("/healthcheck.htm")
}
