//! Autodiscover: judged by user, and answered with our own address.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use seg_compliance::{Ask, Protocol};

use super::{Stop, Walk, leg_of, refusing};
use crate::autodiscover::answer::Own;
use crate::autodiscover::ask::{JsonAsk, PoxAsk, SoapAsk};
use crate::autodiscover::rewrite::{self, Rewritten, Rules};
use crate::autodiscover::{Form, Malformed};
use crate::config::{AutodiscoverMode, Origin};
use crate::decide::{self, Admitted};
use crate::forward::{self, Errand, HELD_BYTES, Held, LimitedBody};
use crate::identify::{Caller, Known};
use crate::message::{Reply, ReplyBody};
use crate::protocol::Plan;
use crate::redirect;
use crate::respond;
use crate::route::{NoRoute, Route};
use crate::runtime::Signal;
use crate::telemetry::metrics::Outcome;
use crate::transform;
use crate::upstream::Exchange;

/// The longest answer of a mail server that is read, in bytes.
const LONGEST_ANSWER: usize = 512 * 1024;

/// A request for Autodiscover, as it came.
pub(super) struct Discovery {
    pub(super) form: Form,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: LimitedBody,
}

/// What is asked, once it has been read.
enum Question {
    Pox(PoxAsk),
    Soap(SoapAsk),
    Json(JsonAsk),
}

impl Question {
    fn answer(&self, own: Own<'_>) -> String {
        match self {
            Self::Pox(ask) => own.pox(ask),
            Self::Soap(ask) => own.soap(ask),
            Self::Json(ask) => own.json(ask),
        }
    }
}

