//! The measurements: each one a procedure, its numbers beside it.

use std::time::{Duration, Instant};

use seg_bench::{Failure, median, percentile};

use crate::load::{Pressure, drive};
use crate::polls::Polls;
use crate::proxy::{Kind, Proxy, Stage};
use crate::requests::{self, Bodies};
use crate::webhook::Webhook;

/// The sandbox's fixed answers with `--bench`: a Sync's, and the attachment in an ItemOperations',
/// around which stand a few bytes more. A GetFolder's is a folder's properties.
const SYNC_LENGTH: u64 = 2048;
const FOLDER_LENGTH: u64 = 500;
const FETCH_LENGTH: u64 = 25 * 1024 * 1024;
/// Connections of the load of large answers.
const FETCHERS: usize = 4;
/// The resident memory is taken when it has stood still for this long, or after the longer time.
const STILL: Duration = Duration::from_secs(1);
const STILL_AT_LAST: Duration = Duration::from_secs(10);
/// How long what is cut may take to end before the run gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Small requests: medians over the rounds.
#[derive(Default)]
pub(crate) struct Small {
    pub(crate) cpu_micros: Vec<f64>,
    pub(crate) per_second: Vec<f64>,
    pub(crate) p50_micros: Vec<f64>,
    pub(crate) p99_micros: Vec<f64>,
}

/// What is asked for in small.
#[derive(Clone, Copy)]
pub(crate) enum Asked<'b> {
    /// ActiveSync.
    Sync(&'b Bodies),
    /// EWS.
    GetFolder,
}

impl Asked<'_> {
    const fn name(self) -> &'static str {
        match self {
            Self::Sync(_) => "Sync",
            Self::GetFolder => "GetFolder",
        }
    }

    fn request(self, number: usize) -> Vec<u8> {
        match self {
            Self::Sync(bodies) => bodies.sync(number),
            Self::GetFolder => requests::get_folder(),
        }
    }

    const fn length(self) -> u64 {
        match self {
            Self::Sync(_) => SYNC_LENGTH,
            Self::GetFolder => FOLDER_LENGTH,
        }
    }
}

/// Takes turns, so that a noisy minute hits all of them.
pub(crate) async fn small(
    proxies: &[Proxy],
    asked: Asked<'_>,
    rounds: usize,
    pressure: Pressure,
) -> Result<Vec<(Kind, Small)>, Failure> {
    let mut results: Vec<_> = proxies
        .iter()
        .map(|proxy| (proxy.kind, Small::default()))
        .collect();
    for round in 1..=rounds {
        for (proxy, (kind, small)) in proxies.iter().zip(&mut results) {
            let request = |number| asked.request(number);
            let mut window = drive(
                &proxy.target,
                &proxy.process,
                pressure,
                request,
                asked.length(),
            )
            .await?;
            let answers = window.answers.max(1) as f64;
            let cpu = window.cpu.as_secs_f64() * 1e6 / answers;
            let per_second = answers / window.lasted.as_secs_f64();
            eprintln!(
                "  {}, round {round} of {rounds}: {:8} {cpu:6.2} µs, {per_second:6.0} a second",
                asked.name(),
                kind.name()
            );
            small.cpu_micros.push(cpu);
            small.per_second.push(per_second);
            small
                .p50_micros
                .push(percentile(&mut window.latencies, 0.5));
            small
                .p99_micros
                .push(percentile(&mut window.latencies, 0.99));
        }
    }
    Ok(results)
}

