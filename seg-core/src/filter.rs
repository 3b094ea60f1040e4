//! The server's challenges, without those that can't work through a gateway.
//!
//! This room comes before the answer leaves and after nothing else: whatever room made the server
//! speak, its `WWW-Authenticate` passes here (RFC 9110 section 11.6.1).

use std::collections::BTreeSet;

use http::header::{HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use seg_ews::challenge::{self, RemovedKind};

use crate::config::{BearerChallenge, EmptyChallenge};
use crate::message::{Reply, ReplyBody};
use crate::telemetry::metrics::{Metrics, Scheme};

/// How challenges are filtered on one leg.
#[derive(Clone, Copy, Debug)]
pub struct ChallengeRule<'r> {
    /// `remove.unsupported.auth.for.eas` or `.ews`.
    pub filter: bool,
    /// `remove.unsupported.auth.empty`.
    pub when_empty: EmptyChallenge,
    /// Whether a verified certificate or a validated token gave a UPN: Negotiate stays then.
    pub upn_proven: bool,
    /// `ews.ntlm.pinning`: NTLM stays.
    pub ntlm_pinned: bool,
    /// `oauth.challenge`: what becomes of the server's Bearer challenge.
    pub bearer: &'r BearerChallenge,
}

/// The realm of a challenge of our own.
const REALM: &str = "seg";

/// Filters the challenges in `headers`. Survivors stand one a line: clients that can't split a
/// line that holds several give up without authenticating.
pub fn challenges(headers: &mut HeaderMap, rule: ChallengeRule<'_>, metrics: &Metrics) {
    if !rule.filter || !headers.contains_key(WWW_AUTHENTICATE) {
        return;
    }
    let kept: Vec<HeaderValue> = {
        let lines = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .map(HeaderValue::as_bytes);
        let filtered = challenge::filter_for(lines, rule.upn_proven, rule.ntlm_pinned);
        for removed in &filtered.removed {
            metrics.challenge_removed(match removed.kind {
                RemovedKind::Ntlm => Scheme::Ntlm,
                RemovedKind::Negotiate => Scheme::Negotiate,
                RemovedKind::Unparseable => Scheme::Unparseable,
            });
        }
        filtered
            .kept
            .iter()
            .filter_map(|line| HeaderValue::from_bytes(line).ok())
            .filter_map(|line| told(line, rule.bearer))
            .collect()
    };
    headers.remove(WWW_AUTHENTICATE);
    for line in kept {
        headers.append(WWW_AUTHENTICATE, line);
    }
}

/// A challenge as clients are told it; `None`: they are not.
fn told(line: HeaderValue, bearer: &BearerChallenge) -> Option<HeaderValue> {
    let scheme = line.as_bytes().split(u8::is_ascii_whitespace).next();
    let is_bearer = scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"Bearer"));
    match bearer {
        BearerChallenge::Replace(own) if is_bearer => Some(own.clone()),
        BearerChallenge::Remove if is_bearer => None,
        _ => Some(line),
    }
}

/// A 401 that has no challenge left is no 401 (RFC 9110 section 15.5.2): what is given instead.
pub fn without_challenge(reply: &mut Reply, rule: ChallengeRule<'_>) {
    if !rule.filter
        || reply.status != StatusCode::UNAUTHORIZED
        || reply.headers.contains_key(WWW_AUTHENTICATE)
    {
        return;
    }
    let challenge = match rule.when_empty {
        EmptyChallenge::Basic => format!("Basic realm=\"{REALM}\", charset=\"UTF-8\""),
        EmptyChallenge::Bearer => format!("Bearer realm=\"{REALM}\""),
        EmptyChallenge::Forbidden => {
            *reply = Reply::text(
                StatusCode::FORBIDDEN,
                "The mail server offers no way to log in that works through this gateway \
                 (NTLM and Negotiate need a direct connection).\n",
            );
            return;
        }
    };
    if let Ok(challenge) = HeaderValue::from_str(&challenge) {
        reply.headers.insert(WWW_AUTHENTICATE, challenge);
    }
}

/// A 401 of our own making with challenges that a server gave.
pub fn unauthorized<'c>(
    challenges_given: impl IntoIterator<Item = &'c HeaderValue>,
    rule: ChallengeRule<'_>,
    metrics: &Metrics,
) -> Reply {
    let mut reply = Reply::empty(StatusCode::UNAUTHORIZED);
    for line in challenges_given {
        reply.headers.append(WWW_AUTHENTICATE, line.clone());
    }
    challenges(&mut reply.headers, rule, metrics);
    reply.body = ReplyBody::Empty;
    without_challenge(&mut reply, rule);
    reply
}

/// The ways to log in that a client is offered, in lower case and in order.
pub fn schemes(headers: &HeaderMap) -> BTreeSet<String> {
    headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|line| line.to_str().ok()?.split_ascii_whitespace().next())
        .map(str::to_ascii_lowercase)
        .collect()
}
