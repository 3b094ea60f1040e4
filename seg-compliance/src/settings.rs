//! The keys of application.properties that decide: `compliance.*`.

use serde::{Deserialize, Serialize};

use crate::Verdict;
use crate::verdict::UnknownWord;

/// `compliance.stale.max.minutes`, where nobody has set it: two days, so that a nightly report may
/// fail once.
pub const STALE_AFTER_DEFAULT: u32 = 2_880;

/// How the engine decides where no record, override or policy does. Swapped whole at run time by
/// [`crate::Engine::configure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `compliance.mode`.
    pub mode: Mode,
    /// `compliance.unknown.device`: the verdict for a device without a record.
    pub unknown_device: Verdict,
    /// `compliance.known.device`: the verdict for a device with a record that nothing speaks
    /// against.
    pub known_device: Verdict,
    /// `compliance.user.mode`: how a request without a device is judged.
    pub user_mode: UserMode,
    /// `binding.suspect`: what a request gets that may come from a copy of its device, unless an
    /// override or the management system has spoken; `None`: what it would get anyway.
    pub suspect: Option<Verdict>,
    /// `compliance.stale.max.minutes`: how long a source may be silent before its facts are too
    /// old; `None`: for ever.
    pub stale_after: Option<u32>,
    /// `compliance.stale.answer`: what holds then, where a policy does not say so itself.
    pub stale: StaleAnswer,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            unknown_device: Verdict::Block,
            known_device: Verdict::Allow,
            user_mode: UserMode::AnyCompliant,
            suspect: None,
            stale_after: Some(STALE_AFTER_DEFAULT),
            stale: StaleAnswer::Block,
        }
    }
}

/// Whether verdicts have consequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Refuse what is not allowed.
    Enforce,
    /// Decide, log and count, refuse nobody.
    Observe,
}

impl Mode {
    /// `enforce`, `observe`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

impl std::str::FromStr for Mode {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Enforce, Self::Observe]
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| UnknownWord::new(text, "enforce or observe"))
    }
}

/// What holds for a device whose facts are too old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StaleAnswer {
    /// What was known last, as if it were fresh.
    LastKnown,
    /// It is blocked.
    #[default]
    Block,
    /// It is let through.
    Allow,
}

impl StaleAnswer {
    pub(crate) const ALL: [Self; 3] = [Self::LastKnown, Self::Block, Self::Allow];

    /// `last-known`, `block`, `allow`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LastKnown => "last-known",
            Self::Block => "block",
            Self::Allow => "allow",
        }
    }
}

impl std::str::FromStr for StaleAnswer {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|answer| answer.name() == text)
            .ok_or_else(|| UnknownWord::new(text, "last-known, block or allow"))
    }
}

/// How the verdicts of a user's known devices make the verdict of his request without a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserMode {
    /// One allowed device is enough.
    AnyCompliant,
    /// Every device must be allowed.
    AllCompliant,
    /// One blocked device refuses; else one allowed device is enough.
    BlockIfAnyBlocked,
}

impl UserMode {
    /// `any-compliant`, `all-compliant`, `block-if-any-blocked`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AnyCompliant => "any-compliant",
            Self::AllCompliant => "all-compliant",
            Self::BlockIfAnyBlocked => "block-if-any-blocked",
        }
    }
}

impl std::str::FromStr for UserMode {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [
            Self::AnyCompliant,
            Self::AllCompliant,
            Self::BlockIfAnyBlocked,
        ]
        .into_iter()
        .find(|mode| mode.name() == text)
        .ok_or_else(|| {
            UnknownWord::new(text, "any-compliant, all-compliant or block-if-any-blocked")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_properties_file_are_read() {
        for mode in [
            UserMode::AnyCompliant,
            UserMode::AllCompliant,
            UserMode::BlockIfAnyBlocked,
        ] {
            assert_eq!(mode.name().parse(), Ok(mode));
        }
        assert_eq!("observe".parse(), Ok(Mode::Observe));
        assert!("watch".parse::<Mode>().is_err());
    }
}
