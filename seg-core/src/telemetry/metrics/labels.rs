//! The labels of every family, as types. Label values come from closed sets only: an enum, a name
//! of the program's own tables (`&'static str`), or a name out of the configuration. Nothing that a
//! client sends becomes a label value, so no client can grow the exposition.

use std::fmt::{self, Write};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

/// Declares an enum whose variants are label values, with the table of their names.
macro_rules! label_values {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The value as it stands in the exposition.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
                encoder.write_str(self.as_str())
            }
        }
    };
}

label_values! {
    /// What kind of request a series counts.
    Protocol {
        /// Exchange ActiveSync.
        Eas => "eas",
        /// Exchange Web Services.
        Ews => "ews",
        /// Autodiscover.
        Autodiscover => "autodiscover",
        /// A configured pass-through route.
        Route => "route",
        /// The request was settled before a protocol was known.
        None => "none",
    }
}

label_values! {
    /// How a request ended.
    Outcome {
        /// The upstream's answer was given.
        Forwarded => "forwarded",
        /// The verdict refused it.
        Refused => "refused",
        /// A block ended it while it was in flight.
        Cut => "cut",
        /// It carried no usable credentials: the filtered challenge was given.
        Challenged => "challenged",
        /// It was malformed, too large, or asked for a path that is not served.
        Rejected => "rejected",
        /// No upstream gave a whole answer.
        UpstreamFailed => "upstream_failed",
        /// The client left before the end.
        ClientGone => "client_gone",
        /// The gateway is stopping and ended it with an empty normal answer.
        Drained => "drained",
        /// The gateway answered it itself (health, redirect).
        Local => "local",
    }
}

label_values! {
    /// A verdict (design: Verdict).
    Verdict {
        /// The request may pass.
        Allow => "allow",
        /// The request is refused.
        Block => "block",
        /// The device is held apart.
        Quarantine => "quarantine",
    }
}

label_values! {
    /// The step of the verdict that decided (design: Verdict).
    Step {
        /// An override of the device or its user.
        Override => "override",
        /// The record's own verdict, pushed by the device management.
        Mdm => "mdm",
        /// A policy.
        Policy => "policy",
        /// The default for known or unknown devices.
        Default => "default",
    }
}

label_values! {
    /// Whether decisions are carried out.
    Mode {
        /// Refusals are given.
        Enforce => "enforce",
        /// Refusals are only counted and logged.
        Observe => "observe",
        /// What a policy in `mode = "test"` would have given.
        Test => "test",
    }
}

label_values! {
    /// An authentication scheme taken out of a challenge.
    Scheme {
        /// NTLM.
        Ntlm => "ntlm",
        /// Negotiate.
        Negotiate => "negotiate",
        /// A challenge that could not be parsed.
        Unparseable => "unparseable",
    }
}

label_values! {
    /// What `seg_devices` counts. The states overlap: a device can be known and overridden.
    DeviceState {
        /// Devices with a record.
        Known => "known",
        /// Devices seen without a record.
        Unknown => "unknown",
        /// Devices with an override of their own.
        Overridden => "overridden",
    }
}

/// An HTTP status as a label: the codes of [`Status::NAMED`] stand for themselves, any other is
/// folded into its class (`4xx`), no answer at all is `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Status(u16);

impl Status {
    /// The codes that keep their own series.
    pub const NAMED: &'static [u16] = &[
        100, 101, 200, 201, 202, 204, 206, 207, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403,
        404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 426, 428,
        429, 431, 440, 449, 451, 500, 501, 502, 503, 504, 505, 507,
    ];

    /// No status line was sent to the client.
    pub const NO_ANSWER: Self = Self(0);

    /// The label of a status code.
    pub fn from_code(code: u16) -> Self {
        if Self::NAMED.binary_search(&code).is_ok() {
            return Self(code);
        }
        match code / 100 {
            class @ 1..=5 => Self(class),
            _ => Self::NO_ANSWER,
        }
    }
}

impl EncodeLabelValue for Status {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        match self.0 {
            0 => encoder.write_str("none"),
            class @ 1..=5 => write!(encoder, "{class}xx"),
            code => write!(encoder, "{code}"),
        }
    }
}

/// Labels of `seg_requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub(super) struct Request {
    pub(super) protocol: Protocol,
    pub(super) command: &'static str,
    pub(super) status: Status,
    pub(super) outcome: Outcome,
}

/// Labels of `seg_decisions_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub(super) struct Decision {
    pub(super) protocol: Protocol,
    pub(super) verdict: Verdict,
    pub(super) step: Step,
    pub(super) mode: Mode,
}

/// Labels of `seg_live_requests`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub(super) struct Live {
    pub(super) protocol: Protocol,
    pub(super) command: &'static str,
}

/// Labels of `seg_cuts_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Cut {
    pub(super) protocol: Protocol,
}

/// Labels of `seg_bad_requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BadRequest {
    pub(super) reason: &'static str,
}

/// Labels of `seg_challenges_removed_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Challenge {
    pub(super) scheme: Scheme,
}

/// Labels of `seg_content_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Content {
    pub(super) action: &'static str,
}

/// Labels of `seg_devices`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Devices {
    pub(super) state: DeviceState,
}

/// Labels of `seg_upstream_up`; the name comes out of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Upstream {
    pub(super) upstream: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_codes_are_sorted() {
        assert!(Status::NAMED.is_sorted());
    }

    #[test]
    fn any_code_falls_into_a_closed_set() {
        let labels: std::collections::BTreeSet<_> = (0..=u16::MAX).map(Status::from_code).collect();
        assert_eq!(labels.len(), Status::NAMED.len() + 6);
        assert_eq!(Status::from_code(499), Status(4));
        assert_eq!(Status::from_code(401), Status(401));
        assert_eq!(Status::from_code(600), Status::NO_ANSWER);
    }
}
