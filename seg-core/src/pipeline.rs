//! The way of a request, room after room.
//!
//! One function, read from top to bottom. Each step says why it stands where it stands; what it
//! does is in its own module.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode, header};
use jiff::Timestamp;
use seg_compliance::{Ask, Decision, DeviceKey, Verdict, Via};

use crate::config::UpstreamLogin;
use crate::decide::{self, Admitted};
use crate::filter::ChallengeRule;
use crate::forward::{self, Errand, Held, LimitedBody};
use crate::handshake::Connection;
use crate::identify::{self, Caller, Known, Scheme, Unreadable};
use crate::message::{BodyGuard, Reply, Request, StreamBroken};
use crate::oauth::TokenError;
use crate::pipeline::ntlm::Pinning;
use crate::protocol::{Call, PlanContext};
use crate::record::Record;
use crate::route::{self, NoRoute, Route};
use crate::runtime::Snapshot;
use crate::servers::Leg;
use crate::telemetry::metrics::{Outcome, Protocol};
use crate::transform::{self, Forwarded};

use self::answering::Waiting;
use self::discovering::Discovery;
use self::enrolling::Wish;

mod answering;
mod asking;
mod binding;
mod certificate;
mod callback;
mod login;
mod content;
mod person;
mod ews;
mod enrolling;
mod firewall;
mod folders;
mod orders;
mod ntlm;
mod discovering;
mod moving;
mod passing;
mod reading;
mod refusing;
mod switching;
mod whole;

pub(crate) use content::rules_for;
pub(crate) use folders::folder_rules_for;
use orders::Told;

/// Serves one request. The record lives on with the answer's body.
///
/// Not `async` itself: its future would keep the room of the request for as long as a poll waits.
pub(crate) fn serve(
    connection: Arc<Connection>,
    request: Request,
) -> impl Future<Output = (Reply, Turn)> + Send {
    served(connection, Box::new(request))
}

async fn served(connection: Arc<Connection>, request: Box<Request>) -> (Reply, Turn) {
    let shared = &connection.core.shared;
    let snapshot = shared.snapshot();
    connection.phase.serving();
    let record = Record::begin(&connection, &snapshot.pseudonym);
    let mut turn = Turn(Box::new(record));
    let head_only = request.method == Method::HEAD;
    let walk = Walk {
        connection: &connection,
        snapshot: &snapshot,
        record: &mut turn.0,
        address: connection.peer.ip(),
    };
    let mut reply = match walk.walk(request).await {
        Ok(reply) => reply,
        Err(Stop(reply)) => *reply,
    };
    if connection.core.is_leaving() {
        refusing::close(&mut reply);
    }
    turn.0.answered(&reply, head_only);
    (reply, turn)
}

/// One request's turn on its connection: ends when its answer has been handed over.
#[derive(Debug)]
pub(crate) struct Turn(Box<Record>);

impl BodyGuard for Turn {
    fn sent(&mut self, n: usize) {
        self.0.sent(n);
    }

    fn ended(&mut self, end: Result<(), &StreamBroken>) {
        self.0.ended(end);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.over();
    }
}

/// A request that ends before the server is asked, or instead of its answer.
struct Stop(Box<Reply>);

impl From<Reply> for Stop {
    fn from(reply: Reply) -> Self {
        Self(Box::new(reply))
    }
}

/// A room from which no way leads on.
impl From<Result<Reply, Self>> for Stop {
    fn from(left: Result<Reply, Self>) -> Self {
        left.map_or_else(|stop| stop, Self::from)
    }
}

/// What a request walks with.
struct Walk<'w> {
    connection: &'w Arc<Connection>,
    snapshot: &'w Arc<Snapshot>,
    record: &'w mut Record,
    /// Where the client is; behind trusted proxies what they tell.
    address: IpAddr,
}

/// What a request's head tells of what it asks for.
enum Asked {
    /// All of it.
    Known(Call),
    /// The operation stands in the body.
    Soap,
}

/// A body that has not been touched, or the part of it that an earlier room has read.
enum Body {
    Untouched(LimitedBody),
    Held(Held),
}

