//! The ways out of a request's walk before the server is asked, or instead of its answer.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use seg_compliance::Decision;

use super::{Body, Stop, Walk, expects_continue, fits, leg_of};
use crate::decide::ProbeOutcome;
use crate::filter;
use crate::forward::{self, LimitedBody, ScannedBody};
use crate::identify::Known;
use crate::message::{Reply, RequestBodyError};
use crate::protocol::Call;
use crate::route::{NoRoute, Route};
use crate::runtime::Signal;
use crate::telemetry::metrics::Outcome;
use crate::transform;

/// What the server says of somebody's credentials.
enum Asked {
    Proven,
    /// Neither that they are right nor that they are wrong.
    Answered,
    /// What is to be answered.
    Reply(Reply),
}

impl Walk<'_> {
    /// The caller has no name: only the head goes to the server, to draw its challenge.
    pub(super) async fn challenge(
        &mut self,
        route: &Route,
        method: &Method,
        uri: &http::Uri,
        mut headers: HeaderMap,
        body: LimitedBody,
    ) -> Result<Reply, Stop> {
        // What would not fit is not asked for. A small body is: the connection can stay, and the
        // client's next request, with credentials, comes over it.
        let asked_first = expects_continue(&headers) && !fits(&body);
        let whole = !asked_first && body.drain().await;
        headers.remove(header::AUTHORIZATION);
        let leg = leg_of(self.snapshot, route);
        let host = leg.host_header(headers.get(header::HOST));
        let mut inward = transform::inward(headers, host, &self.forwarded());
        self.tell_certificate(&mut inward, leg);
        let core = &self.connection.core;
        let query = match route {
            Route::Ews(_) => self.snapshot.ews_settings.forwarded_query(uri.query()),
            _ => None,
        };
        let path = forward::path(route, uri, query.as_deref());
        let drawn = forward::draw(core, leg, method.clone(), path, inward).await;
        let rule = self.challenge_rule(route, None);
        let metrics = &self.connection.core.shared.metrics;
        let mut reply = match drawn {
            ProbeOutcome::Unauthorized(challenges) => {
                self.record.outcome(Outcome::Challenged);
                let reply = filter::unauthorized(challenges.iter(), rule, metrics);
                let offered = filter::schemes(&reply.headers);
                let legs = &self.connection.core.shared.ews;
                if let Some((eas, ews)) = legs.offers(matches!(route, Route::Ews(_)), offered) {
                    tracing::warn!(
                        eas,
                        ews,
                        "ActiveSync and EWS offer different ways to log in; a client that uses both may be asked for a password again"
                    );
                }
                reply
            }
            ProbeOutcome::Unavailable => {
                self.record.outcome(Outcome::UpstreamFailed);
                Reply::unavailable()
            }
            // A server that lets strangers in is not a reason to.
            ProbeOutcome::Proven | ProbeOutcome::Answered => {
                self.record.outcome(Outcome::Refused);
                self.record.because("no_credentials", None);
                Reply::text(StatusCode::FORBIDDEN, "Credentials are needed here.\n")
            }
        };
        if !whole {
            close(&mut reply);
        }
        Ok(reply)
    }

    /// The verdict refuses the request: with proven credentials the refusal is given; otherwise
    /// the server is asked first whether the password is right.
    pub(super) async fn refuse(
        &mut self,
        route: &Route,
        known: &Known,
        headers: &HeaderMap,
        call: &Call,
        decision: &Decision,
    ) -> Reply {
        match self.asked(route, known, headers).await {
            Asked::Answered | Asked::Proven => {}
            Asked::Reply(reply) => return reply,
        }
        self.record.outcome(Outcome::Refused);
        call.deny(decision)
    }

    /// What is answered to somebody whose credentials are not proven; `None`: they are.
    pub(super) async fn unproven(
        &mut self,
        route: &Route,
        known: &Known,
        headers: &HeaderMap,
    ) -> Option<Reply> {
        match self.asked(route, known, headers).await {
            Asked::Proven => None,
            // The server lets nobody say who he is, which is enough to refuse him and no more.
            Asked::Answered => {
                self.record.outcome(Outcome::UpstreamFailed);
                Some(Reply::unavailable())
            }
            Asked::Reply(reply) => Some(reply),
        }
    }

    async fn asked(&mut self, route: &Route, known: &Known, headers: &HeaderMap) -> Asked {
        let shared = &self.connection.core.shared;
        let outcome = match &known.digest {
            _ if known.proven => ProbeOutcome::Proven,
            None => ProbeOutcome::Proven,
            Some(digest) if shared.proofs.holds(digest) => ProbeOutcome::Proven,
            Some(digest) => {
                let core = &self.connection.core;
                let leg = leg_of(self.snapshot, route);
                let private = known.connection_bound.then_some(*digest);
                let probe = forward::probe(core, leg, route, headers, private);
                shared.proofs.probe(digest, probe).await
            }
        };
        match outcome {
            ProbeOutcome::Proven => {
                if known.pinned {
                    self.connection.ntlm.answered(known, StatusCode::OK);
                }
                Asked::Proven
            }
            ProbeOutcome::Answered => Asked::Answered,
            ProbeOutcome::Unauthorized(challenges) => {
                self.record.outcome(Outcome::Challenged);
                let rule = self.challenge_rule(route, Some(known));
                let metrics = &shared.metrics;
                Asked::Reply(filter::unauthorized(challenges.iter(), rule, metrics))
            }
            ProbeOutcome::Unavailable => {
                self.record.outcome(Outcome::UpstreamFailed);
                Asked::Reply(Reply::unavailable())
            }
        }
    }

    pub(super) fn interrupted(&mut self, signal: &Signal, call: &Call, user: &str) -> Reply {
        match signal {
            Signal::Cut(order) => {
                self.record.cut(&order.decision, order.taken);
                let told = self.cut_for(call, user, &order.decision);
                told.unwrap_or_else(|| call.deny(&order.decision))
            }
            Signal::EndPoll => {
                self.record.outcome(Outcome::Drained);
                call.end_poll()
            }
        }
    }

    /// The server gave no answer: what the client is told, and what the log.
    pub(super) fn failed(&mut self, error: &forward::Failure) -> Reply {
        match error {
            forward::Failure::Client(error) => {
                let Stop(reply) = self.bad("client_body", error, StatusCode::BAD_REQUEST);
                *reply
            }
            forward::Failure::TooLarge => {
                let Stop(reply) = self.bad("body_too_large", "", StatusCode::PAYLOAD_TOO_LARGE);
                *reply
            }
            forward::Failure::Upstream {
                label,
                text,
                nonsense,
            } => {
                self.record.outcome(Outcome::UpstreamFailed);
                self.record.because(label, Some(text.clone()));
                if *nonsense {
                    self.connection
                        .core
                        .shared
                        .metrics
                        .bad_request("upstream_nonsense");
                    let text = "The mail server's answer can't be understood.\n";
                    return Reply::text(StatusCode::BAD_GATEWAY, text);
                }
                Reply::unavailable()
            }
        }
    }

    pub(super) fn no_route(&mut self, none: NoRoute) -> Stop {
        let (reason, status) = match none {
            NoRoute::Host => ("host", StatusCode::BAD_REQUEST),
            NoRoute::Path(_) => ("path", StatusCode::BAD_REQUEST),
            NoRoute::Misdirected => ("misdirected", StatusCode::MISDIRECTED_REQUEST),
            NoRoute::NotFound => ("no_route", StatusCode::NOT_FOUND),
            NoRoute::Closed => ("closed_path", StatusCode::NOT_FOUND),
            NoRoute::Autodiscover => ("autodiscover", StatusCode::NOT_FOUND),
        };
        self.bad(reason, "", status)
    }

    pub(super) fn lb_health(&mut self, method: &Method) -> Reply {
        self.record.outcome(Outcome::Local);
        if *method != Method::GET && *method != Method::HEAD {
            return Reply::empty(StatusCode::METHOD_NOT_ALLOWED);
        }
        if self.connection.core.shared.is_draining() {
            let mut reply = Reply::text(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
            close(&mut reply);
            return reply;
        }
        Reply::text(StatusCode::OK, "ok\n")
    }

    /// There is no server to ask.
    pub(super) fn no_upstream(&mut self) -> Stop {
        self.record.outcome(Outcome::UpstreamFailed);
        self.record.because("no_upstream", None);
        Reply::unavailable().into()
    }

    /// A request that is not one. Its connection closes: what follows on it can't be trusted.
    pub(super) fn bad(&mut self, reason: &'static str, detail: &str, status: StatusCode) -> Stop {
        self.record
            .bad_request(reason, (!detail.is_empty()).then(|| detail.to_owned()));
        let mut reply = Reply::empty(status);
        close(&mut reply);
        reply.into()
    }

    pub(super) fn bad_body(&mut self, error: &RequestBodyError) -> Stop {
        let (reason, status) = match error {
            RequestBodyError::Client(_) => ("body_ended_early", StatusCode::BAD_REQUEST),
            RequestBodyError::Timeout => ("slow_body", StatusCode::REQUEST_TIMEOUT),
            RequestBodyError::TooLarge => ("body_too_large", StatusCode::PAYLOAD_TOO_LARGE),
            RequestBodyError::Refused(_) => ("body_refused", StatusCode::BAD_REQUEST),
        };
        self.bad(reason, &error.to_string(), status)
    }

    /// Reads what a client is still writing, within bounds, so that it gets to read its answer.
    /// `true` where the body ended. Whoever `expects` a 100 (Continue) before his body is not
    /// asked for one that nobody reads (RFC 9110 section 10.1.1).
    pub(super) async fn drain(body: Body, expects: bool) -> bool {
        let rest = match body {
            Body::Untouched(body) if expects => return body.is_end(),
            Body::Untouched(body) => Some(body),
            Body::Held(held) => held.rest.map(ScannedBody::into_body),
        };
        match rest {
            Some(rest) => rest.drain().await,
            None => true,
        }
    }
}

/// The connection closes after this answer.
pub(super) fn close(reply: &mut Reply) {
    reply
        .headers
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
}
