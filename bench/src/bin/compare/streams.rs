//! Thousands of open EWS streams, each on a connection of its own: what one costs, and how soon a
//! block has ended them all.

use std::io;
use std::time::Instant;

use seg_bench::Failure;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use crate::client::{Client, Target};
use crate::measure::{PATIENCE, introduce, settled};
use crate::proxy::{Kind, Stage};
use crate::requests;

/// How many connections are opened at a time.
const AT_ONCE: usize = 32;
/// What a server says first on a stream.
const OPENED: &[u8] = b"<m:ConnectionStatus>OK</m:ConnectionStatus>";
/// The last chunk of an answer that ended as it should.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";
/// What a stream that was cut has said before.
const REFUSED: &[u8] = b"ErrorAccessDenied";

/// What open streams cost, and for the gateway how long their cut takes.
pub(crate) struct Streams {
    pub(crate) kind: Kind,
    pub(crate) open: usize,
    /// Private resident bytes per stream.
    pub(crate) bytes: f64,
    /// Milliseconds from the first byte of the block to the end of the last stream.
    pub(crate) cut_millis: Option<f64>,
}

/// Opens streams through a proxy started afresh, reads its memory, and blocks their user.
pub(crate) async fn streams(stage: &Stage, kind: Kind, count: usize) -> Result<Streams, Failure> {
    let proxy = stage.proxy(kind).await?;
    introduce(&proxy, 1).await?;
    // What a first request costs once is no stream's.
    let mut warm = Vec::new();
    for _ in 0..8 {
        warm.push(opened(&proxy.target).await?);
    }
    drop(warm);
    let before = settled(&proxy).await?;

    let (report, mut ended) = mpsc::unbounded_channel();
    let (mut opening, mut listening) = (JoinSet::new(), JoinSet::new());
    let mut asked = 0;
    while asked < count || !opening.is_empty() {
        while asked < count && opening.len() < AT_ONCE {
            let target = proxy.target.clone();
            asked += 1;
            opening.spawn(async move { opened(&target).await });
        }
        if let Some(stream) = opening.join_next().await {
            let (stream, report) = (stream??, report.clone());
            // Nobody listens any more where the run has failed.
            listening.spawn(async move { drop(report.send(over(stream).await)) });
        }
    }
    let each = settled(&proxy).await?.saturating_sub(before) as f64 / count.max(1) as f64;
    eprintln!(
        "  {count} streams: {:8} {:6.1} KB each",
        kind.name(),
        each / 1e3
    );

    let cut_millis = match &proxy.admin {
        None => None,
        Some(admin) => {
            let mut admin = admin.session().await?;
            let began = Instant::now();
            let (blocked, last) = tokio::join!(admin.block_user(), async {
                let mut last = began;
                for _ in 0..count {
                    let next = tokio::time::timeout(PATIENCE, ended.recv()).await;
                    last = next.ok().flatten().ok_or("a stream was not cut")??;
                }
                Ok::<_, Failure>(last)
            });
            blocked?;
            let millis = (last? - began).as_secs_f64() * 1e3;
            eprintln!("  {count} streams cut: {millis:.0} ms");
            Some(millis)
        }
    };
    Ok(Streams {
        kind,
        open: count,
        bytes: each,
        cut_millis,
    })
}

/// A stream that the server has begun to answer.
async fn opened(target: &Target) -> io::Result<Client<TlsStream<TcpStream>>> {
    let mut client = Client::connect(target).await?;
    client.send(&requests::streaming()).await?;
    client.until(OPENED).await?;
    Ok(client)
}

/// Waits until a stream has ended as one that was cut should; says when.
async fn over(mut stream: Client<TlsStream<TcpStream>>) -> io::Result<Instant> {
    let said = stream.until(LAST_CHUNK).await?;
    if memchr::memmem::find(&said, REFUSED).is_none() {
        return Err(io::Error::other("a stream ended without saying why"));
    }
    Ok(Instant::now())
}
