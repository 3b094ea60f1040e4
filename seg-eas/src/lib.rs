#![forbid(unsafe_code)]
//! Exchange ActiveSync (EAS) on the wire, without I/O.
//!
//! What a gateway needs to understand of ActiveSync, in the order in which it needs it:
//!
//! - [`request_line`]: who asks for what, from the query in either form (MS-ASHTTP). It yields a
//!   [`Command`], a [`DeviceId`] in canonical form and, in the base64 form, a [`ProtocolVersion`].
//! - [`wbxml`]: the body. A pull reader that allocates nothing, a writer, the 26 code pages, and a
//!   readable text form that loses nothing (MS-ASWBXML).
//! - [`multipart`]: the container that ItemOperations may answer with.
//! - [`poll`] and [`item_operations`]: what a body says about time and about repetition.
//! - [`firewall`]: what is let through at all (`[eas]` of policies.toml).
//! - [`folders`]: which folders a device sees, and which it may change.
//! - [`content`]: what is done with attachments, links and marked mail (`[[content]]`).
//! - [`provision`], [`sync_keys`], [`quarantine`]: what a device is told to do.
//! - [`answer`]: the answers that the gateway gives itself, byte for byte.
//!
//! Nothing here panics on input: every decoder returns an error that names what is wrong and where.

pub mod answer;
mod command;
pub mod content;
mod device_id;
pub mod firewall;
pub mod folders;
#[doc(hidden)]
pub mod fuzz;
pub mod item_operations;
pub mod multipart;
pub mod poll;
pub mod provision;
pub mod quarantine;
pub mod request_line;
pub mod sync_keys;
mod version;
pub mod wbxml;

pub use command::{Command, Replay};
pub use device_id::{DeviceId, DeviceIdError};
pub use version::ProtocolVersion;
