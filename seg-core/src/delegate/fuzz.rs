//! Entries for fuzzers: what clients, mail servers and domain controllers say.
#![doc(hidden)]

use super::{kdc, spnego};

/// Reads bytes as a client's message and as a server's answer.
pub fn negotiate(data: &[u8]) {
    let _ = (spnego::mechanism_token(data), spnego::answer_token(data));
}

/// Reads bytes as a domain controller's answer to a probe.
pub fn kdc_answer(data: &[u8]) {
    let _ = kdc::server_time(data);
}
