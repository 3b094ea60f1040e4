//! Whether a request comes from the device that it names: asked before the verdict, told to it, and
//! learned from what was answered.

use jiff::Timestamp;
use seg_compliance::{Ask, UserKey};

use super::Walk;
use crate::binding::{Seen, Suspicion};

impl Walk<'_> {
    /// Why the request may come from a copy of its device, in one word; empty: nothing says so.
    pub(super) fn suspect(&self, ask: &Ask<'_>) -> &'static str {
        let Some(rules) = self.snapshot.bindings.as_deref() else {
            return "";
        };
        let owner = self.owner(ask);
        let seen = self.seen(ask, owner.as_ref());
        let bindings = &self.connection.core.shared.bindings;
        let found = seen.and_then(|seen| bindings.suspect(rules, &seen));
        found.map_or("", Suspicion::word)
    }

    /// The request's credentials are proven: what it shows is learned, or remembered against the
    /// device.
    pub(super) fn witness(&self, ask: &Ask<'_>) {
        let Some(rules) = self.snapshot.bindings.as_deref() else {
            return;
        };
        let owner = self.owner(ask);
        let Some(seen) = self.seen(ask, owner.as_ref()) else {
            return;
        };
        let shared = &self.connection.core.shared;
        let Some(suspicion) = shared.bindings.witness(rules, &seen) else {
            return;
        };
        // Whoever sent this one has his answer; of two places nobody knows which is the right one.
        let cut = match suspicion {
            Suspicion::TwoPlaces => shared.engine.suspect(seen.device, suspicion.word()),
            _ => 0,
        };
        let pseudonym = &self.snapshot.pseudonym;
        tracing::warn!(
            target: "seg::binding",
            device = pseudonym.device(seen.device.as_str()).as_str(),
            user = pseudonym.user(seen.user.as_str()).as_str(),
            peer = %seen.address,
            reason = suspicion.word(),
            cut,
            "a request may come from a copy of its device"
        );
    }

    fn owner(&self, ask: &Ask<'_>) -> Option<UserKey> {
        self.connection.core.shared.engine.owner(ask.device?)
    }

    fn seen<'a>(&'a self, ask: &Ask<'a>, owner: Option<&'a UserKey>) -> Option<Seen<'a>> {
        Some(Seen {
            device: ask.device?,
            user: ask.user?,
            owner,
            certificate: self.connection.certificate.as_ref(),
            protocol: ask.protocol,
            agent: ask.agent,
            device_type: ask.device_type,
            hello: self.connection.hello,
            address: self.address,
            now: Timestamp::now(),
            is_real: true,
        })
    }
}
