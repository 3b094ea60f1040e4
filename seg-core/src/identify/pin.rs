//! NTLM through a gateway: one connection to the server for one connection of a client.
//!
//! NTLM authenticates a connection, and whoever sends the next request on it is that user. So a
//! pinned connection carries a random key that no other client's requests have: the pool hands it
//! to nobody else, and closes it when the client's connection ends. Whom it belongs to is what the
//! last step of the handshake says, once the server has agreed; from then on requests need no
//! credentials of their own, and each is judged like any other of that user.

use std::fmt::{self, Write as _};

use aws_lc_rs::rand;
use http::StatusCode;
use parking_lot::Mutex;
use seg_compliance::UserKey;

use super::{CredentialDigest, Known, Scheme};
use crate::decide::Lesson;
use crate::upstream::{IdentityHash, Pool};

/// What one client connection knows of its pinned one. Empty until a handshake begins.
#[derive(Debug, Default)]
pub struct NtlmPin(Mutex<Option<Box<Pinned>>>);

struct Pinned {
    key: CredentialDigest,
    /// Whether the handshake's last step has been taken. A second one on the same connection could
    /// name somebody else than the one whom the server knows it by.
    claimed: bool,
    /// Set while the server takes the connection for this user's.
    user: Option<UserKey>,
    pool: Pool,
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.pool.close_private(IdentityHash::new(self.key));
    }
}

impl NtlmPin {
    /// A handshake begins, on a new connection; what was pinned before is closed. `None` without
    /// randomness.
    pub fn begin(&self, pool: &Pool) -> Option<CredentialDigest> {
        let mut key = CredentialDigest::default();
        rand::fill(&mut key).ok()?;
        let pinned = Pinned {
            key,
            claimed: false,
            user: None,
            pool: pool.clone(),
        };
        let before = self.0.lock().replace(Box::new(pinned));
        drop(before);
        Some(key)
    }

    /// The handshake's last step: who it says to be. One for each handshake.
    pub fn claim(&self, user: UserKey) -> Option<Known> {
        let mut pinned = self.0.lock();
        let pinned = pinned.as_mut().filter(|pinned| !pinned.claimed)?;
        pinned.claimed = true;
        Some(known(user, pinned.key))
    }

    /// Whose connection it is.
    pub fn owner(&self) -> Option<Known> {
        let pinned = self.0.lock();
        let pinned = pinned.as_ref()?;
        Some(known(pinned.user.clone()?, pinned.key))
    }

    /// What the server's answer says of it.
    pub fn answered(&self, known: &Known, status: StatusCode) {
        let mut pinned = self.0.lock();
        if let Some(pinned) = pinned.as_mut()
            && Some(pinned.key) == known.digest
        {
            match Lesson::of(status) {
                Lesson::Proven => pinned.user = Some(known.user.clone()),
                Lesson::Refuted => pinned.user = None,
                // Something between here and the server has answered.
                Lesson::Nothing => {}
            }
        }
    }
}

fn known(user: UserKey, key: CredentialDigest) -> Known {
    Known {
        user,
        scheme: Scheme::Ntlm,
        digest: Some(key),
        proven: false,
        connection_bound: true,
        pinned: true,
        person: None,
    }
}

/// What a pinned connection is chosen by, where there are several servers: always the same one.
pub(crate) fn affinity(key: &CredentialDigest) -> String {
    key.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::PoolSettings;

    fn user(name: &str) -> UserKey {
        UserKey::new(name).expect("a user")
    }

    #[test]
    fn a_connection_has_one_owner_and_he_is_who_the_server_takes() {
        let pool = Pool::new(PoolSettings::default());
        let pin = NtlmPin::default();
        assert!(pin.owner().is_none() && pin.claim(user("alice@x")).is_none());
        let first = pin.begin(&pool).expect("a key");
        assert!(pin.owner().is_none());
        let alice = pin.claim(user("alice@x")).expect("a claim");
        assert_eq!(alice.digest, Some(first));
        assert!(pin.owner().is_none(), "nothing is proven yet");
        pin.answered(&alice, StatusCode::SERVICE_UNAVAILABLE);
        assert!(pin.owner().is_none(), "the server has not looked at it");
        pin.answered(&alice, StatusCode::OK);
        pin.answered(&alice, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(pin.owner().map(|owner| owner.user), Some(user("alice@x")));
        assert!(
            pin.claim(user("bob@x")).is_none(),
            "without a handshake of his own"
        );
        pin.answered(&alice, StatusCode::UNAUTHORIZED);
        assert!(pin.owner().is_none());
        let second = pin.begin(&pool).expect("a key");
        assert_ne!(first, second);
        pin.answered(&alice, StatusCode::OK);
        assert!(pin.owner().is_none(), "an answer of the connection before");
        assert!(pin.claim(user("bob@x")).is_some());
    }
}