impl Walk<'_> {
    /// Serves a request for Autodiscover.
    pub(super) async fn discover(
        &mut self,
        asked: Discovery,
        caller: Caller,
    ) -> Result<Reply, Stop> {
        let Discovery {
            form,
            method,
            uri,
            headers,
            body,
        } = asked;
        let route = Route::Autodiscover(form);
        let snapshot = Arc::clone(self.snapshot);
        // What has a meaning is known before anybody is asked for a name.
        let good = match form {
            Form::Json => method == Method::GET,
            Form::Pox | Form::Soap => method == Method::POST,
        };
        if !good {
            return Err(self.bad("autodiscover_method", "", StatusCode::METHOD_NOT_ALLOWED));
        }
        let json = match (form, uri.query()) {
            (Form::Json, query) => match JsonAsk::parse(query, snapshot.config.ews_enabled) {
                Ok(ask) => Some(ask),
                Err(bad) => {
                    let text = bad.to_string();
                    return Err(self.bad("autodiscover_query", &text, StatusCode::BAD_REQUEST));
                }
            },
            (_, None) => None,
            (_, Some(_)) => {
                return Err(self.bad("autodiscover_query", "", StatusCode::BAD_REQUEST));
            }
        };
        let mut known = match caller {
            Caller::Known(known) => known,
            nameless => {
                if let Caller::Unreadable(why) = nameless {
                    self.connection
                        .core
                        .shared
                        .metrics
                        .bad_request(why.reason());
                    self.record.because(why.reason(), None);
                }
                return self.challenge(&route, &method, &uri, headers, body).await;
            }
        };
        self.check_caller(&mut known, &headers, &uri).await?;
        self.check_certificate_person(&known).await?;
        let admitted = self
            .admit_discovery(&route, &known, &method, &uri, &headers)
            .await?;

        let held = match Held::read(body).await {
            Ok(held) if held.rest.is_none() => held.bytes,
            Ok(_) => return Err(self.bad("body_too_large", "", StatusCode::PAYLOAD_TOO_LARGE)),
            Err(error) => return Err(self.bad_body(&error)),
        };
        debug_assert!(held.len() <= HELD_BYTES * 2);
        let question = match (form, json) {
            (Form::Json, Some(ask)) => Ok(Question::Json(ask)),
            (Form::Soap, _) => SoapAsk::parse(&held).map(Question::Soap),
            _ => PoxAsk::parse(&held).map(Question::Pox),
        };
        let question = match question {
            Ok(question) => question,
            Err(malformed) => return Err(self.not_readable(&malformed)),
        };
        let Some(public) = &snapshot.config.server.public_url else {
            return Err(self.no_route(NoRoute::Autodiscover));
        };
        let own = Own {
            public,
            ews: snapshot.config.ews_enabled,
        };
        if snapshot.config.autodiscover == AutodiscoverMode::Answer {
            // Nobody else will say whether the password is right.
            if let Some(reply) = self.unproven(&route, &known, &headers).await {
                return Ok(reply);
            }
            return Ok(self.own_answer(form, &question, own));
        }
        let exchange = match self
            .ask_upstream(&route, &question, &known, headers, held, &admitted)
            .await
        {
            Ok(exchange) => exchange,
            Err(reply) => return Ok(*reply),
        };
        self.told(form, exchange, &question, own, &route, admitted)
            .await
    }

    async fn admit_discovery(
        &mut self,
        route: &Route,
        known: &Known,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Admitted, Stop> {
        let agent = super::agent(headers);
        self.record.device(None, &agent);
        let ask = Ask {
            device: None,
            user: Some(&known.user),
            agent: &agent,
            device_type: "",
            protocol: Protocol::Eas,
            command: "Autodiscover",
            via: decide::via(
                self.connection.peer.ip(),
                &self.snapshot.config.server.trusted_proxies,
                method,
                uri,
                headers,
                "",
            ),
        };
        let core = &self.connection.core;
        match decide::admit(&core.shared.engine, &core.slots, core.id, &ask) {
            Ok(admitted) => {
                self.record.decision(&admitted.decision);
                Ok(admitted)
            }
            Err(decision) => {
                self.record.decision(&decision);
                let unproven = self.unproven(route, known, headers).await;
                Err(unproven.unwrap_or_else(|| self.refused()).into())
            }
        }
    }

    fn refused(&mut self) -> Reply {
        self.record.outcome(Outcome::Refused);
        let text = "Access to mail is blocked for this user.\n";
        let mut reply = Reply::text(StatusCode::FORBIDDEN, text);
        refusing::close(&mut reply);
        reply
    }

    fn not_readable(&mut self, malformed: &Malformed) -> Stop {
        let text = malformed.to_string();
        self.bad("autodiscover_body", &text, StatusCode::BAD_REQUEST)
    }

    fn own_answer(&mut self, form: Form, question: &Question, own: Own<'_>) -> Reply {
        self.record.outcome(Outcome::Local);
        Reply::full(StatusCode::OK, form.media_type(), question.answer(own))
    }

    async fn ask_upstream(
        &mut self,
        route: &Route,
        question: &Question,
        known: &Known,
        mut headers: HeaderMap,
        body: Bytes,
        admitted: &Admitted,
    ) -> Result<Box<Exchange>, Box<Reply>> {
        let leg = leg_of(self.snapshot, route);
        let host = leg.host_header(headers.get(HOST));
        // The answer is read here.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let inward = transform::inward(headers, host, &self.forwarded());
        let (method, path) = match question {
            Question::Json(ask) => {
                let path = format!("{}?{}", route.upstream_path(), ask.query());
                (Method::GET, path.parse().ok())
            }
            Question::Pox(_) | Question::Soap(_) => {
                let path = PathAndQuery::from_static(route.upstream_path());
                (Method::POST, Some(path))
            }
        };
        let choice = leg.choose(None, known.user.as_str());
        let (Some(choice), Some(path)) = (choice, path) else {
            return Err(self.no_upstream().0);
        };
        if let Some(upstream) = leg.upstream(choice) {
            self.record.upstream(&upstream.name);
        }
        let errand = Errand {
            leg: Arc::clone(leg),
            choice,
            method,
            path,
            inward,
            held: Held {
                bytes: body,
                rest: None,
            },
            expects: false,
            private: known.connection_bound.then_some(known.digest).flatten(),
            stays: false,
            plan: Plan {
                head_within: leg.response_within,
                body_idle: leg.response_within,
                replay: true,
                detached: false,
                poll: false,
            },
        };
        let Some(mut going) = forward::start(&self.connection.core, errand) else {
            return Err(self.no_upstream().0);
        };
        let exchange = match going.watched(Some(admitted)).await {
            forward::Went::Answered(exchange) => exchange,
            forward::Went::Signalled(Signal::Cut(order)) => {
                self.record.cut(&order.decision, order.taken);
                return Err(Box::new(self.refused()));
            }
            forward::Went::Signalled(Signal::EndPoll) => {
                return Err(Box::new(Reply::unavailable()));
            }
            forward::Went::Failed(error) => return Err(Box::new(self.failed(&error))),
        };
        if let Some(digest) = &known.digest {
            let proofs = &self.connection.core.shared.proofs;
            proofs.learn(digest, exchange.status);
            if exchange.status == StatusCode::UNAUTHORIZED
                && let (Some(directory), Some(person)) = (&self.snapshot.directory, &known.person)
            {
                directory.forget(&person.asked);
            }
        }
        Ok(exchange)
    }

    /// What the client is told of the server's answer.
    async fn told(
        &mut self,
        form: Form,
        exchange: Box<Exchange>,
        question: &Question,
        own: Own<'_>,
        route: &Route,
        admitted: Admitted,
    ) -> Result<Reply, Stop> {
        let status = exchange.status;
        if status == StatusCode::UNAUTHORIZED {
            self.record.outcome(Outcome::Challenged);
            let rule = self.challenge_rule(route, None);
            let metrics = &self.connection.core.shared.metrics;
            let admitted = Some(admitted);
            return Ok(respond::forwarded(
                exchange, admitted, rule, None, None, metrics,
            ));
        }
        // Another service of this kind would know another address than ours.
        if redirect::may_be(status) {
            return Ok(self.own_answer(form, question, own));
        }
        if !status.is_success() {
            self.record.outcome(Outcome::Forwarded);
            return Ok(if status.is_server_error() {
                Reply::unavailable()
            } else {
                // Its text may name an address.
                Reply::empty(status)
            });
        }
        let Exchange {
            mut headers, body, ..
        } = *exchange;
        let encoded = headers
            .get(CONTENT_ENCODING)
            .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
        let gathered = match body.collect(LONGEST_ANSWER).await {
            Ok(gathered) if !encoded => gathered,
            Ok(_) => return Ok(self.nonsense("it is compressed, though that was not asked for")),
            Err(error) => return Ok(self.nonsense(&error.to_string())),
        };
        match self.rewritten(form, &gathered, own.public, route) {
            Ok(Rewritten::Elsewhere) => Ok(self.own_answer(form, question, own)),
            Ok(Rewritten::Answer(text)) => {
                transform::outward(&mut headers);
                headers.remove(CONTENT_LENGTH);
                headers.remove(CONTENT_ENCODING);
                if !headers.contains_key(CONTENT_TYPE) {
                    let kind = HeaderValue::from_static(form.media_type());
                    headers.insert(CONTENT_TYPE, kind);
                }
                self.record.outcome(Outcome::Forwarded);
                Ok(Reply {
                    status,
                    headers,
                    body: ReplyBody::Full(text.into()),
                })
            }
            Err(malformed) => Ok(self.nonsense(&malformed.to_string())),
        }
    }

    fn rewritten(
        &self,
        form: Form,
        document: &[u8],
        public: &Origin,
        route: &Route,
    ) -> Result<Rewritten, Malformed> {
        let rule = self.challenge_rule(route, None);
        let rules = Rules {
            public,
            no_ntlm: rule.filter,
            no_negotiate: rule.filter && !rule.upn_proven,
        };
        match form {
            Form::Json => rewrite::json(document, rules),
            Form::Pox | Form::Soap => rewrite::xml(document, rules),
        }
    }

    /// An answer that can't be read can't be told.
    fn nonsense(&mut self, why: &str) -> Reply {
        self.record.outcome(Outcome::UpstreamFailed);
        self.record
            .because("upstream_nonsense", Some(why.to_owned()));
        let metrics = &self.connection.core.shared.metrics;
        metrics.bad_request("upstream_nonsense");
        let text = "The mail server's answer can't be understood.\n";
        Reply::text(StatusCode::BAD_GATEWAY, text)
    }
}
