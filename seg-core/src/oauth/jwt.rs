//! One token (RFC 7519, RFC 7515) against one set of keys (RFC 7517).

use std::collections::HashMap;

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{self, EcdsaVerificationAlgorithm, RsaParameters, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use thiserror::Error;

use crate::config::OAuth;

/// The longest token that is read, in bytes.
const MAX_TOKEN: usize = 16 * 1024;
/// Keys of one issuer that are kept.
const MAX_KEYS: usize = 256;
/// Why a token does not count.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TokenError {
    /// Not a signed JWT.
    #[error("token_malformed")]
    Malformed,
    /// Signed in a way that is not taken: none, with a shared secret, or unknown.
    #[error("token_algorithm")]
    Algorithm,
    /// Another issuer's.
    #[error("token_issuer")]
    Issuer,
    /// For another service.
    #[error("token_audience")]
    Audience,
    /// Past its end, or before its beginning.
    #[error("token_time")]
    Time,
    /// Of an application that is not let in.
    #[error("token_application")]
    Application,
    /// It lets an application act for anybody.
    #[error("token_impersonates")]
    Impersonates,
    /// Signed with a key that its issuer does not publish.
    #[error("token_key")]
    UnknownKey,
    /// The signature is wrong.
    #[error("token_signature")]
    Signature,
}

impl TokenError {
    /// The word for logs and metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "token_malformed",
            Self::Algorithm => "token_algorithm",
            Self::Issuer => "token_issuer",
            Self::Audience => "token_audience",
            Self::Time => "token_time",
            Self::Application => "token_application",
            Self::Impersonates => "token_impersonates",
            Self::UnknownKey => "token_key",
            Self::Signature => "token_signature",
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    /// What must be understood: nothing is.
    crit: Option<serde_json::Value>,
}

/// The claims that decide whether a token counts.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    aud: Audience,
    pub(super) exp: i64,
    #[serde(default)]
    nbf: i64,
    appid: Option<String>,
    azp: Option<String>,
    scp: Option<String>,
    idtyp: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// Reads the claims, unverified.
pub(super) fn claims(token: &str) -> Result<Claims, TokenError> {
    let (_, payload, _) = parts(token)?;
    let payload = URL_SAFE_NO_PAD
        .decode(payload)
        .map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&payload).map_err(|_| TokenError::Malformed)
}

/// Whether the claims are what this gateway lets in, at a time in seconds.
pub(super) fn check_claims(claims: &Claims, config: &OAuth, now: i64) -> Result<(), TokenError> {
    if !config
        .issuers
        .iter()
        .any(|(issuer, _)| *issuer == claims.iss)
    {
        return Err(TokenError::Issuer);
    }
    let ours = |audience: &String| config.audiences.contains(audience);
    let for_us = match &claims.aud {
        Audience::One(audience) => ours(audience),
        Audience::Several(audiences) => audiences.iter().any(ours),
    };
    if !for_us {
        return Err(TokenError::Audience);
    }
    let leeway = i64::try_from(config.leeway.as_secs()).unwrap_or(0);
    if now >= claims.exp.saturating_add(leeway) || now < claims.nbf.saturating_sub(leeway) {
        return Err(TokenError::Time);
    }
    let of_application = claims.idtyp.as_deref() == Some("app") || claims.scp.is_none();
    let impersonates = seg_ews::bearer::impersonates(&claims.roles);
    if impersonates || (of_application && !claims.roles.is_empty()) {
        return Err(TokenError::Impersonates);
    }
    let application = claims.appid.as_ref().or(claims.azp.as_ref());
    if !config.applications.is_empty()
        && !application.is_some_and(|application| config.applications.contains(application))
    {
        return Err(TokenError::Application);
    }
    Ok(())
}

fn parts(token: &str) -> Result<(&str, &str, &str), TokenError> {
    let mut parts = token.split('.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(header), Some(payload), Some(signature), None) if token.len() <= MAX_TOKEN => {
            Ok((header, payload, signature))
        }
        _ => Err(TokenError::Malformed),
    }
}

