//! Autodiscover: where a client learns which server to talk to ([MS-OXDSCLI], [MS-OXWSADISC],
//! MS-ASCMD 2.2.1.1).
//!
//! A client that is told the mail server's own address goes around the gateway; so every address
//! in an answer becomes ours, by edits of values alone ([`rewrite`]), or the answer is our own
//! ([`answer`]). An answer that sends the client to another Autodiscover service is always
//! replaced by ours: a mailbox that moved is served through here too.

pub mod answer;
pub mod ask;
pub mod rewrite;
mod xml;

pub use xml::Malformed;

/// The three languages of Autodiscover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Plain old XML: `autodiscover.xml`, by POST.
    Pox,
    /// SOAP: `autodiscover.svc`, by POST.
    Soap,
    /// Version 2: `autodiscover.json`, by GET.
    Json,
}

impl Form {
    /// The path that is forwarded.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Pox => "/autodiscover/autodiscover.xml",
            Self::Soap => "/autodiscover/autodiscover.svc",
            Self::Json => "/autodiscover/autodiscover.json",
        }
    }

    /// The media type of an answer.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Pox | Self::Soap => "text/xml; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
        }
    }
}
