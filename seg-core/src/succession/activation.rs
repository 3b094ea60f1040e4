//! Sockets that a service manager has opened for us (sd_listen_fds(3)): they stay open while the
//! gateway restarts, and their queues with them.

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;

/// A descriptor is no listening TCP socket.
#[derive(Debug, thiserror::Error)]
#[error("a socket that the service manager passes can't be used: {0}; pass TCP sockets alone")]
pub struct ActivationError(#[from] io::Error);

/// What was passed; nothing where no service manager did. To be called once, before the process has
/// a second thread.
///
/// # Errors
/// What was passed is something else.
pub fn sockets() -> Result<Vec<TcpListener>, ActivationError> {
    let mut passed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..passed.len() {
        sockets.extend(passed.take_tcp_listener(index)?);
    }
    Ok(sockets)
}
