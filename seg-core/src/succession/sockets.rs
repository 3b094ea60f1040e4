//! Listening sockets that were opened before this process.

use std::io;
use std::net::{SocketAddr, TcpListener};

/// Listening sockets, each for the key that names its address.
#[derive(Debug, Default)]
pub struct Inherited(Vec<TcpListener>);

impl Inherited {
    /// These.
    pub fn new(listeners: Vec<TcpListener>) -> Self {
        Self(listeners)
    }

    /// Takes those at an address.
    pub(crate) fn take(&mut self, address: SocketAddr) -> Vec<TcpListener> {
        let here =
            |listener: &mut TcpListener| listener.local_addr().is_ok_and(|local| local == address);
        self.0.extract_if(.., here).collect()
    }

    /// The addresses that nobody took.
    pub(crate) fn left(&self) -> Vec<SocketAddr> {
        let addresses = self.0.iter().map(TcpListener::local_addr);
        addresses.filter_map(Result::ok).collect()
    }
}

/// Gives every core at least one of `given`: one socket can stand in several cores, and each socket
/// must stand in one, or its queue would never be served.
///
/// # Errors
/// Descriptors have run out.
pub(crate) fn spread(given: &[TcpListener], cores: usize) -> io::Result<Vec<Vec<TcpListener>>> {
    let mut per_core: Vec<Vec<TcpListener>> = (0..cores).map(|_| Vec::new()).collect();
    let every = given.iter().cycle().take(given.len().max(cores));
    for (index, listener) in every.enumerate() {
        if let Some(core) = per_core.get_mut(index % cores.max(1)) {
            listener.set_nonblocking(true)?;
            core.push(listener.try_clone()?);
        }
    }
    Ok(per_core)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").expect("a listener")
    }

    #[test]
    fn sockets_go_to_the_key_with_their_address() {
        let (one, other) = (listener(), listener());
        let (here, there) = (one.local_addr(), other.local_addr());
        let (here, there) = (here.expect("an address"), there.expect("an address"));
        let mut inherited = Inherited::new(vec![one, other]);
        assert_eq!(inherited.take(here).len(), 1);
        assert!(inherited.take(here).is_empty());
        assert_eq!(inherited.left(), [there]);
    }

    #[test]
    fn every_core_and_every_socket_is_served() {
        for (sockets, cores) in [(1, 1), (1, 4), (4, 1), (2, 3), (3, 2)] {
            let given: Vec<TcpListener> = (0..sockets).map(|_| listener()).collect();
            let spread = spread(&given, cores).expect("descriptors");
            assert_eq!(spread.len(), cores);
            assert!(spread.iter().all(|core| !core.is_empty()));
            for socket in &given {
                let address = socket.local_addr().expect("an address");
                let served = spread.iter().flatten();
                let mut served = served.filter_map(|listener| listener.local_addr().ok());
                assert!(served.any(|local| local == address));
            }
        }
    }
}
