//! What tells one mail client from another, and stays when it is updated.

use rustls::CipherSuite;
use rustls::server::ClientHello;
use serde::{Deserialize, Serialize};

/// The longest name of a client that is remembered, in bytes.
const LONGEST: usize = 64;

/// A client's name without its versions: the product of the User-Agent and the DeviceType.
/// `Apple-iPhone15C2/2101.219` and `…/2202.75` are one client, `…16C1/…` is another.
pub(super) fn family(agent: &str, device_type: &str) -> Box<str> {
    let product = agent.split(['/', '(']).next().unwrap_or_default().trim();
    let text = if device_type.is_empty() {
        product.to_lowercase()
    } else {
        format!("{product} {device_type}").to_lowercase()
    };
    let end = text.floor_char_boundary(LONGEST);
    text.get(..end).unwrap_or_default().into()
}

/// What a client offers in its TLS handshake, as a number: suites, signature schemes, groups and
/// protocols, sorted, because some clients shuffle them, and without the values that mean nothing
/// (GREASE, RFC 8701).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hello(u64);

impl Hello {
    /// Reads a ClientHello.
    pub fn read(hello: &ClientHello<'_>) -> Self {
        let suites = hello.cipher_suites().iter().copied().map(u16::from);
        // What stands for renegotiation comes and goes with the version that is tried.
        let renegotiation = u16::from(CipherSuite::TLS_EMPTY_RENEGOTIATION_INFO_SCSV);
        let schemes = hello.signature_schemes().iter().copied().map(u16::from);
        let groups = hello.named_groups().unwrap_or_default();
        let alpn = hello.alpn().into_iter().flatten();
        Self::of(
            suites.filter(|suite| *suite != renegotiation).collect(),
            schemes.collect(),
            groups.iter().copied().map(u16::from).collect(),
            alpn.collect(),
        )
    }

    fn of(suites: Vec<u16>, schemes: Vec<u16>, groups: Vec<u16>, alpn: Vec<&[u8]>) -> Self {
        let mut hash = Fnv::default();
        for mut list in [suites, schemes, groups] {
            list.retain(|value| !is_grease(*value));
            list.sort_unstable();
            for value in list {
                hash.eat(&value.to_be_bytes());
            }
            hash.eat(&[0xff]);
        }
        for protocol in alpn {
            hash.eat(protocol);
            hash.eat(&[0xff]);
        }
        Self(hash.0)
    }
}

/// 0x0a0a, 0x1a1a, … 0xfafa.
fn is_grease(value: u16) -> bool {
    let [high, low] = value.to_be_bytes();
    high == low && low & 0x0f == 0x0a
}

/// FNV-1a: the same in every build and on every machine, because it is kept on disk. It tells
/// stacks apart and withstands nobody.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn eat(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_is_the_same_client() {
        for (one, other, same) in [
            (
                "Apple-iPhone15C2/2101.219",
                "Apple-iPhone15C2/2202.75",
                true,
            ),
            (
                "Apple-iPhone15C2/2101.219",
                "Apple-iPhone16C1/2101.219",
                false,
            ),
            (
                "AirWatch Boxer (iPhone12,8; iOS 15.1) Version 21.11/1",
                "AirWatch Boxer (iPhone12,8; iOS 16.0) Version 22.01/1",
                true,
            ),
            ("Outlook-iOS-Android/1.0", "Android-Mail/2023.04", false),
        ] {
            assert_eq!(family(one, "t") == family(other, "T"), same, "{one}");
        }
        assert_ne!(family("x/1", "iPhone"), family("x/1", "Android"));
        let long = "ä".repeat(200);
        assert!(family(&long, "").len() <= LONGEST);
    }

    #[test]
    fn a_shuffled_hello_is_the_same() {
        let of = |suites: &[u16], alpn: &[&'static [u8]]| {
            Hello::of(suites.to_vec(), vec![0x0403], vec![29], alpn.to_vec())
        };
        let one = of(&[0x1301, 0x1302], &[b"http/1.1"]);
        assert_eq!(one, of(&[0x2a2a, 0x1302, 0x1301], &[b"http/1.1"]));
        assert_ne!(one, of(&[0x1301], &[b"http/1.1"]));
        assert_ne!(one, of(&[0x1301, 0x1302], &[]));
    }
}
