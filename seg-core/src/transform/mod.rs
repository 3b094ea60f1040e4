//! What the server is told of a request.
//!
//! This room comes after the verdict and right before the request leaves: nothing of what it
//! removes may be judged by, and nothing of what it adds may come from outside.

mod cookies;
mod fates;
mod forwarded;
mod hop_by_hop;

pub use forwarded::{Forwarded, ToldMemory, peer_parts};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// A request's headers as a server is told them.
#[derive(Clone, Debug)]
pub struct Inward {
    /// The client's. Those that don't [pass][`passes`] are still among them and are left out when
    /// the head is written: to take a dozen out of a map first costs more than to skip them.
    pub headers: HeaderMap,
    /// What `Host` says; `None`: the server's own name.
    pub host: Option<HeaderValue>,
    /// Finished lines that tell of the client.
    pub about: Bytes,
}

impl Inward {
    /// Adds a line of the gateway's own, which no fate of a client's header of that name touches.
    pub fn add(&mut self, name: &HeaderName, value: &HeaderValue) {
        let mut lines = BytesMut::with_capacity(
            self.about.len() + name.as_str().len() + value.len() + ": \r\n".len(),
        );
        lines.put_slice(&self.about);
        lines.put_slice(name.as_str().as_bytes());
        lines.put_slice(b": ");
        lines.put_slice(value.as_bytes());
        lines.put_slice(b"\r\n");
        self.about = lines.freeze();
    }
}

/// Makes a request's headers ready for the way inward. Framing is the upstream client's.
pub fn inward(
    mut headers: HeaderMap,
    host: Option<HeaderValue>,
    forwarded: &Forwarded<'_>,
) -> Inward {
    hop_by_hop::remove_named(&mut headers);
    cookies::clean(&mut headers);
    let about = forwarded.about(&headers);
    Inward {
        headers,
        host,
        about,
    }
}

/// Whether a header of a request goes on to the server.
pub fn passes(name: &HeaderName) -> bool {
    fates::fate(name).is_none()
}

/// Edits an answer's headers in place for the way outward.
pub fn outward(headers: &mut HeaderMap) {
    hop_by_hop::remove_named(headers);
    hop_by_hop::remove_always(headers);
}
