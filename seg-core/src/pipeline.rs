//! The way of a request, room after room.
//!
//! One function, read from top to bottom. Each step says why it stands where it stands; what it
//! does is in its own module.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use seg_compliance::{Ask, UserKey};

use crate::config::UserMismatch;
use crate::decide::{self, ProbeOutcome};
use crate::filter::{self, ChallengeRule};
use crate::forward::{self, Errand, Held, Leg, LimitedBody, ScannedBody};
use crate::handshake::Connection;
use crate::identify::{self, Caller, Known};
use crate::message::{BodyGuard, Phase, PhaseCell, Reply, Request, RequestBodyError};
use crate::protocol::{Call, EasCall, NotEas, PlanContext};
use crate::record::Record;
use crate::respond;
use crate::route::{self, NoRoute, Route};
use crate::runtime::{Signal, Snapshot};
use crate::telemetry::metrics::{Outcome, Protocol};
use crate::transform::{self, Forwarded};

mod reading;

/// Serves one request. The record lives on with the answer's body.
pub(crate) async fn serve(connection: Arc<Connection>, request: Request) -> (Reply, Turn) {
    let shared = &connection.core.shared;
    let snapshot = shared.snapshot();
    let record = Record::begin(&shared.metrics, &snapshot.pseudonym, connection.peer);
    let mut turn = Turn {
        record: Box::new(record),
        phase: Arc::clone(&connection.phase),
    };
    let head_only = request.method == Method::HEAD;
    let walk = Walk {
        connection: &connection,
        snapshot: &snapshot,
        record: &mut turn.record,
    };
    let reply = match walk.walk(request).await {
        Ok(reply) => reply,
        Err(Stop(reply)) => *reply,
    };
    turn.record.answered(&reply, head_only);
    (reply, turn)
}

/// One request's turn on its connection: ends when its answer has been handed over.
#[derive(Debug)]
pub(crate) struct Turn {
    record: Box<Record>,
    phase: Arc<PhaseCell>,
}

impl BodyGuard for Turn {
    fn sent(&mut self, n: usize) {
        self.record.sent(n);
    }

    fn ended(&mut self, clean: bool) {
        self.record.ended(clean);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.phase.enter(Phase::Idle);
    }
}

/// A request that ends before the server is asked, or instead of its answer.
struct Stop(Box<Reply>);

impl From<Reply> for Stop {
    fn from(reply: Reply) -> Self {
        Self(Box::new(reply))
    }
}

/// What a request walks with.
struct Walk<'w> {
    connection: &'w Arc<Connection>,
    snapshot: &'w Arc<Snapshot>,
    record: &'w mut Record,
}

/// A request whose protocol is known, with what has been read of its body.
struct Identified {
    call: Call,
    body: Body,
}

/// A body that has not been touched, or the part of it that an earlier room has read.
enum Body {
    Untouched(LimitedBody),
    Held(Held),
}

