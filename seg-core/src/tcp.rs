//! What every connection's socket is told, towards clients and servers alike.
//!
//! A long poll is silent for up to an hour: only TCP itself can tell that the other side has gone.
//! Keep-alive asks an idle one. Where something was sent and is not acknowledged, keep-alive does
//! not ask, and Linux repeats it for about a quarter of an hour; `TCP_USER_TIMEOUT` ends that too
//! (RFC 5482), and then also says when keep-alive gives up.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Idle time after which the other side is asked whether it is there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// How long a client may acknowledge nothing: a phone in a lift or a tunnel comes back within that.
pub(crate) const CLIENT_GONE: Duration = Duration::from_secs(120);
/// How long a server may: it stands in a data centre, and two questions are enough.
pub(crate) const SERVER_GONE: Duration = Duration::from_secs(90);

/// Small writes leave at once, and a peer who acknowledges nothing for `gone` is given up.
pub(crate) fn prepare(stream: &TcpStream, gone: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(gone))?;
    #[cfg(not(target_os = "linux"))]
    let _ = gone;
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_who_is_gone_is_noticed_on_both_legs() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        for (stream, gone) in [
            (client.unwrap(), SERVER_GONE),
            (server.unwrap().0, CLIENT_GONE),
        ] {
            prepare(&stream, gone).unwrap();
            let socket = SockRef::from(&stream);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(gone));
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
            assert!(gone > KEEPALIVE_IDLE + KEEPALIVE_INTERVAL);
            assert!(stream.nodelay().unwrap());
        }
    }
}
