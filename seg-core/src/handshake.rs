//! TLS with the client. Comes before everything that reads a request, within a deadline of its
//! own, so that a storm of half-open handshakes costs neither memory for long nor the polls that
//! are open already.

use std::net::SocketAddr;
use std::sync::Arc;

use seg_compliance::UserKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::accept::{self, Door};
use crate::binding::Hello;
use crate::config::BindingPart;
use crate::identify::{CallerMemory, ClientCertificate, NtlmPin, Open};
use crate::message::{self, ClientTimeouts, ConnectionEnd, PhaseCell};
use crate::pipeline;
use crate::protocol::LineMemory;
use crate::protocol::ews::ClientCertificate as EwsCertificate;
use crate::runtime::{Core, Snapshot};
use crate::secure::{self, ServerStream};
use crate::socket::Socket;
use crate::transform::{ToldMemory, peer_parts};

/// One client connection, as its requests know it.
#[derive(Debug)]
pub struct Connection {
    /// The core that serves it.
    pub core: Arc<Core>,
    /// Its other end.
    pub peer: SocketAddr,
    /// TLS is spoken on it.
    pub secure: bool,
    /// The verified client certificate.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// What the client offered in its handshake, where that is compared.
    pub hello: Option<Hello>,
    /// What `[ews]` tells clients and devices by, where it does so by certificate.
    pub ews_certificate: Option<Box<EwsCertificate>>,
    /// Its pinned connection to the server, where there is one.
    pub ntlm: NtlmPin,
    /// The caller of its last request.
    pub callers: CallerMemory,
    /// The query of its last ActiveSync command.
    pub lines: LineMemory,
    /// Where it is between two requests.
    pub phase: Arc<PhaseCell>,
    /// `X-Forwarded-For` and the beginning of `Forwarded`, made once.
    pub peer_parts: (Arc<str>, String),
    /// What the server was told of it with its last request.
    pub told: ToldMemory,
}

impl Connection {
    /// The user whom a verified client certificate names.
    pub fn certificate_user(&self) -> Option<&UserKey> {
        self.certificate.as_ref()?.user.as_ref()
    }
}

/// What a client showed in its handshake.
#[derive(Default)]
struct Shown {
    certificate: Option<Arc<ClientCertificate>>,
    ews: Option<Box<EwsCertificate>>,
    hello: Option<Hello>,
}

/// Serves one connection from its handshake to its end.
pub(crate) async fn run(core: Arc<Core>, mut stream: TcpStream, peer: SocketAddr, door: Door) {
    let _connected = core.connected();
    let server = core.shared.snapshot();
    let peer = match accept::peer(&mut stream, peer, &server.config.server).await {
        Ok(peer) => peer,
        Err(error) => {
            core.shared.metrics.bad_request("proxy_header");
            tracing::info!(peer = %peer.ip(), "{error}");
            return;
        }
    };
    drop(server);
    let stream = Socket::new(stream);
    if door == Door::Plain {
        let end = Box::pin(serve(&core, stream, peer, Shown::default(), false)).await;
        return ended(&core, peer, end);
    }
    // Boxed: the handshake's state is large and gone after a moment, the connection's task stays.
    let Some((stream, hello)) = Box::pin(shake(&core, stream, peer)).await else {
        return;
    };
    let mut certificate = certificate(&stream, &core.shared.snapshot());
    let nothing = Open::default();
    if let Some(open) = certificate.as_mut().filter(|shown| shown.open != nothing) {
        Box::pin(ask_directory(&core, open)).await;
    }
    let shown = Shown {
        certificate: certificate.map(Arc::new),
        ews: ews_certificate(&stream, &core.shared.snapshot()),
        hello,
    };
    let certificate = shown.certificate.clone();
    let served = serve(&core, stream, peer, shown, true);
    let end = match certificate {
        None => served.await,
        Some(certificate) => Box::pin(while_it_counts(&core, served, &certificate, peer)).await,
    };
    ended(&core, peer, end);
}

fn ended(core: &Core, peer: SocketAddr, end: Option<ConnectionEnd>) {
    if let Some(end) = end {
        core.shared.metrics.bad_request(end.reason);
        tracing::info!(peer = %peer.ip(), reason = end.reason, "{}", end.text);
    }
}

