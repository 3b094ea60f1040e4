//! What a request was refused for.

use thiserror::Error;

use crate::wbxml::{self, Tag};
use crate::{Command, ProtocolVersion};

/// A rule of the firewall that a request breaks. No text repeats what a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Violation {
    /// The command is not let through.
    #[error("the command {} is not let through", .0.name())]
    Command(Command),
    /// The protocol version is not let through.
    #[error("the protocol version is not let through: {}", version_text(.0))]
    Version(Option<ProtocolVersion>),
    /// The body is no WBXML message within the limits.
    #[error("the body is no message that ActiveSync allows: {0}")]
    Wbxml(#[from] wbxml::Error),
    /// The root element is not that of the command.
    #[error("the root element of the body is {found:?}, where {expected:?} must stand")]
    Root {
        /// The root of the command.
        expected: Tag,
        /// The root of the body.
        found: Tag,
    },
    /// A search or fetch in a document library.
    #[error("a document library is asked for")]
    DocumentLibrary,
    /// Credentials for another server.
    #[error("Options hold credentials for another server")]
    Credentials,
    /// A link that leads out of the mailbox.
    #[error("a reference leads to a file share or a web address")]
    Link,
}

fn version_text(version: &Option<ProtocolVersion>) -> String {
    version.map_or_else(|| "none is named".to_owned(), |version| version.to_string())
}

impl Violation {
    /// A short word for counters; there are few of them and none comes from the client.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Command(_) => "command_not_allowed",
            Self::Version(_) => "version_not_allowed",
            Self::Wbxml(error) => error.reason(),
            Self::Root { .. } => "wbxml_root",
            Self::DocumentLibrary => "document_library",
            Self::Credentials => "document_credentials",
            Self::Link => "document_link",
        }
    }
}
