//! Logging a user in at the mail server by Kerberos, without his password: a verified certificate,
//! a validated token or a ticket to us comes in, `Authorization: Negotiate` goes out.
//!
//! Tickets are fetched on threads that may block, a bounded number of them, each caller with a
//! deadline of his own; one fetch serves all who wait for it. What was fetched serves for minutes,
//! and making a message out of it is arithmetic.

pub mod fuzz;
mod kdc;
mod refusal;
mod spnego;

#[cfg(feature = "kerberos")]
mod gss;
#[cfg(feature = "kerberos")]
mod service;
#[cfg(feature = "kerberos")]
mod tickets;
#[cfg(not(feature = "kerberos"))]
#[path = "without.rs"]
mod service;

pub use kdc::{Alive, library_configuration, probe};
pub use refusal::{Refusal, Stage};
pub(crate) use service::tend;
pub use service::{Answer, Delegation, Ticket, prepare_process};

/// Whether this build can delegate.
pub const BUILT_IN: bool = cfg!(feature = "kerberos");
