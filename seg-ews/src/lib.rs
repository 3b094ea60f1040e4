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
//!
//! Nothing here panics on input, and all memory is bounded by [`Limits`].

pub mod answer;
pub mod authorization;
pub mod bearer;
pub mod challenge;
pub mod document;
mod get_form;
mod limits;
pub mod operation;
mod reject;
pub mod scanner;
mod xml;

#[doc(hidden)]
pub mod fuzz;

pub use answer::ServerVersion;
pub use get_form::{GetForm, classify_get};
pub use limits::Limits;
pub use operation::{Group, Operation, ResponseShape};
pub use reject::{Reject, RejectKind};
pub use scanner::{
    Envelope, Impersonation, ImpersonationKind, Progress, PushUrl, Scanner, SubscriptionKind,
    classify, request_acceptable,
};
