//! A mail server answers that the mailbox is elsewhere.

use std::sync::Arc;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode};

use super::Walk;
use crate::config::{Origin, RedirectMode};
use crate::decide::Admitted;
use crate::forward::{self, Errand, Held};
use crate::identify::{CredentialDigest, Known};
use crate::message::Reply;
use crate::protocol::{Call, Plan};
use crate::redirect::{self, Denied, Side};
use crate::route::Route;
use crate::servers::Leg;
use crate::telemetry::metrics::Outcome;
use crate::transform::Inward;
use crate::upstream::Exchange;

/// A request that can be sent on: kept only where redirects are followed, and it is small and
/// waits for nothing.
pub(super) struct Again {
    method: Method,
    path: PathAndQuery,
    inward: Inward,
    body: Bytes,
    private: Option<CredentialDigest>,
    plan: Plan,
}

/// What a redirect is answered with.
pub(super) struct GoingOn<'g> {
    pub(super) route: &'g Route,
    pub(super) known: &'g Known,
    pub(super) call: &'g Call,
    pub(super) again: Option<Box<Again>>,
    /// It is a long poll, which its client repeats by itself.
    pub(super) poll: bool,
    pub(super) admitted: Option<&'g Admitted>,
}

impl Walk<'_> {
    /// The servers of somebody who has moved.
    pub(super) fn moved(&self, route: &Route, known: &Known) -> Option<Arc<Leg>> {
        let moves = &self.connection.core.shared.moves;
        moves.leg(side(route), &known.user, self.snapshot)
    }

    /// Keeps what is needed to send the request on.
    pub(super) fn again(&self, errand: &Errand) -> Option<Box<Again>> {
        let redirect = &self.snapshot.config.redirect;
        let follows = redirect.mode == RedirectMode::Follow
            && (!redirect.allowed.is_empty() || self.snapshot.has_siblings());
        if !follows || errand.plan.poll || errand.held.rest.is_some() {
            return None;
        }
        Some(Box::new(Again {
            method: errand.method.clone(),
            path: errand.path.clone(),
            inward: errand.inward.clone(),
            body: errand.held.bytes.clone(),
            private: errand.private,
            plan: errand.plan,
        }))
    }

    /// Follows, rewrites or refuses a redirect. The answer of the server that was found in the
    /// end, or what the client is told instead.
    pub(super) async fn redirected(
        &mut self,
        mut exchange: Box<Exchange>,
        going_on: GoingOn<'_>,
    ) -> Result<Box<Exchange>, Box<Reply>> {
        let GoingOn {
            route,
            known,
            call,
            again,
            poll,
            admitted,
        } = going_on;
        let side = side(route);
        let snapshot = Arc::clone(self.snapshot);
        let moves = Arc::clone(&self.connection.core.shared);
        let moves = &moves.moves;
        let mut seen: Vec<Origin> = Vec::new();
        while redirect::may_be(exchange.status) {
            let path = route.upstream_path();
            let found = redirect::target(exchange.status, &exchange.headers, path).and_then(|to| {
                if seen.len() >= redirect::MOST_HOPS || seen.contains(&to) {
                    return Err(Denied::Loop);
                }
                let leg = moves.resolve(side, &to, &snapshot)?;
                Ok((to, leg))
            });
            let (to, leg) = match found {
                Ok(found) => found,
                Err(denied) => {
                    moves.forget(side, &known.user);
                    return Err(Box::new(self.goes_nowhere(denied, &exchange)));
                }
            };
            moves.remember(side, &known.user, to.clone(), &leg, &snapshot);
            seen.push(to);
            if snapshot.config.redirect.mode == RedirectMode::Rewrite {
                let ours = snapshot.config.server.public_url.as_ref();
                let told = ours.map(|ours| HeaderValue::try_from(format!("{ours}{path}")));
                if let Some(Ok(told)) = told {
                    let name = redirect::header_of(exchange.status);
                    exchange.headers.insert(name, told);
                    return Ok(exchange);
                }
            }
            let Some(again) = &again else {
                return Err(Box::new(self.come_again(call, poll)));
            };
            let Some(errand) = errand(again, &leg) else {
                return Err(Box::new(Reply::unavailable()));
            };
            if let Some(upstream) = leg.upstream(errand.choice) {
                self.record.upstream(&upstream.name);
            }
            let Some(mut going) = forward::start(&self.connection.core, errand) else {
                return Err(Box::new(Reply::unavailable()));
            };
            exchange = match going.watched(admitted).await {
                forward::Went::Answered(exchange) => exchange,
                forward::Went::Signalled(signal) => {
                    return Err(Box::new(self.interrupted(
                        &signal,
                        call,
                        known.user.as_str(),
                    )));
                }
                forward::Went::Failed(error) => {
                    // Whoever is not there may be home again.
                    moves.forget(side, &known.user);
                    return Err(Box::new(self.failed(&error)));
                }
            };
        }
        Ok(exchange)
    }

    /// Where the user is now is remembered; the request itself can't be sent on.
    fn come_again(&mut self, call: &Call, poll: bool) -> Reply {
        self.record.outcome(Outcome::Local);
        self.record.because("redirect_remembered", None);
        if poll {
            return call.end_poll();
        }
        let mut reply = Reply::unavailable();
        reply
            .headers
            .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        reply
    }

    fn goes_nowhere(&mut self, denied: Denied, exchange: &Exchange) -> Reply {
        let location = exchange.headers.get(redirect::header_of(exchange.status));
        let location = location.and_then(|line| line.to_str().ok());
        // Without its query, which may hold anything.
        let location = location.and_then(|line| line.split(['?', '#']).next());
        self.record.outcome(Outcome::Rejected);
        self.record
            .because(denied.reason(), location.map(str::to_owned));
        Reply::text(
            StatusCode::FORBIDDEN,
            "The mail server sends this request to a place that is not served here.\n",
        )
    }
}

fn errand(again: &Again, leg: &Arc<Leg>) -> Option<Errand> {
    Some(Errand {
        choice: leg.choose(None, "")?,
        leg: Arc::clone(leg),
        method: again.method.clone(),
        path: again.path.clone(),
        inward: again.inward.clone(),
        held: Held {
            bytes: again.body.clone(),
            rest: None,
        },
        expects: false,
        private: again.private,
        stays: false,
        plan: again.plan,
    })
}

fn side(route: &Route) -> Side {
    match route {
        Route::Ews(_) => Side::Ews,
        _ => Side::Eas,
    }
}
