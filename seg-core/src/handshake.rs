//! TLS with the client. Comes before everything that reads a request, within a deadline of its
//! own, so that a storm of half-open handshakes costs neither memory for long nor the polls that
//! are open already.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;
use seg_compliance::UserKey;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::identify::CallerMemory;
use crate::message::{self, ClientTimeouts, ConnectionEnd, PhaseCell};
use crate::pipeline;
use crate::protocol::ews::ClientCertificate;
use crate::runtime::Core;
use crate::transform::peer_parts;

/// One client connection, as its requests know it.
#[derive(Debug)]
pub struct Connection {
    /// The core that serves it.
    pub core: Arc<Core>,
    /// Its other end.
    pub peer: SocketAddr,
    /// The user whom a verified client certificate names.
    pub certificate_user: Option<UserKey>,
    /// What `[ews]` tells clients and devices by, where it does so by certificate.
    pub ews_certificate: Option<Box<ClientCertificate>>,
    /// The caller of its last request.
    pub callers: CallerMemory,
    /// Where it is between two requests.
    pub phase: Arc<PhaseCell>,
    /// `X-Forwarded-For` and the beginning of `Forwarded`, made once.
    pub peer_parts: (HeaderValue, String),
}

/// Serves one connection from its handshake to its end.
pub(crate) async fn run(core: Arc<Core>, stream: TcpStream, peer: SocketAddr) {
    let _connected = core.connected();
    // Boxed: the handshake's state is large and gone after a moment, the connection's task stays.
    let served = match Box::pin(accept(&core, stream, peer)).await {
        Some(stream) => serve(&core, stream, peer),
        None => return,
    };
    if let Some(end) = served.await {
        core.shared.metrics.bad_request(end.reason);
        tracing::info!(peer = %peer.ip(), reason = end.reason, "{}", end.text);
    }
}

/// The handshake, within its deadline.
async fn accept(
    core: &Arc<Core>,
    stream: TcpStream,
    peer: SocketAddr,
) -> Option<Box<TlsStream<TcpStream>>> {
    let snapshot = core.shared.snapshot();
    let acceptor = TlsAcceptor::from(Arc::clone(&snapshot.tls));
    let deadline = snapshot.config.server.handshake_timeout;
    drop(snapshot);
    match tokio::time::timeout(deadline, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        Ok(Err(error)) => {
            core.shared.metrics.bad_request("tls");
            tracing::info!(peer = %peer.ip(), "TLS handshake failed: {}", why(&error));
            None
        }
        Err(_) => {
            core.shared.metrics.bad_request("slow_handshake");
            tracing::info!(peer = %peer.ip(), "TLS handshake took too long");
            None
        }
    }
}

fn serve(
    core: &Arc<Core>,
    stream: Box<TlsStream<TcpStream>>,
    peer: SocketAddr,
) -> impl Future<Output = Option<ConnectionEnd>> + Send + use<> {
    let snapshot = core.shared.snapshot();
    let server = &snapshot.config.server;
    let timeouts = ClientTimeouts {
        head: server.header_timeout,
        idle: server.idle_timeout,
        write: server.body_timeout,
        head_bytes: server.header_max,
    };
    let phase = Arc::new(PhaseCell::new(Instant::now()));
    let connection = Arc::new(Connection {
        peer,
        certificate_user: certificate_user(&stream, &snapshot),
        ews_certificate: ews_certificate(&stream, &snapshot),
        callers: CallerMemory::default(),
        phase: Arc::clone(&phase),
        peer_parts: peer_parts(peer.ip()),
        core: Arc::clone(core),
    });
    let drain = core.drain_connections();
    message::serve(stream, phase, timeouts, drain, move |request| {
        pipeline::serve(Arc::clone(&connection), request)
    })
}

/// Why a handshake failed, and what mends it where that is known.
fn why(error: &std::io::Error) -> String {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(error) => {
            let explained = crate::tls::explain_client(error);
            format!("{}; {}", explained.reason, explained.mend)
        }
        None => error.to_string(),
    }
}

/// The user of a verified client certificate. rustls has verified the chain before this is called.
fn certificate_user(
    stream: &TlsStream<TcpStream>,
    snapshot: &crate::runtime::Snapshot,
) -> Option<UserKey> {
    let (_, session) = stream.get_ref();
    let leaf = session.peer_certificates()?.first()?;
    let from_cn = snapshot.config.server.tls.upn_from_subject_cn;
    let user = crate::tls::client_user(leaf, from_cn).ok()?;
    snapshot.identity.canonical(&user.name)
}

/// The parts of a verified client certificate that `[ews]` reads.
fn ews_certificate(
    stream: &TlsStream<TcpStream>,
    snapshot: &crate::runtime::Snapshot,
) -> Option<Box<ClientCertificate>> {
    if !snapshot.ews_settings.reads_certificates {
        return None;
    }
    let (_, session) = stream.get_ref();
    let leaf = session.peer_certificates()?.first()?;
    ClientCertificate::read(leaf).map(Box::new)
}
