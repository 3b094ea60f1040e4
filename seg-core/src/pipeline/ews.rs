//! What only EWS requests walk through.

use std::sync::{Arc, OnceLock};

use http::{HeaderMap, StatusCode, Uri};
use jiff::Timestamp;
use seg_compliance::Ask;
use seg_ews::callback;
use zeroize::Zeroizing;

use super::{Body, Stop, Walk};
use crate::callback::{Callbacks, Sealed};
use crate::config::ComplianceMode;
use crate::forward::Guard;
use crate::identify::Known;
use crate::protocol::Call;
use crate::protocol::ews::{Answering, Ending, EwsCall, Standing, Unsubscribe, Whose};
use crate::servers::{Leg, Upstream};
use crate::transform::Inward;
use crate::upstream::Deadlines;

impl Walk<'_> {
    /// Puts a request beside who asks: its class of client, its device, and what `[ews]` says.
    pub(super) fn place(
        &mut self,
        call: &mut EwsCall,
        body: &mut Body,
        known: &Known,
        agent: &str,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), Stop> {
        let snapshot = self.snapshot;
        let shared = &self.connection.core.shared;
        let whose = Whose {
            address: self.connection.peer.ip(),
            agent,
            certificate: self.connection.ews_certificate.as_deref(),
            certified: self.connection.certificate.is_some(),
            user: &known.user,
            uri,
            headers,
        };
        let enforced = snapshot.config.compliance.mode == ComplianceMode::Enforce;
        let standing = Standing::of(
            call,
            &whose,
            &snapshot.ews_settings,
            &snapshot.identity,
            &shared.ews,
            enforced,
        );
        let standing = match standing {
            Ok(standing) => standing,
            Err(unclear) => {
                let status = match unclear.reason() {
                    "no_route" => StatusCode::NOT_FOUND,
                    _ => StatusCode::BAD_REQUEST,
                };
                return Err(self.bad(unclear.reason(), "", status));
            }
        };
        self.record.stands(standing.class.name(), standing.rung);
        if let Some(name) = call.facts().and_then(|facts| facts.unknown.as_deref()) {
            // An administrator who is to list it must know its name.
            self.record.detail(name);
        }
        if let Some(callbacks) = &snapshot.callbacks {
            self.interpose(callbacks, call, &standing, body, known)?;
        }
        // What the rest of a large body names is judged when it is read.
        if enforced
            && let Body::Held(held) = body
            && let Some(rest) = &mut held.rest
        {
            let (snapshot, class) = (Arc::clone(snapshot), standing.class);
            let (user, acts_as) = (known.user.clone(), standing.acts_as.clone());
            rest.guard(Guard::new(move |mailboxes| {
                let identity = &snapshot.identity;
                let rules = snapshot.ews_settings.policy.of(class);
                rules.reaches(mailboxes, user.as_str(), |mailbox| {
                    identity.same_person(mailbox, &user)
                        || acts_as
                            .as_ref()
                            .is_some_and(|other| identity.same_person(mailbox, other))
                })
            }));
        }
        call.stand(standing);
        Ok(())
    }

    /// Writes an address of ours into a push subscription that nothing has denied.
    fn interpose(
        &mut self,
        callbacks: &Callbacks,
        call: &EwsCall,
        standing: &Standing,
        body: &mut Body,
        known: &Known,
    ) -> Result<(), Stop> {
        let url = call.facts().and_then(|facts| facts.push_url.as_ref());
        let (Some(url), None) = (url, standing.denial) else {
            return Ok(());
        };
        let sealed = Sealed {
            url: Zeroizing::new(url.expose().to_owned()),
            // Whose mailbox it is that is watched.
            user: standing.acts_as.as_ref().unwrap_or(&known.user).clone(),
            device: standing.device.clone(),
            class: standing.class,
        };
        let changed = callbacks
            .interpose(&sealed, Timestamp::now())
            .zip(match body {
                Body::Held(held) => held.whole(),
                Body::Untouched(_) => None,
            })
            .and_then(|(ours, whole)| callback::with_push_url(whole, &ours));
        match (changed, body) {
            (Some(changed), Body::Held(held)) => {
                held.bytes = changed.into();
                Ok(())
            }
            // UTF-16, or a URL beyond every measure: passed on as it is, it would go around us.
            _ => Err(self.bad("ews_push_url", "", StatusCode::BAD_REQUEST)),
        }
    }

    /// Learns from admitted ActiveSync traffic which device a user has.
    pub(super) fn teach(&self, call: &Call, ask: &Ask<'_>) {
        if let (Call::Eas(_), Some(device), Some(user)) = (call, ask.device, ask.user) {
            self.connection.core.shared.ews.learn(user, device);
        }
    }

    /// What is done with the answer; `headers` are those that go to the server.
    pub(super) fn answering(
        &mut self,
        call: &Call,
        leg: &Leg,
        upstream: &Arc<Upstream>,
        known: &Known,
        inward: &Inward,
    ) -> Option<Answering> {
        let Call::Ews(call) = call else { return None };
        let core = &self.connection.core;
        let record = &mut *self.record;
        call.answering(|call| {
            let cut = Arc::new(OnceLock::new());
            record.may_be_cut(&cut);
            let ids = call.facts().map(|facts| facts.subscription_ids.as_slice());
            let deadlines = Deadlines {
                connect: leg.connect_within,
                head: leg.response_within,
                between_bytes: leg.response_within,
            };
            Ending {
                cut,
                unsubscribe: (!known.connection_bound)
                    .then(|| {
                        let ids = ids.unwrap_or_default();
                        Unsubscribe::new(core, upstream, inward, ids, deadlines)
                    })
                    .flatten(),
            }
        })
    }
}
