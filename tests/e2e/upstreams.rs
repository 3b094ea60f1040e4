//! Several mail servers behind one address: a device keeps its own, and a server that fails stops
//! nobody's mail and doubles nothing.

use std::time::Duration;

use seg_core::sandbox::{End, Filter, Kind, Play, Sandbox, SandboxOptions, Script, requests};
use seg_tests::eas::{Request, soap};
use seg_tests::gateway::free_address;
use seg_tests::{Gateway, GatewayBuilder, eventually};
use serde_json::Value;

use crate::sandbox::{self, count, folder_sync, holds_poll, is_served, ping};

const GET_INBOX: &str = "<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape><m:FolderIds><t:DistinguishedFolderId Id=\"inbox\"/></m:FolderIds></m:GetFolder>";

/// A gateway before these, whose health checks stay out of the way.
fn unchecked(sandboxes: &[&Sandbox]) -> GatewayBuilder {
    Gateway::before_all(sandboxes).set("email.server.health.interval.seconds", "3600")
}

/// A device that `own` serves, and not `other`.
async fn device_of(gateway: &Gateway, own: &Sandbox) -> String {
    for n in 0..100 {
        let device = format!("SPREAD{n}");
        assert!(is_served(&gateway.ask(&folder_sync(&device)).await));
        if count(own, &device) > 0 {
            return device;
        }
    }
    panic!("no device of a hundred has come to this server");
}

async fn upstream(gateway: &Gateway, sandbox: &Sandbox, leg: &str) -> Value {
    let (status, body) = gateway.admin.request("GET", "/v1/upstreams", "").await;
    assert_eq!(status, 200, "{body}");
    let all = body["upstreams"].as_array().expect("a list").clone();
    let url = sandbox.url();
    all.into_iter()
        .find(|one| one["upstream"] == url.as_str() && one["leg"] == leg)
        .unwrap_or_else(|| panic!("{url} is not listed: {body}"))
}

fn totals(sandboxes: &[&Sandbox], filter: &Filter) -> u64 {
    sandboxes.iter().map(|sandbox| sandbox.count(filter)).sum()
}

#[tokio::test]
async fn devices_are_spread_and_each_keeps_its_server() {
    let (a, b) = (sandbox::start(), sandbox::start());
    let gateway = unchecked(&[&a, &b]).start().await;
    let (one, other) = (device_of(&gateway, &a).await, device_of(&gateway, &b).await);
    let before = (count(&a, &one), count(&b, &other));
    for _ in 0..10 {
        assert!(is_served(&gateway.ask(&folder_sync(&one)).await));
        assert!(is_served(&gateway.ask(&folder_sync(&other)).await));
    }
    assert_eq!(
        (count(&a, &one), count(&b, &other)),
        (before.0 + 10, before.1 + 10)
    );
    assert_eq!((count(&b, &one), count(&a, &other)), (0, 0));
}

#[tokio::test]
async fn a_server_that_is_gone_stops_nobody() {
    let (a, b) = (sandbox::start(), sandbox::start());
    let gateway = unchecked(&[&a, &b]).start().await;
    let device = device_of(&gateway, &a).await;
    drop(a);
    // What may be repeated, and what may not: neither has left the house when a connection is
    // refused.
    assert!(is_served(&gateway.ask(&folder_sync(&device)).await));
    let mail = Request::eas("SendMail", "alice", &device, requests::send_mail("moved"));
    assert_eq!(gateway.ask(&mail).await.status(), 200);
    assert_eq!(b.count(&Filter::name("SendMail")), 1);
    assert!(gateway.admin.metric("seg_upstream_moves_total", &[]).await >= 1.0);
    let moved = gateway
        .event("the request that went on", |event| {
            event["command"] == "SendMail" && event["upstream"] == b.url().as_str()
        })
        .await;
    assert_eq!(moved["outcome"], "forwarded", "{moved}");
}

