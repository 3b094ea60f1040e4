//! Two errands of the gateway's own: to draw a server's challenge for a caller without a name, and
//! to ask whether a blocked device's password is right.

use std::sync::Arc;

use http::header::{HeaderValue, WWW_AUTHENTICATE};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode, header};

use super::{Failure, inward_of};
use crate::decide::{Lesson, ProbeOutcome};
use crate::identify::{CredentialDigest, pin};
use crate::route::Route;
use crate::runtime::Core;
use crate::servers::Leg;
use crate::transform::Inward;
use crate::upstream::{BodyKind, Deadlines, IdentityHash, NoBody, ReplayPolicy, RequestHead, send};

/// Sends the head alone, without credentials, and reports what the server says to it.
pub async fn draw(
    core: &Arc<Core>,
    leg: &Arc<Leg>,
    method: Method,
    path: PathAndQuery,
    inward: Inward,
) -> ProbeOutcome {
    let post = method == Method::POST;
    let mut head = RequestHead::new(method, path);
    inward_of(&mut head, inward);
    if post {
        head.body = BodyKind::Full(bytes::Bytes::new());
    }
    errand(core, leg, head, "").await
}

/// One `OPTIONS` with the caller's credentials: the leg's path, no query.
pub async fn probe(
    core: &Arc<Core>,
    leg: &Arc<Leg>,
    route: &Route,
    from: &HeaderMap,
    private: Option<CredentialDigest>,
) -> ProbeOutcome {
    let mut headers = HeaderMap::new();
    for name in [header::AUTHORIZATION, header::USER_AGENT] {
        if let Some(value) = from.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    let path = PathAndQuery::from_static(match route {
        Route::Ews(_) => crate::route::EWS_PATH,
        _ => crate::route::EAS_PATH,
    });
    let mut head = RequestHead::new(Method::OPTIONS, path);
    head.headers = headers;
    head.host = leg.host_header(from.get(header::HOST));
    head.private = private.map(IdentityHash::new);
    let key = private.as_ref().map(pin::affinity).unwrap_or_default();
    errand(core, leg, head, &key).await
}

async fn errand(
    core: &Arc<Core>,
    leg: &Arc<Leg>,
    mut head: RequestHead,
    key: &str,
) -> ProbeOutcome {
    let Some(choice) = leg.choose(None, key) else {
        return ProbeOutcome::Unavailable;
    };
    let Some(upstream) = leg.upstream(choice) else {
        return ProbeOutcome::Unavailable;
    };
    let deadlines = Deadlines {
        connect: leg.connect_within,
        head: leg.response_within,
        between_bytes: leg.response_within,
    };
    // Nothing is changed by either errand: it may be repeated.
    head.replay = ReplayPolicy { allowed: true };
    // Boxed: the caller's future stays small, these errands are rare.
    let sending = send(&core.pool, &upstream.target, head, NoBody, deadlines);
    let sent = Box::pin(sending.or_elsewhere(leg.alternatives(choice, false))).await;
    let exchange = match sent.map_err(Failure::from) {
        Ok(exchange) => exchange,
        Err(failure) => {
            tracing::warn!(upstream = %upstream.name, failure = ?failure, "the server can't be asked about credentials");
            return ProbeOutcome::Unavailable;
        }
    };
    if exchange.status == StatusCode::UNAUTHORIZED {
        let challenges: Vec<HeaderValue> = exchange
            .headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .cloned()
            .collect();
        return ProbeOutcome::Unauthorized(challenges.into());
    }
    match (Lesson::of(exchange.status), exchange.status.as_u16()) {
        (Lesson::Proven, _) => ProbeOutcome::Proven,
        // A server, or what stands before it, that can't answer now.
        (_, 407 | 429 | 502..=504) => ProbeOutcome::Unavailable,
        _ => ProbeOutcome::Answered,
    }
}