/// An issuer's keys by their ids.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Keys(HashMap<String, Key>);

#[derive(Debug, PartialEq, Eq)]
enum Key {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// Uncompressed point, and the curve.
    Ec {
        point: Vec<u8>,
        curve: Curve,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Keys {
    /// Reads a JWKS document; keys that can't be used are left out. `None` where none is left.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let set: Set = serde_json::from_slice(bytes).ok()?;
        let keys: HashMap<String, Key> = set
            .keys
            .into_iter()
            .take(MAX_KEYS)
            .filter_map(|jwk| Some((jwk.kid.clone(), jwk.key()?)))
            .collect();
        (!keys.is_empty()).then_some(Self(keys))
    }
}

impl Jwk {
    fn key(&self) -> Option<Key> {
        if self
            .purpose
            .as_deref()
            .is_some_and(|purpose| purpose != "sig")
        {
            return None;
        }
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
        match self.kty.as_str() {
            "RSA" => Some(Key::Rsa {
                n: bytes(&self.n)?,
                e: bytes(&self.e)?,
            }),
            "EC" => {
                let (curve, size) = match self.crv.as_deref()? {
                    "P-256" => (Curve::P256, 32),
                    "P-384" => (Curve::P384, 48),
                    _ => return None,
                };
                let (x, y) = (bytes(&self.x)?, bytes(&self.y)?);
                if x.len() != size || y.len() != size {
                    return None;
                }
                let point = [&[4][..], &x, &y].concat();
                Some(Key::Ec { point, curve })
            }
            _ => None,
        }
    }
}

/// Checks the signature. The algorithm must fit the key: a token can't choose a weaker one.
///
/// # Errors
/// Why it does not hold.
pub fn verify(token: &str, keys: &Keys) -> Result<(), TokenError> {
    let (header, payload, signature) = parts(token)?;
    let decoded = URL_SAFE_NO_PAD
        .decode(header)
        .map_err(|_| TokenError::Malformed)?;
    let head: Header = serde_json::from_slice(&decoded).map_err(|_| TokenError::Malformed)?;
    if head.crit.is_some() {
        return Err(TokenError::Algorithm);
    }
    let algorithm = Algorithm::of(&head.alg).ok_or(TokenError::Algorithm)?;
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| TokenError::Malformed)?;
    let message = token
        .get(..header.len() + 1 + payload.len())
        .ok_or(TokenError::Malformed)?
        .as_bytes();
    let key = keys.0.get(&head.kid).ok_or(TokenError::UnknownKey)?;
    let verified = match (algorithm, key) {
        (Algorithm::Rsa(parameters), Key::Rsa { n, e }) => {
            PublicKeyComponents { n, e }.verify(parameters, message, &signature)
        }
        (Algorithm::Ec(algorithm, wanted), Key::Ec { point, curve }) if wanted == *curve => {
            UnparsedPublicKey::new(algorithm, point).verify(message, &signature)
        }
        _ => return Err(TokenError::Algorithm),
    };
    verified.map_err(|_| TokenError::Signature)
}

enum Algorithm {
    Rsa(&'static RsaParameters),
    Ec(&'static EcdsaVerificationAlgorithm, Curve),
}

impl Algorithm {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            "RS384" => Self::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            "RS512" => Self::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            "PS256" => Self::Rsa(&signature::RSA_PSS_2048_8192_SHA256),
            "PS384" => Self::Rsa(&signature::RSA_PSS_2048_8192_SHA384),
            "PS512" => Self::Rsa(&signature::RSA_PSS_2048_8192_SHA512),
            "ES256" => Self::Ec(&signature::ECDSA_P256_SHA256_FIXED, Curve::P256),
            "ES384" => Self::Ec(&signature::ECDSA_P384_SHA384_FIXED, Curve::P384),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> OAuth {
        let keys =
            crate::config::WebAddress::parse("https://issuer.example/keys").expect("an address");
        OAuth {
            issuers: vec![("https://issuer.example/".to_owned(), keys)],
            audiences: vec!["https://mail.example".to_owned()],
            applications: Vec::new(),
            ca: None,
            leeway: std::time::Duration::from_secs(60),
            refresh: std::time::Duration::from_secs(60),
            offline: std::time::Duration::from_secs(60),
        }
    }

    fn checked(payload: &str, config: &OAuth) -> Result<(), TokenError> {
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload));
        check_claims(&claims(&token)?, config, 1000)
    }

