//! The words of a decision: what is asked, what is answered, and how strict an answer is.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{DeviceKey, UserKey};

/// The answer. Ordered by strictness: of two verdicts the stricter is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The device has its mail.
    Allow,
    /// The device waits for somebody's decision.
    Quarantine,
    /// The device has no mail.
    Block,
}

impl Verdict {
    /// `allow`, `quarantine`, `block`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Quarantine => "quarantine",
            Self::Block => "block",
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Verdict {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Allow, Self::Quarantine, Self::Block]
            .into_iter()
            .find(|verdict| verdict.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownWord::new(text, "allow, block or quarantine"))
    }
}

/// A word that is none of those a place takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is not {expected}")]
pub struct UnknownWord {
    /// What was given, cut to 64 characters.
    pub word: String,
    /// What the place takes, as a list to read.
    pub expected: &'static str,
}

impl UnknownWord {
    pub(crate) fn new(word: &str, expected: &'static str) -> Self {
        Self {
            word: word.chars().take(64).collect(),
            expected,
        }
    }
}

/// Which of the four steps gave the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// An administrator's word for a device or a user.
    Override,
    /// The word of the device management system.
    Mdm,
    /// A `[[policy]]` of policies.toml.
    Policy,
    /// `compliance.known.device` or `compliance.unknown.device`.
    Default,
}

impl Step {
    /// `override`, `mdm`, `policy`, `default`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Override => "override",
            Self::Mdm => "mdm",
            Self::Policy => "policy",
            Self::Default => "default",
        }
    }
}

/// A verdict with its grounds. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The answer.
    pub verdict: Verdict,
    /// The step that gave it.
    pub step: Step,
    /// The id of the policy; `device` or `user` where an override decided.
    pub rule: Option<Arc<str>>,
    /// Why, for people and logs: an administrator's or MDM's words, or `not_compliant`,
    /// `unknown_device`, `user_mismatch`.
    pub reason: Option<Arc<str>>,
    /// The last change of the device or the user that was looked at; 0 where there was none.
    pub revision: u64,
    /// False in observe mode: decide, log and count, refuse nobody.
    pub enforced: bool,
    /// What a policy in `mode = "test"` would have made of it.
    pub trial: Option<Trial>,
}

/// What would have been decided, had the first policy in `mode = "test"` that fires been enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The id of the policy.
    pub rule: Arc<str>,
    /// The verdict that it would have given.
    pub verdict: Verdict,
}

impl Decision {
    /// Whether the request must be refused.
    #[must_use]
    pub fn refuses(&self) -> bool {
        self.enforced && self.verdict != Verdict::Allow
    }
}

/// The protocol that a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Exchange ActiveSync.
    Eas,
    /// Exchange Web Services.
    Ews,
}

impl Protocol {
    /// `eas`, `ews`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eas => "eas",
            Self::Ews => "ews",
        }
    }
}

/// What is asked: may this request of this user on this device pass?
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The device; `None` where the request carries none, which is judged by user.
    pub device: Option<&'a DeviceKey>,
    /// The authenticated user; `None` with a device: the user of the device's record.
    pub user: Option<&'a UserKey>,
    /// User-Agent; empty: not reported.
    pub agent: &'a str,
    /// The EAS DeviceType; empty: not reported.
    pub device_type: &'a str,
    /// The protocol of the request.
    pub protocol: Protocol,
    /// The EAS command or EWS operation; empty: not known.
    pub command: &'a str,
    /// How the request came.
    pub via: Via<'a>,
}

/// How a request came: the outside of it, which policies may look at. Empty texts are not
/// reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Via<'a> {
    /// The client's address, behind trusted proxies the one that they tell.
    pub address: Option<std::net::IpAddr>,
    /// The `Host`, without its port.
    pub host: &'a str,
    /// The canonical path.
    pub path: &'a str,
    /// The HTTP method.
    pub method: &'a str,
    /// The version of the protocol: `MS-ASProtocolVersion`, or the EWS schema's.
    pub version: &'a str,
    /// Why it may come from a copy of its device, in one word.
    pub suspect: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_verdict_is_the_greater() {
        assert!(Verdict::Allow < Verdict::Quarantine && Verdict::Quarantine < Verdict::Block);
    }

    #[test]
    fn verdicts_are_read_and_written_in_lower_case() {
        assert_eq!("Block".parse(), Ok(Verdict::Block));
        assert_eq!(
            serde_json::to_string(&Verdict::Quarantine).unwrap(),
            "\"quarantine\""
        );
        assert_eq!(
            "deny".parse::<Verdict>().unwrap_err().to_string(),
            "\"deny\" is not allow, block or quarantine"
        );
    }
}
