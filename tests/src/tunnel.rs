//! An HTTP proxy that opens tunnels, and the one server that is behind all of them: names need not
//! lead anywhere else.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::authority::Identity;

/// The proxy, and what was asked of it.
#[derive(Debug)]
pub struct Tunnel {
    address: SocketAddr,
    told: mpsc::UnboundedReceiver<Asked>,
}

/// One request through a tunnel.
#[derive(Debug)]
pub struct Asked {
    /// The head of what the proxy was asked.
    pub proxy: String,
    /// The head of what the server was asked, inside.
    pub server: String,
}

impl Tunnel {
    /// Starts both; the server shows `identity` and answers everything with `body`.
    ///
    /// # Panics
    /// Where there is no port for it.
    pub async fn start(identity: &Identity, body: &'static str) -> Self {
        let tls = TlsAcceptor::from(identity.server_config());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("its address");
        let (tell, told) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (tell, tls) = (tell.clone(), tls.clone());
                // Whoever does not trust the server leaves in the middle of it.
                tokio::spawn(async move {
                    let proxy = head(&mut stream).await?;
                    let established = b"HTTP/1.1 200 Connection established\r\n\r\n";
                    stream.write_all(established).await.ok()?;
                    let mut inside = tls.accept(stream).await.ok()?;
                    let server = head(&mut inside).await?;
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                        body.len()
                    );
                    inside.write_all(answer.as_bytes()).await.ok()?;
                    inside.shutdown().await.ok()?;
                    tell.send(Asked { proxy, server }).ok()
                });
            }
        });
        Self { address, told }
    }

    /// The proxy's URL, with a login.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://user:pass@{}", self.address)
    }

    /// The next request that was answered.
    ///
    /// # Panics
    /// When none comes.
    pub async fn asked(&mut self) -> Asked {
        let asked = crate::wait::in_time("a request through a tunnel", self.told.recv());
        asked.await.expect("a request")
    }
}

/// What comes until a head has ended.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}
