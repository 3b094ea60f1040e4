//! Revoked certificates: by lists and by a responder, for new, resumed and open connections.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use seg_core::sandbox::{Answer, Filter, Script};
use seg_tests::authority::Authority;
use seg_tests::gateway::free_address;
use seg_tests::program::program;
use seg_tests::wire::{Wire, client_config};
use seg_tests::{GatewayBuilder, eventually};

use crate::certificates::{asking, is_let_in};
use crate::passing::{socket_server, websocket};
use crate::sandbox::{self, holds_poll, ping};

#[tokio::test]
async fn a_list_revokes_new_resumed_and_open_connections() {
    let sandbox = sandbox::start();
    let authority = Authority::new();
    let builder = asking(&sandbox, &authority, "required");
    let folder = builder.file("crls", "").with_extension("d");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("ca.crl"), authority.revoke(&[666])).expect("a list");
    let gateway = builder
        .set("enable.cert.revocation.validation", "true")
        .set(
            "cert.based.auth.crl.files.parent.dir.path",
            folder.display().to_string(),
        )
        .start()
        .await;
    let config = client_config(
        &gateway.ca_pem,
        Some(&authority.numbered_client(Some("alice@sandbox.example"), 41)),
    );
    assert!(is_let_in(&gateway, &config, "CRL").await);
    let mut resumed = Wire::open(gateway.address, "localhost", Arc::clone(&config)).await;
    assert!(resumed.is_resumed());
    resumed.send(ping("CRL").bytes()).await;
    holds_poll(&sandbox, "CRL").await;
    let revoked = client_config(&gateway.ca_pem, Some(&authority.numbered_client(None, 666)));
    assert!(!is_let_in(&gateway, &revoked, "CRL").await);

    std::fs::write(folder.join("ca.crl"), authority.revoke(&[666, 41])).expect("a list");
    assert!(
        resumed.try_answer(false).await.is_none(),
        "the open poll goes on"
    );
    let before = sandbox.count(&Filter::any().device("CRL"));
    for _ in 0..3 {
        assert!(!is_let_in(&gateway, &config, "CRL").await);
    }
    assert_eq!(sandbox.count(&Filter::any().device("CRL")), before);
    let told = gateway
        .event("the reason", |event| event["serial"] == "29")
        .await;
    assert!(told.to_string().contains("revoked (ca.crl)"), "{told}");
    // Others are not disturbed.
    let other = client_config(
        &gateway.ca_pem,
        Some(&authority.numbered_client(Some("alice@sandbox.example"), 42)),
    );
    assert!(is_let_in(&gateway, &other, "CRL").await);
}

#[tokio::test]
async fn a_websocket_ends_with_its_certificate() {
    let (sandbox, authority) = (sandbox::start(), Authority::new());
    let server = socket_server().await;
    let builder = asking(&sandbox, &authority, "required");
    let folder = builder.file("crls", "").with_extension("d");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("ca.crl"), authority.revoke(&[666])).expect("a list");
    let gateway = builder
        .set("enable.cert.revocation.validation", "true")
        .set(
            "cert.based.auth.crl.files.parent.dir.path",
            folder.display().to_string(),
        )
        .set("route.mdm.path", "/zdm")
        .set("route.mdm.upstream", format!("http://{server}"))
        .set("route.mdm.websocket", "true")
        .start()
        .await;
    let mut wires = Vec::new();
    for serial in [41, 42] {
        let client = authority.numbered_client(Some("alice@sandbox.example"), serial);
        let config = client_config(&gateway.ca_pem, Some(&client));
        let mut wire = Wire::open(gateway.address, "localhost", config).await;
        wire.send(websocket("/zdm/socket?a=b").bytes()).await;
        wire.until("\r\n\r\nwelcome").await;
        wires.push(wire);
    }
    std::fs::write(folder.join("ca.crl"), authority.revoke(&[666, 41])).expect("a list");
    wires[0].ended().await;
    wires[1].send("still here").await;
    wires[1].until("still here").await;
}

