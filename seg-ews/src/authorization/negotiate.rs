//! NTLM inside Negotiate tokens (RFC 4178, MS-NLMP 2.2.1).

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use memchr::memmem;

/// Each NTLM message begins with these bytes.
pub(super) const SIGNATURE: &[u8] = b"NTLMSSP\0";

/// As lenient as anybody who might read the token behind us.
pub(super) const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Whether a token, in base64, holds an NTLM message: as it is, or as the mechanism token of a
/// SPNEGO NegTokenInit or NegTokenResp, where it lies in an octet string unchanged. So the
/// signature is looked for everywhere, whatever is wrapped around it.
///
/// A token that can't be decoded counts as one that does: somebody else might decode it.
/// The caller bounds its length. No token at all holds none.
pub(super) fn holds_ntlm(token: &[u8]) -> bool {
    match ENGINE.decode(token) {
        Ok(decoded) => memmem::find(&decoded, SIGNATURE).is_some(),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        match u8::try_from(content.len()) {
            Ok(len) if len < 0x80 => out.push(len),
            _ => {
                out.push(0x82);
                out.extend(u16::try_from(content.len()).expect("short").to_be_bytes());
            }
        }
        out.extend(content);
        out
    }

    /// A NegTokenInit offering NTLM and Kerberos with this mechanism token.
    fn neg_token_init(mechanism_token: Option<&[u8]>) -> Vec<u8> {
        let ntlm = der(6, &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 2, 10]);
        let kerberos = der(6, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2]);
        let mut fields = der(0xa0, &der(0x30, &[kerberos, ntlm].concat()));
        fields.extend(
            mechanism_token
                .map(|token| der(0xa2, &der(4, token)))
                .unwrap_or_default(),
        );
        let inner = der(0xa0, &der(0x30, &fields));
        der(0x60, &[der(6, &[0x2b, 6, 1, 5, 5, 2]), inner].concat())
    }

    fn neg_token_resp(response_token: &[u8]) -> Vec<u8> {
        der(0xa1, &der(0x30, &der(0xa2, &der(4, response_token))))
    }

    fn holds(token: &[u8]) -> bool {
        holds_ntlm(STANDARD.encode(token).as_bytes())
    }

    #[test]
    fn ntlm_is_found_bare_and_wrapped() {
        let mut message = b"NTLMSSP\0\x03\0\0\0".to_vec();
        message.resize(600, 0x55);
        assert!(holds(&message));
        assert!(holds(&neg_token_init(Some(&message))));
        assert!(holds(&neg_token_resp(&message)));
    }

    #[test]
    fn kerberos_that_merely_offers_ntlm_is_not_ntlm() {
        assert!(!holds(&neg_token_init(Some(&[0x60; 300]))));
        assert!(!holds(&neg_token_init(None)));
        assert!(!holds(b"NTLMSSP"));
        assert!(!holds(b""));
    }

    #[test]
    fn what_cannot_be_read_counts_as_ntlm() {
        for token in [&b"!"[..], b"TlRM TVNT", b"TlRM=TVNTUAA", b"\xff"] {
            assert!(holds_ntlm(token), "{token:?}");
        }
        // Padding and loose last bits hide nothing.
        assert!(holds_ntlm(b"TlRMTVNTUAA"));
        assert!(holds_ntlm(b"TlRMTVNTUAB="));
    }
}
