//! What the server is told of a request.
//!
//! This room comes after the verdict and right before the request leaves: nothing of what it
//! removes may be judged by, and nothing of what it adds may come from outside.

mod cookies;
mod fates;
mod forwarded;
mod hop_by_hop;

pub use forwarded::{AboutClient, Forwarded, peer_parts};

use http::HeaderMap;

use fates::Fate;

/// Edits a request's headers in place for the way inward. Framing and `Host` are the upstream
/// client's.
pub fn inward(headers: &mut HeaderMap, forwarded: &Forwarded<'_>) {
    hop_by_hop::remove_named(headers);
    cookies::clean(headers);
    // Read before the claims go: a trusted proxy's are continued.
    let about_the_client = forwarded.about(headers);
    fates::remove(headers, &[Fate::OneHop, Fate::Never, Fate::Claim]);
    about_the_client.tell(headers);
}

/// Edits an answer's headers in place for the way outward.
pub fn outward(headers: &mut HeaderMap) {
    hop_by_hop::remove_named(headers);
    hop_by_hop::remove_always(headers);
    // They speak of the connection behind us, which the client does not have (RFC 4559).
    headers.remove("persistent-auth");
    headers.remove("proxy-support");
}