    #[test]
    fn claims_must_be_for_us_and_now() {
        let base = r#""iss":"https://issuer.example/","aud":"https://mail.example","exp":1001"#;
        let of = |more: &str| checked(&format!("{{{base}{more}}}"), &config());
        assert_eq!(of(r#","scp":"EWS.AccessAsUser.All","upn":"a@x""#), Ok(()));
        assert_eq!(of(r#","scp":"x","nbf":1061"#), Err(TokenError::Time));
        assert_eq!(
            of(r#","scp":"x","roles":["full_access_as_app"]"#),
            Err(TokenError::Impersonates)
        );
        assert_eq!(
            of(r#","idtyp":"app","roles":["Mail.Read"]"#),
            Err(TokenError::Impersonates)
        );
        for (payload, error) in [
            (
                r#"{"iss":"x","aud":"https://mail.example","exp":2000}"#,
                TokenError::Issuer,
            ),
            (
                r#"{"iss":"https://issuer.example/","aud":["x"],"exp":2000}"#,
                TokenError::Audience,
            ),
            (
                r#"{"iss":"https://issuer.example/","aud":"https://mail.example","exp":900}"#,
                TokenError::Time,
            ),
            (
                r#"{"iss":"https://issuer.example/","aud":"https://mail.example"}"#,
                TokenError::Malformed,
            ),
            (
                r#"{"iss":"https://issuer.example/","iss":"y","aud":"x","exp":1}"#,
                TokenError::Malformed,
            ),
        ] {
            assert_eq!(checked(payload, &config()), Err(error), "{payload}");
        }
        let some = OAuth {
            applications: vec!["app-1".to_owned()],
            ..config()
        };
        assert_eq!(
            checked(&format!(r#"{{{base},"scp":"x","appid":"app-1"}}"#), &some),
            Ok(())
        );
        let other = format!(r#"{{{base},"scp":"x","azp":"app-2"}}"#);
        assert_eq!(checked(&other, &some), Err(TokenError::Application));
    }

    #[test]
    fn a_token_can_not_choose_how_it_is_checked() {
        let x = URL_SAFE_NO_PAD.encode([1; 32]);
        let document = format!(
            r#"{{"keys":[{{"kty":"EC","kid":"k","crv":"P-256","x":"{x}","y":"{x}"}},{{"kty":"oct","kid":"o"}}]}}"#
        );
        let keys = Keys::read(document.as_bytes()).expect("keys");
        let of = |header: &str| {
            verify(
                &format!("{}.e30.c2ln", URL_SAFE_NO_PAD.encode(header)),
                &keys,
            )
        };
        for (header, error) in [
            (r#"{"alg":"none","kid":"k"}"#, TokenError::Algorithm),
            (r#"{"alg":"HS256","kid":"k"}"#, TokenError::Algorithm),
            (r#"{"alg":"RS256","kid":"k"}"#, TokenError::Algorithm),
            (r#"{"alg":"ES384","kid":"k"}"#, TokenError::Algorithm),
            (
                r#"{"alg":"ES256","kid":"k","crit":["x"]}"#,
                TokenError::Algorithm,
            ),
            (r#"{"alg":"ES256","kid":"other"}"#, TokenError::UnknownKey),
            (r#"{"alg":"ES256","kid":"o"}"#, TokenError::UnknownKey),
            (r#"{"alg":"ES256","kid":"k"}"#, TokenError::Signature),
            ("{}", TokenError::Malformed),
        ] {
            assert_eq!(of(header), Err(error), "{header}");
        }
        assert!(Keys::read(b"{}").is_none() && Keys::read(br#"{"keys":[]}"#).is_none());
    }
}
