//! A mail server to stand behind the gateway: for `seg dev`, the end-to-end tests and the benches.
//!
//! It speaks Exchange ActiveSync and Exchange Web Services well enough for real clients to log in
//! and read mail, counts everything that reaches it, and misbehaves on demand, byte for byte. Its
//! ActiveSync bytes were made by libwbxml and its EWS answers are literal XML; its HTTP is a small
//! loop of its own. It uses nothing of seg-eas, seg-ews or the gateway's HTTP stacks, so that an
//! error there can't be cancelled by the same error here.
//!
//! It is a test stand-in with well-known passwords: it is only ever started by name.

mod answer;
mod autodiscover;
mod certificate;
mod connection;
mod eas;
mod ews;
mod ledger;
mod login;
mod options;
mod polls;
mod script;
mod site;
mod wire;

pub mod cli;
pub mod requests;

pub use answer::{Answer, Framing};
pub use autodiscover::INSIDE;
pub use certificate::CertificateError;
pub use ews::push::{Push, Pushed};
pub use ews::subscriptions::{Subscription, Way};
pub use ledger::{Event, Exchange, Filter, Kind, Seen, Sent, What};
pub use options::{Profile, Recording, SandboxOptions, Transport, User};
pub use polls::{OpenPoll, Release};
pub use script::{End, Moment, Play, Script};
pub use wire::Head;

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use connection::Shared;

/// Why a sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address can't be listened on.
    #[error("the sandbox can't listen on {address}: {reason}; choose another port")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        reason: io::Error,
    },
    /// The diary can't be written.
    #[error("the sandbox's diary can't be opened: {0}")]
    Diary(io::Error),
    /// The certificate could not be made or used.
    #[error("the sandbox has no certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// The thread or its runtime could not be made.
    #[error("the sandbox's thread did not start: {0}")]
    Thread(io::Error),
}

