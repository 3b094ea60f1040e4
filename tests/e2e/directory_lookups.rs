//! People and devices that come without a password: the directory is asked about them once, and knows
//! to which device a certificate belongs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use seg_core::sandbox::Filter;
use seg_tests::ad::Lab;
use seg_tests::message::Message;
use seg_tests::{Gateway, GatewayBuilder, eventually};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::directory::trusting;
use crate::kerberos::{ask_as, reason, serial};
use crate::sandbox::folder_sync;

/// What stands before a server of the lab and counts who comes.
pub(crate) struct Counter {
    pub(crate) address: SocketAddr,
    came: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Counter {
    /// On a port of the lab's own address, because that stands in the directory's certificate.
    pub(crate) async fn before(lab: &str, port: u16, server: u16) -> Self {
        let listener = TcpListener::bind((lab, port)).await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let came = Arc::new(AtomicUsize::new(0));
        let (counted, server) = (Arc::clone(&came), format!("{lab}:{server}"));
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let server = server.clone();
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(server).await {
                        let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self {
            address,
            came,
            task,
        }
    }

    pub(crate) fn came(&self) -> usize {
        self.came.load(Ordering::SeqCst)
    }

    /// The directory is gone.
    async fn end(self) -> SocketAddr {
        self.task.abort();
        assert!(self.task.await.is_err(), "it never ends by itself");
        self.address
    }
}

/// A gateway that asks for certificates of the lab, and the directory about them.
fn before(builder: GatewayBuilder, lab: &Lab) -> GatewayBuilder {
    let ca = lab.path("pki/ca.pem").display().to_string();
    builder
        .set("server.client.auth", "required")
        .set("server.client.ca.path", ca)
        .directory(lab)
        .directory_account(lab)
}

async fn ask(gateway: &Gateway, lab: &Lab, certificate: &str, device: &str) -> Message {
    let request = folder_sync(device).without("Authorization");
    ask_as(gateway, lab, certificate, &request).await
}

#[tokio::test]
async fn many_requests_are_one_question() {
    let lab = Lab::shared();
    let sandbox = trusting();
    let counter = Counter::before(lab.address(), 0, 636).await;
    let gateway = before(Gateway::before(&sandbox), &lab)
        .set("directory.url", format!("ldaps://{}", counter.address))
        .start()
        .await;
    for (person, status) in [("alice", 200), ("nobody", 403)] {
        let before = counter.came();
        for _ in 0..2 {
            let mut phones = Vec::new();
            for _ in 0..12 {
                let mut phone = gateway.connect_as(&lab.identity(person)).await;
                let request = folder_sync("LOOKUP").without("Authorization");
                phone.send(request.bytes()).await;
                phones.push(phone);
            }
            for phone in &mut phones {
                assert_eq!(phone.answer().await.status(), status, "{person}");
            }
        }
        assert_eq!(counter.came() - before, 1, "{person}");
    }
    reason(&gateway, "account_unknown").await;
}

/// A refusal is not for ever: the account is made, and is known after a moment.
#[tokio::test]
async fn a_new_account_is_known_after_a_moment() {
    let lab = Lab::shared();
    let sandbox = trusting();
    let builder = before(Gateway::before(&sandbox), &lab);
    let map = builder.file(
        "map.csv",
        format!("{},novice@corp.example,\n", serial(&lab, "bob")),
    );
    let gateway = builder
        .set("identity.certificate.map.path", map.display().to_string())
        .set("directory.cache.seconds", "1")
        .start()
        .await;
    assert_eq!(ask(&gateway, &lab, "bob", "NOVICE").await.status(), 403);
    lab.tool(&["user", "create", "novice", lab.password()]);
    eventually("the account is known", || async {
        let answer = ask(&gateway, &lab, "bob", "NOVICE").await;
        (answer.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_directory_knows_the_device_of_a_certificate() {
    let lab = Lab::shared();
    let sandbox = trusting();
    let computer = |name: &str, attributes: &[(&str, &str)]| {
        lab.tool(&["computer", "create", name]);
        for (attribute, value) in attributes {
            lab.attribute(&format!("{name}$"), attribute, value);
        }
    };
    let (dave, frank) = (serial(&lab, "dave"), serial(&lab, "frank"));
    let turned: Vec<&str> = (0..dave.len() / 2)
        .rev()
        .filter_map(|at| dave.get(at * 2..at * 2 + 2))
        .collect();
    let identity = format!("X509:<I>O=Lab,CN=Lab Root CA<SR>{}", turned.concat());
    computer(
        "phone-dave",
        &[
            ("altSecurityIdentities", &identity),
            ("description", "DAVES"),
        ],
    );
    computer(
        "phone-alice",
        &[
            ("employeeNumber", &serial(&lab, "alice")),
            ("description", "asset ALICES"),
        ],
    );
    for phone in ["phone-frank", "tablet-frank"] {
        computer(phone, &[("employeeNumber", &frank), ("description", phone)]);
    }
    let by_identity = before(Gateway::before(&sandbox), &lab)
        .set("identity.certificate.device", "directory")
        .set("directory.device.attribute", "description")
        .start()
        .await;
    let by_serial = before(Gateway::before(&sandbox), &lab)
        .set("identity.certificate.device", "directory")
        .set("identity.certificate.device.pattern", "asset (.+)")
        .set("directory.device.attribute", "description")
        .set(
            "directory.device.filter",
            "(&(objectClass=computer)(employeeNumber={serial}))",
        )
        .start()
        .await;
    for (gateway, certificate, device, status, why) in [
        (&by_identity, "dave", "DAVES", 200, None),
        (&by_identity, "dave", "daves", 200, None),
        (
            &by_identity,
            "dave",
            "OTHERS",
            403,
            Some("certificate_device_mismatch"),
        ),
        // No entry names this one: it serves no device, rather than any.
        (&by_identity, "alice", "ALICES", 403, Some("device_unknown")),
        (&by_serial, "alice", "ALICES", 200, None),
        (
            &by_serial,
            "alice",
            "OTHERS",
            403,
            Some("certificate_device_mismatch"),
        ),
        (&by_serial, "frank", "ANY", 403, Some("device_ambiguous")),
    ] {
        let answer = ask(gateway, &lab, certificate, device).await;
        assert_eq!(answer.status(), status, "{certificate}, {device}");
        if let Some(why) = why {
            reason(gateway, why).await;
        }
    }
    // Single certificates stand in the table, which comes first.
    let builder = before(Gateway::before(&sandbox), &lab);
    let map = builder.file("map.csv", format!("{},,FRANKS\n", frank));
    let listed = builder
        .set("identity.certificate.device", "directory")
        .set("identity.certificate.map.path", map.display().to_string())
        .set("directory.device.attribute", "description")
        .start()
        .await;
    assert_eq!(ask(&listed, &lab, "frank", "FRANKS").await.status(), 200);
    assert_eq!(ask(&listed, &lab, "frank", "OTHERS").await.status(), 403);
    for device in ["OTHERS", "ANY"] {
        assert_eq!(sandbox.count(&Filter::any().device(device)), 0);
    }
}

/// While the directory can't say to which device a certificate belongs, nothing is served with it, and
/// the phone is told to come again.
#[tokio::test]
async fn a_device_that_nobody_can_name_now_is_asked_to_wait() {
    let lab = Lab::shared();
    let sandbox = trusting();
    lab.tool(&["computer", "create", "phone-bob"]);
    lab.attribute("phone-bob$", "employeeNumber", &serial(&lab, "bob"));
    lab.attribute("phone-bob$", "description", "BOBS");
    let counter = Counter::before(lab.address(), 0, 636).await;
    let url = format!("ldaps://{}", counter.address);
    let gateway = before(Gateway::before(&sandbox), &lab)
        .set("directory.url", url)
        .set("identity.certificate.device", "directory")
        .set("directory.device.attribute", "description")
        .set("directory.device.filter", "(employeeNumber={serial})")
        .start()
        .await;
    let address = counter.end().await;
    let answer = ask(&gateway, &lab, "bob", "BOBS").await;
    assert_eq!(answer.status(), 503, "{}", answer.text());
    assert!(answer.header("Retry-After").is_some());
    assert_eq!(answer.header("Connection"), Some("close"));
    reason(&gateway, "directory_unavailable").await;
    assert_eq!(sandbox.count(&Filter::any().device("BOBS")), 0);
    let _back = Counter::before(lab.address(), address.port(), 636).await;
    eventually("the directory answers", || async {
        let answer = ask(&gateway, &lab, "bob", "BOBS").await;
        (answer.status() == 200).then_some(())
    })
    .await;
}