#[tokio::test]
async fn what_may_be_repeated_succeeds_elsewhere_and_the_rest_is_not_doubled() {
    let half_a_head = Play::Raw {
        bytes: "HTTP/1.1 200 OK\r\nContent-Le".into(),
        end: End::Close,
    };
    for (what, play) in [
        ("closes", Play::Close),
        ("half a head", half_a_head),
        ("hangs", Play::Hang),
    ] {
        let (a, b) = (sandbox::start(), sandbox::start());
        let gateway = unchecked(&[&a, &b])
            .set("email.server.timeout.response.seconds", "1")
            .start()
            .await;
        let device = device_of(&gateway, &a).await;
        a.script(Script::new(Filter::name("FolderSync"), play.clone()).always());
        let before = totals(&[&a, &b], &Filter::name("FolderSync").device(&device));
        assert!(
            is_served(&gateway.ask(&folder_sync(&device)).await),
            "{what}"
        );
        let after = totals(&[&a, &b], &Filter::name("FolderSync").device(&device));
        // Over a reused connection that closes without a byte it is asked once more.
        let asked = after - before;
        assert!((2..=3).contains(&asked), "{what}: {asked}");
        assert_eq!(count(&b, &device), 1, "{what}");

        a.script(Script::new(Filter::name("SendMail"), play));
        let mail = Request::eas("SendMail", "alice", &device, requests::send_mail(what));
        let answer = gateway.ask(&mail).await;
        let refused = if what == "half a head" { 502 } else { 503 };
        assert_eq!(answer.status(), refused, "{what}");
        assert_eq!(
            answer.header("retry-after").is_some(),
            refused == 503,
            "{what}"
        );
        assert_eq!(totals(&[&a, &b], &Filter::name("SendMail")), 1, "{what}");
    }
}

#[tokio::test]
async fn a_server_whose_health_fails_is_left_out_and_gets_its_devices_back() {
    let (a, b) = (sandbox::start(), sandbox::start());
    let gateway = Gateway::before_all(&[&a, &b])
        .set("email.server.health.interval.seconds", "1")
        .set("email.server.health.threshold", "1")
        .set("email.server.health.expect", "200")
        .set("email.server.slow.start.seconds", "0")
        .start()
        .await;
    let device = device_of(&gateway, &a).await;
    let unwell = Play::Answer(seg_core::sandbox::Answer::status(500));
    a.script(Script::new(Filter::kind(Kind::Health), unwell).always());
    let state = |wanted: &'static str| {
        let (gateway, a) = (&gateway, &a);
        move || async move {
            let state = upstream(gateway, a, "eas").await;
            (state["state"] == wanted).then_some(state)
        }
    };
    let down = eventually("a server that is down", state("down")).await;
    assert_eq!(down["last_check"]["reason"], "answers 500", "{down}");
    let label = format!("upstream=\"{}\"", a.url());
    assert_eq!(
        gateway.admin.metric("seg_upstream_up", &[&label]).await,
        0.0
    );
    let before = count(&a, &device);
    assert!(is_served(&gateway.ask(&folder_sync(&device)).await));
    assert_eq!(count(&a, &device), before);

    a.clear_scripts();
    eventually("a server that is up again", state("up")).await;
    assert!(is_served(&gateway.ask(&folder_sync(&device)).await));
    assert_eq!(count(&a, &device), before + 1);
}

#[tokio::test]
async fn a_server_on_which_requests_fail_is_ejected_but_never_the_last() {
    let (a, b) = (sandbox::start(), sandbox::start());
    let gateway = unchecked(&[&a, &b])
        .set("email.server.ejection.failures", "2")
        .set("email.server.ejection.seconds", "600")
        .start()
        .await;
    let device = device_of(&gateway, &a).await;
    // Its health page answers; its service doesn't.
    a.script(Script::new(Filter::name("FolderSync"), Play::Close).always());
    eventually("an ejection", || async {
        assert!(is_served(&gateway.ask(&folder_sync(&device)).await));
        let state = upstream(&gateway, &a, "eas").await;
        (state["state"] == "ejected" && state["ejected_until"].is_string()).then_some(())
    })
    .await;
    let before = count(&a, &device);
    assert!(is_served(&gateway.ask(&folder_sync(&device)).await));
    assert_eq!(count(&a, &device), before, "left out");

    // Now the other one fails too: both are tried, and the one that has recovered answers.
    a.clear_scripts();
    b.script(Script::new(Filter::name("FolderSync"), Play::Close).always());
    for _ in 0..5 {
        assert!(is_served(&gateway.ask(&folder_sync(&device)).await));
    }
    assert!(count(&a, &device) > before);
}

#[tokio::test]
async fn no_server_at_all_is_a_503_with_retry_after() {
    let addresses = [free_address(), free_address()];
    let servers = addresses
        .map(|address| format!("http://{address}"))
        .join(",");
    let gateway = Gateway::alone()
        .set("email.server.host.and.port", servers)
        .start()
        .await;
    let answer = gateway.ask(&folder_sync("NOBODY")).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.header("retry-after").is_some());
}