#[tokio::test]
async fn fetched_lists_are_fetched_again_and_outlive_a_restart() {
    let sandbox = sandbox::start();
    let lists = sandbox::start_plain();
    let authority = Authority::new();
    let serve = |serials: &[u64]| {
        lists.clear_scripts();
        let answer = Answer::ok("application/pkix-crl", authority.revoke(serials));
        lists.script(Script::answer(Filter::any(), answer).always());
    };
    // The server of lists is down: that is not in the way of a start.
    lists.script(Script::answer(Filter::any(), Answer::status(500)).always());
    let mut gateway = asking(&sandbox, &authority, "required")
        .set("enable.cert.revocation.validation", "true")
        .set(
            "remote.crl.distribution.http.uris",
            format!("{}/ca.crl", lists.url()),
        )
        .set("remote.crl.fetch.interval.in.minutes", "1440")
        .start()
        .await;
    let config = client_config(
        &gateway.ca_pem,
        Some(&authority.numbered_client(Some("alice@sandbox.example"), 9)),
    );
    assert!(is_let_in(&gateway, &config, "FETCH").await, "soft fail");
    serve(&[9]);
    // After a failure it is asked again within a minute; a restart asks at once.
    gateway.restart_after_kill().await;
    eventually("a refusal", || async {
        (!is_let_in(&gateway, &config, "FETCH").await).then_some(())
    })
    .await;

    lists.clear_scripts();
    lists.script(Script::answer(Filter::any(), Answer::status(500)).always());
    gateway.restart_after_kill().await;
    assert!(
        !is_let_in(&gateway, &config, "FETCH").await,
        "the kept list is forgotten"
    );
}

#[tokio::test]
async fn where_nobody_knows_hard_fail_refuses() {
    let sandbox = sandbox::start();
    let authority = Authority::new();
    let gateway = asking(&sandbox, &authority, "required")
        .set("enable.cert.revocation.validation", "true")
        .set("revocation.unknown", "refuse")
        .start()
        .await;
    let alice = authority.numbered_client(Some("alice@sandbox.example"), 1);
    let config = client_config(&gateway.ca_pem, Some(&alice));
    assert!(!is_let_in(&gateway, &config, "HARD").await);
}

#[tokio::test]
async fn a_responder_is_asked_and_ends_open_connections() {
    let sandbox = sandbox::start();
    let authority = Authority::new();
    let builder = asking(&sandbox, &authority, "required");
    let responder = Responder::start(&builder, &authority, &[(0x51, false), (0x52, true)]);
    let gateway = builder
        .set("enable.cert.revocation.validation", "true")
        .set("revocation.unknown", "refuse")
        .set(
            "revocation.ocsp",
            format!("test authority=http://{}", responder.address),
        )
        .set("revocation.ocsp.max.age.seconds", "1")
        .start()
        .await;
    let client = |serial| {
        client_config(
            &gateway.ca_pem,
            Some(&authority.numbered_client(Some("alice@sandbox.example"), serial)),
        )
    };
    // openssl's responder serves one after the other and needs a moment to listen.
    let good = client(0x51);
    eventually("an answer of the responder", || async {
        is_let_in(&gateway, &good, "OCSP").await.then_some(())
    })
    .await;
    assert!(!is_let_in(&gateway, &client(0x52), "OCSP").await, "revoked");
    assert!(!is_let_in(&gateway, &client(0x53), "OCSP").await, "unknown");

    let mut wire = Wire::open(gateway.address, "localhost", Arc::clone(&good)).await;
    wire.send(ping("OCSP").bytes()).await;
    holds_poll(&sandbox, "OCSP").await;
    responder.write_index(&[(0x51, true)]);
    assert!(
        wire.try_answer(false).await.is_none(),
        "the open poll goes on"
    );
    // Resumed, and with a handshake of its own.
    assert!(!is_let_in(&gateway, &good, "OCSP").await);
    assert!(!is_let_in(&gateway, &client(0x51), "OCSP").await);
}