impl<'w> Walk<'w> {
    async fn walk(mut self, request: Box<Request>) -> Result<Reply, Stop> {
        // Boxed: what stands before the server's answer is large, and gone while a poll waits.
        let waiting = Box::pin(self.ask(request)).await?;
        self.answer(waiting).await
    }

    /// Everything up to the moment when the request is on its way to a server.
    async fn ask(&mut self, request: Box<Request>) -> Result<Box<Waiting>, Stop> {
        // A head that two readers could read in two ways is nobody's request; before anything
        // else believes it.
        if let Some(flaw) = self.connection.phase.flaw() {
            return Err(self.bad(flaw.reason(), "", StatusCode::BAD_REQUEST));
        }
        if !chunked_once(&request.headers) {
            return Err(self.bad("transfer_encoding", "", StatusCode::BAD_REQUEST));
        }

        // route: needs nothing but the request line and Host.
        let (config, passes) = (&self.snapshot.config, &self.snapshot.passes);
        let routed = route::route(config, passes, &request.uri, &request.headers);
        if !self.connection.secure
            && let Some(sent) = self.sent_to_https(&routed, &request)
        {
            return Err(sent.into());
        }
        let route = match routed {
            Ok(route) => route,
            Err(none) => return Err(self.no_route(none)),
        };
        if route == Route::LbHealth {
            return Err(self.lb_health(&request.method).into());
        }
        if self.snapshot.config.server.tls.varies() {
            self.check_certificate_of_host(&request.uri, &request.headers)?;
        }
        if route == Route::Callback {
            self.record.protocol(Protocol::Ews);
            return Err(match &self.snapshot.callbacks {
                Some(callbacks) => Box::pin(self.callback(callbacks, *request)).await.into(),
                None => self.no_route(NoRoute::NotFound),
            });
        }
        if let Route::Pass(place) = route {
            return Err(Box::pin(self.pass(place, *request)).await.into());
        }
        self.record.protocol(match route {
            Route::Ews(_) => Protocol::Ews,
            Route::Autodiscover(_) => Protocol::Autodiscover,
            Route::Enrol(_) => Protocol::Route,
            Route::Eas | Route::LbHealth | Route::Pass(_) | Route::Callback => Protocol::Eas,
        });

        // identify: who asks, before the body is touched; without a name nothing is interpreted.
        let Request {
            method,
            uri,
            mut headers,
            body,
            ..
        } = *request;
        if let Some(certificate) = &self.connection.certificate {
            self.check_certificate_open(certificate)?;
        }
        let shared = &self.connection.core.shared;
        let caller = identify::caller(
            &headers,
            self.connection.certificate_user(),
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
        let (caller, mut ticket) = match caller {
            Caller::Ticket => Box::pin(self.accept_ticket(&headers)).await,
            caller => (caller, None),
        };
        match &caller {
            Caller::Known(known) => self.record.user(&known.user),
            Caller::Unreadable(Unreadable::Impersonates) => {
                return Err(self.no_token(TokenError::Impersonates));
            }
            _ => {}
        }
        if let Route::Enrol(file) = route {
            let Some(enrolment) = &self.snapshot.enrolment else {
                return Err(self.no_route(NoRoute::NotFound));
            };
            // Nothing of its body is read.
            let wish = Wish {
                method,
                uri,
                headers,
                file,
            };
            return Err(Box::pin(self.enrol(enrolment, wish, caller)).await.into());
        }
        if let Route::Autodiscover(form) = route {
            let asked = Discovery {
                form,
                method,
                uri,
                headers,
                body,
            };
            return Err(Box::pin(self.discover(asked, caller)).await.into());
        }

        // identify, second half: which command of which protocol, for which device. What the head
        // tells of it comes first: nothing of a head that is no request reaches the server, not
        // even to draw its challenge.
        let asked = self.read_head(&route, &method, &uri, &headers)?;
        let mut known = match caller {
            Caller::Known(known) => known,
            nameless => match self.pinning(&route, &headers) {
                Pinning::Known(known) => {
                    self.record.user(&known.user);
                    known
                }
                Pinning::Handshake => {
                    drop(asked);
                    let handshake = self.ntlm_handshake(&route, &method, &uri, headers, body);
                    return Err(Box::pin(handshake).await.into());
                }
                Pinning::No => {
                    if let Caller::Unreadable(why) = nameless {
                        shared.metrics.bad_request(why.reason());
                        self.record.because(why.reason(), None);
                    }
                    drop(asked);
                    // Boxed, as everything that is rare: the path of a poll stays small.
                    return Err(
                        Box::pin(self.challenge(&route, &method, &uri, headers, body))
                            .await
                            .into(),
                    );
                }
            },
        };
        if self.snapshot.tokens.is_some() || self.snapshot.directory.is_some() {
            Box::pin(self.check_caller(&mut known, &headers, &uri)).await?;
        }
        if self.connection.certificate.is_some() {
            Box::pin(self.check_certificate_person(&known)).await?;
        }
        let (mut call, mut body) = match asked {
            Asked::Known(call) => (call, Body::Untouched(body)),
            Asked::Soap => Box::pin(self.read_soap(&headers, body)).await?,
        };
        self.record.command(call.command());
        let agent = agent(&headers);
        if let Call::Ews(call) = &mut call {
            self.place(call, &mut body, &known, &agent, &uri, &headers)?;
        }
        self.record.device(call.device(), &agent);
        self.check_claimed_user(&call, &known.user)?;
        let device = self.device_of(&call)?;

        // decide: after identification, before the first byte goes to the server.
        let ask = question(device, &call, &known, &agent);
        let judged = !matches!(&call, Call::Eas(call) if !call.judged());

        // orders: an administrator's word to the device itself; it reaches a blocked one too.
        if let (Call::Eas(eas), Some(device), true) = (&call, ask.device, judged)
            && let Some(order) = shared.engine.standing_order(device, ask.user)
        {
            let obeyed = self.obey(&order, &route, &known, &headers, eas, body);
            match Box::pin(obeyed).await? {
                Told::Answered(reply) => return Err(reply.into()),
                Told::GoesOn(read) => body = read,
            }
        }

        // decide: right before the lease is needed.
        let admitted = if judged {
            let core = &self.connection.core;
            let via = decide::via(
                self.connection.peer.ip(),
                &server.trusted_proxies,
                &method,
                &uri,
                &headers,
                call.version(),
            );
            self.address = via.address.unwrap_or(self.address);
            let suspect = self.suspect(&ask);
            let ask = Ask {
                via: Via { suspect, ..via },
                ..ask
            };
            let admitted = decide::admit(&shared.engine, &core.slots, core.id, &ask);
            let admitted = admitted.and_then(|admitted| match &call {
                Call::Eas(_) => Ok(admitted),
                Call::Ews(call) => call.admit(admitted, &shared.engine, core.id, &ask),
            });
            let admitted = if self.snapshot.others_have_a_say {
                let others = self.others(admitted, &ask, &uri, &route, &known, &headers);
                match Box::pin(others).await {
                    Ok(admitted) => admitted,
                    Err(mut reply) => {
                        if !Box::pin(Self::drain(body, expects_continue(&headers))).await {
                            refusing::close(&mut reply);
                        }
                        return Err(reply.into());
                    }
                }
            } else {
                admitted
            };
            match admitted {
                Ok(admitted) => {
                    self.record.decision(&admitted.decision);
                    Some(admitted)
                }
                Err(decision) if quarantines(&decision, &call) => {
                    self.record.decision(&decision);
                    let Call::Eas(eas) = &call else {
                        return Err(call.deny(&decision).into());
                    };
                    let seen =
                        self.quarantine(&decision, &route, &known, &headers, eas, &ask, body);
                    match Box::pin(seen).await? {
                        Told::Answered(reply) => return Err(reply.into()),
                        Told::GoesOn(read) => body = read,
                    }
                    None
                }
                Err(decision) => {
                    self.record.decision(&decision);
                    let whole = Box::pin(Self::drain(body, expects_continue(&headers))).await;
                    let mut reply =
                        Box::pin(self.refuse(&route, &known, &headers, &call, &decision)).await;
                    if !whole {
                        refusing::close(&mut reply);
                    }
                    if self.record.is(Outcome::Refused) {
                        shared
                            .engine
                            .saw(&ask, reply.status.as_u16(), Timestamp::now());
                        self.witness(&ask);
                    }
                    return Err(reply.into());
                }
            }
        } else {
            None
        };

        // firewall: behind the verdict, before the body is read.
        let (body, open_ping) = match (&self.snapshot.firewall, &call) {
            (Some(firewall), Call::Eas(eas)) => {
                match self.firewall_head(firewall, eas, &known, &headers, body) {
                    Ok(entered) => entered,
                    Err(refused) => {
                        let expects = expects_continue(&headers);
                        return Err(Box::pin(Self::turn_away(refused, expects)).await);
                    }
                }
            }
            _ => (body, None),
        };

        // plan: what is held of the body decides how long the answer may take and what may be
        // repeated. Before the first byte is forwarded.
        let expects = expects_continue(&headers);
        let held = match body {
            Body::Held(held) => held,
            // A client that waits for 100 (Continue) with a large body waits for the server's.
            Body::Untouched(body) if expects && !fits(&body) => Held::nothing(body),
            // A client may take its time: a block ends the request all the same, and what is not
            // here yet is never sent.
            Body::Untouched(body) => {
                let read = Admitted::unless_signalled(admitted.as_ref(), Held::read(body));
                match read.await {
                    Ok(Ok(held)) => held,
                    Ok(Err(error)) => return Err(self.bad_body(&error)),
                    Err(signal) => {
                        let mut reply = self.interrupted(&signal, &call, known.user.as_str());
                        refusing::close(&mut reply);
                        return Err(reply.into());
                    }
                }
            }
        };
        let held = match (&self.snapshot.firewall, &call) {
            (Some(firewall), Call::Eas(eas)) => self.firewall_body(firewall, eas, held)?,
            _ => held,
        };
        if let Call::Eas(eas) = &call
            && let Some(reply) = self.stale_keys(eas, known.user.as_str(), &held)
        {
            return Err(reply.into());
        }
        // content: which rules hold is known before the first byte is forwarded.
        let rules = match &call {
            Call::Eas(eas) if self.snapshot.looks_into_mail => self.content_rules(eas, &ask),
            _ => None,
        };
        let held = match (&rules, &call) {
            (Some(rules), Call::Eas(eas)) => {
                Box::pin(self.content_up(rules, eas, held, &mut headers)).await?
            }
            _ => held,
        };
        let moved = self.moved(&route, &known);
        let leg = match &moved {
            Some(moved) => moved,
            None => leg_of(self.snapshot, &route),
        };
        let heartbeat = &self.snapshot.config.heartbeat;
        let plan = call.plan(
            &held,
            &PlanContext {
                response: leg.response_within,
                heartbeat_margin: heartbeat.margin,
                heartbeat_max: heartbeat.max,
                polls: &shared.polls,
                user: &known.user,
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
        let mut inward = transform::inward(headers, host, &self.forwarded());
        self.tell_certificate(&mut inward, leg);
        if let Call::Ews(call) = &call {
            call.prepare(&mut inward.headers);
        }
        let choice = self.choose(leg, &ask, &known);
        let chosen = choice.and_then(|choice| Some((choice, leg.upstream(choice)?)));
        let Some((choice, upstream)) = chosen else {
            return Err(self.no_upstream());
        };
        self.record.upstream(&upstream.name);
        let mut logged_in = None;
        if leg.login == UpstreamLogin::Kerberos
            && !matches!(known.scheme, Scheme::Basic | Scheme::Ntlm)
        {
            let log_in = self.log_in(
                &known,
                leg,
                upstream,
                &mut inward.headers,
                ticket.as_deref_mut(),
            );
            logged_in = Some(Box::pin(log_in).await?);
        }
        let owed = ticket.and_then(|ticket| ticket.answer()).map(Box::new);
        let answering = self.answering(&call, leg, upstream, &known, &inward);

        // forward: inline in this task; the lease is watched beside it.
        let errand = Errand {
            leg: Arc::clone(leg),
            choice,
            method,
            path: forward::path(&route, &uri, call.upstream_query()),
            inward,
            // A body that the client has been asked for need not be asked for again.
            expects: expects && held.bytes.is_empty(),
            held,
            private: match &logged_in {
                Some(_) => Some(shared.digest_key.digest(b"kerberos", &known.user)),
                None => known.connection_bound.then_some(known.digest).flatten(),
            },
            // A ticket is for one server.
            stays: logged_in.is_some() && leg.spn.contains("{host}"),
            plan,
        };
        if let Some(rules) = &rules {
            let login = logged_in.as_ref().map(|_| login::login_of(&known));
            rules.keep(self.snapshot, &errand, login);
        }
        // What is not needed any more must not wait with it: the target is a slice of the
        // connection's read buffer and would keep it from being used again.
        drop(uri);
        // A ticket for one server is no login to another: the client comes again.
        let again = match &logged_in {
            Some(_) => None,
            None => self.again(&errand),
        };
        // What goes on without its client must not begin behind a block; the rest is watched.
        if errand.plan.detached
            && let Some(signal) = admitted.as_ref().and_then(|held| held.ticket.signalled())
        {
            return Err(self.interrupted(&signal, &call, known.user.as_str()).into());
        }
        let Some(going) = forward::start(&self.connection.core, errand) else {
            return Err(self.no_upstream());
        };
        Ok(Box::new(Waiting {
            going,
            moved,
            route,
            call,
            known,
            agent,
            admitted,
            poll: plan.poll,
            rules,
            answering,
            logged_in,
            owed,
            again,
            _open_ping: open_ping,
        }))
    }

    /// `known`: who asks, where that is known already.
    fn challenge_rule(&self, route: &Route, known: Option<&Known>) -> ChallengeRule<'w> {
        let challenges = &self.snapshot.config.challenges;
        ChallengeRule {
            filter: match route {
                Route::Ews(_) => challenges.filter_ews,
                Route::Pass(_) => false,
                Route::Eas
                | Route::Autodiscover(_)
                | Route::Enrol(_)
                | Route::LbHealth
                | Route::Callback => challenges.filter_eas,
            },
            when_empty: challenges.when_empty,
            upn_proven: known.is_some_and(|known| known.proven && known.scheme == Scheme::Bearer)
                || self.connection.certificate_user().is_some()
                || self.snapshot.config.kerberos.accept,
            ntlm_pinned: self.snapshot.config.ntlm_pinning && matches!(route, Route::Ews(_)),
            bearer: &challenges.bearer,
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
            secure: self.connection.secure,
            peer_text,
            peer_element,
            memory: &self.connection.told,
        }
    }
}

fn leg_of<'s>(snapshot: &'s Snapshot, route: &Route) -> &'s Arc<Leg> {
    match route {
        Route::Ews(_) => &snapshot.ews,
        _ => &snapshot.eas,
    }
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

/// Whether a refusal is a quarantine that is served: that of a device which speaks ActiveSync.
fn quarantines(decision: &Decision, call: &Call) -> bool {
    decision.verdict == Verdict::Quarantine && matches!(call, Call::Eas(_))
}

/// Whether the body is known to fit into what is held.
fn fits(body: &LimitedBody) -> bool {
    body.length()
        .is_some_and(|length| length <= forward::HELD_BYTES as u64)
}

/// What the engine is asked, but for the outside of the request.
fn question<'a>(
    device: Option<&'a DeviceKey>,
    call: &'a Call,
    known: &'a Known,
    agent: &'a str,
) -> Ask<'a> {
    Ask {
        device,
        user: Some(&known.user),
        agent,
        device_type: call.device_type(),
        protocol: call.protocol(),
        command: call.command(),
        via: Via::default(),
    }
}

/// The longest `User-Agent` that is remembered, in bytes.
const LONGEST_AGENT: usize = 256;

fn agent(headers: &HeaderMap) -> Arc<str> {
    let text = headers
        .get(header::USER_AGENT)
        .and_then(|value| value.to_str().ok());
    text.map(|text| text.get(..LONGEST_AGENT).unwrap_or(text))
        .unwrap_or_default()
        .into()
}
