//! The writer.

use super::pages::Tag;
use super::{HEADER, global};
use thiserror::Error;

/// Writes one WBXML message, element by element.
///
/// SWITCH_PAGE is written where the page changes and nowhere else, which is what Exchange and most
/// clients do. The caller says of each element whether it has content, because that is a bit of the
/// tag and can't be known later.
///
/// ```
/// use seg_eas::wbxml::{Tag, Writer};
/// # fn main() -> Result<(), seg_eas::wbxml::WriteError> {
/// let mut writer = Writer::message();
/// writer.start(Tag::new(13, 0x05));
/// writer.element(Tag::new(13, 0x07), "1")?;
/// writer.end()?;
/// assert_eq!(writer.finish()?, b"\x03\x01\x6a\x00\x00\x0d\x45\x47\x031\x00\x01\x01");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Writer {
    out: Vec<u8>,
    page: u8,
    depth: u32,
}

/// What can't be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WriteError {
    /// A string with a NUL, which ends a string on the wire. Strip it, or write a byte array.
    #[error("a string has a NUL at byte {at}, which WBXML strings can't hold")]
    Nul {
        /// Its place in the string.
        at: usize,
    },
    /// A byte array whose length does not fit 32 bits.
    #[error("a byte array of {length} bytes is longer than WBXML can say")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// More ends than starts.
    #[error("an element is ended that was not begun")]
    StrayEnd,
    /// The message is finished while elements are open.
    #[error("the message is finished with {open} elements still open")]
    MissingEnd {
        /// How many are open.
        open: u32,
    },
}

impl Writer {
    /// A writer of a whole message; the header is written at once.
    #[must_use]
    pub fn message() -> Self {
        Self::after(HEADER.to_vec())
    }

    /// A writer of a body without header, beginning in code page 0.
    #[must_use]
    pub const fn body() -> Self {
        Self::after(Vec::new())
    }

    /// A writer that goes on after a header that somebody else wrote.
    pub(super) const fn after(header: Vec<u8>) -> Self {
        Self {
            out: header,
            page: 0,
            depth: 0,
        }
    }

    /// Begins an element that has content.
    pub fn start(&mut self, tag: Tag) {
        self.tag(tag, global::CONTENT);
        self.depth += 1;
    }

    /// Writes an element without content, which needs no end.
    pub fn empty(&mut self, tag: Tag) {
        self.tag(tag, 0);
    }

    /// Ends the innermost open element.
    ///
    /// # Errors
    /// When none is open.
    pub fn end(&mut self) -> Result<(), WriteError> {
        self.depth = self.depth.checked_sub(1).ok_or(WriteError::StrayEnd)?;
        self.out.push(global::END);
        Ok(())
    }

    /// Writes an inline string, STR_I.
    ///
    /// # Errors
    /// When the string has a NUL.
    pub fn text(&mut self, text: &str) -> Result<(), WriteError> {
        if let Some(at) = memchr::memchr(0, text.as_bytes()) {
            return Err(WriteError::Nul { at });
        }
        self.out.push(global::STR_I);
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(0);
        Ok(())
    }

    /// Writes a byte array, OPAQUE.
    ///
    /// # Errors
    /// When it is longer than 32 bits can say.
    pub fn opaque(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.opaque_wide(bytes, 0)
    }

    /// Writes an element that holds one string.
    ///
    /// # Errors
    /// As [`Writer::text`].
    pub fn element(&mut self, tag: Tag, text: &str) -> Result<(), WriteError> {
        self.start(tag);
        self.text(text)?;
        self.end()
    }

    /// Writes SWITCH_PAGE, needed or not. [`Writer::start`] and [`Writer::empty`] do it by
    /// themselves where it is needed.
    pub fn switch_page(&mut self, page: u8) {
        self.out.extend_from_slice(&[global::SWITCH_PAGE, page]);
        self.page = page;
    }

    /// The message.
    ///
    /// # Errors
    /// When elements are still open.
    pub fn finish(self) -> Result<Vec<u8>, WriteError> {
        if self.depth > 0 {
            return Err(WriteError::MissingEnd { open: self.depth });
        }
        Ok(self.out)
    }

    /// Writes a byte array whose length takes at least `octets` bytes.
    pub(super) fn opaque_wide(&mut self, bytes: &[u8], octets: usize) -> Result<(), WriteError> {
        let length = u32::try_from(bytes.len()).map_err(|_| WriteError::TooLong {
            length: bytes.len(),
        })?;
        self.out.push(global::OPAQUE);
        self.integer(length, octets);
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes a reference into the string table; its integer takes at least `octets` bytes.
    pub(super) fn reference_wide(&mut self, place: u32, octets: usize) {
        self.out.push(global::STR_T);
        self.integer(place, octets);
    }

    #[inline]
    fn tag(&mut self, tag: Tag, flags: u8) {
        if tag.page() != self.page {
            self.switch_page(tag.page());
        }
        self.out.push(tag.token() | flags);
    }

    /// Writes an mb_u_int32 in as few bytes as it takes, or in `octets` if that is more (at most
    /// five).
    fn integer(&mut self, value: u32, octets: usize) {
        const MAX_OCTETS: usize = 5;
        let mut needed = 1;
        while needed < MAX_OCTETS && value >> (7 * needed) != 0 {
            needed += 1;
        }
        for place in (0..needed.max(octets.min(MAX_OCTETS))).rev() {
            let more = if place == 0 { 0 } else { 0x80 };
            // A shift by 28 is the most, so the low byte is all that is cut off.
            self.out.push(more | (value >> (7 * place) & 0x7F) as u8);
        }
    }
}