/// Who wants no start without the lists gets none, and is told why.
#[tokio::test]
async fn a_start_waits_for_the_lists_only_where_it_is_told_to() {
    let sandbox = sandbox::start();
    let lists = sandbox::start_plain();
    lists.script(Script::answer(Filter::any(), Answer::status(500)).always());
    let builder = asking(&sandbox, &Authority::new(), "required")
        .set("enable.cert.revocation.validation", "true")
        .set(
            "remote.crl.distribution.http.uris",
            format!("{}/ca.crl", lists.url()),
        )
        .set(
            "fail.hard.on.crl.download.failure.during.server.startup",
            "true",
        );
    let listen = builder.listen().to_string();
    let builder = builder
        .set("server.listen", listen)
        .set("admin.listen", free_address().to_string());
    let output = Command::new(program("seg"))
        .args(["run", "--config"])
        .arg(builder.properties())
        .output()
        .expect("seg runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    let key = "fail.hard.on.crl.download.failure.during.server.startup";
    assert!(told.contains(key) && told.contains("500"), "{told}");
}

/// A list that nobody gives, and one that never comes, keep nobody from hearing of another.
#[tokio::test]
async fn a_slow_server_of_lists_delays_no_other() {
    let sandbox = sandbox::start();
    let authority = Authority::new();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let silent = silent.local_addr().expect("its address");
    let builder = asking(&sandbox, &authority, "required");
    let folder = builder.path("crls");
    std::fs::create_dir(&folder).expect("a folder");
    let gateway = builder
        .set("enable.cert.revocation.validation", "true")
        .set(
            "cert.based.auth.crl.files.parent.dir.path",
            folder.display().to_string(),
        )
        .set(
            "remote.crl.distribution.http.uris",
            ["a", "b", "c", "d"]
                .map(|name| format!("http://{silent}/{name}.crl"))
                .join(","),
        )
        .start()
        .await;
    let alice = authority.numbered_client(Some("alice@sandbox.example"), 77);
    let config = client_config(&gateway.ca_pem, Some(&alice));
    assert!(is_let_in(&gateway, &config, "SLOWLIST").await);
    std::fs::write(folder.join("ca.crl"), authority.revoke(&[77])).expect("a list");
    eventually("the list in the folder", || async {
        (!is_let_in(&gateway, &config, "SLOWLIST").await).then_some(())
    })
    .await;
}

/// `openssl ocsp`, as a responder that the authority itself signs for.
struct Responder {
    child: Child,
    index: std::path::PathBuf,
    address: std::net::SocketAddr,
}

impl Responder {
    fn start(
        builder: &GatewayBuilder,
        authority: &Authority,
        certificates: &[(u64, bool)],
    ) -> Self {
        let ca = builder.file("responder.pem", authority.pem());
        let key = builder.file("responder.key", authority.key_pem());
        let index = builder.file("index.txt", "");
        builder.file("index.txt.attr", "unique_subject = no\n");
        let address = free_address();
        write_index(&index, certificates);
        let child = Command::new("openssl")
            .args(["ocsp", "-port", &address.port().to_string(), "-ndays", "1"])
            .arg("-index")
            .arg(&index)
            .arg("-CA")
            .arg(&ca)
            .arg("-rsigner")
            .arg(&ca)
            .arg("-rkey")
            .arg(&key)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs");
        Self {
            child,
            index,
            address,
        }
    }

    fn write_index(&self, certificates: &[(u64, bool)]) {
        write_index(&self.index, certificates);
    }
}

/// The database of `openssl ca`.
fn write_index(index: &std::path::Path, certificates: &[(u64, bool)]) {
    let line = |(serial, revoked): &(u64, bool)| {
        let (state, since) = if *revoked {
            ("R", "260101000000Z")
        } else {
            ("V", "")
        };
        format!("{state}\t450101000000Z\t{since}\t{serial:02X}\tunknown\t/CN=client-{serial}\n")
    };
    let text: String = certificates.iter().map(line).collect();
    // openssl tells a changed index by its inode, and by its time in whole seconds.
    let anew = index.with_extension("new");
    std::fs::write(&anew, text).expect("the index");
    std::fs::rename(&anew, index).expect("the index");
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _already_collected = self.child.wait();
    }
}
