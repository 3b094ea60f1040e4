//! The clocks of a client's connection, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::{
    BodyGuard, ClientTimeouts, ConnectionEnd, PhaseCell, Reply, Request, StreamBroken, serve,
};

const IDLE: Duration = Duration::from_secs(120);
const HEAD: Duration = Duration::from_secs(10);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// As the pipeline has it: the connection is idle once the answer has been handed over.
struct Turn(Arc<PhaseCell>);

impl BodyGuard for Turn {
    fn sent(&mut self, _bytes: usize) {}
    fn ended(&mut self, _end: Result<(), &StreamBroken>) {}
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.idle(Instant::now());
    }
}

struct Client {
    stream: DuplexStream,
    served: JoinHandle<Option<ConnectionEnd>>,
    _drain: watch::Sender<bool>,
}

impl Client {
    /// A connection on which every answer takes so long.
    fn connect(answer: Duration) -> Self {
        let (stream, server) = tokio::io::duplex(4096);
        let (drain, draining) = watch::channel(false);
        let cell = Arc::new(PhaseCell::new(Instant::now()));
        let timeouts = ClientTimeouts {
            head: HEAD,
            idle: IDLE,
            write: Duration::from_secs(60),
            head_bytes: 65_536,
        };
        let turns = Arc::clone(&cell);
        let handle = move |_: Request| {
            turns.serving();
            let turn = Turn(Arc::clone(&turns));
            async move {
                sleep(answer).await;
                (Reply::text(http::StatusCode::OK, "."), turn)
            }
        };
        let served = tokio::spawn(serve(server, cell, timeouts, draining, handle));
        Self {
            stream,
            served,
            _drain: drain,
        }
    }

    /// Reads one answer; its body is a single dot.
    async fn answer(&mut self) {
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n.") {
            seen.push(self.stream.read_u8().await.expect("an answer"));
        }
    }

    /// How long the connection stays from now on, and what it is called.
    async fn stays(mut self) -> (Duration, Option<ConnectionEnd>) {
        let begun = Instant::now();
        let mut rest = Vec::new();
        let _ended = self.stream.read_to_end(&mut rest).await;
        assert_eq!(rest, b"", "nothing is said to an idle client");
        (
            begun.elapsed(),
            self.served.await.expect("it ends by itself"),
        )
    }
}

/// The timer's granularity.
fn is(limit: Duration, stayed: Duration) -> bool {
    (limit..limit + Duration::from_millis(5)).contains(&stayed)
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_closes_at_its_limit() {
    // Behind no request, and behind requests at any place within the limit.
    let rhythms: [&[u64]; 5] = [&[], &[0], &[100], &[1, 119], &[60, 60, 60, 7]];
    for pauses in rhythms {
        let mut client = Client::connect(Duration::from_secs(1));
        for pause in pauses {
            sleep(Duration::from_secs(*pause)).await;
            client.stream.write_all(REQUEST).await.expect("bytes");
            client.answer().await;
        }
        let (stayed, end) = client.stays().await;
        assert!(is(IDLE, stayed), "{pauses:?}: {stayed:?}");
        assert_eq!(end, None, "{pauses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_has_a_limit_of_its_own() {
    for before in [0, 1, 2] {
        let mut client = Client::connect(Duration::ZERO);
        for _ in 0..before {
            sleep(Duration::from_secs(50)).await;
            client.stream.write_all(REQUEST).await.expect("bytes");
            client.answer().await;
        }
        sleep(Duration::from_secs(20)).await;
        client.stream.write_all(b"GET / HT").await.expect("bytes");
        let (stayed, end) = client.stays().await;
        assert!(is(HEAD, stayed), "{before}: {stayed:?}");
        assert_eq!(end.map(|end| end.reason), Some("slow_head"), "{before}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_came_slowly_leaves_the_idle_limit_whole() {
    let mut client = Client::connect(Duration::ZERO);
    let (first, rest) = REQUEST.split_at(9);
    client.stream.write_all(first).await.expect("bytes");
    sleep(Duration::from_secs(9)).await;
    client.stream.write_all(rest).await.expect("bytes");
    client.answer().await;
    let (stayed, _) = client.stays().await;
    assert!(is(IDLE, stayed), "{stayed:?}");
}

/// Whoever waits for an answer is not idle, whether his request came alone or on the heels of
/// another.
#[tokio::test(start_paused = true)]
async fn a_long_poll_is_not_idle() {
    let mut client = Client::connect(IDLE * 10);
    client.stream.write_all(REQUEST).await.expect("bytes");
    client.answer().await;
    let two = [REQUEST, REQUEST].concat();
    client.stream.write_all(&two).await.expect("bytes");
    client.answer().await;
    client.answer().await;
    let (stayed, _) = client.stays().await;
    assert!(is(IDLE, stayed), "{stayed:?}");
}
