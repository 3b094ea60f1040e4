//! What a bearer token says of itself.
//!
//! The claims of a JWT (RFC 7519) are read without checking its signature. They may make a policy
//! stricter and name the device in a log line; they prove nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// Longest payload that is read, in bytes of base64.
const MAX_PAYLOAD_BYTES: usize = 16 * 1024;
/// Roles by which an application may act for anybody in Exchange.
const IMPERSONATORS: [&str; 3] = [
    "full_access_as_app",
    "Exchange.ManageAsApp",
    "ApplicationImpersonation",
];

/// Whether one of an application's roles lets it act for anybody.
pub fn impersonates(roles: &[String]) -> bool {
    roles
        .iter()
        .any(|role| IMPERSONATORS.contains(&role.as_str()))
}

/// The claims that name a user, an application or a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Claims {
    /// User principal name.
    pub upn: Option<String>,
    /// The user's name in v1 tokens.
    pub unique_name: Option<String>,
    /// The user's name in v2 tokens.
    pub preferred_username: Option<String>,
    /// Primary mail address, in tokens of Exchange.
    pub smtp: Option<String>,
    /// A mail address.
    pub email: Option<String>,
    /// The application, v1.
    pub appid: Option<String>,
    /// The application, v2.
    pub azp: Option<String>,
    /// Object id of the user or service principal.
    pub oid: Option<String>,
    /// The tenant.
    pub tid: Option<String>,
    /// The device that the token was issued to.
    pub deviceid: Option<String>,
    /// Delegated permissions, separated by spaces, such as `EWS.AccessAsUser.All`.
    pub scp: Option<String>,
    /// Application permissions, such as `full_access_as_app`.
    #[serde(default)]
    pub roles: Vec<String>,
}

impl Claims {
    /// The user: the first of `upn`, `unique_name`, `preferred_username`, `smtp` and `email` that
    /// is there. Microsoft writes `live.com#` and such in front of guests' unique names; it is
    /// left as it stands.
    pub fn user(&self) -> Option<&str> {
        [
            &self.upn,
            &self.unique_name,
            &self.preferred_username,
            &self.smtp,
            &self.email,
        ]
        .into_iter()
        .find_map(|claim| claim.as_deref().filter(|user| !user.is_empty()))
    }

    /// The application: `appid`, else `azp`.
    pub fn application(&self) -> Option<&str> {
        self.appid.as_deref().or(self.azp.as_deref())
    }
}

/// Reads the claims of a JWT in its compact form. None for any other token (opaque, encrypted),
/// for a claim above given twice or of another type, and for payloads of absurd length.
pub fn claims(token: &str) -> Option<Claims> {
    let mut parts = token.split('.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || payload.len() > MAX_PAYLOAD_BYTES {
        return None;
    }
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    // serde would take a list for the fields in their order.
    payload.trim_ascii_start().strip_prefix(b"{")?;
    serde_json::from_slice(&payload).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        format!(
            "eyJhbGciOiJub25lIn0.{}.c2ln",
            URL_SAFE_NO_PAD.encode(payload)
        )
    }

    #[test]
    fn claims_are_read() {
        let payload = r#"{"upn":"alice@corp.example","appid":"a-1","oid":"o-1","deviceid":"d-1",
            "scp":"EWS.AccessAsUser.All","iat":1,"nested":{"upn":"eve"},"roles":["full_access_as_app"]}"#;
        let claims = claims(&token(payload)).expect("a JWT");
        assert_eq!(claims.user(), Some("alice@corp.example"));
        assert_eq!(claims.application(), Some("a-1"));
        assert_eq!(claims.deviceid.as_deref(), Some("d-1"));
        assert_eq!(claims.roles, ["full_access_as_app"]);
        assert!(impersonates(&claims.roles) && !impersonates(&["Mail.Read".to_owned()]));
    }

    #[test]
    fn the_user_has_several_names() {
        let user = |payload| claims(&token(payload)).and_then(|c| c.user().map(str::to_owned));
        assert_eq!(
            user(r#"{"preferred_username":"b@x"}"#).as_deref(),
            Some("b@x")
        );
        assert_eq!(
            user(r#"{"upn":"","unique_name":"c@x"}"#).as_deref(),
            Some("c@x")
        );
        assert_eq!(user(r#"{"smtp":"d@x"}"#).as_deref(), Some("d@x"));
        assert_eq!(user("{}"), None);
    }

    #[test]
    fn what_is_ambiguous_or_no_jwt_is_nothing() {
        for payload in [
            r#"{"upn":"a","upn":"b"}"#,
            r#"{"upn":1}"#,
            "[]",
            "{",
            r#"{} {}"#,
        ] {
            assert_eq!(claims(&token(payload)), None, "{payload}");
        }
        for token in ["", "opaque", "a.b", "a.!.c", "a.e30.c.d", "a.e30.c.d.e"] {
            assert_eq!(claims(token), None, "{token}");
        }
        let deep = format!("{{\"x\":{}1{}}}", "[".repeat(4000), "]".repeat(4000));
        assert_eq!(claims(&token(&deep)), Some(Claims::default()));
        assert_eq!(
            claims(&token(&format!("{{\"x\":\"{}\"}}", "y".repeat(20_000)))),
            None
        );
    }
}
