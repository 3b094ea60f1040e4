//! Thousands of open long polls, each on a connection of its own, and when each was answered.

use std::io;
use std::time::{Duration, Instant};

use seg_bench::Failure;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use crate::client::{Body, Client, Target};
use crate::measure::PATIENCE;
use crate::process::Process;
use crate::requests::Bodies;

/// How many connections are opened at a time.
const AT_ONCE: usize = 32;

/// The polls of one run; dropping them closes their connections.
pub(crate) struct Polls {
    phones: JoinSet<()>,
    ended: mpsc::UnboundedReceiver<Ended>,
    report: mpsc::UnboundedSender<Ended>,
    /// Which phones are to ask again.
    again: watch::Sender<Again>,
    open: usize,
}

/// The phones below this number are in this round, the others in the one before.
#[derive(Clone, Copy, Default)]
struct Again {
    round: u64,
    below: usize,
}

/// The end of one poll.
pub(crate) struct Ended {
    pub(crate) device: usize,
    pub(crate) at: Instant,
    outcome: io::Result<(u16, Vec<u8>)>,
}

impl Polls {
    pub(crate) fn none() -> Self {
        let (report, ended) = mpsc::unbounded_channel();
        Self {
            phones: JoinSet::new(),
            ended,
            report,
            again: watch::Sender::default(),
            open: 0,
        }
    }

    /// Opens polls until there are this many, and waits until each has reached the mail server.
    pub(crate) async fn open(
        &mut self,
        count: usize,
        target: &Target,
        process: &Process,
        bodies: &Bodies,
    ) -> Result<(), Failure> {
        let mut opening = JoinSet::new();
        while self.open < count || !opening.is_empty() {
            while self.open < count && opening.len() < AT_ONCE {
                let (target, device) = (target.clone(), self.open);
                self.open += 1;
                let ping = bodies.ping(device);
                opening.spawn(async move { (device, ping, Client::connect(&target).await) });
            }
            if let Some(opened) = opening.join_next().await {
                let (device, ping, client) = opened?;
                let report = self.report.clone();
                let again = self.again.subscribe();
                self.phones
                    .spawn(phone(device, client?, ping, report, again));
            }
        }
        self.all_there(process).await
    }

    /// Every phone asks again, on the connection it has. A few at a time: all at once would be more
    /// connections than the mail server's queue of new ones holds.
    pub(crate) async fn again(&mut self, process: &Process) -> Result<(), Failure> {
        let until = Instant::now() + PATIENCE;
        while process.open_files()? > self.open + self.open / 4 {
            if Instant::now() > until {
                return Err("the connections of cut polls stay open".into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.again
            .send_modify(|again| (again.round, again.below) = (again.round + 1, 0));
        for below in (0..=self.open).step_by(AT_ONCE) {
            self.again
                .send_modify(|again| again.below = below + AT_ONCE);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.all_there(process).await
    }

    /// Waits until the proxy holds two sockets a poll.
    async fn all_there(&mut self, process: &Process) -> Result<(), Failure> {
        let until = Instant::now() + PATIENCE;
        while process.open_files()? < 2 * self.open {
            if let Ok(ended) = self.ended.try_recv() {
                return Err(
                    format!("poll {} ended early: {:?}", ended.device, ended.outcome).into(),
                );
            }
            if Instant::now() > until {
                let files = process.open_files()?;
                return Err(format!("{} polls are not open: {files} files", self.open).into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// The next poll to end, which must end with a refusal in the words of its command.
    pub(crate) async fn refused(&mut self) -> Result<Ended, Failure> {
        let ended = tokio::time::timeout(PATIENCE, self.ended.recv()).await;
        let ended = ended.ok().flatten().ok_or("a cut poll was not answered")?;
        match &ended.outcome {
            // <Ping><Status>129</Status>: MS-ASCMD 2.2.2.
            Ok((200, body)) if memchr::memmem::find(body, b"129").is_some() => Ok(ended),
            other => Err(format!("poll {} was answered {other:?}", ended.device).into()),
        }
    }
}

/// One phone: asks, reports the answer, and asks again when told to.
async fn phone(
    device: usize,
    mut client: Client<TlsStream<TcpStream>>,
    ping: Vec<u8>,
    report: mpsc::UnboundedSender<Ended>,
    mut again: watch::Receiver<Again>,
) {
    for round in 1.. {
        let outcome = client
            .ask(&ping, Body::Keep, |_| ())
            .await
            .map(|answer| (answer.status, answer.body));
        let at = Instant::now();
        let ended = Ended {
            device,
            at,
            outcome,
        };
        let told = |again: &Again| again.round >= round && device < again.below;
        if report.send(ended).is_err() || again.wait_for(told).await.is_err() {
            return;
        }
    }
}