/// The handshake, within its deadline.
async fn shake(
    core: &Arc<Core>,
    stream: Socket,
    peer: SocketAddr,
) -> Option<(Box<ServerStream>, Option<Hello>)> {
    let snapshot = core.shared.snapshot();
    let deadline = snapshot.config.server.handshake_timeout;
    let shaken = async {
        let tls = &snapshot.config.server.tls;
        let rules = snapshot.bindings.as_deref();
        let reads_hello = rules.is_some_and(|rules| rules.config.compares(BindingPart::Tls));
        if !tls.varies() && !reads_hello {
            let config = Arc::clone(snapshot.tls.usual());
            return Ok((secure::accept(stream, config).await?, None));
        }
        let local = stream.local_addr().ok();
        let begun = secure::read_hello(stream).await?;
        let told = begun.hello();
        let rule = tls.client_auth_for(told.server_name(), local);
        let hello = reads_hello.then(|| Hello::read(&told));
        let config = Arc::clone(snapshot.tls.under(rule));
        Ok((begun.accept(config).await?, hello))
    };
    match tokio::time::timeout(deadline, shaken).await {
        Ok(Ok((stream, hello))) => Some((Box::new(stream), hello)),
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

fn serve<S>(
    core: &Arc<Core>,
    stream: S,
    peer: SocketAddr,
    shown: Shown,
    secure: bool,
) -> impl Future<Output = Option<ConnectionEnd>> + Send + use<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
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
        certificate: shown.certificate,
        hello: shown.hello,
        ews_certificate: shown.ews,
        ntlm: NtlmPin::default(),
        secure,
        callers: CallerMemory::default(),
        phase: Arc::clone(&phase),
        peer_parts: peer_parts(peer.ip(), secure),
        told: ToldMemory::default(),
        lines: LineMemory::default(),
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

/// The verified client certificate. rustls has verified the chain before this is called.
fn certificate(stream: &ServerStream, snapshot: &Snapshot) -> Option<ClientCertificate> {
    let chain = stream.session().peer_certificates()?;
    ClientCertificate::read(chain, &snapshot.certificates, &snapshot.identity)
}

/// What only the directory knows of a certificate.
async fn ask_directory(core: &Core, certificate: &mut ClientCertificate) {
    let snapshot = core.shared.snapshot();
    let Some(directory) = &snapshot.directory else {
        return;
    };
    let runtime = core.shared.outbound.runtime();
    certificate
        .ask(
            directory,
            runtime,
            &snapshot.certificates,
            &snapshot.identity,
        )
        .await;
    if certificate.open.user && certificate.user.is_none() {
        core.shared.metrics.bad_request("certificate_unmapped");
    }
}

/// The parts of a verified client certificate that `[ews]` reads.
fn ews_certificate(stream: &ServerStream, snapshot: &Snapshot) -> Option<Box<EwsCertificate>> {
    if !snapshot.ews_settings.reads_certificates {
        return None;
    }
    let leaf = stream.session().peer_certificates()?.first()?;
    EwsCertificate::read(leaf).map(Box::new)
}

/// Serves while the client's certificate counts: asked before the first request, and again
/// whenever a list has come or a responder's answer has ended, so that a revocation ends an open
/// poll too. Resumed sessions pass here like all others, and connections that go on in another
/// protocol a second time. Once it counts, a responder that takes its time keeps nobody waiting.
pub(crate) async fn while_it_counts<E>(
    core: &Core,
    served: impl Future<Output = Option<E>>,
    certificate: &ClientCertificate,
    peer: SocketAddr,
) -> Option<E> {
    let shared = &core.shared;
    let mut changes = shared.revocations.subscribe();
    let mut served = std::pin::pin!(served);
    let mut counts = false;
    loop {
        let snapshot = shared.snapshot();
        let rules = &snapshot.config.server.tls.revocation;
        let links = &certificate.links;
        let check = shared
            .revocations
            .check(rules, &snapshot.authorities, links);
        let checked = tokio::select! {
            biased;
            end = served.as_mut(), if counts => return end,
            checked = check => checked,
        };
        counts = true;
        drop(snapshot);
        if let Some(why) = checked.refused {
            shared.metrics.bad_request("certificate_refused");
            let serial = certificate.serial();
            tracing::warn!(peer = %peer.ip(), serial, "connection ended: {why}");
            return None;
        }
        let again = async {
            match checked.again {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            end = served.as_mut() => return end,
            // The sender lives as long as the gateway.
            _ = changes.changed() => {}
            () = again => {}
        }
    }
}
