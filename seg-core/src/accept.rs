//! Connections come in: one `SO_REUSEPORT` listener per core and address, so that the kernel
//! spreads them and a request lives and dies on the core that accepted it.

pub mod fuzz;
mod proxy;

pub use proxy::ProxyError;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::config;
use crate::handshake;
use crate::runtime::Core;
use crate::tcp;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// How long a listener pauses when the process is out of file descriptors.
const OUT_OF_FILES_PAUSE: Duration = Duration::from_millis(50);

/// What is spoken at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// TLS: `server.listen`.
    Tls,
    /// Plain HTTP: `server.http.listen`.
    Plain,
}

/// Who is at the other end of a connection: its own address, or the one that a trusted proxy
/// tells where `server.proxy.protocol` has it speak first.
///
/// # Errors
/// The proxy tells nothing that can be read.
pub(crate) async fn peer(
    stream: &mut TcpStream,
    peer: SocketAddr,
    server: &config::Server,
) -> Result<SocketAddr, ProxyError> {
    // At a socket for both families, as a service manager may pass one, IPv4 comes as IPv6.
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let trusted = |net: &ipnet::IpNet| net.contains(&peer.ip());
    if !server.proxy_protocol || !server.trusted_proxies.iter().any(trusted) {
        return Ok(peer);
    }
    let told = Box::pin(proxy::read(stream));
    match tokio::time::timeout(server.handshake_timeout, told).await {
        Ok(told) => Ok(told?.unwrap_or(peer)),
        Err(_) => Err(ProxyError::Malformed("it took too long")),
    }
}

/// Binds `address` once for each core. With port 0 the first choice holds for all.
///
/// # Errors
/// The address is taken or not this machine's.
pub fn bind(address: SocketAddr, cores: usize) -> io::Result<Vec<StdListener>> {
    let mut listeners = Vec::with_capacity(cores);
    let mut address = address;
    for _ in 0..cores {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        if cores > 1 {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let listener: StdListener = socket.into();
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Accepts until `stop` turns true.
pub(crate) async fn run(
    core: Arc<Core>,
    listener: TcpListener,
    door: Door,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // A socket on which this fails is about to be closed anyway.
                let _ = tcp::prepare(&stream, tcp::CLIENT_GONE);
                // Every future of a connection lives in this one task.
                tokio::spawn(handshake::run(Arc::clone(&core), stream, peer, door));
            }
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                tracing::error!(error = %error, "can't accept connections; pausing");
                core.shared.metrics.bad_request("accept_failed");
                tokio::time::sleep(OUT_OF_FILES_PAUSE).await;
            }
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await.map(|value| *value);
}

/// The connection was gone before it was accepted: not the listener's fault.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
