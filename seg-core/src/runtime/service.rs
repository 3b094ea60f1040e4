//! What a service manager is told (sd_notify(3)): nothing where nobody asks.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Clients are served.
    Ready,
    /// The same, by a process that the service manager has not started.
    TakenOver,
    /// The end has begun.
    Stopping,
}

/// Tells the service manager that `NOTIFY_SOCKET` names.
pub fn tell(told: Told) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let text = match told {
        Told::Ready => "READY=1\nSTATUS=Serving clients\n".to_owned(),
        Told::TakenOver => {
            let process = std::process::id();
            format!("READY=1\nMAINPID={process}\nSTATUS=Serving clients\n")
        }
        Told::Stopping => "STOPPING=1\nSTATUS=Draining\n".to_owned(),
    };
    let name = socket.as_encoded_bytes();
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&socket),
    };
    let sent = address
        .and_then(|address| UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::warn!(error = %error, "the service manager can't be told");
    }
}
