#![forbid(unsafe_code)]
//! Exchange Web Services on the wire, for a gateway that stands in between.
//!
//! The crate does no I/O: bytes go in, decisions about bytes come out.
//!
//! - [`Scanner`] and [`classify`] read a SOAP request, in pieces or whole, strictly, and say which
//!   of the 125 [`Operation`]s it is and what a policy wants to know about it.
//! - [`classify_get`] does the same for the few GETs, one of which is an operation too.
//! - [`document`] tells requests, responses, faults and push callbacks apart.
//! - [`challenge`] takes NTLM and Negotiate out of `WWW-Authenticate`; [`authorization`] and
//!   [`bearer`] read what a client sends back.
//! - [`answer`] writes refusals in the words of EWS.
//! - [`policy`] is `[ews]` of policies.toml: which client may do what.
//! - [`Framer`] finds the ends of envelopes in a streaming answer, [`Redactor`] leaves out of an
//!   answer what a client may not have, [`callback`] speaks with a server that pushes.
//!
//! Nothing here panics on input, and all memory is bounded by [`Limits`].

pub mod answer;
pub mod authorization;
pub mod bearer;
pub mod callback;
pub mod challenge;
pub mod document;
mod frame;
mod get_form;
mod limits;
mod markup;
pub mod operation;
pub mod policy;
mod redact;
mod reject;
pub mod scanner;
mod xml;

#[doc(hidden)]
pub mod fuzz;

pub use answer::ServerVersion;
pub use frame::Framer;
pub use get_form::{GetForm, classify_get};
pub use limits::Limits;
pub use markup::Unreadable;
pub use operation::{Group, Operation, ResponseShape};
pub use redact::{Fields, Redaction, Redactor};
pub use reject::{Reject, RejectKind};
pub use scanner::{
    Envelope, Impersonation, ImpersonationKind, Progress, PushUrl, Scanner, SubscriptionKind,
    classify, request_acceptable,
};
