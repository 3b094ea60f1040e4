//! From a target to a connection: addresses, TCP, TLS. The cold path, always boxed.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::{Connection, Io};
use super::error::{Phase, SendErrorKind, TlsFailure};
use super::pool::Key;
use super::target::Target;
use crate::secure;
use crate::socket::Socket;
use crate::tcp;

/// A connection on its way. Boxed: a handshake is large, and a request that reuses a connection
/// must not carry room for it.
pub(super) type Connecting =
    Pin<Box<dyn Future<Output = Result<Box<Connection>, SendErrorKind>> + Send>>;

/// Connects to `target` within `limit`, everything included but the wait for a turn, which may take
/// as long again.
pub(super) fn connect(target: Target, key: Key, limit: Duration) -> Connecting {
    Box::pin(async move {
        // When thousands come back at once, each handshake that waits its turn is one that does not
        // slow the others down until all of them are too late.
        let turn = timeout(limit, target.turns().acquire());
        let Ok(_turn) = turn.await else {
            return Err(SendErrorKind::Timeout(Phase::Connect));
        };
        let deadline = Instant::now().checked_add(limit);
        let work = establish(&target, key, deadline);
        match deadline {
            Some(deadline) => timeout_at(deadline, work)
                .await
                .unwrap_or(Err(SendErrorKind::Timeout(Phase::Connect))),
            None => work.await,
        }
    })
}

async fn establish(
    target: &Target,
    key: Key,
    deadline: Option<Instant>,
) -> Result<Box<Connection>, SendErrorKind> {
    let room = room(target).await?;
    let unresolved = |source| SendErrorKind::Unresolved {
        host: target.host().into(),
        source,
    };
    // Where a proxy stands between, it is who is connected to, and who knows names.
    let next = target.via().map_or(target, |via| via.proxy());
    let addresses = next.addresses().current().await.map_err(unresolved)?;
    let (mut tcp, peer) = match dial(next, &addresses, deadline).await {
        Ok(dialled) => dialled,
        // The server may have moved since its name was looked up.
        Err(error) => match next.addresses().after_failure(&addresses).await {
            Some(anew) => dial(next, &anew, deadline)
                .await
                .map_err(SendErrorKind::ConnectFailed)?,
            None => return Err(SendErrorKind::ConnectFailed(error)),
        },
    };
    tcp::prepare(&tcp, tcp::SERVER_GONE).map_err(SendErrorKind::ConnectFailed)?;
    if let Some(via) = target.via().filter(|_| target.is_tls()) {
        let tunnel = via.tunnel(&mut tcp, target).await;
        tunnel.map_err(SendErrorKind::ConnectFailed)?;
    }
    let socket = Socket::new(tcp);
    let io = match target.tls_settings() {
        None => Io::Plain(socket),
        Some(tls) => {
            let stream = secure::connect(socket, tls.config.clone(), tls.server_name.clone())
                .await
                .map_err(|error| SendErrorKind::TlsFailed(TlsFailure::from_io(error)))?;
            if stream
                .session()
                .alpn_protocol()
                .is_some_and(|chosen| chosen != b"http/1.1")
            {
                return Err(SendErrorKind::TlsFailed(TlsFailure::WrongProtocol));
            }
            let shown = stream.session().peer_certificates();
            target.note_certificate(shown.and_then(|chain| chain.first()));
            Io::Tls(stream)
        }
    };
    Ok(Box::new(Connection::new(
        io,
        key,
        peer,
        target.clone(),
        room,
    )))
}

/// Waits until there may be one connection more. The deadline of the whole ends the wait.
async fn room(target: &Target) -> Result<Option<OwnedSemaphorePermit>, SendErrorKind> {
    let Some(room) = target.room() else {
        return Ok(None);
    };
    if let Ok(permit) = Arc::clone(room).try_acquire_owned() {
        return Ok(Some(permit));
    }
    // From here on no connection to it stays idle, on whatever core.
    let _waiting = target.standing().wait();
    // Nobody closes the semaphore.
    Ok(Arc::clone(room).acquire_owned().await.ok())
}

/// Tries every address, beginning with the one that worked last. Each gets an equal share of the
/// time that is left, so one that swallows packets can't starve the others.
async fn dial(
    target: &Target,
    addresses: &[SocketAddr],
    deadline: Option<Instant>,
) -> io::Result<(TcpStream, SocketAddr)> {
    let count = addresses.len();
    let start = target.addresses().start(count);
    let order = (start..count).chain(0..start);
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "no address");
    for (tried, index) in order.enumerate() {
        let Some(&address) = addresses.get(index) else {
            continue;
        };
        if !target.allows(address.ip()) {
            let text = format!("{address}: redirect.allowed.hosts does not list this address");
            failure = io::Error::new(io::ErrorKind::PermissionDenied, text);
            continue;
        }
        let attempt = target.sources().connect(address);
        let outcome = match share(deadline, count.saturating_sub(tried)) {
            Some(share) => timeout(share, attempt).await.unwrap_or_else(|_| {
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "no answer to the connection attempt",
                ))
            }),
            None => attempt.await,
        };
        match outcome {
            Ok(tcp) => {
                target.addresses().worked(index);
                return Ok((tcp, address));
            }
            Err(error) => {
                failure = io::Error::new(error.kind(), format!("{address}: {error}"));
            }
        }
    }
    Err(failure)
}

/// The time for one attempt when `left` addresses remain. The last one has no limit of its own:
/// the deadline of the whole ends it, and is reported as what it is.
fn share(deadline: Option<Instant>, left: usize) -> Option<Duration> {
    if left <= 1 {
        return None;
    }
    let remaining = deadline?.saturating_duration_since(Instant::now());
    Some(remaining / u32::try_from(left).unwrap_or(u32::MAX))
}
