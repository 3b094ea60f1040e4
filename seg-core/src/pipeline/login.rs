//! Logging in at the mail server by Kerberos: a client's ticket is verified, the user's ticket to
//! the server is fetched, and the server's answer to it is checked.

use std::sync::Arc;

use http::{HeaderMap, StatusCode, header};
use seg_compliance::UserKey;

use super::{Stop, Walk, leg_of};
use crate::delegate::{Answer, Refusal, Ticket};
use crate::forward::Errand;
use crate::identify::{Caller, Known, Scheme, Unreadable};
use crate::message::Reply;
use crate::route::Route;
use crate::servers::{Leg, Upstream};
use crate::telemetry::metrics::Outcome;
use crate::upstream::Exchange;

impl Walk<'_> {
    /// A client's ticket, where tickets are taken: whom it names. It is proof in itself.
    pub(super) async fn accept_ticket(
        &mut self,
        headers: &HeaderMap,
    ) -> (Caller, Option<Box<Ticket>>) {
        let none = |why| (Caller::Unreadable(why), None);
        let config = &self.snapshot.config.kerberos;
        let Some(delegation) = self.snapshot.delegation.as_ref().filter(|_| config.accept) else {
            return none(Unreadable::NoUser);
        };
        let line = headers
            .get(header::AUTHORIZATION)
            .map(|line| line.as_bytes());
        let message = line
            .and_then(|line| line.get("Negotiate ".len()..))
            .unwrap_or_default();
        let shared = &self.connection.core.shared;
        let runtime = shared.outbound.runtime();
        match delegation.accept(runtime, message.trim_ascii()).await {
            Ok(ticket) => match self.snapshot.identity.canonical(ticket.principal()) {
                Some(user) => {
                    let known = Known {
                        // A server connection that carries it is nobody else's.
                        digest: Some(shared.digest_key.digest(message, &user)),
                        user,
                        scheme: Scheme::Negotiate,
                        proven: true,
                        connection_bound: true,
                        pinned: false,
                        person: None,
                    };
                    (Caller::Known(known), Some(Box::new(ticket)))
                }
                None => none(Unreadable::NoUser),
            },
            Err(refusal) => {
                tracing::warn!(
                    reason = refusal.reason,
                    "a client's ticket is refused: {refusal}"
                );
                none(Unreadable::Ticket)
            }
        }
    }

    /// Puts the user's ticket in the place of what the client sent.
    pub(super) async fn log_in(
        &mut self,
        known: &Known,
        leg: &Leg,
        upstream: &Upstream,
        headers: &mut HeaderMap,
        ticket: Option<&mut Ticket>,
    ) -> Result<Box<Answer>, Stop> {
        headers.remove(header::AUTHORIZATION);
        let Some(delegation) = &self.snapshot.delegation else {
            // A configuration that names Kerberos is not accepted without it.
            return Err(Reply::unavailable().into());
        };
        if !known.proven {
            // A token that nobody has validated says nothing that may become a ticket.
            self.record.outcome(Outcome::Refused);
            self.record.because("kerberos_unproven", None);
            let text = "These credentials can't be used here.\n";
            return Err(Reply::text(StatusCode::FORBIDDEN, text).into());
        }
        let runtime = self.connection.core.shared.outbound.runtime();
        if known.person.as_ref().is_some_and(|person| person.sensitive) {
            return Err(self.no_ticket(&Refusal::sensitive("says the directory")));
        }
        let authorized = Arc::clone(delegation)
            .authorize(runtime, login_of(known), leg, upstream, ticket)
            .await;
        match authorized {
            Ok((value, answer)) => {
                headers.insert(header::AUTHORIZATION, value);
                Ok(Box::new(answer))
            }
            Err(refusal) => Err(self.no_ticket(&refusal)),
        }
    }

    /// A further request of a user who is logged in carries a message of its own; `None`: there is none.
    pub(super) async fn log_in_again(
        &self,
        user: &UserKey,
        errand: &mut Errand,
    ) -> Option<Box<Answer>> {
        let delegation = self.snapshot.delegation.as_ref()?;
        let upstream = errand.leg.upstream(errand.choice)?;
        let runtime = self.connection.core.shared.outbound.runtime();
        let authorized = Arc::clone(delegation)
            .authorize(runtime, user, &errand.leg, upstream, None)
            .await;
        let (value, answer) = authorized.ok()?;
        errand.inward.headers.insert(header::AUTHORIZATION, value);
        Some(Box::new(answer))
    }

    /// What the phone is told: an account that is refused today is refused tomorrow, everything
    /// else is ours to mend.
    fn no_ticket(&mut self, refusal: &Refusal) -> Stop {
        self.record
            .because(refusal.reason, Some(refusal.to_string()));
        if refusal.of_user {
            self.record.outcome(Outcome::Refused);
            let text = "The mail server does not let this account in.\n";
            return Reply::text(StatusCode::FORBIDDEN, text).into();
        }
        self.record.outcome(Outcome::UpstreamFailed);
        Reply::unavailable().into()
    }

    /// The server's side of the login: it proves itself, or has refused the ticket. Nothing of it
    /// is the client's business.
    pub(super) fn check_login(
        &mut self,
        answer: Answer,
        exchange: &mut Exchange,
        known: &Known,
        route: &Route,
    ) -> Result<(), Stop> {
        let leg = leg_of(self.snapshot, route);
        let challenges: Vec<_> = exchange
            .headers
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .cloned()
            .collect();
        exchange.headers.remove(header::WWW_AUTHENTICATE);
        if exchange.status == StatusCode::UNAUTHORIZED {
            if let Some(delegation) = &self.snapshot.delegation {
                delegation.forget(login_of(known), leg);
            }
            let offered = challenges.iter().any(|line| {
                line.as_bytes()
                    .to_ascii_lowercase()
                    .starts_with(b"negotiate")
            });
            let detail = if offered {
                "the mail server refuses the ticket: its service account, its key or its clock \
                 differ from the domain controller's; check email.server.spn"
            } else {
                "the mail server does not offer Negotiate; switch Windows authentication on for \
                 this virtual directory"
            };
            self.record.outcome(Outcome::UpstreamFailed);
            let skew = self.snapshot.delegation.as_ref().and_then(|d| d.skew());
            match skew {
                Some(skew) if offered => self.record.because(skew.reason, Some(skew.to_string())),
                _ => self
                    .record
                    .because("kerberos_refused_by_server", Some(detail.to_owned())),
            }
            return Err(Reply::unavailable().into());
        }
        let Some(line) = challenges.first() else {
            return Ok(());
        };
        answer.check(line.as_bytes()).map_err(|refusal| {
            self.record.outcome(Outcome::UpstreamFailed);
            self.record
                .because(refusal.reason, Some(refusal.to_string()));
            let text = "The mail server could not prove its identity.\n";
            Reply::text(StatusCode::BAD_GATEWAY, text).into()
        })
    }
}

/// Whether the server of a further request is the one that was meant.
pub(super) fn proves_itself(answer: Answer, headers: &HeaderMap) -> bool {
    let line = headers.get(header::WWW_AUTHENTICATE);
    line.is_none_or(|line| answer.check(line.as_bytes()).is_ok())
}

/// By which name the domain controller is asked: the account's, where the directory has told it.
pub(super) fn login_of(known: &Known) -> &UserKey {
    let person = known.person.as_ref();
    person.map_or(&known.user, |person| &person.login)
}
