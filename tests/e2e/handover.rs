//! A gateway is replaced by another process while it serves: nobody is refused, nothing is lost.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use seg_core::sandbox::{Filter, Sandbox};
use seg_tests::wire::Wire;
use seg_tests::{Gateway, eventually};

use crate::sandbox::{self, PING_REFUSED, folder_sync, holds_poll, is_served, ping};

/// Clients that ask without a pause until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    served: Vec<Arc<AtomicU64>>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    /// Half of them keep their connection as long as they may, half open one for each request.
    fn start(gateway: &Gateway, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let served: Vec<Arc<AtomicU64>> = (0..clients).map(|_| Arc::default()).collect();
        let clients = served.iter().enumerate().map(|(number, served)| {
            let (address, ca) = (gateway.address, gateway.ca_pem.clone());
            let (stop, served) = (Arc::clone(&stop), Arc::clone(served));
            tokio::spawn(async move {
                ask_on(address, &ca, number, &stop, &served).await;
            })
        });
        let clients = clients.collect();
        Self {
            stop,
            clients,
            served,
        }
    }

    /// Waits until each of them was served so many times more.
    async fn goes_on(&self, times: u64) {
        let before: Vec<u64> = self.counts();
        eventually("every client is served", || async {
            let counts = self.counts();
            let mut pairs = counts.iter().zip(&before);
            pairs
                .all(|(now, before)| now - before >= times)
                .then_some(())
        })
        .await;
    }

    fn counts(&self) -> Vec<u64> {
        let served = self.served.iter();
        served.map(|served| served.load(Ordering::SeqCst)).collect()
    }

    /// Ends it: how many requests were served. A client to whom anything else happened fails the
    /// test here.
    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.await.expect("a client that was served to the end");
        }
        let served = self.served.iter();
        served.map(|served| served.load(Ordering::SeqCst)).sum()
    }
}

async fn ask_on(
    address: SocketAddr,
    ca: &str,
    number: usize,
    stop: &AtomicBool,
    served: &AtomicU64,
) {
    let device = format!("LOAD{number}");
    let mut wire = None;
    while !stop.load(Ordering::SeqCst) {
        let mut open = match wire.take() {
            Some(open) => open,
            None => Wire::connect(address, ca).await,
        };
        let mut request = folder_sync(&device);
        if number.is_multiple_of(2) {
            request = request.header("Connection", "close");
        }
        open.send(request.bytes()).await;
        let answer = open.try_answer(false).await.expect("an answer");
        assert!(is_served(&answer), "{answer:?}");
        served.fetch_add(1, Ordering::SeqCst);
        if answer.header("connection") != Some("close") {
            wire = Some(open);
        }
    }
}

fn folder_syncs(sandbox: &Sandbox) -> u64 {
    sandbox.count(&Filter::name("FolderSync"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load_loses_no_request() {
    let sandbox = sandbox::start();
    let mut gateway = Gateway::before(&sandbox)
        .set("server.drain.seconds", "3")
        .start()
        .await;
    gateway.admin.block("BLOCKED-BEFORE").await;
    let mut poll = gateway.connect().await;
    poll.send(ping("POLLING").bytes()).await;
    holds_poll(&sandbox, "POLLING").await;
    let load = Load::start(&gateway, 8);
    load.goes_on(20).await;

    // Twice: who has followed is followed.
    for _ in 0..2 {
        let before = gateway.pid();
        let mut former = gateway.take_over().await;
        assert_ne!(gateway.pid(), before);
        load.goes_on(20).await;
        assert_eq!(former.ended().await.code(), Some(0));
        load.goes_on(20).await;
    }

    // The poll of the first process has ended as polls do.
    let ended = poll.answer().await;
    assert_eq!(ended.status(), 200);
    assert!(
        ended
            .body
            .starts_with(b"\x03\x01\x6a\x00\x00\x0d\x45\x47\x031\x00\x01"),
        "{:?}",
        ended.body
    );
    let served = load.end().await;
    assert_eq!(folder_syncs(&sandbox), served);
    // What was acknowledged before is known.
    let refused = gateway.ask(&folder_sync("BLOCKED-BEFORE")).await;
    assert_eq!(refused.body, sandbox::FOLDER_SYNC_REFUSED);
}

#[tokio::test]
async fn a_poll_of_the_former_process_obeys_the_one_that_follows() {
    let sandbox = sandbox::start();
    let mut gateway = Gateway::before(&sandbox)
        .set("server.drain.seconds", "3600")
        .start()
        .await;
    let mut polls = Vec::new();
    for device in ["KEPT", "CUT"] {
        let mut poll = gateway.connect().await;
        poll.send(ping(device).bytes()).await;
        holds_poll(&sandbox, device).await;
        polls.push(poll);
    }
    let mut former = gateway.take_over().await;
    gateway.admin.block("CUT").await;
    let answer = polls[1].answer().await;
    assert_eq!(answer.body, PING_REFUSED, "{answer:?}");
    assert!(former.runs());
    // Without the one that follows nobody tells of blocks any more: it ends at once.
    gateway.signal("KILL");
    let answer = polls[0].answer().await;
    assert_ne!(answer.body, PING_REFUSED, "{answer:?}");
    assert_eq!(former.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_handover_that_breaks_off_changes_nothing() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let mut poll = gateway.connect().await;
    poll.send(ping("POLLING").bytes()).await;
    holds_poll(&sandbox, "POLLING").await;

    // Before the journal is let go of: its own address is somebody else's.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let taken = taken.local_addr().map(|address| (taken, address));
    let (_taken, address) = taken.expect("its address");
    let status = gateway
        .fail_to_take_over("SEG_ADMIN_LISTEN", &address.to_string())
        .await;
    assert_eq!(status.code(), Some(2));
    assert!(is_served(&gateway.ask(&folder_sync("AFTER")).await));
    gateway.admin.block("FIRST").await;

    // And after it.
    let mut follower = UnixStream::connect(gateway.path("data/handover.sock")).expect("met");
    follower.write_all(b"SEG-HO-2").expect("written");
    let mut word = [0];
    while word != *b"." {
        follower.read_exact(&mut word).expect("read");
    }
    follower.write_all(b"r").expect("written");
    let mut released = [0; 9];
    follower.read_exact(&mut released).expect("read");
    assert_eq!(released, [b'd', 0, 0, 0, 0, 0, 0, 0, 1]);
    assert!(is_served(&gateway.ask(&folder_sync("MEANWHILE")).await));
    drop(follower);

    gateway.admin.block("POLLING").await;
    assert_eq!(poll.answer().await.body, PING_REFUSED);
    for device in ["FIRST", "POLLING"] {
        let refused = gateway.ask(&folder_sync(device)).await;
        assert_eq!(refused.body, sandbox::FOLDER_SYNC_REFUSED);
    }
}
