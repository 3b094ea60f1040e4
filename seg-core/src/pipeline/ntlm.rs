//! `ews.ntlm.pinning`: the handshake of NTLM, and who is known by it.

use std::future::poll_fn;

use bytes::Bytes;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use seg_compliance::{Ask, DeviceKey};
use seg_ews::authorization::{NtlmMessage, ntlm_message};

use super::{Stop, Walk, leg_of, refusing};
use crate::filter;
use crate::forward::{self, Failure, LimitedBody};
use crate::identify::{Known, pin};
use crate::message::Reply;
use crate::route::Route;
use crate::servers::{Choice, Leg};
use crate::telemetry::metrics::Outcome;
use crate::transform;
use crate::upstream::{BodyKind, Deadlines, IdentityHash, NoBody, RequestHead, UpstreamBody, send};

/// What a request without a name is to a connection that may be pinned.
pub(super) enum Pinning {
    /// Nothing.
    No,
    /// The handshake's first step.
    Handshake,
    /// A request of the connection's user, or the handshake's last step.
    Known(Known),
}

impl Walk<'_> {
    /// Looks at a request that names nobody.
    pub(super) fn pinning(&self, route: &Route, headers: &HeaderMap) -> Pinning {
        if !self.snapshot.config.ntlm_pinning || !matches!(route, Route::Ews(_)) {
            return Pinning::No;
        }
        let pin = &self.connection.ntlm;
        let mut lines = headers.get_all(header::AUTHORIZATION).iter();
        let known = match (lines.next(), lines.next()) {
            (None, _) => pin.owner(),
            (Some(line), None) => match ntlm_message(line.as_bytes()) {
                Some(NtlmMessage::Negotiate) => return Pinning::Handshake,
                Some(NtlmMessage::Authenticate { user }) => {
                    let user = self.snapshot.identity.canonical(&user);
                    user.and_then(|user| pin.claim(user))
                }
                None => None,
            },
            (Some(_), Some(_)) => None,
        };
        known.map_or(Pinning::No, Pinning::Known)
    }

    /// The server for a request: its device's, or the one that a pinned connection leads to.
    pub(super) fn choose(&self, leg: &Leg, ask: &Ask<'_>, known: &Known) -> Option<Choice> {
        match &known.digest {
            Some(key) if known.pinned => leg.choose(None, &pin::affinity(key)),
            _ => leg.choose(ask.device.map(DeviceKey::as_str), known.user.as_str()),
        }
    }

    /// The first step goes to the server on a connection of its own, which nobody else ever gets;
    /// its challenge comes back. Nobody is judged yet: nobody has said who he is.
    pub(super) async fn ntlm_handshake(
        &mut self,
        route: &Route,
        method: &Method,
        uri: &Uri,
        headers: HeaderMap,
        body: LimitedBody,
    ) -> Result<Reply, Stop> {
        let whole = body.drain().await;
        let core = &self.connection.core;
        let Some(key) = self.connection.ntlm.begin(&core.pool) else {
            return Err(Reply::unavailable().into());
        };
        let leg = leg_of(self.snapshot, route);
        let host = leg.host_header(headers.get(header::HOST));
        let inward = transform::inward(headers, host, &self.forwarded());
        let choice = leg.choose(None, &pin::affinity(&key));
        let Some(upstream) = choice.and_then(|choice| leg.upstream(choice)) else {
            return Err(self.no_upstream());
        };
        self.record.upstream(&upstream.name);
        let query = self.snapshot.ews_settings.forwarded_query(uri.query());
        let path = forward::path(route, uri, query.as_deref());
        let mut head = RequestHead::new(method.clone(), path);
        forward::inward_of(&mut head, inward);
        if *method == Method::POST {
            head.body = BodyKind::Full(Bytes::new());
        }
        head.private = Some(IdentityHash::new(key));
        let deadlines = Deadlines {
            connect: leg.connect_within,
            head: leg.response_within,
            between_bytes: leg.response_within,
        };
        let sent = send(&core.pool, &upstream.target, head, NoBody, deadlines).await;
        let mut exchange = match sent.map_err(Failure::from) {
            Ok(exchange) => exchange,
            Err(failure) => return Ok(self.failed(&failure)),
        };
        // Read to its end: what follows must go out on the same connection.
        read_over(&mut exchange.body).await;
        let mut reply = if exchange.status == StatusCode::UNAUTHORIZED {
            self.record.outcome(Outcome::Challenged);
            let challenges = exchange.headers.get_all(WWW_AUTHENTICATE);
            let rule = self.challenge_rule(route, None);
            filter::unauthorized(challenges, rule, &core.shared.metrics)
        } else {
            // A server that lets strangers in is not a reason to.
            self.record.outcome(Outcome::Refused);
            self.record.because("no_credentials", None);
            Reply::text(StatusCode::FORBIDDEN, "Credentials are needed here.\n")
        };
        if !whole {
            refusing::close(&mut reply);
        }
        Ok(reply)
    }
}

async fn read_over(body: &mut UpstreamBody) {
    let mut read = 0;
    while let Some(Ok(piece)) = poll_fn(|cx| body.poll_next(cx)).await {
        read += piece.len();
        if read > forward::HELD_BYTES {
            return;
        }
    }
}
