//! Who has moved where.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ahash::RandomState;
use dashmap::DashMap;
use jiff::Timestamp;
use parking_lot::Mutex;
use seg_compliance::UserKey;
use serde::Serialize;

use super::rule::{self, Denied};
use crate::config::{Origin, RedirectMode};
use crate::runtime::Snapshot;
use crate::servers::Leg;

/// Users whose moves are remembered; of one more, nobody's is.
const MOST: usize = 200_000;

/// Whose servers are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// ActiveSync's.
    Eas,
    /// EWS's.
    Ews,
}

impl Side {
    /// `eas`, `ews`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eas => "eas",
            Self::Ews => "ews",
        }
    }

    fn leg(self, snapshot: &Snapshot) -> &Arc<Leg> {
        match self {
            Self::Eas => &snapshot.eas,
            Self::Ews => &snapshot.ews,
        }
    }
}

/// A user who has moved, as the admin API shows him.
#[derive(Clone, Debug, Serialize)]
pub struct Move {
    /// The user.
    pub user: String,
    /// `eas` or `ews`.
    pub leg: &'static str,
    /// The server that is asked for him.
    pub to: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when that is believed.
    pub expires: Timestamp,
}

struct Moved {
    to: Origin,
    leg: Arc<Leg>,
    generation: u64,
    since: Timestamp,
    expires: Timestamp,
}

type Legs = HashMap<(Side, Origin), (u64, Arc<Leg>)>;

/// Where users have moved. Costs a request one look at a number while nobody has.
#[derive(Default)]
pub struct Moves {
    count: AtomicUsize,
    users: DashMap<(Side, UserKey), Moved, RandomState>,
    /// The servers that somebody has moved to, shared by all who have.
    legs: Mutex<Legs>,
}

impl std::fmt::Debug for Moves {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Moves")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

impl Moves {
    /// The servers of a user who has moved.
    pub fn leg(&self, side: Side, user: &UserKey, snapshot: &Snapshot) -> Option<Arc<Leg>> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.find(side, user, snapshot)
    }

    fn find(&self, side: Side, user: &UserKey, snapshot: &Snapshot) -> Option<Arc<Leg>> {
        let key = (side, user.clone());
        let (to, since, expires) = {
            let moved = self.users.get(&key)?;
            if moved.generation == snapshot.generation && Timestamp::now() < moved.expires {
                return Some(Arc::clone(&moved.leg));
            }
            (moved.to.clone(), moved.since, moved.expires)
        };
        // Too long ago, or under another configuration: is it still allowed?
        let leg = (Timestamp::now() < expires)
            .then(|| self.resolve(side, &to, snapshot).ok())
            .flatten();
        let Some(leg) = leg else {
            self.forget(side, user);
            return None;
        };
        let moved = Moved {
            to,
            leg: Arc::clone(&leg),
            generation: snapshot.generation,
            since,
            expires,
        };
        self.users.insert(key, moved);
        Some(leg)
    }

    /// The servers behind an address that a mail server has named.
    ///
    /// # Errors
    /// The configuration does not let us go there.
    pub fn resolve(
        &self,
        side: Side,
        to: &Origin,
        snapshot: &Snapshot,
    ) -> Result<Arc<Leg>, Denied> {
        let redirect = &snapshot.config.redirect;
        if redirect.mode == RedirectMode::Deny {
            return Err(Denied::Mode);
        }
        let ours = snapshot.config.server.public_url.as_ref();
        if ours.is_some_and(|ours| ours.host == to.host && ours.port == to.port) {
            return Err(Denied::Loop);
        }
        let home = side.leg(snapshot);
        if let Some(known) = home.only(&to.to_string()) {
            return Ok(Arc::new(known));
        }
        let rule = rule::allowed(&redirect.allowed, to).ok_or(Denied::Host)?;
        let mut legs = self.legs.lock();
        let key = (side, to.clone());
        if let Some((generation, leg)) = legs.get(&key)
            && *generation == snapshot.generation
        {
            return Ok(Arc::clone(leg));
        }
        let leg = home.moved(to, rule).map_err(|_| Denied::Location)?;
        let leg = Arc::new(leg);
        legs.retain(|_, (generation, _)| *generation == snapshot.generation);
        legs.insert(key, (snapshot.generation, Arc::clone(&leg)));
        Ok(leg)
    }

    /// Remembers a move.
    pub fn remember(
        &self,
        side: Side,
        user: &UserKey,
        to: Origin,
        leg: &Arc<Leg>,
        snapshot: &Snapshot,
    ) {
        let known = self.users.contains_key(&(side, user.clone()));
        if !known && self.users.len() >= MOST {
            return;
        }
        let since = Timestamp::now();
        let remember: Duration = snapshot.config.redirect.remember;
        let moved = Moved {
            to,
            leg: Arc::clone(leg),
            generation: snapshot.generation,
            since,
            expires: since.checked_add(remember).unwrap_or(Timestamp::MAX),
        };
        self.users.insert((side, user.clone()), moved);
        self.count.store(self.users.len(), Ordering::Relaxed);
    }

    /// Forgets one move: the next request goes home.
    pub fn forget(&self, side: Side, user: &UserKey) {
        self.users.remove(&(side, user.clone()));
        self.count.store(self.users.len(), Ordering::Relaxed);
    }

    /// Every move that is believed.
    pub fn list(&self) -> Vec<Move> {
        let now = Timestamp::now();
        let mut all: Vec<Move> = self
            .users
            .iter()
            .filter(|entry| now < entry.expires)
            .map(|entry| Move {
                user: entry.key().1.as_str().to_owned(),
                leg: entry.key().0.name(),
                to: entry.to.to_string(),
                since: entry.since,
                expires: entry.expires,
            })
            .collect();
        all.sort_by(|a, b| (&a.user, a.leg).cmp(&(&b.user, b.leg)));
        all
    }

    /// Forgets the moves of one user, or of all; says how many there were.
    pub fn clear(&self, user: Option<&UserKey>) -> usize {
        let before = self.users.len();
        self.users
            .retain(|(_, moved), _| user.is_some_and(|user| user != moved));
        let left = self.users.len();
        self.count.store(left, Ordering::Relaxed);
        before.saturating_sub(left)
    }
}