/// CPU milliseconds per 25 MiB answer, in turns.
pub(crate) async fn large(
    proxies: &[Proxy],
    bodies: &Bodies,
    rounds: usize,
    window: Duration,
) -> Result<Vec<(Kind, Vec<f64>)>, Failure> {
    let pressure = Pressure {
        connections: FETCHERS,
        warm_up: Duration::from_millis(500),
        window,
    };
    let mut results: Vec<_> = proxies
        .iter()
        .map(|proxy| (proxy.kind, Vec::new()))
        .collect();
    for round in 1..=rounds {
        for (proxy, (kind, millis)) in proxies.iter().zip(&mut results) {
            let request = |number| bodies.fetch(number);
            let window = drive(
                &proxy.target,
                &proxy.process,
                pressure,
                request,
                FETCH_LENGTH,
            )
            .await?;
            // Bytes, not answers: few answers fit into a window, and their ends are cut off.
            let answers = window.bytes as f64 / FETCH_LENGTH as f64;
            let each = window.cpu.as_secs_f64() * 1e3 / answers.max(1e-9);
            eprintln!(
                "  25 MiB, round {round} of {rounds}: {:8} {each:6.1} ms, {answers:5.1} answers",
                kind.name()
            );
            millis.push(each);
        }
    }
    Ok(results)
}

/// What an open poll costs, and for the gateway how long cuts take.
pub(crate) struct Idle {
    pub(crate) kind: Kind,
    /// Number of polls, and private resident bytes per poll.
    pub(crate) bytes: Vec<(usize, f64)>,
    pub(crate) cuts: Option<Cuts>,
}

/// Cut latencies in milliseconds, at the client.
pub(crate) struct Cuts {
    pub(crate) open: usize,
    pub(crate) singles: usize,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// From the same start to the admin API's acknowledgement, journal included.
    pub(crate) acknowledged_p50: f64,
    /// From a call of the webhook to the refused Ping, and to the call's own answer.
    pub(crate) webhook: [f64; 2],
    pub(crate) webhook_answered: [f64; 2],
    /// One override of the user of all devices: until the last answer.
    pub(crate) all_by_user: f64,
    /// One import that says of every device that it is not compliant: until the last answer.
    pub(crate) all_by_import: f64,
}

/// Opens polls through a proxy started afresh and reads its memory at each count.
pub(crate) async fn idle(
    stage: &Stage,
    kind: Kind,
    bodies: &Bodies,
    counts: &[usize],
    singles: Option<usize>,
) -> Result<Idle, Failure> {
    let proxy = stage.proxy(kind).await?;
    let most = counts.iter().copied().max().unwrap_or_default();
    introduce(&proxy, most).await?;
    // What a first request costs once is no poll's.
    let pressure = Pressure {
        connections: 8,
        warm_up: Duration::from_millis(100),
        window: Duration::from_millis(200),
    };
    let request = |number| bodies.sync(number);
    drive(
        &proxy.target,
        &proxy.process,
        pressure,
        request,
        SYNC_LENGTH,
    )
    .await?;
    let before = settled(&proxy).await?;
    let mut polls = Polls::none();
    let mut bytes = Vec::new();
    for &count in counts {
        polls
            .open(count, &proxy.target, &proxy.process, bodies)
            .await?;
        let now = settled(&proxy).await?;
        let each = now.saturating_sub(before) as f64 / count.max(1) as f64;
        eprintln!(
            "  {count} polls: {:8} {:6.1} KB each",
            kind.name(),
            each / 1e3
        );
        bytes.push((count, each));
    }
    let cuts = match (singles, kind) {
        (Some(singles), Kind::Seg) => {
            Some(cut(&proxy, &mut polls, most, singles.min(most / 2)).await?)
        }
        _ => None,
    };
    Ok(Idle { kind, bytes, cuts })
}

/// Lets the gateway know the load's devices.
pub(crate) async fn introduce(proxy: &Proxy, devices: usize) -> Result<(), Failure> {
    match &proxy.admin {
        Some(admin) => admin.session().await?.import(devices, true).await,
        None => Ok(()),
    }
}

/// The private resident bytes, once they stand still.
pub(crate) async fn settled(proxy: &Proxy) -> Result<u64, Failure> {
    let began = Instant::now();
    let (mut bytes, mut since) = (proxy.process.private_bytes()?, Instant::now());
    while since.elapsed() < STILL && began.elapsed() < STILL_AT_LAST {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = proxy.process.private_bytes()?;
        // A page more or less is no movement.
        if now.abs_diff(bytes) > 64 * 1024 {
            (bytes, since) = (now, Instant::now());
        }
    }
    proxy.process.private_bytes()
}

