//! NTLM messages (MS-NLMP 2.2.1), as far as a gateway must know them: which step of the handshake a
//! request is, and whom its last step names.

use base64::Engine;

use super::negotiate::{ENGINE, SIGNATURE};

/// Longest name that is read, in bytes.
const NAME_MAX: usize = 512;

/// A client's step of the handshake.
#[derive(Clone, PartialEq, Eq)]
pub enum NtlmMessage {
    /// The first: says what the client can do, and nothing of who it is.
    Negotiate,
    /// The last: answers the server's challenge. Nothing of it is proven until the server agrees.
    Authenticate {
        /// The user, behind his domain and a backslash where he has one.
        user: String,
    },
}

impl std::fmt::Debug for NtlmMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Negotiate => "Negotiate",
            Self::Authenticate { .. } => "Authenticate",
        })
    }
}

/// Reads the value of an `Authorization: NTLM …` header. None for any other scheme (NTLM wrapped in
/// SPNEGO included), and for what is no message that a client sends.
pub fn ntlm_message(value: &[u8]) -> Option<NtlmMessage> {
    let value = value.trim_ascii();
    let (scheme, token) = value.split_at_checked(4)?;
    if value.len() > super::MAX_VALUE_BYTES
        || !scheme.eq_ignore_ascii_case(b"NTLM")
        || !token.first().is_some_and(u8::is_ascii_whitespace)
    {
        return None;
    }
    let message = ENGINE.decode(token.trim_ascii()).ok()?;
    let kind = message.strip_prefix(SIGNATURE)?.first_chunk::<4>()?;
    match u32::from_le_bytes(*kind) {
        1 => Some(NtlmMessage::Negotiate),
        3 => {
            // Names in a code page mean what the server's happens to be: nobody sends them.
            let unicode = little_endian_u32(&message, FLAGS)? & 1 != 0;
            let (domain, user) = (name(&message, DOMAIN)?, name(&message, USER)?);
            if user.is_empty() || !unicode {
                return None;
            }
            let user = match domain.as_str() {
                "" => user,
                domain => format!("{domain}\\{user}"),
            };
            Some(NtlmMessage::Authenticate { user })
        }
        _ => None,
    }
}

/// Where an authenticate message says what it holds (MS-NLMP 2.2.1.3).
const DOMAIN: usize = 28;
const USER: usize = 36;
const FLAGS: usize = 60;

fn little_endian_u32(message: &[u8], at: usize) -> Option<u32> {
    let bytes = message.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

/// The text that a field (length, room, offset) leads to.
fn name(message: &[u8], field: usize) -> Option<String> {
    let length = message.get(field..)?.first_chunk::<2>()?;
    let length = usize::from(u16::from_le_bytes(*length));
    let offset = usize::try_from(little_endian_u32(message, field + 4)?).ok()?;
    if length > NAME_MAX {
        return None;
    }
    let bytes = message.get(offset..offset.checked_add(length)?)?;
    let units = bytes.chunks_exact(2).map(|pair| {
        pair.first_chunk::<2>()
            .map_or(0, |pair| u16::from_le_bytes(*pair))
    });
    (bytes.len() % 2 == 0)
        .then(|| {
            char::decode_utf16(units)
                .collect::<Result<String, _>>()
                .ok()
        })
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    fn header(message: &[u8]) -> Vec<u8> {
        format!("NTLM {}", STANDARD.encode(message)).into_bytes()
    }

    fn authenticate(domain: &str, user: &str) -> Vec<u8> {
        let wide =
            |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
        let (domain, user) = (wide(domain), wide(user));
        let mut message = [SIGNATURE, &[3, 0, 0, 0]].concat();
        message.resize(64, 0);
        let mut at = 64u32;
        for (field, text) in [(DOMAIN, &domain), (USER, &user)] {
            let length = u16::try_from(text.len()).expect("short").to_le_bytes();
            message[field..field + 2].copy_from_slice(&length);
            message[field + 2..field + 4].copy_from_slice(&length);
            message[field + 4..field + 8].copy_from_slice(&at.to_le_bytes());
            at += u32::try_from(text.len()).expect("short");
        }
        message[FLAGS] = 1;
        [message, domain, user].concat()
    }

    #[test]
    fn both_steps_are_told_apart() {
        let first = [SIGNATURE, &[1, 0, 0, 0, 7, 0x82, 8, 0xa2]].concat();
        assert_eq!(ntlm_message(&header(&first)), Some(NtlmMessage::Negotiate));
        for (domain, user, expected) in [
            ("CORP", "alice", "CORP\\alice"),
            ("", "alice@corp.example", "alice@corp.example"),
            ("Büro", "jörg", "Büro\\jörg"),
        ] {
            let message = header(&authenticate(domain, user));
            let user = expected.to_owned();
            assert_eq!(
                ntlm_message(&message),
                Some(NtlmMessage::Authenticate { user })
            );
        }
    }

    #[test]
    fn what_is_no_step_of_a_client_is_none() {
        let challenge = [SIGNATURE, &[2, 0, 0, 0]].concat();
        let cut = authenticate("CORP", "alice");
        let mut code_page = cut.clone();
        code_page[FLAGS] = 0;
        for value in [
            header(&challenge),
            header(&cut[..50]),
            header(&code_page),
            header(&cut[..cut.len() - 1]),
            header(&authenticate("CORP", "")),
            b"NTLM".to_vec(),
            b"NTLM !".to_vec(),
            b"NTLMx TlRMTVNTUAAB".to_vec(),
            b"Negotiate TlRMTVNTUAABAAAA".to_vec(),
        ] {
            assert_eq!(ntlm_message(&value), None, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_messages(noise in proptest::collection::vec(any::<u8>(), 0..120)) {
            crate::fuzz::authorization(&header(&noise));
            crate::fuzz::authorization(&header(&[SIGNATURE, &[3, 0, 0, 0], &noise].concat()));
        }
    }
}
