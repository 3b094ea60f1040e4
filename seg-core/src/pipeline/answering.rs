//! The half of a request's way that lies behind the server's answer: wait, learn, filter, respond.

use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;

use super::content::Rules;
use super::firewall;
use super::moving::{Again, GoingOn};
use super::{Stop, Walk, leg_of, question};
use crate::decide::{Admitted, Lesson, OpenPing};
use crate::delegate::Answer;
use crate::forward::{Going, Went};
use crate::identify::Known;
use crate::message::Reply;
use crate::protocol::Call;
use crate::protocol::ews::Answering;
use crate::redirect;
use crate::respond;
use crate::route::Route;
use crate::servers::Leg;
use crate::telemetry::metrics::Outcome;
use crate::upstream::Exchange;

/// What waits for the server with a request. A long poll holds this and little else.
pub(super) struct Waiting {
    pub(super) going: Going,
    /// The servers of somebody who has moved.
    pub(super) moved: Option<Arc<Leg>>,
    pub(super) route: Route,
    pub(super) call: Call,
    pub(super) known: Known,
    pub(super) agent: Arc<str>,
    pub(super) admitted: Option<Admitted>,
    /// It is a long poll.
    pub(super) poll: bool,
    /// Which content rules hold for it.
    pub(super) rules: Option<Box<Rules>>,
    pub(super) answering: Option<Answering>,
    /// Our own login, whose other half the server owes.
    pub(super) logged_in: Option<Box<Answer>>,
    /// What the client's ticket is answered with.
    pub(super) owed: Option<Box<HeaderValue>>,
    /// What is needed to send it on, where it may be.
    pub(super) again: Option<Box<Again>>,
    pub(super) _open_ping: Option<OpenPing>,
}

impl Walk<'_> {
    /// Waits for the server, and makes the client's answer out of its.
    pub(super) async fn answer(mut self, mut waiting: Box<Waiting>) -> Result<Reply, Stop> {
        let went = waiting.going.watched(waiting.admitted.as_ref()).await;
        let mut exchange = match went {
            Went::Answered(exchange) => exchange,
            Went::Signalled(signal) => {
                let user = waiting.known.user.as_str();
                return Ok(self.interrupted(&signal, &waiting.call, user));
            }
            Went::Failed(error) => return Ok(self.failed(&error)),
        };
        if exchange.replayed {
            self.record.replayed();
        }
        if let Some(place) = exchange.moved_to {
            let leg = match &waiting.moved {
                Some(moved) => moved,
                None => leg_of(self.snapshot, &waiting.route),
            };
            if let Some(upstream) = leg.at(place) {
                self.record.moved(&upstream.name);
            }
        }

        if let Some(answer) = waiting.logged_in.take() {
            self.check_login(*answer, &mut exchange, &waiting.known, &waiting.route)?;
        }
        if redirect::may_be(exchange.status) {
            let going_on = GoingOn {
                route: &waiting.route,
                known: &waiting.known,
                call: &waiting.call,
                again: waiting.again.take(),
                poll: waiting.poll,
                admitted: waiting.admitted.as_ref(),
            };
            exchange = match Box::pin(self.redirected(exchange, going_on)).await {
                Ok(exchange) => exchange,
                Err(reply) => return Ok(*reply),
            };
        }

        self.learn(&waiting, &exchange);
        if let (Some(firewall), Call::Eas(eas)) = (&self.snapshot.firewall, &waiting.call)
            && eas.is_options()
        {
            firewall::narrow(firewall, &mut exchange.headers);
        }

        // filter, respond: whatever the server says of logging in passes the filter.
        let rule = self.challenge_rule(&waiting.route, Some(&waiting.known));
        self.record
            .outcome(if exchange.status == StatusCode::UNAUTHORIZED {
                Outcome::Challenged
            } else {
                Outcome::Forwarded
            });
        let exchange = match waiting.rules.take() {
            Some(rules) => {
                let (user, lease) = (waiting.known.user.as_str(), waiting.admitted.as_ref());
                let down = self.content_down(&rules, &waiting.call, user, exchange, lease, rule);
                match Box::pin(down).await {
                    Ok(mut reply) => {
                        append_challenge(&mut reply, waiting.owed.take());
                        return Ok(reply);
                    }
                    Err(exchange) => exchange,
                }
            }
            None => exchange,
        };
        let learn =
            matches!(waiting.route, Route::Ews(_)).then(|| Arc::clone(&self.snapshot.ews_version));
        let mut reply = respond::forwarded(
            exchange,
            waiting.admitted.take(),
            rule,
            learn,
            waiting.answering.take(),
            &self.connection.core.shared.metrics,
        );
        append_challenge(&mut reply, waiting.owed.take());
        Ok(reply)
    }

    /// What the server's answer says of the credentials and of the device is learned before
    /// anybody filters it.
    fn learn(&self, waiting: &Waiting, exchange: &Exchange) {
        let Waiting { call, known, .. } = waiting;
        let (shared, status) = (&self.connection.core.shared, exchange.status);
        if let Some(digest) = &known.digest {
            shared.proofs.learn(digest, status);
            if status == StatusCode::UNAUTHORIZED
                && let (Some(directory), Some(person)) = (&self.snapshot.directory, &known.person)
            {
                directory.forget(&person.asked);
            }
        }
        if known.pinned {
            self.connection.ntlm.answered(known, status);
        }
        if !known.proven && status == StatusCode::UNAUTHORIZED {
            return;
        }
        let certificate = self.connection.certificate.as_ref();
        let certified = || certificate.and_then(|certificate| certificate.device.as_ref());
        let device = call.device().or_else(certified);
        let ask = question(device, call, known, &waiting.agent);
        shared.engine.saw(&ask, status.as_u16(), Timestamp::now());
        // An answer that nobody's credentials have drawn teaches nothing.
        if known.proven || Lesson::of(status) == Lesson::Proven {
            self.witness(&ask);
            if self.snapshot.ews_settings.learns {
                self.teach(call, &ask);
            }
        }
    }
}

fn append_challenge(reply: &mut Reply, owed: Option<Box<HeaderValue>>) {
    if let Some(owed) = owed {
        reply.headers.append(header::WWW_AUTHENTICATE, *owed);
    }
}
