//! What an ItemOperations request does.

use crate::wbxml::{Error, Event, Limits, Reader, Tag};

const ITEM_OPERATIONS: Tag = Tag::new(20, 0x05);
const FETCH: Tag = Tag::new(20, 0x06);

/// Whether a body holds nothing but Fetch (MS-ASCMD, "Fetch (ItemOperations)"), and so only reads: such a request
/// may be sent a second time. EmptyFolderContents, Move, an unknown operation, an empty list or a
/// body that is not well-formed is `false`.
#[must_use]
pub fn fetch_only(body: &[u8]) -> bool {
    only_fetches(body).unwrap_or(false)
}

fn only_fetches(body: &[u8]) -> Result<bool, Error> {
    let mut reader = Reader::new(body, Limits::TRAFFIC)?;
    if reader.next_event()? != Some(Event::Start(ITEM_OPERATIONS)) {
        return Ok(false);
    }
    let mut fetches = false;
    while let Some(event) = reader.next_event()? {
        match event {
            Event::Start(FETCH) => {
                fetches = true;
                reader.skip_element()?;
            }
            Event::End => {}
            _ => return Ok(false),
        }
    }
    Ok(fetches)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: &[u8]) -> bool {
        fetch_only(&[b"\x03\x01\x6a\x00\x00\x14".as_slice(), body].concat())
    }

    #[test]
    fn fetches_alone_only_read() {
        assert!(asked(b"\x45\x46\x47\x03Mailbox\x00\x01\x01\x01"));
        assert!(asked(
            b"\x45\x46\x47\x03Mailbox\x00\x01\x01\x46\x00\x11\x51\x03x\x00\x01\x01\x01"
        ));
    }

    #[test]
    fn anything_else_may_write() {
        assert!(
            !asked(b"\x45\x46\x47\x03Mailbox\x00\x01\x01\x52\x01\x01"),
            "EmptyFolderContents"
        );
        assert!(!asked(b"\x45\x56\x01\x01"), "Move");
        assert!(
            !asked(b"\x45\x46\x01\x12\x01"),
            "an empty EmptyFolderContents"
        );
        assert!(!asked(b"\x45\x46\x01\x7f\x01\x01"), "an unknown operation");
        assert!(!asked(b"\x45\x03x\x00\x01"), "text");
    }

    #[test]
    fn nothing_to_fetch_is_not_fetch_only() {
        assert!(!asked(b"\x45\x01"));
        assert!(!asked(b"\x05"));
        assert!(!asked(b"\x46\x01"));
        assert!(!fetch_only(b""));
        assert!(!asked(b"\x45\x46\x01"), "missing END");
    }
}