impl Walk<'_> {
    async fn walk(mut self, request: Request) -> Result<Reply, Stop> {
        // A head that two readers could read in two ways is nobody's request; before anything
        // else believes it.
        if let Some(flaw) = self.connection.phase.flaw() {
            return Err(self.bad(flaw.reason(), "", StatusCode::BAD_REQUEST));
        }
        if !chunked_once(&request.headers) {
            return Err(self.bad("transfer_encoding", "", StatusCode::BAD_REQUEST));
        }

        // route: needs nothing but the request line and Host.
        let route = match route::route(&self.snapshot.config, &request.uri, &request.headers) {
            Ok(route) => route,
            Err(none) => return Err(self.no_route(none)),
        };
        if route == Route::LbHealth {
            return Ok(self.lb_health(&request.method));
        }
        self.record.protocol(match route {
            Route::Ews(_) => Protocol::Ews,
            Route::Eas | Route::LbHealth => Protocol::Eas,
        });

        // identify: who asks, before the body is touched; without a name nothing is interpreted.
        let Request {
            method,
            uri,
            mut headers,
            body,
            ..
        } = request;
        let shared = &self.connection.core.shared;
        let caller = identify::caller(
            &headers,
            self.connection.certificate_user.as_ref(),
            &self.snapshot.identity,
            &shared.digest_key,
            &self.connection.callers,
            self.snapshot.generation,
        );
        let server = &self.snapshot.config.server;
        let body = match LimitedBody::new(body, server.body_max, server.body_timeout) {
            Ok(body) => body,
            Err(error) => return Err(self.bad_body(&error)),
        };
        let known = match caller {
            Caller::Known(known) => known,
            Caller::Anonymous => {
                // Boxed, as everything that is rare: the path of a poll stays small.
                return Box::pin(self.challenge(&route, &method, &uri, headers, body)).await;
            }
            Caller::Unreadable(why) => {
                shared.metrics.bad_request(why.reason());
                self.record.because(why.reason(), None);
                return Box::pin(self.challenge(&route, &method, &uri, headers, body)).await;
            }
        };
        self.record.user(&known.user);

        // identify, second half: which command of which protocol, for which device.
        let Identified { call, body } = self
            .identify_call(&route, &method, &uri, &headers, body)
            .await?;
        self.record.command(call.command());
        let agent = agent(&headers);
        self.record.device(call.device(), &agent);
        self.check_claimed_user(&call, &known.user)?;

        // decide: after identification, before the first byte goes to the server.
        let ask = Ask {
            device: call.device(),
            user: Some(&known.user),
            agent: &agent,
            device_type: call.device_type(),
            protocol: call.protocol(),
            command: call.command(),
        };
        let judged = !matches!(&call, Call::Eas(call) if !call.judged());
        let admitted = if judged {
            let core = &self.connection.core;
            match decide::admit(&shared.engine, &core.slots, core.id, &ask) {
                Ok(admitted) => {
                    self.record.decision(&admitted.decision);
                    Some(admitted)
                }
                Err(decision) => {
                    self.record.decision(&decision);
                    let whole = Box::pin(Self::drain(body)).await;
                    let mut reply =
                        Box::pin(self.refuse(&route, &known, &headers, &call, &decision)).await;
                    if !whole {
                        close(&mut reply);
                    }
                    if self.record.is(Outcome::Refused) {
                        shared
                            .engine
                            .saw(&ask, reply.status.as_u16(), Timestamp::now());
                    }
                    return Ok(reply);
                }
            }
        } else {
            None
        };

        // plan: what is held of the body decides how long the answer may take and what may be
        // repeated. Before the first byte is forwarded.
        let expects = expects_continue(&headers);
        let held = match body {
            Body::Held(held) => held,
            // A client that waits for 100 (Continue) with a large body waits for the server's.
            Body::Untouched(body)
                if expects && body.length().is_none_or(|n| n > forward::HELD_BYTES as u64) =>
            {
                Held::nothing(body)
            }
            Body::Untouched(body) => match Held::read(body).await {
                Ok(held) => held,
                Err(error) => return Err(self.bad_body(&error)),
            },
        };
        let leg = leg_of(self.snapshot, &route);
        let heartbeat = &self.snapshot.config.heartbeat;
        let plan = call.plan(
            &held,
            &PlanContext {
                response: leg.response_within,
                heartbeat_margin: heartbeat.margin,
                heartbeat_max: heartbeat.max,
                polls: &shared.polls,
                user: known.user.as_str(),
            },
        );
        if let (true, Some(admitted)) = (plan.poll, &admitted) {
            admitted.ticket.is_poll();
            // Of interest for what waits; the rest is over before anybody looks.
            if let Ok(deadline) = Timestamp::now().checked_add(plan.head_within) {
                admitted.lease.until(deadline);
            }
        }

        // transform: right before the request leaves; nothing of what it removes was judged by.
        let host = leg.host_header(headers.get(header::HOST));
        transform::inward(&mut headers, &self.forwarded());
        if let Some(host) = host {
            headers.insert(header::HOST, host);
        }
        let Some(upstream) = leg.choose(ask.device.map(|key| key.as_str()), known.user.as_str())
        else {
            self.record.outcome(Outcome::UpstreamFailed);
            self.record.because("no_upstream", None);
            return Err(Reply::unavailable().into());
        };
        self.record.upstream(&upstream.name);

        // forward: inline in this task; the lease is watched beside it.
        let errand = Errand {
            upstream: Arc::clone(upstream),
            method,
            path: forward::path(&route, &uri, call.upstream_query()),
            headers,
            held,
            expects,
            private: known.connection_bound.then_some(known.digest).flatten(),
            plan,
            connect_within: leg.connect_within,
        };
        // What is not needed any more must not wait with it: the target is a slice of the
        // connection's read buffer and would keep it from being used again.
        drop(uri);
        let going = forward::start(&self.connection.core, errand);
        let went = going.watched(admitted.as_ref()).await;
        let exchange = match went {
            forward::Went::Answered(exchange) => exchange,
            forward::Went::Signalled(signal) => return Ok(self.interrupted(&signal, &call)),
            forward::Went::Failed(error) => return Ok(self.failed(&error)),
        };
        if exchange.replayed {
            self.record.replayed();
        }

        // What the server's answer says of the credentials is learned before anybody filters it.
        if let Some(digest) = &known.digest {
            shared.proofs.learn(digest, exchange.status);
        }
        if known.proven || exchange.status != StatusCode::UNAUTHORIZED {
            shared
                .engine
                .saw(&ask, exchange.status.as_u16(), Timestamp::now());
        }

        // filter, respond: whatever the server says of logging in passes the filter.
        let rule = self.challenge_rule(&route);
        self.record
            .outcome(if exchange.status == StatusCode::UNAUTHORIZED {
                Outcome::Challenged
            } else {
                Outcome::Forwarded
            });
        let learn = matches!(route, Route::Ews(_)).then(|| Arc::clone(&self.snapshot.ews_version));
        Ok(respond::forwarded(
            exchange,
            admitted,
            rule,
            learn,
            &shared.metrics,
        ))
    }

    /// The caller has no name: only the head goes to the server, to draw its challenge.
    async fn challenge(
        &mut self,
        route: &Route,
        method: &Method,
        uri: &http::Uri,
        mut headers: HeaderMap,
        body: LimitedBody,
    ) -> Result<Reply, Stop> {
        let whole = body.drain().await;
        headers.remove(header::AUTHORIZATION);
        let leg = leg_of(self.snapshot, route);
        let host = leg.host_header(headers.get(header::HOST));
        transform::inward(&mut headers, &self.forwarded());
        if let Some(host) = host {
            headers.insert(header::HOST, host);
        }
        let core = &self.connection.core;
        let path = forward::path(route, uri, None);
        let drawn = forward::draw(core, leg, method.clone(), path, headers).await;
        let rule = self.challenge_rule(route);
        let metrics = &self.connection.core.shared.metrics;
        let mut reply = match drawn {
            ProbeOutcome::Unauthorized(challenges) => {
                self.record.outcome(Outcome::Challenged);
                filter::unauthorized(challenges.iter(), rule, metrics)
            }
            ProbeOutcome::Unavailable => {
                self.record.outcome(Outcome::UpstreamFailed);
                Reply::unavailable()
            }
            // A server that lets strangers in is not a reason to.
            ProbeOutcome::Proven => {
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

    async fn identify_call(
        &mut self,
        route: &Route,
        method: &Method,
        uri: &http::Uri,
        headers: &HeaderMap,
        body: LimitedBody,
    ) -> Result<Identified, Stop> {
        match route {
            Route::Ews(route) => Box::pin(reading::ews(self, route, method, headers, body)).await,
            Route::Eas | Route::LbHealth => match EasCall::identify(method, uri.query(), headers) {
                Ok(call) => Ok(Identified {
                    call: Call::Eas(call),
                    body: Body::Untouched(body),
                }),
                Err(error) => {
                    let status = match error {
                        NotEas::Method => StatusCode::METHOD_NOT_ALLOWED,
                        _ => StatusCode::BAD_REQUEST,
                    };
                    Err(self.bad(error.reason(), &error.to_string(), status))
                }
            },
        }
    }

    /// The verdict is taken for the authenticated user; another `User` parameter is a mistake of
    /// the client's, or an attempt.
    fn check_claimed_user(&mut self, call: &Call, user: &UserKey) -> Result<(), Stop> {
        let Call::Eas(call) = call else { return Ok(()) };
        let Some(claimed) = call.claimed_user() else {
            return Ok(());
        };
        let identity = &self.snapshot.identity;
        let same = identity.canonical(claimed).is_some_and(|claimed| {
            claimed == *user
                // Clients write the bare name where the login is a full one, and the other way
                // round: the same person as far as the parameter can tell.
                || bare(claimed.as_str()) == bare(user.as_str())
                    && (!qualified(claimed.as_str()) || !qualified(user.as_str()))
        });
        if same {
            return Ok(());
        }
        self.connection
            .core
            .shared
            .metrics
            .bad_request("user_mismatch");
        self.record.because("user_mismatch", None);
        if self.snapshot.config.identity.user_mismatch == UserMismatch::Refuse {
            self.record.outcome(Outcome::Refused);
            let text = "The User parameter names somebody else than the credentials.\n";
            return Err(Reply::text(StatusCode::FORBIDDEN, text).into());
        }
        Ok(())
    }

    /// The verdict refuses the request: with proven credentials the refusal is given; otherwise
    /// the server is asked first whether the password is right.
    async fn refuse(
        &mut self,
        route: &Route,
        known: &Known,
        headers: &HeaderMap,
        call: &Call,
        decision: &seg_compliance::Decision,
    ) -> Reply {
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
                self.record.outcome(Outcome::Refused);
                call.deny(decision)
            }
            ProbeOutcome::Unauthorized(challenges) => {
                self.record.outcome(Outcome::Challenged);
                let rule = self.challenge_rule(route);
                filter::unauthorized(challenges.iter(), rule, &shared.metrics)
            }
            ProbeOutcome::Unavailable => {
                self.record.outcome(Outcome::UpstreamFailed);
                Reply::unavailable()
            }
        }
    }

    fn interrupted(&mut self, signal: &Signal, call: &Call) -> Reply {
        match signal {
            Signal::Cut(order) => {
                self.record.cut(&order.decision, order.taken);
                call.deny(&order.decision)
            }
            Signal::EndPoll => {
                self.record.outcome(Outcome::Drained);
                call.end_poll()
            }
        }
    }

    /// The server gave no answer: what the client is told, and what the log.
    fn failed(&mut self, error: &forward::Failure) -> Reply {
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

    fn challenge_rule(&self, route: &Route) -> ChallengeRule {
        let challenges = &self.snapshot.config.challenges;
        ChallengeRule {
            filter: match route {
                Route::Ews(_) => challenges.filter_ews,
                Route::Eas | Route::LbHealth => challenges.filter_eas,
            },
            when_empty: challenges.when_empty,
            upn_proven: self.connection.certificate_user.is_some(),
        }
    }

    fn forwarded(&self) -> Forwarded<'_> {
        let server = &self.snapshot.config.server;
        let peer = self.connection.peer.ip();
        let (peer_text, peer_element) = &self.connection.peer_parts;
        Forwarded {
            tell: server.forwarded_headers,
            peer,
            peer_trusted: server.trusted_proxies.iter().any(|net| net.contains(&peer)),
            peer_text,
            peer_element,
        }
    }

    fn no_route(&mut self, none: NoRoute) -> Stop {
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

    fn lb_health(&mut self, method: &Method) -> Reply {
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

    /// A request that is not one. Its connection closes: what follows on it can't be trusted.
    fn bad(&mut self, reason: &'static str, detail: &str, status: StatusCode) -> Stop {
        self.record
            .bad_request(reason, (!detail.is_empty()).then(|| detail.to_owned()));
        let mut reply = Reply::empty(status);
        close(&mut reply);
        reply.into()
    }

    fn bad_body(&mut self, error: &RequestBodyError) -> Stop {
        let (reason, status) = match error {
            RequestBodyError::Client(_) => ("body_ended_early", StatusCode::BAD_REQUEST),
            RequestBodyError::Timeout => ("slow_body", StatusCode::REQUEST_TIMEOUT),
            RequestBodyError::TooLarge => ("body_too_large", StatusCode::PAYLOAD_TOO_LARGE),
            RequestBodyError::Refused(_) => ("body_refused", StatusCode::BAD_REQUEST),
        };
        self.bad(reason, &error.to_string(), status)
    }

    /// Reads what a client is still writing, within bounds, so that it gets to read its answer.
    /// `true` where the body ended.
    async fn drain(body: Body) -> bool {
        let rest = match body {
            Body::Untouched(body) => Some(body),
            Body::Held(held) => held.rest.map(ScannedBody::into_body),
        };
        match rest {
            Some(rest) => rest.drain().await,
            None => true,
        }
    }
}

fn leg_of<'s>(snapshot: &'s Snapshot, route: &Route) -> &'s Leg {
    match route {
        Route::Ews(_) => &snapshot.ews,
        Route::Eas | Route::LbHealth => &snapshot.eas,
    }
}

/// The connection closes after this answer.
fn close(reply: &mut Reply) {
    reply
        .headers
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
}

/// `Transfer-Encoding` is `chunked`, once, or absent: hyper reads what ends in `chunked`, but a
/// coding before it, or the same one twice, is read in another way by somebody else.
fn chunked_once(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (lines.next(), lines.next()) {
        (None, _) => true,
        (Some(only), None) => only.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

fn expects_continue(headers: &HeaderMap) -> bool {
    headers
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// The longest `User-Agent` that is remembered, in bytes.
const LONGEST_AGENT: usize = 256;

fn agent(headers: &HeaderMap) -> Box<str> {
    let text = headers
        .get(header::USER_AGENT)
        .and_then(|value| value.to_str().ok());
    text.map(|text| text.get(..LONGEST_AGENT).unwrap_or(text))
        .unwrap_or_default()
        .into()
}

/// The name without its domain.
fn bare(user: &str) -> &str {
    let user = user.rsplit('\\').next().unwrap_or(user);
    user.split('@').next().unwrap_or(user)
}

fn qualified(user: &str) -> bool {
    user.contains(['@', '\\'])
}