#[tokio::test]
async fn without_affinity_the_least_busy_server_is_asked() {
    let (a, b) = (sandbox::start(), sandbox::start());
    let gateway = unchecked(&[&a, &b])
        .set("email.server.affinity", "none")
        .start()
        .await;
    let mut first = gateway.connect().await;
    first.send(ping("BUSY").bytes()).await;
    eventually("a poll", || async {
        let held = Filter::any().device("BUSY");
        (a.open_polls(&held).len() + b.open_polls(&held).len() == 1).then_some(())
    })
    .await;
    let (busy, idle) = if count(&a, "BUSY") > 0 {
        (&a, &b)
    } else {
        (&b, &a)
    };
    holds_poll(busy, "BUSY").await;
    // The checks of the start are over.
    eventually("one poll and nothing else", || async {
        let (busy, idle) = (
            upstream(&gateway, busy, "eas").await,
            upstream(&gateway, idle, "eas").await,
        );
        (busy["in_flight"] == 1 && idle["in_flight"] == 0).then_some(())
    })
    .await;
    for _ in 0..6 {
        assert!(is_served(&gateway.ask(&folder_sync("FREE")).await));
    }
    assert_eq!((count(idle, "FREE"), count(busy, "FREE")), (6, 0));
    assert_eq!(upstream(&gateway, busy, "eas").await["in_flight"], 1);
    first.tear().await;
}

#[tokio::test]
async fn connections_are_limited_and_the_next_request_waits() {
    let only = sandbox::start();
    let gateway = unchecked(&[&only])
        .set("email.server.max.connections", "1")
        .set("email.server.timeout.connect.seconds", "30")
        .start()
        .await;
    let slow = Script::new(Filter::name("FolderSync"), Play::Ordinary)
        .always()
        .delay(Duration::from_millis(50));
    only.script(slow);
    // The health check has its place only while it asks.
    let asked = ["QUEUE1", "QUEUE2", "QUEUE3", "QUEUE4"].map(folder_sync);
    let [one, two, three, four] = asked.each_ref().map(|request| gateway.ask(request));
    let answers = tokio::join!(one, two, three, four);
    for answer in <[_; 4]>::from(answers) {
        assert!(is_served(&answer));
    }
    let state = upstream(&gateway, &only, "eas").await;
    assert!(state["connections"].as_u64() <= Some(1), "{state}");
}

#[tokio::test]
async fn connections_leave_from_our_own_addresses_in_turn() {
    let only = Sandbox::start(SandboxOptions::plain()).expect("a sandbox");
    let gateway = unchecked(&[&only])
        .set("email.server.source.addresses", "127.0.0.3,127.0.0.4")
        .start()
        .await;
    let polls: Vec<String> = (0..4).map(|n| format!("SOURCE{n}")).collect();
    let mut wires = Vec::new();
    for device in &polls {
        let mut wire = gateway.connect().await;
        wire.send(ping(device).bytes()).await;
        holds_poll(&only, device).await;
        wires.push(wire);
    }
    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("the system's list of sockets");
    // Addresses stand there as hexadecimal numbers of the machine's own byte order.
    for address in ["0300007F", "0400007F"] {
        let port = format!("{:04X}", only.addr().port());
        let from = sockets.lines().filter(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            columns
                .get(1)
                .is_some_and(|local| local.starts_with(address))
                && columns.get(2).is_some_and(|remote| remote.ends_with(&port))
        });
        assert!(from.count() >= 1, "{address}\n{sockets}");
    }
}

#[tokio::test]
async fn each_leg_has_servers_and_limits_of_its_own() {
    let (eas, ews) = (sandbox::start(), sandbox::start());
    let authorities = [eas.ca_pem(), ews.ca_pem()].map(Option::unwrap_or_default);
    let gateway = Gateway::alone();
    let own = gateway.file("ews-ca.pem", authorities[1]);
    let gateway = gateway
        .upstream(&eas.url(), authorities[0])
        .set("ews.email.server.host.and.port", ews.url())
        .set("ews.email.server.ca.path", own.display().to_string())
        .start()
        .await;
    assert!(is_served(&gateway.ask(&folder_sync("LEGS")).await));
    let find = Request::ews("alice", &soap(GET_INBOX));
    assert_eq!(gateway.ask(&find).await.status(), 200);
    assert_eq!((count(&eas, "LEGS"), count(&ews, "LEGS")), (1, 0));
    assert_eq!(
        (
            eas.count(&Filter::kind(Kind::Ews)),
            ews.count(&Filter::name("GetFolder"))
        ),
        (0, 1)
    );
    assert_eq!(upstream(&gateway, &eas, "eas").await["state"], "up");
    assert_eq!(upstream(&gateway, &ews, "ews").await["state"], "up");
}
