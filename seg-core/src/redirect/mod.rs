//! A mail server sends a user to another one: 451 with `X-MS-Location` (MS-ASHTTP 3.1.5.2.2), or
//! a 3xx with `Location`.
//!
//! A client that is told where to goes there, around the gateway. So the gateway goes there in
//! its place, where that is allowed ([`rule`]), and remembers it ([`moves`]): the mailbox is still
//! judged here.

pub mod moves;
pub mod rule;

pub use moves::{Move, Moves, Side};
pub(crate) use rule::is_public;
pub use rule::{AddressRule, Denied};

use http::{HeaderMap, HeaderName, StatusCode, Uri, header};

use crate::config::Origin;
use crate::route::CanonicalPath;

/// The header of a 451.
pub const MS_LOCATION: HeaderName = HeaderName::from_static("x-ms-location");

/// How often one request is sent on.
pub const MOST_HOPS: usize = 3;

/// Whether an answer may be a redirect: a look at its status.
pub fn may_be(status: StatusCode) -> bool {
    matches!(status.as_u16(), 451 | 301 | 302 | 303 | 307 | 308)
}

/// The header that says where to.
pub fn header_of(status: StatusCode) -> HeaderName {
    if status.as_u16() == 451 {
        MS_LOCATION
    } else {
        header::LOCATION
    }
}

/// Where an answer leads: the server, if it is one, and the same service there.
///
/// # Errors
/// The answer leads nowhere that the request could go.
pub fn target(status: StatusCode, headers: &HeaderMap, path: &str) -> Result<Origin, Denied> {
    let mut lines = headers.get_all(header_of(status)).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Err(Denied::Location);
    };
    // A GET in the place of a POST is another request.
    if status == StatusCode::SEE_OTHER {
        return Err(Denied::Location);
    }
    let uri: Uri = line
        .to_str()
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(Denied::Location)?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(Denied::Location);
    };
    let origin = Origin::parse(&format!("{scheme}://{authority}")).map_err(|_| Denied::Location)?;
    let there = CanonicalPath::parse(uri.path()).map_err(|_| Denied::Location)?;
    if !there.as_str().eq_ignore_ascii_case(path) {
        return Err(Denied::Location);
    }
    Ok(origin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::EAS_PATH;

    #[test]
    fn only_the_same_service_of_another_server_is_a_target() {
        let to = |status: u16, line: &str| {
            let status = StatusCode::from_u16(status).expect("a status");
            let mut headers = HeaderMap::new();
            headers.insert(header_of(status), line.parse().expect("a value"));
            target(status, &headers, EAS_PATH).map(|origin| origin.to_string())
        };
        let there = "https://other.example/Microsoft-Server-ActiveSync";
        assert_eq!(to(451, there).as_deref(), Ok("https://other.example"));
        assert_eq!(
            to(
                302,
                "https://Other.example:444/microsoft-server-activesync/?Cmd=Sync"
            )
            .as_deref(),
            Ok("https://other.example:444")
        );
        for line in [
            "https://other.example/owa/auth/logon.aspx",
            "/Microsoft-Server-ActiveSync",
            "https://user@other.example/Microsoft-Server-ActiveSync",
            "https://other.example/x/../Microsoft-Server-ActiveSync",
            "ftp://other.example/Microsoft-Server-ActiveSync",
            "file:///Microsoft-Server-ActiveSync",
            "//other.example/Microsoft-Server-ActiveSync",
            "",
        ] {
            assert!(to(451, line).is_err(), "{line}");
        }
        assert!(to(303, there).is_err());
    }
}
