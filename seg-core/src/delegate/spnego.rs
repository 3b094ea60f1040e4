//! SPNEGO around a Kerberos token (RFC 4178), both ways. Done here, because the library gives the
//! exact Kerberos error only where its Kerberos mechanism is asked directly.

use crate::der::{self, Reader, Value};

/// 1.3.6.1.5.5.2.
const SPNEGO: &[u8] = b"\x2b\x06\x01\x05\x05\x02";
/// 1.2.840.113554.1.2.2.
const KRB5: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";
/// 1.2.840.48018.1.2.2, which Windows has written for it since 2000.
const MS_KRB5: &[u8] = b"\x2a\x86\x48\x82\xf7\x12\x01\x02\x02";

const APPLICATION_0: u8 = 0x60;

/// A NegTokenInit that offers Kerberos and begins with this token of its.
#[cfg(any(test, feature = "kerberos"))]
pub(super) fn initial(token: &[u8]) -> Vec<u8> {
    let mechanism = der::write(der::OID, &[KRB5]);
    let mechanisms = der::write(der::SEQUENCE, &[&mechanism]);
    let token = der::write(der::OCTET_STRING, &[token]);
    let init = der::write(
        der::SEQUENCE,
        &[
            &der::write(0xa0, &[&mechanisms]),
            &der::write(0xa2, &[&token]),
        ],
    );
    let oid = der::write(der::OID, &[SPNEGO]);
    der::write(APPLICATION_0, &[&oid, &der::write(0xa0, &[&init])])
}

/// A NegTokenResp that accepts, with this token.
#[cfg(any(test, feature = "kerberos"))]
pub(super) fn accepted(token: &[u8]) -> Vec<u8> {
    let state = der::write(0xa0, &[&der::write(der::ENUMERATED, &[&[0]])]);
    let mechanism = der::write(0xa1, &[&der::write(der::OID, &[KRB5])]);
    let token = der::write(0xa2, &[&der::write(der::OCTET_STRING, &[token])]);
    let body = der::write(der::SEQUENCE, &[&state, &mechanism, &token]);
    der::write(0xa1, &[&body])
}

/// The Kerberos token in a client's first message, wrapped or bare. Whether it was wrapped.
pub(super) fn mechanism_token(message: &[u8]) -> Option<(&[u8], bool)> {
    let outer = Reader(message).take(APPLICATION_0)?;
    let mut inside = outer.inside();
    let oid = inside.take(der::OID)?;
    if oid.content == KRB5 {
        return Some((message, false));
    }
    if oid.content != SPNEGO {
        return None;
    }
    let mut init = inside.take(0xa0)?.inside().take(der::SEQUENCE)?.inside();
    // The token belongs to the mechanism that the client likes best.
    let preferred = init
        .take(0xa0)?
        .inside()
        .take(der::SEQUENCE)?
        .inside()
        .take(der::OID)?;
    if preferred.content != KRB5 && preferred.content != MS_KRB5 {
        return None;
    }
    init.take(0xa1);
    let token = init.take(0xa2)?.inside().take(der::OCTET_STRING)?;
    Some((token.content, true))
}

/// The Kerberos token in a server's answer, wrapped or bare; `None` where it has none.
pub(super) fn answer_token(message: &[u8]) -> Option<&[u8]> {
    if let Some(outer) = Reader(message).take(APPLICATION_0) {
        let oid = outer.inside().take(der::OID)?;
        return (oid.content == KRB5).then_some(message);
    }
    let mut response = Reader(message)
        .take(0xa1)?
        .inside()
        .take(der::SEQUENCE)?
        .inside();
    response.take(0xa0);
    response.take(0xa1);
    let token = response.take(0xa2)?.inside().take(der::OCTET_STRING);
    token.map(|token: Value<'_>| token.content)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Kerberos token has the same outer form as SPNEGO's.
    fn kerberos(bytes: &[u8]) -> Vec<u8> {
        der::write(APPLICATION_0, &[&der::write(der::OID, &[KRB5]), bytes])
    }

    #[test]
    fn what_is_wrapped_is_unwrapped() {
        let token = kerberos(&[1; 300]);
        assert_eq!(mechanism_token(&initial(&token)), Some((&token[..], true)));
        assert_eq!(mechanism_token(&token), Some((&token[..], false)));
        assert_eq!(answer_token(&accepted(&token)), Some(&token[..]));
        assert_eq!(answer_token(&token), Some(&token[..]));
        for nothing in [&b""[..], b"NTLMSSP\0", &[0x60, 0x00], &accepted(&[])[..4]] {
            assert_eq!(mechanism_token(nothing), None);
            assert_eq!(answer_token(nothing), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_token_panics(data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            super::super::fuzz::negotiate(&data);
        }
    }
}
