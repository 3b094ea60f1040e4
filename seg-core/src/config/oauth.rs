//! `oauth.*`: bearer tokens that the gateway checks itself.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::Reader;
use super::value::WebAddress;

/// Whose tokens count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuth {
    /// `oauth.issuers`: issuer, and where its keys are.
    pub issuers: Vec<(String, WebAddress)>,
    /// `oauth.audiences`, at least one.
    pub audiences: Vec<String>,
    /// `oauth.applications`; empty: any.
    pub applications: Vec<String>,
    /// `oauth.keys.ca.path`.
    pub ca: Option<PathBuf>,
    /// `oauth.leeway.seconds`.
    pub leeway: Duration,
    /// `oauth.keys.refresh.seconds`.
    pub refresh: Duration,
    /// `oauth.keys.offline.seconds`.
    pub offline: Duration,
}

/// Reads the keys; `None` where no issuer is named: then tokens are the mail server's business.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<OAuth> {
    let oauth = OAuth {
        issuers: reader.list("oauth.issuers", issuer),
        audiences: reader.list("oauth.audiences", |text| Ok(text.to_owned())),
        applications: reader.list("oauth.applications", |text| Ok(text.to_owned())),
        ca: reader.path("oauth.keys.ca.path"),
        leeway: reader.seconds("oauth.leeway.seconds"),
        refresh: reader.seconds("oauth.keys.refresh.seconds"),
        offline: reader.seconds("oauth.keys.offline.seconds"),
    };
    if oauth.issuers.is_empty() {
        return None;
    }
    if oauth.audiences.is_empty() {
        reader.refuse(
            "oauth.issuers",
            "needs oauth.audiences: a token for another service must not open this one",
        );
    }
    Some(oauth)
}

/// `https://issuer/ https://issuer/keys`.
fn issuer(text: &str) -> Result<(String, WebAddress), String> {
    let (issuer, keys) = text.split_once(char::is_whitespace).ok_or_else(|| {
        format!(
            "`{text}` is not possible, expected an issuer, a blank, and the address of its keys"
        )
    })?;
    Ok((issuer.to_owned(), WebAddress::parse(keys.trim())?))
}
