//! One copy of each text that many devices share: platforms, models, versions, groups.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use ahash::RandomState;
use parking_lot::Mutex;

/// A table is swept for texts that nobody holds any more when it has doubled since the last sweep,
/// and never below this size.
const SWEEP_FLOOR: usize = 4_096;

/// A shared text. Eight bytes in the record that holds it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Symbol(Arc<Box<str>>);

impl Symbol {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl Hash for Symbol {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Borrow<str> for Symbol {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

/// A shared list of names: the groups or the apps of a device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Words(Arc<Box<[Symbol]>>);

impl Words {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Symbol::as_str)
    }
}

/// The tables of shared texts.
#[derive(Default)]
pub(crate) struct Interner {
    symbols: Mutex<Table<Symbol>>,
    words: Mutex<Table<Words>>,
    reasons: Mutex<Table<Arc<str>>>,
}

impl Interner {
    pub(crate) fn symbol(&self, text: &str) -> Symbol {
        self.symbols.lock().share(
            text,
            || Symbol(Arc::new(text.into())),
            |symbol| Arc::strong_count(&symbol.0) > 1,
        )
    }

    /// The text of a reason, in the form that a [`crate::Decision`] carries.
    pub(crate) fn reason(&self, text: &str) -> Arc<str> {
        self.reasons
            .lock()
            .share(text, || text.into(), |reason| Arc::strong_count(reason) > 1)
    }

    pub(crate) fn words<'t>(&self, names: impl Iterator<Item = &'t str>) -> Words {
        let list = Words(Arc::new(names.map(|name| self.symbol(name)).collect()));
        let shared = list.clone();
        // The list itself holds one reference while the table is asked.
        self.words
            .lock()
            .share(&list, || shared, |words| Arc::strong_count(&words.0) > 2)
    }
}

struct Table<T> {
    held: HashSet<T, RandomState>,
    sweep_at: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            held: HashSet::default(),
            sweep_at: SWEEP_FLOOR,
        }
    }
}

impl<T: Eq + Hash + Clone> Table<T> {
    fn share<Q: Eq + Hash + ?Sized>(
        &mut self,
        wanted: &Q,
        make: impl FnOnce() -> T,
        in_use: impl Fn(&T) -> bool,
    ) -> T
    where
        T: Borrow<Q>,
    {
        if let Some(held) = self.held.get(wanted) {
            return held.clone();
        }
        if self.held.len() >= self.sweep_at {
            self.held.retain(in_use);
            self.sweep_at = (self.held.len() * 2).max(SWEEP_FLOOR);
        }
        let made = make();
        self.held.insert(made.clone());
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one() {
        let interner = Interner::default();
        let (one, two) = (interner.symbol("ios"), interner.symbol("ios"));
        assert!(Arc::ptr_eq(&one.0, &two.0));
        let (a, b) = (["x", "y"], ["x", "y"]);
        let (a, b) = (interner.words(a.into_iter()), interner.words(b.into_iter()));
        assert!(Arc::ptr_eq(&a.0, &b.0));
    }

    #[test]
    fn texts_that_nobody_holds_are_swept() {
        let interner = Interner::default();
        let kept = interner.symbol("kept");
        for number in 0..SWEEP_FLOOR * 4 {
            interner.symbol(&number.to_string());
        }
        let table = interner.symbols.lock();
        assert!(table.held.len() <= SWEEP_FLOOR + 1);
        assert!(table.held.contains(kept.as_str()));
    }
}
