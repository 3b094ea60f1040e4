//! What differs between two configurations, key by key.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::keys::{self, ROUTE_KEYS};
use super::settings::Config;

/// The keys that differ, by their names in the table; a route's key as `route.<name>.path`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// All of them.
    pub changed: Vec<&'static str>,
    /// Those of them that take effect only after a restart.
    pub restart_required: Vec<&'static str>,
}

/// The text of every key, with inheritance and defaults applied.
#[derive(Clone, Default)]
pub(super) struct Written(pub(super) BTreeMap<String, String>);

/// Names only: among the values are secrets.
impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Compares two configurations. A twin that merely inherits doesn't count as changed when the key
/// it inherits from has changed.
pub fn changed_keys(old: &Config, new: &Config) -> Changes {
    let (old, new) = (&old.written.0, &new.written.0);
    let differing: BTreeSet<&str> = old
        .keys()
        .chain(new.keys())
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| keys::find_route(key).map_or(key.as_str(), |(_, row)| row.name))
        .collect();
    let rows = || {
        keys::all()
            .chain(ROUTE_KEYS)
            .filter(|key| differing.contains(key.name))
    };
    Changes {
        changed: rows().map(|key| key.name).collect(),
        restart_required: rows()
            .filter(|key| key.restart)
            .map(|key| key.name)
            .collect(),
    }
}