/// Blocks one device after the other, then all at once, twice.
async fn cut(
    proxy: &Proxy,
    polls: &mut Polls,
    open: usize,
    singles: usize,
) -> Result<Cuts, Failure> {
    let admin = proxy.admin.as_ref().ok_or("only the gateway can cut")?;
    let mut admin = admin.session().await?;
    let (mut answered, mut acknowledged) = (Vec::new(), Vec::new());
    for number in 0..singles {
        // Spread over the devices, oldest and newest alike.
        let device = number * (open / singles.max(1));
        let began = Instant::now();
        let (block, ended) = tokio::join!(
            async { admin.block(device).await.map(|()| began.elapsed()) },
            polls.refused()
        );
        let (block, ended) = (block?, ended?);
        if ended.device != device {
            return Err(format!("device {device} was blocked, {} was cut", ended.device).into());
        }
        acknowledged.push(block.as_secs_f64() * 1e3);
        answered.push((ended.at - began).as_secs_f64() * 1e3);
    }
    eprintln!("  {singles} single blocks: p50 {:.2} ms", median(&answered));

    for number in 0..singles {
        admin.unblock(number * (open / singles.max(1))).await?;
    }
    let told: Vec<usize> = (0..singles)
        .map(|number| number * (open / singles.max(1)) + 1)
        .collect();
    let (mut hooked, mut told_back) = by_webhook(proxy, polls, &told).await?;
    let open_still = open - singles - told.len();

    let began = Instant::now();
    let (blocked, last) = tokio::join!(admin.block_user(), all_refused(polls, open_still));
    blocked?;
    let all_by_user = (last? - began).as_secs_f64() * 1e3;
    eprintln!("  {open_still} blocked by their user: {all_by_user:.0} ms");

    admin.unblock_user().await?;
    polls.again(&proxy.process).await?;
    let began = Instant::now();
    let (blocked, last) = tokio::join!(admin.import(open, false), all_refused(polls, open));
    blocked?;
    let all_by_import = (last? - began).as_secs_f64() * 1e3;
    eprintln!("  {open} blocked by an import: {all_by_import:.0} ms");

    Ok(Cuts {
        open,
        singles,
        p50: percentile(&mut answered, 0.5),
        p99: percentile(&mut answered, 0.99),
        acknowledged_p50: median(&acknowledged),
        webhook: [0.5, 0.99].map(|share| percentile(&mut hooked, share)),
        webhook_answered: [0.5, 0.99].map(|share| percentile(&mut told_back, share)),
        all_by_user,
        all_by_import,
    })
}

/// Has the webhook called for one device after the other. Answers the milliseconds until each Ping
/// was refused, and until each call was answered.
async fn by_webhook(
    proxy: &Proxy,
    polls: &mut Polls,
    devices: &[usize],
) -> Result<(Vec<f64>, Vec<f64>), Failure> {
    let address = proxy.webhook.ok_or("only the gateway takes webhooks")?;
    let mut webhook = Webhook::connect(address).await?;
    let (mut refused, mut answered) = (Vec::new(), Vec::new());
    for &device in devices {
        let began = Instant::now();
        let (told, ended) = tokio::join!(
            async { webhook.tell(device, false).await.map(|()| began.elapsed()) },
            polls.refused()
        );
        let (told, ended) = (told?, ended?);
        if ended.device != device {
            return Err(format!("device {device} was told of, {} was cut", ended.device).into());
        }
        answered.push(told.as_secs_f64() * 1e3);
        refused.push((ended.at - began).as_secs_f64() * 1e3);
    }
    eprintln!(
        "  {} webhooks: Ping refused p50 {:.2} ms, answered p50 {:.2} ms",
        devices.len(),
        median(&refused),
        median(&answered)
    );
    for &device in devices {
        webhook.tell(device, true).await?;
    }
    Ok((refused, answered))
}

/// When the last of so many refusals came.
async fn all_refused(polls: &mut Polls, count: usize) -> Result<Instant, Failure> {
    let mut last = Instant::now();
    for _ in 0..count {
        last = polls.refused().await?.at;
    }
    Ok(last)
}
