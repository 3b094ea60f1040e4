//! Which operation a request asks for, and what a policy wants to know of it.
//!
//! A body may come in any pieces. [`Scanner::feed`] says as soon as the operation is known, at the
//! first child of the SOAP body; reading goes on to the end, because only a document that is
//! well-formed to its last byte is the one that was judged. Whoever forwards while reading holds
//! the tail back until [`Scanner::finish`] has agreed.

mod envelope;
mod reading;
mod values;

pub use envelope::{Envelope, Impersonation, ImpersonationKind, PushUrl, SubscriptionKind};

use crate::limits::Limits;
use crate::operation::Operation;
use crate::reject::{Reject, RejectKind};
use crate::xml::Tokeniser;
use reading::Reading;
pub(crate) use reading::envelope;

/// How far a [`Scanner`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The operation is not known yet.
    NeedMore,
    /// The operation is known. What the body holds beyond it is not, before the end.
    Decided,
}

/// Reads a request in pieces. Its memory is bounded by its [`Limits`], not by the body.
#[derive(Debug)]
pub struct Scanner {
    tokeniser: Tokeniser,
    reading: Reading,
    failed: Option<Reject>,
}

impl Scanner {
    /// A scanner at the start of a body.
    pub fn new(limits: Limits) -> Self {
        Self {
            reading: Reading::new(&limits),
            tokeniser: Tokeniser::new(limits),
            failed: None,
        }
    }

    /// Reads the next piece, of any length.
    ///
    /// # Errors
    /// The first thing wrong with the document; the same again for every later call.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Progress, Reject> {
        if let Some(reject) = &self.failed {
            return Err(reject.clone());
        }
        if let Err(reject) = self.tokeniser.feed(bytes, &mut self.reading) {
            self.failed = Some(reject.clone());
            return Err(reject);
        }
        Ok(match self.operation() {
            Some(_) => Progress::Decided,
            None => Progress::NeedMore,
        })
    }

    /// The operation, once it is known.
    pub const fn operation(&self) -> Option<Operation> {
        self.reading.operation()
    }

    /// What is known of the request so far; `None` before its operation. The header is complete by
    /// then, the body is not.
    pub fn so_far(&self) -> Option<Envelope> {
        self.reading.so_far()
    }

    /// The mailboxes that have been named so far ([`Envelope::mailboxes`]).
    pub fn mailboxes(&self) -> &[String] {
        self.reading.mailboxes()
    }

    /// Ends the body.
    ///
    /// # Errors
    /// What [`feed`](Self::feed) found, or that the document is not complete.
    pub fn finish(self) -> Result<Envelope, Reject> {
        if let Some(reject) = self.failed {
            return Err(reject);
        }
        self.tokeniser.finish()?;
        self.reading
            .into_envelope()
            .ok_or(Reject::new(RejectKind::NoOperation, 0))
    }
}

/// Reads a whole request at once.
///
/// # Errors
/// The first thing wrong with the document.
pub fn classify(body: &[u8], limits: &Limits) -> Result<Envelope, Reject> {
    let mut scanner = Scanner::new(limits.clone());
    scanner.feed(body)?;
    scanner.finish()
}

/// Whether a body with these headers can be inspected at all: one XML document of SOAP 1.1, in
/// UTF-8 or UTF-16, not compressed. Each iterator gives the lines of one header. A missing
/// `Content-Type` is taken for XML.
///
/// # Errors
/// The header that stands in the way.
pub fn request_acceptable<'h>(
    content_type: impl IntoIterator<Item = &'h [u8]>,
    content_encoding: impl IntoIterator<Item = &'h [u8]>,
) -> Result<(), Reject> {
    let refused = |kind| Err(Reject::new(kind, 0));
    let encoded = content_encoding
        .into_iter()
        .flat_map(|codings| codings.split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"));
    if encoded {
        return refused(RejectKind::ContentEncoding);
    }
    let mut lines = content_type.into_iter();
    let Some(line) = lines.next() else {
        return Ok(());
    };
    // Of two lines different readers take different ones, and of a line that is no ASCII some read
    // what others skip.
    let content_type = match std::str::from_utf8(line) {
        Ok(text) if lines.next().is_none() && text.is_ascii() => text.trim(),
        _ => return refused(RejectKind::ContentType),
    };
    if content_type.is_empty() {
        return Ok(());
    }
    let mut parts = content_type.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    if !["text/xml", "application/xml"]
        .iter()
        .any(|xml| media_type.eq_ignore_ascii_case(xml))
    {
        return refused(RejectKind::ContentType);
    }
    let mut charsets = 0;
    for parameter in parts {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim().trim_matches('"');
        let is_charset = name.trim().eq_ignore_ascii_case("charset");
        if is_charset
            && !["utf-8", "utf-16"]
                .iter()
                .any(|name| value.eq_ignore_ascii_case(name))
        {
            return refused(RejectKind::ContentCharset);
        }
        charsets += usize::from(is_charset);
    }
    // IIS looks for the word wherever a space or comma stands before it.
    let mentioned = content_type.to_ascii_lowercase().matches("charset").count();
    if mentioned > charsets {
        return refused(RejectKind::ContentCharset);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
