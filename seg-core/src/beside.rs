//! The listeners beside the clients' and the admin's: the decision service and the webhooks. They
//! run on the background runtime, bounded in number and time, behind an address list, and behind
//! mutual TLS where a CA is named.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// Connections at one time; more wait to be accepted.
const CONNECTIONS: usize = 2_048;
/// Time for a handshake, for a request's head, for its body, and for the next request on an idle
/// connection.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Pause after an accept that failed, as it does when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who may connect, and how.
#[derive(Clone)]
pub struct Door {
    /// Networks that may connect.
    pub networks: Vec<IpNet>,
    /// TLS, where a certificate is asked for.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door")
            .field("networks", &self.networks)
            .field("tls", &self.tls.is_some())
            .finish()
    }
}

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub struct Visitor {
    /// The other end of its connection.
    pub address: SocketAddr,
    /// It has shown a certificate of the CA that is named for this listener.
    pub certified: bool,
}

/// An answer, whole.
pub type Answer = Response<Full<Bytes>>;

/// An answer of one line.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
}

/// Serves until `stopped` turns true; then no new connection is accepted, and those that are open end
/// with their next answer. Each connection comes through the `door` that there is when it comes.
pub async fn serve<F>(
    listener: TcpListener,
    door: impl Fn() -> Door,
    stopped: watch::Receiver<bool>,
    answer: impl Fn(Visitor, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = Answer> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut over = stopped.clone();
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            _ = over.wait_for(|over| *over) => return,
            accepted = accepted => accepted,
        };
        let Ok(place) = place else { return };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (address, door) = (peer.ip().to_canonical(), door());
        if !door
            .networks
            .iter()
            .any(|network| network.contains(&address))
        {
            tracing::debug!(%peer, "a connection from outside of the allowed networks");
            continue;
        }
        let (answer, stopped) = (answer.clone(), stopped.clone());
        tokio::spawn(async move {
            connection(stream, peer, door.tls, stopped, answer).await;
            drop(place);
        });
    }
}

async fn connection<F>(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
    stopped: watch::Receiver<bool>,
    answer: impl Fn(Visitor, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = Answer> + Send + 'static,
{
    let visitor = Visitor {
        address: peer,
        certified: tls.is_some(),
    };
    // An answer must not wait for the next one to fill a segment.
    let _ = stream.set_nodelay(true);
    match tls {
        None => requests(stream, visitor, stopped, answer).await,
        Some(tls) => {
            let handshake = TlsAcceptor::from(tls).accept(stream);
            match tokio::time::timeout(PATIENCE, handshake).await {
                Ok(Ok(stream)) => requests(stream, visitor, stopped, answer).await,
                Ok(Err(error)) => tracing::info!(%peer, %error, "a handshake failed"),
                Err(_) => tracing::info!(%peer, "a handshake took too long"),
            }
        }
    }
}

async fn requests<F>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    visitor: Visitor,
    mut stopped: watch::Receiver<bool>,
    answer: impl Fn(Visitor, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answered = answer(visitor, request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        served = served.as_mut() => Some(served),
        _ = stopped.wait_for(|stopped| *stopped) => None,
    };
    let served = match ended {
        Some(served) => served,
        None => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(peer = %visitor.address, %error, "a connection ended");
    }
}
