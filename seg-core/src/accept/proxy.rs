//! The PROXY protocol, versions 1 and 2: a load balancer tells whose connection it passes on.
//!
//! Read only from `server.trusted.proxies`, and there it must be: a balancer that leaves it out
//! would make every client look like itself.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// The first bytes of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The longest line of version 1, with its end.
const LONGEST_LINE: usize = 107;

/// The longest header of version 2 that is read: addresses, and what extensions may add.
const LONGEST_BLOCK: usize = 2048;

/// Why a header is refused.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The connection ended, or failed.
    #[error("the connection ended within the PROXY header: {0}")]
    Io(#[from] io::Error),
    /// There is none, or none that can be read.
    #[error("a trusted proxy sent no PROXY header that can be read: {0}")]
    Malformed(&'static str),
}

/// Reads the header at the start of a connection, and nothing behind it. `None`: the balancer
/// speaks for itself, or does not know.
///
/// # Errors
/// The connection must not be served.
pub(super) async fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
) -> Result<Option<SocketAddr>, ProxyError> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        return version_two(stream).await;
    }
    if !start.starts_with(b"PROXY ") {
        return Err(ProxyError::Malformed("it begins in another way"));
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= LONGEST_LINE {
            return Err(ProxyError::Malformed("the line is too long"));
        }
        line.push(stream.read_u8().await?);
    }
    parse_line(&line)
}

async fn version_two<S: AsyncRead + Unpin>(
    stream: &mut S,
) -> Result<Option<SocketAddr>, ProxyError> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [command, family, high, low] = head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST_BLOCK {
        return Err(ProxyError::Malformed("the header is too long"));
    }
    let mut block = vec![0; length];
    stream.read_exact(&mut block).await?;
    parse_block(command, family, &block)
}

/// A line of version 1: `PROXY TCP4 source destination port port`.
fn parse_line(line: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    let malformed = ProxyError::Malformed("the line is none of version 1");
    let text = std::str::from_utf8(line).ok();
    let Some(text) = text.and_then(|text| text.strip_suffix("\r\n")) else {
        return Err(malformed);
    };
    let words: Vec<&str> = text.split(' ').collect();
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", family, source, destination, port, other] => {
            let address = |text: &str| -> Option<IpAddr> {
                match *family {
                    "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
                    "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
                    _ => None,
                }
            };
            let number = |text: &str| {
                let plain = text.bytes().all(|byte| byte.is_ascii_digit());
                plain.then(|| text.parse::<u16>().ok()).flatten()
            };
            match (
                address(source),
                address(destination),
                number(port),
                number(other),
            ) {
                (Some(source), Some(_), Some(port), Some(_)) => {
                    Ok(Some(SocketAddr::new(source, port)))
                }
                _ => Err(malformed),
            }
        }
        _ => Err(malformed),
    }
}

/// What follows the signature of version 2: command, family, and as many bytes as announced.
fn parse_block(command: u8, family: u8, block: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    match command {
        // LOCAL: a health check of the balancer's own.
        0x20 => return Ok(None),
        0x21 => {}
        _ => {
            return Err(ProxyError::Malformed(
                "neither LOCAL nor PROXY of version 2",
            ));
        }
    }
    let short = || ProxyError::Malformed("the addresses are cut short");
    let port = |at: usize| -> Option<u16> {
        let bytes = block.get(at..at + 2)?;
        Some(u16::from_be_bytes(bytes.try_into().ok()?))
    };
    match family {
        0x11 => {
            let source: [u8; 4] = block
                .get(..4)
                .and_then(|it| it.try_into().ok())
                .ok_or_else(short)?;
            let port = port(8).filter(|_| block.len() >= 12).ok_or_else(short)?;
            Ok(Some(SocketAddr::new(IpAddr::from(source), port)))
        }
        0x21 => {
            let source: [u8; 16] = block
                .get(..16)
                .and_then(|it| it.try_into().ok())
                .ok_or_else(short)?;
            let port = port(32).filter(|_| block.len() >= 36).ok_or_else(short)?;
            Ok(Some(SocketAddr::new(IpAddr::from(source), port)))
        }
        // Not TCP over IP: whose it is can't be said.
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_version_one() {
        let source = |text: &str| parse_line(text.as_bytes()).ok();
        let v4 = "PROXY TCP4 203.0.113.9 192.0.2.1 51000 443\r\n";
        assert_eq!(source(v4), Some("203.0.113.9:51000".parse().ok()));
        let v6 = "PROXY TCP6 2001:db8::9 2001:db8::1 51000 443\r\n";
        assert_eq!(source(v6), Some("[2001:db8::9]:51000".parse().ok()));
        assert_eq!(source("PROXY UNKNOWN\r\n"), Some(None));
        assert_eq!(source("PROXY UNKNOWN ff 1 2\r\n"), Some(None));
        for bad in [
            "PROXY TCP4 203.0.113.9 192.0.2.1 51000 443\n",
            "PROXY TCP4 203.0.113.9 192.0.2.1 51000\r\n",
            "PROXY TCP4 2001:db8::9 2001:db8::1 1 2\r\n",
            "PROXY TCP4 203.0.113.9 192.0.2.1 +1 443\r\n",
            "PROXY TCP4 203.0.113.9 192.0.2.1 70000 443\r\n",
            "PROXY TCP4  203.0.113.9 192.0.2.1 1 443\r\n",
            "PROXY UDP4 203.0.113.9 192.0.2.1 1 443\r\n",
            "proxy TCP4 203.0.113.9 192.0.2.1 1 443\r\n",
        ] {
            assert_eq!(source(bad), None, "{bad}");
        }
    }

    #[test]
    fn blocks_of_version_two() {
        let v4 = [203, 0, 113, 9, 192, 0, 2, 1, 0xc7, 0x38, 1, 0xbb];
        let source = |command, family, block: &[u8]| parse_block(command, family, block).ok();
        assert_eq!(
            source(0x21, 0x11, &v4),
            Some("203.0.113.9:51000".parse().ok())
        );
        let longer = [&v4[..], &[3, 0, 1, 0]].concat();
        assert_eq!(
            source(0x21, 0x11, &longer),
            Some("203.0.113.9:51000".parse().ok())
        );
        assert_eq!(source(0x21, 0x11, &v4[..11]), None);
        assert_eq!(source(0x20, 0x00, &[]), Some(None));
        assert_eq!(source(0x21, 0x31, &[0; 216]), Some(None));
        assert_eq!(source(0x11, 0x11, &v4), None);
        assert_eq!(source(0x21, 0x21, &[0; 35]), None);
        assert_eq!(source(0x21, 0x21, &[0; 36]), Some("[::]:0".parse().ok()));
    }
}
