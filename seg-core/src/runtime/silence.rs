//! Sources that fall silent, in the log: once before their facts are too old, while there is time to
//! do something about it, once when they are, and once when the source speaks again.

use std::collections::BTreeMap;

use jiff::Timestamp;
use seg_compliance::engine::SourceAge;

/// How far the silence of a source has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Silence {
    /// It reports as it should.
    Speaks,
    /// Three quarters of the time that it may be silent are over.
    Warned,
    /// Its facts are too old.
    Stale,
}

/// What the log was told of each source.
#[derive(Default)]
pub(super) struct Told(BTreeMap<String, Silence>);

impl Told {
    /// Tells of one that has come further, or speaks again. Answers what it told, if anything.
    pub(super) fn tell(&mut self, source: &SourceAge, now: Timestamp) -> Option<Silence> {
        let found = silence(source, now);
        let told = self.0.get(&source.name).copied();
        if told.unwrap_or(Silence::Speaks) == found {
            return None;
        }
        self.0.insert(source.name.clone(), found);
        let (name, reported) = (&source.name, source.reported);
        let until = source.until.map(tracing::field::display);
        match found {
            Silence::Speaks => {
                tracing::info!(target: "seg::source", source = %name, "the source reports again");
            }
            Silence::Warned => tracing::warn!(
                target: "seg::source", source = %name, %reported, until,
                "the source is silent: when its facts are too old, compliance.stale.answer holds for its devices"
            ),
            Silence::Stale => tracing::error!(
                target: "seg::source", source = %name, %reported, until,
                "the facts of the source are too old: compliance.stale.answer holds for its devices"
            ),
        }
        Some(found)
    }
}

fn silence(source: &SourceAge, now: Timestamp) -> Silence {
    let Some(until) = source.until else {
        return Silence::Speaks;
    };
    let may = until.duration_since(source.reported).as_millis();
    let left = until.duration_since(now).as_millis();
    match left {
        _ if left <= 0 => Silence::Stale,
        _ if left <= may / 4 => Silence::Warned,
        _ => Silence::Speaks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_told_once_before_once_at_the_end_and_once_when_it_is_over() {
        let minute = |minute: i64| Timestamp::from_second(1_800_000_000 + 60 * minute).unwrap();
        let source = |reported: i64, may: Option<i64>| SourceAge {
            name: "uem".to_owned(),
            reported: minute(reported),
            until: may.map(|may| minute(reported + may)),
            stale: false,
        };
        let mut told = Told::default();
        let silent = source(0, Some(100));
        for (at, expected) in [
            (0, None),
            (74, None),
            (75, Some(Silence::Warned)),
            (99, None),
            (100, Some(Silence::Stale)),
            (500, None),
        ] {
            assert_eq!(told.tell(&silent, minute(at)), expected, "{at}");
        }
        let spoke = source(500, Some(100));
        assert_eq!(told.tell(&spoke, minute(501)), Some(Silence::Speaks));
        assert_eq!(told.tell(&spoke, minute(502)), None);
        assert_eq!(told.tell(&source(500, None), minute(9_000)), None);
    }
}
