//! The load: many keep-alive connections that ask one thing over and over.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use seg_bench::Failure;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use crate::client::{Body, Client, Target};
use crate::process::Process;

/// How hard, how long.
#[derive(Clone, Copy)]
pub(crate) struct Pressure {
    pub(crate) connections: usize,
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
}

/// What happened in a window.
pub(crate) struct Window {
    /// CPU time of the proxy.
    pub(crate) cpu: Duration,
    pub(crate) lasted: Duration,
    pub(crate) answers: u64,
    /// Bytes of answers, heads included, also of those not yet complete.
    pub(crate) bytes: u64,
    /// Of each answer that ended in the window, in microseconds.
    pub(crate) latencies: Vec<f64>,
}

#[derive(Default)]
struct Progress {
    answers: AtomicU64,
    bytes: AtomicU64,
    recording: AtomicBool,
    over: AtomicBool,
}

/// Drives a proxy and watches it over the window. Every answer must be 200 with a body of at least
/// so many bytes.
pub(crate) async fn drive(
    target: &Target,
    process: &Process,
    pressure: Pressure,
    request: impl Fn(usize) -> Vec<u8>,
    at_least: u64,
) -> Result<Window, Failure> {
    let progress = Arc::new(Progress::default());
    let mut phones = JoinSet::new();
    for number in 0..pressure.connections {
        let client = Client::connect(target).await?;
        let progress = Arc::clone(&progress);
        phones.spawn(ask_on(client, request(number), at_least, progress));
    }
    tokio::time::sleep(pressure.warm_up).await;

    let counts = || {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&progress.answers), load(&progress.bytes))
    };
    progress.recording.store(true, Ordering::Relaxed);
    let (cpu, before, began) = (process.cpu()?, counts(), Instant::now());
    tokio::time::sleep(pressure.window).await;
    let (cpu, after, lasted) = (
        process.cpu()?.saturating_sub(cpu),
        counts(),
        began.elapsed(),
    );
    progress.recording.store(false, Ordering::Relaxed);
    progress.over.store(true, Ordering::Relaxed);

    let mut latencies = Vec::new();
    while let Some(phone) = phones.join_next().await {
        latencies.extend(phone??);
    }
    Ok(Window {
        cpu,
        lasted,
        answers: after.0 - before.0,
        bytes: after.1 - before.1,
        latencies,
    })
}

/// One phone; answers the latencies it saw.
async fn ask_on(
    mut client: Client<TlsStream<TcpStream>>,
    request: Vec<u8>,
    at_least: u64,
    progress: Arc<Progress>,
) -> io::Result<Vec<f64>> {
    let mut latencies = Vec::new();
    while !progress.over.load(Ordering::Relaxed) {
        let began = Instant::now();
        let count = |read: usize| {
            progress.bytes.fetch_add(read as u64, Ordering::Relaxed);
        };
        let answer = client.ask(&request, Body::Count, count).await?;
        if answer.status != 200 || answer.length < at_least {
            let (status, length) = (answer.status, answer.length);
            return Err(io::Error::other(format!(
                "an answer {status} of {length} bytes"
            )));
        }
        progress.answers.fetch_add(1, Ordering::Relaxed);
        if progress.recording.load(Ordering::Relaxed) {
            latencies.push(began.elapsed().as_secs_f64() * 1e6);
        }
    }
    Ok(latencies)
}
