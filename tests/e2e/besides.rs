//! The listeners beside the clients': who may come, and what becomes of them when another process
//! follows.

use std::net::SocketAddr;

use seg_tests::authority::Authority;
use seg_tests::eas::basic;
use seg_tests::gateway::free_address;
use seg_tests::wire::{Ended, Wire};
use seg_tests::{Gateway, GatewayBuilder, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::sandbox::{self, PING_REFUSED, folder_sync, holds_poll, is_served, ping};

/// A question about `device`, as load balancers ask it.
fn question(device: &str) -> String {
    format!(
        "GET /authorize HTTP/1.1\r\nHost: seg\r\nX-Original-URI: /Microsoft-Server-ActiveSync?Cmd=Sync&User=alice&DeviceId={device}&DeviceType=test\r\n\
         X-Original-Method: POST\r\nAuthorization: {}\r\n\r\n",
        basic("alice")
    )
}

/// A call of the webhook of `uem`, without a signature.
fn call(device: &str, compliant: bool) -> String {
    let body = format!(
        "{{\"device_id\":\"{device}\",\"user\":\"alice@sandbox.example\",\"compliant\":{compliant}}}"
    );
    format!(
        "POST /webhook/uem HTTP/1.1\r\nHost: seg\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The status of the answer over plain TCP; `None`: the connection was closed.
async fn plain(address: SocketAddr, request: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = request.replace("Host: seg", "Host: seg\r\nConnection: close");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

fn knows_uem(builder: &GatewayBuilder) {
    let source = "[[source]]\nname=\"uem\"\ntype=\"csv\"\npath=\"none.csv\"\n";
    builder.file("sources.toml", source);
}

#[tokio::test]
async fn a_certificate_is_asked_for_where_a_ca_is_named() {
    let (sandbox, authority) = (sandbox::start(), Authority::new());
    let (decision, webhook) = (free_address(), free_address());
    let builder = Gateway::before(&sandbox)
        .set("decision.listen", decision.to_string())
        .set("decision.client.ca.path", "partners.pem")
        .set("webhook.listen", webhook.to_string())
        .set("webhook.client.ca.path", "partners.pem");
    builder.file("partners.pem", authority.pem());
    knows_uem(&builder);
    let gateway = builder.start().await;
    let partner = authority.client("uem@corp.example");
    let stranger = Authority::new().client("uem@corp.example");

    // What a certificate of the right CA may say cuts an open poll.
    let mut told = Wire::connect_as(webhook, &gateway.ca_pem, Some(&partner)).await;
    told.send(call("BESIDE1", true)).await;
    let answer = told.answer().await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let mut phone = gateway.connect().await;
    phone.send(ping("BESIDE1").bytes()).await;
    holds_poll(&sandbox, "BESIDE1").await;
    told.send(call("BESIDE1", false)).await;
    assert_eq!(told.answer().await.status(), 200);
    assert_eq!(&phone.answer().await.body[..], PING_REFUSED);

    let mut balancer = Wire::connect_as(decision, &gateway.ca_pem, Some(&partner)).await;
    balancer.send(question("BESIDE1")).await;
    assert_eq!(balancer.answer().await.status(), 403);

    // Nobody else gets as far as an answer: with TLS 1.3 the refusal comes behind the handshake.
    for (address, request) in [
        (decision, question("BESIDE1")),
        (webhook, call("BESIDE1", true)),
    ] {
        for identity in [None, Some(&stranger)] {
            let mut wire = Wire::connect_as(address, &gateway.ca_pem, identity).await;
            wire.send_until_closed(&request).await;
            assert!(wire.try_answer(false).await.is_none(), "{address}");
        }
        assert_eq!(plain(address, &request).await, None, "without TLS");
    }
    assert!(!is_served(&gateway.ask(&folder_sync("BESIDE1")).await));
}

/// Another CA, other networks: from the next connection on, without a restart.
#[tokio::test]
async fn who_may_come_changes_with_the_files() {
    let sandbox = sandbox::start();
    let (decision, webhook) = (free_address(), free_address());
    let builder = Gateway::before(&sandbox)
        .set("decision.listen", decision.to_string())
        .set("decision.client.ca.path", "partners.pem")
        .set("webhook.listen", webhook.to_string())
        .set("webhook.client.ca.path", "partners.pem");
    let (old, new) = (Authority::new(), Authority::new());
    builder.file("partners.pem", old.pem());
    knows_uem(&builder);
    let gateway = builder.start().await;
    let (before, after) = (old.client("a@corp.example"), new.client("b@corp.example"));
    let status = async |address, request: String, identity| {
        let mut wire = Wire::connect_as(address, &gateway.ca_pem, Some(identity)).await;
        wire.send_until_closed(&request).await;
        let answer = wire.try_answer(false).await;
        answer.map(|answer| answer.status())
    };
    for address in [decision, webhook] {
        let request = || match address == decision {
            true => question("BESIDE3"),
            false => call("BESIDE3", true),
        };
        assert_eq!(status(address, request(), &before).await, Some(200));
        assert_eq!(status(address, request(), &after).await, None);
    }
    std::fs::write(gateway.path("partners.pem"), new.pem()).expect("a file");
    for address in [decision, webhook] {
        let request = || match address == decision {
            true => question("BESIDE3"),
            false => call("BESIDE3", true),
        };
        eventually("the new CA counts", || async {
            let answered = status(address, request(), &after).await;
            (answered == Some(200)).then_some(())
        })
        .await;
        assert_eq!(status(address, request(), &before).await, None);
    }
}

#[tokio::test]
async fn only_listed_networks_are_answered() {
    let sandbox = sandbox::start();
    for (networks, status) in [("10.0.0.0/8", None), ("10.0.0.0/8,127.0.0.0/8", Some(200))] {
        let decision = free_address();
        let _gateway = Gateway::before(&sandbox)
            .set("decision.listen", decision.to_string())
            .set("decision.allowed.networks", networks)
            .start()
            .await;
        assert_eq!(plain(decision, &question("STRANGER")).await, status);
    }
}

#[tokio::test]
async fn they_are_handed_on_to_the_process_that_follows() {
    let (sandbox, authority) = (sandbox::start(), Authority::new());
    let (decision, webhook) = (free_address(), free_address());
    let builder = Gateway::before(&sandbox)
        .set("decision.listen", decision.to_string())
        .set("webhook.listen", webhook.to_string())
        .set("webhook.client.ca.path", "partners.pem")
        .set("server.drain.seconds", "1");
    builder.file("partners.pem", authority.pem());
    knows_uem(&builder);
    let mut gateway = builder.start().await;
    let partner = authority.client("uem@corp.example");
    let record = r#"{"user":"alice@sandbox.example"}"#;
    gateway
        .admin
        .write("PUT", "/v1/devices/HANDED", record)
        .await;
    assert_eq!(plain(decision, &question("HANDED")).await, Some(200));
    let mut before = Wire::connect_as(webhook, &gateway.ca_pem, Some(&partner)).await;
    before.send(call("HANDED", true)).await;
    assert_eq!(before.answer().await.status(), 200);

    let mut former = gateway.take_over().await;
    // The connection to the one before is closed, for its store is another's now.
    assert_eq!(before.ended().await, Ended::Cleanly);
    let mut after = Wire::connect_as(webhook, &gateway.ca_pem, Some(&partner)).await;
    after.send(call("HANDED", false)).await;
    let answer = after.answer().await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert!(former.ended().await.success());
    assert_eq!(plain(decision, &question("HANDED")).await, Some(403));
}
