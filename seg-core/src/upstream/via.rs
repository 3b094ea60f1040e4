//! A proxy on the way to a server: for the gateway's own requests, never for mail.
//!
//! To a TLS server it opens a tunnel (CONNECT, RFC 9110 section 9.3.6); a request for a plain one
//! it is given whole, with the server in its first line (RFC 9112 section 3.2.2).

use std::io;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::target::{Target, TargetError};

/// The longest answer of a proxy, in bytes.
const LONGEST: usize = 8 * 1024;

/// A proxy, and how to log in to it.
pub struct Via {
    proxy: Target,
    authorization: Option<HeaderValue>,
}

impl std::fmt::Debug for Via {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Via")
            .field("proxy", &self.proxy)
            .finish_non_exhaustive()
    }
}

impl Via {
    /// The proxy at a host and port; `credentials` is `user:password`, or empty.
    ///
    /// # Errors
    /// The host is neither a name nor an address.
    pub fn new(host: &str, port: u16, credentials: &str) -> Result<Self, TargetError> {
        let authorization = (!credentials.is_empty()).then(|| {
            let text = format!("Basic {}", BASE64_STANDARD.encode(credentials));
            // Base64 is good in a header.
            HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
        });
        Ok(Self {
            proxy: Target::plain(host, port)?,
            authorization,
        })
    }

    pub(super) fn proxy(&self) -> &Target {
        &self.proxy
    }

    /// Opens a tunnel to `target`.
    pub(super) async fn tunnel(&self, stream: &mut TcpStream, target: &Target) -> io::Result<()> {
        let host = if target.host().contains(':') {
            format!("[{}]:{}", target.host(), target.port())
        } else {
            format!("{}:{}", target.host(), target.port())
        };
        let mut head = format!("CONNECT {host} HTTP/1.1\r\nhost: {host}\r\n").into_bytes();
        self.put_authorization(&mut head);
        head.extend_from_slice(b"\r\n");
        stream.write_all(&head).await?;
        let mut answer = Vec::new();
        // A tunnel says nothing before we do: what is read is the proxy's own.
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            if answer.len() >= LONGEST {
                return Err(io::Error::other("the proxy's answer is too long"));
            }
            let mut piece = [0; 512];
            let read = stream.read(&mut piece).await?;
            if read == 0 {
                return Err(io::Error::other("the proxy closed without an answer"));
            }
            answer.extend_from_slice(piece.get(..read).unwrap_or_default());
        }
        let line = answer
            .split(|byte| *byte == b'\r')
            .next()
            .unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let mut words = line.split(' ');
        let version = words.next().unwrap_or_default();
        let status = words.next().and_then(|word| word.parse::<u16>().ok());
        match status {
            Some(200..=299) if version.starts_with("HTTP/1.") => Ok(()),
            Some(status) => Err(io::Error::other(format!("the proxy answers {status}"))),
            None => Err(io::Error::other("the proxy's answer is no HTTP")),
        }
    }

    /// A head that begins with its request line, as the proxy wants it for a plain server.
    pub(super) fn absolute(&self, front: &Bytes, target: &Target) -> Bytes {
        let mut lines = front.splitn(2, |byte| *byte == b'\n');
        let (Some(request), Some(rest)) = (lines.next(), lines.next()) else {
            return front.clone();
        };
        let mut words = request.splitn(2, |byte| *byte == b' ');
        let (Some(method), Some(tail)) = (words.next(), words.next()) else {
            return front.clone();
        };
        let mut head = BytesMut::with_capacity(front.len() + 256);
        head.extend_from_slice(method);
        head.extend_from_slice(b" http://");
        head.extend_from_slice(target.authority().as_bytes());
        head.extend_from_slice(tail);
        head.extend_from_slice(b"\n");
        let mut line = Vec::new();
        self.put_authorization(&mut line);
        head.extend_from_slice(&line);
        head.extend_from_slice(rest);
        head.freeze()
    }

    fn put_authorization(&self, head: &mut Vec<u8>) {
        if let Some(value) = &self.authorization {
            head.extend_from_slice(b"proxy-authorization: ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn opened(answer: &'static str) -> (io::Result<()>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("its address");
        let via = Via::new("127.0.0.1", address.port(), "user:pass").expect("a proxy");
        let target = Target::plain("keys.example", 443).expect("a target");
        let served = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut asked = vec![0; 1024];
            let read = stream.read(&mut asked).await.expect("a head");
            stream.write_all(answer.as_bytes()).await.expect("written");
            String::from_utf8_lossy(&asked[..read]).into_owned()
        };
        let mut stream = TcpStream::connect(address).await.expect("connected");
        tokio::join!(via.tunnel(&mut stream, &target), served)
    }

    #[tokio::test]
    async fn a_tunnel_is_asked_for_by_name_and_with_credentials() {
        let (opened, asked) = opened("HTTP/1.1 200 Connection established\r\n\r\n").await;
        opened.expect("a tunnel");
        assert_eq!(
            asked,
            "CONNECT keys.example:443 HTTP/1.1\r\nhost: keys.example:443\r\n\
             proxy-authorization: Basic dXNlcjpwYXNz\r\n\r\n"
        );
    }

    #[tokio::test]
    async fn a_proxy_that_refuses_is_named() {
        for (answer, expected) in [
            ("HTTP/1.1 407 Who?\r\n\r\n", "407"),
            ("nonsense\r\n\r\n", "no HTTP"),
            ("", "without an answer"),
        ] {
            let (opened, _) = opened(answer).await;
            let error = opened.expect_err("no tunnel").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_plain_request_names_its_server() {
        let via = Via::new("proxy.example", 3128, "").expect("a proxy");
        let target = Target::plain("lists.example", 8080).expect("a target");
        let front = Bytes::from_static(b"GET /a.crl HTTP/1.1\r\nhost: lists.example:8080\r\n\r\n");
        assert_eq!(
            via.absolute(&front, &target),
            "GET http://lists.example:8080/a.crl HTTP/1.1\r\nhost: lists.example:8080\r\n\r\n"
        );
    }
}
