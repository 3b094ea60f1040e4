//! Our own addresses that connections leave from. The system gives one of its addresses about
//! 28,000 ports; more connections than that need more addresses.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpSocket, TcpStream};

/// The addresses of a leg, used in turn.
#[derive(Debug, Default)]
pub struct Sources {
    addresses: Vec<IpAddr>,
    next: AtomicUsize,
}

impl Sources {
    /// These addresses in turn; none: the system chooses.
    #[must_use]
    pub fn new(addresses: Vec<IpAddr>) -> Self {
        Self {
            addresses,
            next: AtomicUsize::new(0),
        }
    }

    /// Connects from one of them: from the next one that is of the destination's family and has a
    /// port left.
    pub(super) async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let begin = self.next.fetch_add(1, Ordering::Relaxed);
        let fits = |address: &&IpAddr| address.is_ipv4() == to.is_ipv4();
        let count = self.addresses.iter().filter(fits).count();
        let Some(begin) = begin.checked_rem(count) else {
            return TcpStream::connect(to).await.map_err(out_of_ports);
        };
        let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
        let mut order = self.addresses.iter().filter(fits).cycle().skip(begin);
        for _ in 0..count {
            let Some(from) = order.next() else { break };
            match connect_from(*from, to).await {
                Ok(stream) => return Ok(stream),
                // No port is left there, or it is not ours any more.
                Err(error) if is_the_sources(&error) => failure = error,
                Err(error) => return Err(error),
            }
        }
        Err(out_of_ports(failure))
    }
}

async fn connect_from(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = match from {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A port may serve several destinations at once.
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(from, 0)).map_err(|error| {
        let text = format!("leaving from {from}: {error}");
        io::Error::new(error.kind(), text)
    })?;
    socket.connect(to).await
}

fn is_the_sources(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse
    )
}

/// Says what mends it.
fn out_of_ports(error: io::Error) -> io::Error {
    if is_the_sources(&error) {
        let text = format!(
            "{error}: no port of ours is free for this server; name more addresses in \
             email.server.source.addresses"
        );
        return io::Error::new(error.kind(), text);
    }
    error
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn every_address_is_used_in_turn() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let to = listener.local_addr().expect("its address");
        let ours = ["127.0.0.2", "::1", "127.0.0.3"].map(|text| text.parse().expect("an address"));
        let sources = Sources::new(ours.to_vec());
        let mut seen = BTreeSet::new();
        for _ in 0..4 {
            let _stream = sources.connect(to).await.expect("a connection");
            let (_, peer) = listener.accept().await.expect("a connection");
            seen.insert(peer.ip().to_string());
        }
        assert_eq!(Vec::from_iter(seen), ["127.0.0.2", "127.0.0.3"]);
    }

    #[tokio::test]
    async fn an_address_that_is_not_ours_is_passed_over() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let to = listener.local_addr().expect("its address");
        let ours = ["192.0.2.7", "127.0.0.3"].map(|text| text.parse().expect("an address"));
        let sources = Sources::new(ours.to_vec());
        for _ in 0..2 {
            sources.connect(to).await.expect("a connection");
        }
        let none = Sources::new(vec!["192.0.2.7".parse().expect("an address")]);
        let error = none.connect(to).await.expect_err("no address");
        assert!(error.to_string().contains("192.0.2.7"), "{error}");
        assert!(error.to_string().contains("source.addresses"), "{error}");
    }
}
