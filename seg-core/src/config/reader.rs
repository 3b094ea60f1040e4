//! Reads one key after the other: the text that holds for it, parsed, or refused with its place.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys::{self, Key, Kind};
use super::layers::{Raw, Values};
use super::problem::{At, ConfigError, Problem, Warning};
use super::value;

/// Every failure is collected; a value that failed is replaced by its default, so that the rest
/// can still be checked.
pub(super) struct Reader<'a> {
    pub(super) values: &'a Values,
    pub(super) base: &'a Path,
    pub(super) problems: &'a mut Vec<Problem>,
    pub(super) warnings: &'a mut Vec<Warning>,
}

impl Reader<'_> {
    /// Refuses the keys that nobody knows, and says of the ineffective ones why they are.
    pub(super) fn check_names(&mut self) {
        let mut unknown = Vec::new();
        for (written, raw) in self.values {
            if keys::find(written).is_some() || keys::find_route(written).is_some() {
                continue;
            }
            if let Some(reason) = keys::no_effect_here(written) {
                let message = format!("no effect here, because {reason}");
                self.warnings
                    .push(Problem::new(Some(written), raw.at.clone(), message));
            } else {
                unknown.push((&raw.at, written));
            }
        }
        unknown.sort();
        for (index, (at, written)) in unknown.into_iter().enumerate() {
            // No more than that are shown, and comparing takes its time.
            let nearest = if index < ConfigError::MAX {
                keys::nearest(written)
            } else {
                "not sought"
            };
            let message = format!("unknown key; the nearest known key is {nearest}");
            self.problems
                .push(Problem::new(Some(written), at.clone(), message));
        }
    }

    /// The text that holds for a key: its own or, where that is empty, the inherited one.
    pub(super) fn raw(&self, name: &str) -> Raw {
        let row = row(name);
        let own = self
            .values
            .get(name)
            .filter(|raw| !raw.text.trim().is_empty());
        match (own, row.inherits) {
            (Some(own), _) => own.clone(),
            (None, Some(parent)) => self.raw(parent),
            // Written as empty: the default holds where a value is needed.
            (None, None) => Raw {
                text: row.default.to_owned(),
                at: self
                    .values
                    .get(name)
                    .map_or(At::Default, |raw| raw.at.clone()),
            },
        }
    }

    pub(super) fn read<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> T {
        let raw = self.raw(name);
        parse(raw.text.trim()).unwrap_or_else(|message| {
            // What is expected may be said of a secret, but not what was found.
            let message = if row(name).secret {
                "is not possible; its value is not shown".to_owned()
            } else {
                message
            };
            self.refuse_at(name, raw.at, message);
            parse(effective_default(name))
                .unwrap_or_else(|wrong| panic!("default of {name}: {wrong}"))
        })
    }

    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.read(name, |text| {
            if text.is_empty() {
                Ok(None)
            } else {
                parse(text).map(Some)
            }
        })
    }

    pub(super) fn list<T>(
        &mut self,
        name: &str,
        one: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        self.read(name, |text| value::list(text, &one))
    }

    pub(super) fn switch(&mut self, name: &str) -> bool {
        self.read(name, value::switch)
    }

    pub(super) fn whole(&mut self, name: &str) -> u64 {
        let Kind::Whole { min, max } = row(name).kind else {
            panic!("{name} is no whole number")
        };
        self.read(name, |text| value::whole(text, min, max))
    }

    pub(super) fn seconds(&mut self, name: &str) -> Duration {
        let Kind::Seconds { min, max } = row(name).kind else {
            panic!("{name} is no time")
        };
        self.read(name, |text| value::seconds(text, min, max))
    }

    pub(super) fn path(&mut self, name: &str) -> Option<PathBuf> {
        self.optional(name, |text| Ok(PathBuf::from(text)))
            .map(|path| self.base.join(path))
    }

    pub(super) fn paths(&mut self, name: &str) -> Vec<PathBuf> {
        let paths = self.list(name, |text| Ok(PathBuf::from(text)));
        paths.into_iter().map(|path| self.base.join(path)).collect()
    }

    /// Refuses the value of a key for a reason.
    pub(super) fn refuse(&mut self, name: &str, message: &str) {
        let at = self.raw(name).at;
        self.refuse_at(name, at, message);
    }

    fn refuse_at(&mut self, name: &str, at: At, message: impl Into<String>) {
        // What a twin inherits is refused where it was written.
        let own = self
            .values
            .get(name)
            .is_some_and(|raw| !raw.text.trim().is_empty());
        if row(name).inherits.is_none() || own {
            self.problems.push(Problem::new(Some(name), at, message));
        }
    }

    pub(super) fn warn(&mut self, name: &str, message: &str) {
        let at = self.raw(name).at;
        self.warnings.push(Problem::new(Some(name), at, message));
    }
}

/// The row of a key that the code reads. The tests read every one, so a name that is missing in
/// the table can't be released.
fn row(name: &str) -> &'static Key {
    keys::find(name)
        .or_else(|| keys::find_route(name).map(|(_, row)| row))
        .unwrap_or_else(|| panic!("{name} is not in the table of keys"))
}

fn effective_default(name: &str) -> &'static str {
    let row = row(name);
    match row.inherits {
        Some(parent) if row.default.is_empty() => effective_default(parent),
        _ => row.default,
    }
}