/// A running sandbox on a thread of its own; dropping it closes every connection and ends it.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    ca_pem: Option<String>,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sandbox {
    /// Starts listening; when this returns, a client can connect.
    ///
    /// # Errors
    /// When the address is taken, or the certificate or the thread can't be made.
    pub fn start(options: SandboxOptions) -> Result<Self, StartError> {
        let tls = match &options.transport {
            Transport::Plain => None,
            Transport::Tls {
                names,
                client_ca_pem,
            } => Some(certificate::issue(names, client_ca_pem.as_deref())?),
        };
        let listener = listen(options.listen)?;
        let address = listener.local_addr().map_err(StartError::Thread)?;
        let (acceptor, ca_pem) = match tls {
            None => (None, None),
            Some(issued) => (Some(issued.acceptor), Some(issued.ca_pem)),
        };
        let diary = options.diary.as_deref().map(open_diary);
        let diary = diary.transpose().map_err(StartError::Diary)?;
        let shared = Arc::new(Shared::new(options, diary));
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::Thread)?;
        let task = connection::accept(Arc::clone(&shared), listener, acceptor, stopped);
        let thread = std::thread::Builder::new()
            .name("sandbox".to_owned())
            .spawn(move || {
                if let Err(error) = runtime.block_on(task) {
                    tracing::error!(%error, "the sandbox has stopped listening");
                }
            })
            .map_err(StartError::Thread)?;
        Ok(Self {
            address,
            ca_pem,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// What an upstream property takes: `https://127.0.0.1:port`, or `http://` when plain.
    pub fn url(&self) -> String {
        let scheme = if self.ca_pem.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.address)
    }

    /// The authority that signed its certificate, in PEM; none when plain.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// How many whole requests that match have arrived, answered or not.
    pub fn count(&self, filter: &Filter) -> u64 {
        self.shared.ledger.count(filter)
    }

    /// Every row of the count: what was asked, and how often.
    pub fn counts(&self) -> Vec<(Seen, u64)> {
        self.shared.ledger.counts()
    }

    /// How many connections have been accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.ledger.connections()
    }

    /// How many messages were not one well-formed HTTP/1.1 request.
    pub fn malformed(&self) -> u64 {
        self.shared.ledger.malformed()
    }

    /// The last requests that match with their answers, oldest first, as bytes on the wire.
    /// The sandbox keeps the last 1,024 exchanges and forgets the bodies above 64 MiB in all.
    pub fn exchanges(&self, filter: &Filter) -> Vec<Exchange> {
        self.shared.ledger.exchanges(filter)
    }

    /// The newest exchange that matches.
    pub fn last(&self, filter: &Filter) -> Option<Exchange> {
        self.exchanges(filter).pop()
    }

    /// Every message that was sent (SendMail, SmartReply, SmartForward; CreateItem and SendItem of
    /// EWS), in order: a message that shows up twice was doubled on the way.
    pub fn sent(&self) -> Vec<Sent> {
        self.shared.ledger.sent()
    }

    /// What happened, oldest first; the last 65,536 events.
    pub fn events(&self) -> Vec<Event> {
        self.shared.ledger.events()
    }

    /// The long polls and streams that are open now and match.
    pub fn open_polls(&self, filter: &Filter) -> Vec<OpenPoll> {
        self.shared.polls.open(filter)
    }

    /// Ends, or for a stream feeds, the open polls that match; says how many were reached.
    pub fn release(&self, filter: &Filter, release: &Release) -> usize {
        self.shared.polls.release(filter, release)
    }

    /// The EWS subscriptions that are open.
    pub fn subscriptions(&self) -> Vec<Subscription> {
        self.shared.ews.subscriptions.all()
    }

    /// A new mail for the user with this address, of which those hear who ask (GetEvents).
    pub fn new_mail(&self, address: &str) {
        self.shared.ews.subscriptions.new_mail(address);
    }

    /// Calls every push subscriber and says what each of them answered; a subscription that its
    /// subscriber does not want any more is dropped. `ca_pem` signs the certificates of those who
    /// are called over TLS. Needs a tokio runtime.
    pub async fn push(&self, what: Push, ca_pem: &str) -> Vec<(Subscription, Pushed)> {
        let mut pushed = Vec::new();
        let push = |one: &Subscription| one.way == Way::Push;
        for subscription in self.subscriptions().into_iter().filter(push) {
            let said = ews::push::call(&subscription, what, ca_pem).await;
            if said == Pushed::Unsubscribe {
                self.shared.ews.subscriptions.remove(&subscription.id);
            }
            pushed.push((subscription, said));
        }
        pushed
    }

    /// Adds a script behind those that are already there; the first that matches plays.
    pub fn script(&self, script: Script) {
        self.shared.scripts.add(script);
    }

    /// Takes every script away.
    pub fn clear_scripts(&self) {
        self.shared.scripts.clear();
    }

    /// The WWW-Authenticate lines of every 401 from now on, one header line each.
    pub fn set_challenges(&self, challenges: Vec<String>) {
        *self.shared.challenges.lock() = challenges;
    }

    /// Waits until `is_so` holds, looking again whenever something happened. False: `limit` has
    /// passed. Needs a tokio runtime with a clock, on any thread.
    pub async fn wait_until(&self, limit: Duration, is_so: impl Fn(&Self) -> bool) -> bool {
        let mut changes = self.shared.changed.subscribe();
        let wait = async {
            loop {
                changes.borrow_and_update();
                if is_so(self) {
                    return true;
                }
                if changes.changed().await.is_err() {
                    return false;
                }
            }
        };
        tokio::time::timeout(limit, wait).await.unwrap_or(false)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The receiver is gone only when the thread has ended already.
            let _already_ended = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the sandbox's thread has panicked");
        }
    }
}

fn open_diary(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

/// A socket with a queue long enough for thousands of clients that connect at once.
fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let open = || -> io::Result<TcpListener> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(16_384)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    open().map_err(|reason| StartError::Listen { address, reason })
}

#[cfg(test)]
mod tests;
