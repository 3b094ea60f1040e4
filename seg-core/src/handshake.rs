//! TLS with the client. Comes before everything that reads a request, within a deadline of its
//! own, so that a storm of half-open handshakes costs neither memory for long nor the polls that
//! are open already.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;
use seg_compliance::UserKey;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::identify::CallerMemory;
use crate::message::{self, ClientTimeouts, Phase, PhaseCell};
use crate::pipeline;
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
    let snapshot = core.shared.snapshot();
    let server = &snapshot.config.server;
    let acceptor = TlsAcceptor::from(Arc::clone(&snapshot.tls));
    let deadline = server.handshake_timeout;
    let timeouts = ClientTimeouts {
        head: server.header_timeout,
        idle: server.idle_timeout,
        write: server.body_timeout,
        head_bytes: server.header_max,
    };
    // Boxed: the handshake's state is large and gone after a moment, the connection's task stays.
    let accepted = Box::pin(tokio::time::timeout(deadline, acceptor.accept(stream))).await;
    let stream = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            core.shared.metrics.bad_request("tls");
            tracing::info!(peer = %peer.ip(), "TLS handshake failed: {}", why(&error));
            return;
        }
        Err(_) => {
            core.shared.metrics.bad_request("slow_handshake");
            tracing::info!(peer = %peer.ip(), "TLS handshake took too long");
            return;
        }
    };
    let certificate_user = certificate_user(&stream, &snapshot);
    drop(snapshot);
    let phase = Arc::new(PhaseCell::default());
    phase.enter(Phase::Idle);
    let connection = Arc::new(Connection {
        peer,
        certificate_user,
        callers: CallerMemory::default(),
        phase: Arc::clone(&phase),
        peer_parts: peer_parts(peer.ip()),
        core: Arc::clone(&core),
    });
    let drain = core.drain_connections();
    let ended = message::serve(stream, phase, timeouts, drain, |request| {
        pipeline::serve(Arc::clone(&connection), request)
    })
    .await;
    if let Some(end) = ended {
        core.shared.metrics.bad_request(end.reason);
        tracing::info!(peer = %peer.ip(), reason = end.reason, "{}", end.text);
    }
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
